"""Two definitions of a view side by side: how many values a change of definition changes, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mainspring.core.ids import hash128
from mainspring.features.history import stream
from mainspring.features.shares import Progress, events_read, shares
from mainspring.features.values import Answers, FrameOf, replayed

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef


@dataclass(frozen=True)
class Change:
    """How the values of one feature differ between two definitions.

    Attributes:
        keys: Keys compared; for a feature that only one of them has, 0.
        changed: Keys whose value is another, null or not.
        became_null: Of those, null in the second alone.
        became_known: Null in the first alone.
        mean_change: Mean of ``second − first`` over the changed keys that are numbers on both sides.
        most_relative: Greatest ``|second − first| / max(|first|, |second|)`` among them.
        where: ``both``, ``first`` or ``second``: which definition has it.
    """

    name: str
    keys: int
    changed: int
    became_null: int
    became_known: int
    mean_change: float | None
    most_relative: float | None
    where: str


def sample_keys(view: ViewDef, frame_of: FrameOf, most: int) -> list[tuple[Any, ...]]:
    """At most ``most`` keys of a view's history: the same each time, and evenly spread over all keys."""
    keys = stream(view, frame_of).select(view.entity).drop_nulls().unique()
    order = [hash128(b"sample", repr(row).encode()) for row in keys.iter_rows()]
    chosen = keys.with_columns(pl.Series("_order", order, pl.Binary)).sort("_order").head(most).drop("_order")
    return [tuple(row) for row in chosen.iter_rows()]


def both(
    first: ViewDef,
    second: ViewDef,
    frame_of: FrameOf,
    keys: Sequence[tuple[Any, ...]],
    t_us: int,
    progress: Progress | None = None,
) -> tuple[Answers, Answers]:
    """What two definitions answer for the same keys at one moment, of what was known by then."""
    told = shares(progress, events_read((first, second), frame_of))
    one, other = (
        replayed(view, frame_of, keys, t_us, known_us=t_us, progress=share)
        for view, share in zip((first, second), told, strict=True)
    )
    return one, other


def changes(first: Answers, second: Answers) -> list[Change]:
    """Feature by feature, how the second definition's values differ from the first's."""
    rows = list(zip(first.rows(), second.rows(), strict=True))
    before = list(rows[0][0]) if rows else []
    after = list(rows[0][1]) if rows else []
    out = []
    for name in [*before, *(n for n in after if n not in before)]:
        if name not in before or name not in after:
            where = "first" if name in before else "second"
            out.append(Change(name, 0, 0, 0, 0, None, None, where))
            continue
        pairs = [(a[name][0], b[name][0]) for a, b in rows]
        differ = [(a, b) for a, b in pairs if a != b]
        numbers = [(a, b) for a, b in differ if isinstance(a, int | float) and isinstance(b, int | float)]
        out.append(
            Change(
                name,
                len(pairs),
                len(differ),
                sum(b is None for _, b in differ),
                sum(a is None for a, _ in differ),
                sum(b - a for a, b in numbers) / len(numbers) if numbers else None,
                max((abs(b - a) / max(abs(a), abs(b)) for a, b in numbers), default=None),
                "both",
            )
        )
    return out
