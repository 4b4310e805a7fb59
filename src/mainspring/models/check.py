"""Before a model may serve: its graph must say what its estimator says, where they are most likely to differ.

Asked about rows of the test split; rows with each column missing, and all of them; texts never seen at training; every
category known; and, for trees over raw columns, every threshold with both its float32 neighbours, each on a row that
reaches its split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import PackageError
from mainspring.models.convert import FORESTS
from mainspring.models.forest import Forest, read
from mainspring.models.frames import estimate
from mainspring.models.runtime import Runtime
from mainspring.models.signature import Floats, Signature, Texts
from mainspring.models.thresholds import UNSEEN, beside_thresholds

TOLERANCE = 1e-5
"""Largest difference allowed: of a probability, or of a value relative to the largest value (at least 1)."""
_SAMPLE, _FEW = 2_000, 25


@dataclass(frozen=True)
class CheckReport:
    """What was asked and how far apart the answers were.

    Attributes:
        rows: Rows asked, by kind: ``sample``, ``missing``, ``unseen``, ``category``, ``threshold``.
        max_difference: Largest difference, as ``TOLERANCE`` measures it.
        worst: Kind and column of the row with that difference.
    """

    rows: dict[str, int]
    max_difference: float
    worst: str
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the graph may serve."""
        return self.max_difference <= self.tolerance


@dataclass(frozen=True)
class _Rows:
    """Rows of one kind: matrices as the graph takes them."""

    kind: str
    column: str
    numbers: Floats
    texts: Texts


def check_outputs(estimator: Any, runtime: Runtime, numbers: Floats, texts: Texts, owner: str) -> CheckReport:
    """Compare graph and estimator on rows made from ``numbers`` and ``texts``, rows of the model's input matrices.

    Raises:
        PackageError: The estimator cannot answer a row that production may ask (MS-M110), or the two differ (MS-M111).
    """
    signature = runtime.signature
    forest = read(estimator, signature) if type(estimator).__name__ in FORESTS else None
    # Trees without a split have no thresholds to ask about.
    asked = [rows for rows in _questions(signature, numbers, texts, forest) if len(rows.numbers)]
    expected = np.concatenate([_ask(estimator, group, signature, owner) for group in _by_kind(asked)])
    answered = runtime.predict_matrix(
        np.concatenate([g.numbers for g in asked]), np.concatenate([g.texts for g in asked])
    )
    scale = 1.0 if signature.output == "probability" else max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    difference = np.abs(answered - expected) / scale
    difference[np.isnan(answered) != np.isnan(expected)] = np.inf
    difference[np.isnan(answered) & np.isnan(expected)] = 0.0
    owners = np.repeat(np.arange(len(asked)), [len(g.numbers) for g in asked])
    worst = int(np.argmax(difference))
    at = asked[owners[worst]]
    rows: dict[str, int] = {}
    for group in asked:
        rows[group.kind] = rows.get(group.kind, 0) + len(group.numbers)
    report = CheckReport(rows, float(difference[worst]), f"{at.kind} {at.column}".strip())
    if not report.passed:
        raise PackageError(
            "MS-M111",
            f"the packaged {type(estimator).__name__} of model {owner} answers differently:"
            f" by {report.max_difference:.2g} on a row of kind '{report.worst}'",
            why="a step of the estimator has no faithful conversion to ONNX at such values",
            hint="LightGBM on train.X as it is; or SimpleImputer and OneHotEncoder(handle_unknown='ignore')",
        )
    return report


def _by_kind(asked: list[_Rows]) -> Iterator[_Rows]:
    """Neighbouring groups of one kind as one, in the same order: an estimator is quickest on many rows."""
    start = 0
    for i in range(1, len(asked) + 1):
        if i == len(asked) or asked[i].kind != asked[start].kind:
            group = asked[start:i]
            columns = ", ".join(dict.fromkeys(g.column for g in group if g.column))
            numbers = np.concatenate([g.numbers for g in group])
            yield _Rows(asked[start].kind, columns, numbers, np.concatenate([g.texts for g in group]))
            start = i


def _ask(estimator: Any, rows: _Rows, signature: Signature, owner: str) -> npt.NDArray[np.float64]:
    columns: dict[str, Any] = {name: rows.numbers[:, i] for i, name in enumerate(signature.numbers)}
    columns |= {name: rows.texts[:, i] for i, name in enumerate(signature.texts)}
    try:
        return estimate(estimator, columns, signature)
    except Exception as error:  # whatever an estimator raises on such rows, it would raise in production
        raise PackageError(
            "MS-M110",
            f"the estimator of model {owner} fails on rows of kind '{rows.kind}'",
            why=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            where=rows.column,
            hint="SimpleImputer for numbers, OneHotEncoder(handle_unknown='ignore') for texts, inside the pipeline",
        ) from error


def _questions(signature: Signature, numbers: Floats, texts: Texts, forest: Forest | None) -> Iterator[_Rows]:
    step = max(1, len(numbers) // _SAMPLE)
    yield _Rows("sample", "", numbers[::step], texts[::step])
    few = slice(None, None, max(1, len(numbers) // _FEW))
    nullable = {c.name for c in signature.inputs if c.nullable}
    gaps = [(name,) for name in (*signature.numbers, *signature.texts) if name in nullable]
    for names in (*gaps, tuple(nullable)):
        some, words = numbers[few].copy(), texts[few].copy()
        some[:, [i for i, n in enumerate(signature.numbers) if n in names]] = np.nan
        words[:, [i for i, n in enumerate(signature.texts) if n in names]] = signature.missing_text
        yield _Rows("missing", names[0] if len(names) == 1 else "all", some, words)
    for i, name in enumerate(signature.texts):
        words = texts[few].copy()
        words[:, i] = UNSEEN
        yield _Rows("unseen", name, numbers[few], words)
    known = {c.name: c.categories for c in signature.inputs}
    for i, name in enumerate(signature.texts):
        at = np.resize(np.arange(len(numbers)), len(known[name]))
        words = texts[at]
        words[:, i] = known[name]
        yield _Rows("category", name, numbers[at], words)
    if forest is not None:
        yield _Rows("threshold", "", *beside_thresholds(forest, signature, numbers, texts))
