"""What a feature looked like: fixed bins and exact, mergeable counts over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.core.errors import ContractError

FloatArray = NDArray[np.float64]
Values = ArrayLike | Sequence[str | None]

BINS = 10
MAX_RARE = 1_000
MIN_EXPECTED = 5.0
RARE_SHARE = 0.005
MISSING, UNSEEN = -1, -2
QUANTILES = (np.arange(100) + 0.5) / 100.0


@dataclass(frozen=True)
class Reference:
    """What a feature looked like. Plain numbers and text, so it is stored as JSON.

    Attributes:
        kind: ``numeric`` or ``categorical``.
        rows: Rows, missing ones included.
        missing: Rows without a value.
        counts: Present values per bin. Numeric: len(edges) + 1 bins; categorical: one per category, and a last one for
            all rare categories together, or their changing names would look like drift.
        edges: Numeric bin i holds ``edges[i - 1] <= x < edges[i]``.
        categories: Categories with at least five rows and half a percent of them, by falling count.
        rare: Names of the other categories; empty if there are more than `MAX_RARE`, and then none counts as unseen.
        once: Categories seen exactly once; ``once / present`` estimates the share of unseen ones to come (Good-Turing).
        quantiles: Numeric quantiles at (i + .5) / 100.
        sd: Standard deviation of the finite values.
        dispersion: Pearson X^2 over its degrees of freedom between the reference's own windows, at least 1: how many
            rows count as one, because rows come in clusters.
        missing_dispersion: The same for the share of missing values.
    """

    kind: Literal["numeric", "categorical"]
    rows: int
    missing: int
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()
    once: int = 0
    quantiles: tuple[float, ...] = ()
    sd: float = 0.0
    dispersion: float = 1.0
    missing_dispersion: float = 1.0

    @property
    def present(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing


def reference(values: Values, windows: ArrayLike | None = None) -> Reference:
    """Fix bins from reference values and count them.

    Args:
        values: Shape (n,). Numbers or booleans (NaN is missing), or text (None is missing).
        windows: The window of each row, such as its day, shape (n,); windows as long as those that will be judged. They
            measure how far windows scatter by themselves. Without them rows are taken to be independent.

    >>> reference([1.0, 2.0, 3.0, 4.0, float("nan")]).missing
    1
    >>> reference(["a"] * 6 + ["b", None]).counts
    (6, 1)
    """
    made = _categorical(_texts(values)) if _is_text(values) else _numeric(np.asarray(values, dtype=np.float64))
    if windows is None or not made.rows:
        return made
    _, index = np.unique(np.asarray(windows), return_inverse=True)
    if len(index) != made.rows:
        raise ContractError("MS-R201", f"{made.rows} values have {len(index)} windows", why="one window for each value")
    code, n_windows = bin_codes(made, values), int(index.max()) + 1
    table = np.zeros((n_windows, len(made.counts)))
    np.add.at(table, (index[code >= 0], code[code >= 0]), 1.0)
    sizes = np.bincount(index, minlength=n_windows).astype(np.float64)
    missing = np.bincount(index[code == MISSING], minlength=n_windows).astype(np.float64)
    return replace(
        made,
        dispersion=_dispersion(table),
        missing_dispersion=_dispersion(np.stack([missing, sizes - missing], axis=1)),
    )


def bin_codes(reference: Reference, values: Values) -> NDArray[np.int64]:
    """Bin of each value, `MISSING` or `UNSEEN`."""
    if reference.kind == "numeric":
        x = np.asarray(values, dtype=np.float64)
        return np.where(np.isnan(x), MISSING, np.searchsorted(reference.edges, x, side="right")).astype(np.int64)
    known: dict[str | None, int] = {text: i for i, text in enumerate(reference.categories)}
    known |= dict.fromkeys(reference.rare, len(reference.categories))
    known[None] = MISSING
    # Where the rare names are not kept, a strange one cannot be told from a rare one: it counts as rare.
    other = len(reference.categories) if reference.counts[-1] and not reference.rare else UNSEEN
    return np.array([known.get(text, other) for text in _texts(values)], dtype=np.int64)


def merged_groups(expected: FloatArray) -> NDArray[np.int64]:
    """Group of each bin: neighbours are joined from the left until five are expected; a rest joins the last group."""
    groups, group, held = [], 0, 0.0
    for one in expected.tolist():
        groups.append(group)
        held += one
        if held >= MIN_EXPECTED:
            group, held = group + 1, 0.0
    return np.minimum(np.array(groups, dtype=np.int64), max(group - 1, 0))


def finite_values(x: FloatArray) -> FloatArray:
    """The finite ones, kept where their squares do not overflow."""
    return np.clip(x[np.isfinite(x)], -1e140, 1e140)


def _numeric(x: FloatArray) -> Reference:
    present = x[~np.isnan(x)]
    if not len(present):
        return Reference("numeric", rows=len(x), missing=len(x), counts=(0,))
    inner = np.quantile(present, np.arange(1, BINS) / BINS, method="inverted_cdf")
    edges, repeats = np.unique(inner, return_counts=True)
    # A value that holds a whole bin by itself gets one: the edge just above it keeps its neighbours out.
    with np.errstate(over="ignore"):
        edges = np.unique(np.concatenate([edges, np.nextafter(edges[repeats > 1], np.inf)]))
    edges = edges[np.isfinite(edges)]
    finite = finite_values(present)
    quantiles = np.quantile(finite, QUANTILES) if len(finite) else np.empty(0)
    return Reference(
        "numeric",
        rows=len(x),
        missing=len(x) - len(present),
        counts=tuple(np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1).tolist()),
        edges=tuple(edges.tolist()),
        quantiles=tuple(quantiles.tolist()),
        sd=float(finite.std()) if len(finite) else 0.0,
    )


def _categorical(texts: list[str | None]) -> Reference:
    seen = Counter(texts)
    missing = seen.pop(None, 0)
    named = [(text, count) for text, count in seen.items() if text is not None]
    ranked = sorted(named, key=lambda one: (-one[1], one[0]))
    least = max(MIN_EXPECTED, RARE_SHARE * (len(texts) - missing))
    kept = [one for one in ranked if one[1] >= least]
    rest = ranked[len(kept) :]
    return Reference(
        "categorical",
        rows=len(texts),
        missing=missing,
        counts=(*(count for _, count in kept), sum(count for _, count in rest)),
        categories=tuple(text for text, _ in kept),
        rare=tuple(text for text, _ in rest) if len(rest) <= MAX_RARE else (),
        once=sum(count == 1 for _, count in ranked),
    )


def _dispersion(table: FloatArray) -> float:
    """Pearson X^2 of windows (rows) by bins over its degrees of freedom, at least 1."""
    table = table[table.sum(axis=1) > 0]
    total = float(table.sum())
    if len(table) < 2 or total == 0:
        return 1.0
    groups = merged_groups(table.sum(axis=0) / len(table))
    merged = table @ np.eye(int(groups.max()) + 1)[groups]
    expected = np.outer(merged.sum(axis=1), merged.sum(axis=0)) / total
    if merged.shape[1] < 2 or not (expected > 0).all():
        return 1.0
    x2 = float(np.sum(np.square(merged - expected) / expected))
    return float(max(1.0, x2 / ((len(merged) - 1) * (merged.shape[1] - 1))))


def _is_text(values: Values) -> bool:
    array = np.asarray(values)
    return array.dtype.kind in "UST" or (array.dtype == object and any(isinstance(one, str) for one in array.tolist()))


def _texts(values: Values) -> list[str | None]:
    """Values as text; None and NaN are missing."""
    raw: list[Any] = np.asarray(values, dtype=object).tolist()
    return [None if one is None or one != one else str(one) for one in raw]
