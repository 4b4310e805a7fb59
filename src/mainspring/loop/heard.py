"""What the members of a composite said, with what became of it: a fold over the log, advanced as labels mature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mainspring.catalog import BadWindow
from mainspring.definitions import CompositeDef
from mainspring.definitions.values import DAY_US
from mainspring.events.history import History
from mainspring.events.system import OTHERWISE
from mainspring.loop.outcomes import Outcomes

_SAID = msgspec.json.Decoder(list[tuple[str, str, str, float | None]])

Versions = tuple[str | None, ...]
"""Of each member in the order of the definition; None where it was not asked."""


def said_by(members: str) -> dict[str, tuple[str, float | None]]:
    """Version and answer of each member that was asked, in order; none where it gave no model's answer.

    >>> said_by('[["quick","v1","champion",0.25],["careful","otherwise","fallback",0.5]]')
    {'quick': ('v1', 0.25), 'careful': ('otherwise', None)}
    """
    return {
        name: (version, None if version == OTHERWISE else output) for name, version, _, output in _SAID.decode(members)
    }


def is_answer() -> pl.Expr:
    """Whether a row of ``_prediction`` is what models said: neither a declared value nor a failure."""
    return (pl.col("version") != OTHERWISE) & pl.col("output").is_not_null()


@dataclass(frozen=True, eq=False)
class Matured:
    """Matured answers of one composite, in order of time.

    Attributes:
        output: What it answered, shape (n,).
        said: What the members answered, their output rules included, shape (n, members); NaN where one gave nothing.
        versions: Of the members, by row, as a number of ``sets``.
        sets: What each number stands for.
        served: The composite's version in each answer, such as that of a stack with its weights.
        y: Outcomes.
        time_us: Moment of each prediction.
        mature_us: When each outcome became known for good.
    """

    output: NDArray[np.float64]
    said: NDArray[np.float64]
    versions: NDArray[np.int64]
    sets: Sequence[Versions]
    served: NDArray[np.object_]
    y: NDArray[np.float64]
    time_us: NDArray[np.int64]
    mature_us: NDArray[np.int64]

    def in_whole_days(self, horizon_us: int, at_us: int) -> NDArray[np.bool_]:
        """Rows of days of which every label is mature.

        Args:
            horizon_us: How long a label takes.
            at_us: The moment of looking.
        """
        return self.time_us < (at_us - horizon_us) // DAY_US * DAY_US

    @property
    def by_all(self) -> NDArray[np.bool_]:
        """Rows of which every member said something."""
        return np.asarray(~np.isnan(self.said).any(axis=1))

    def of(self, versions: Sequence[str]) -> NDArray[np.bool_]:
        """Rows that these versions answered, each that was asked."""
        fits = [all(one in (None, now) for one, now in zip(known, versions, strict=True)) for known in self.sets]
        return np.asarray(fits, dtype=np.bool_)[self.versions] if fits else np.zeros(len(self.y), dtype=np.bool_)


class Hearings:
    """The matured answers of one composite."""

    def __init__(self, composite: CompositeDef, history: History) -> None:
        self._members = [one.name for one in composite.members]
        self._outcomes = Outcomes(composite, history)
        self._until_us = -(2**62)
        self._rows: list[pl.DataFrame] = []
        self._sets: dict[Versions, int] = {}

    def advance(self, at_us: int, holds: Sequence[tuple[int, int | None]], bad: Sequence[BadWindow] = ()) -> Matured:
        """Take in what has matured by ``at_us``; returns everything so far. See `Outcomes.advance`."""
        self._outcomes.advance(at_us, holds, bad)
        fresh = self._outcomes.matured(self._until_us, at_us)
        self._until_us = at_us
        if not fresh.is_empty():
            self._rows.append(self._read(fresh.filter(is_answer())))
        return self._all()

    def _read(self, fresh: pl.DataFrame) -> pl.DataFrame:
        said = [said_by(text) for text in fresh["members"].to_list()]
        sets = [tuple(one[name][0] if name in one else None for name in self._members) for one in said]
        outputs = {
            f"said_{i}": [one[name][1] if name in one else None for one in said] for i, name in enumerate(self._members)
        }
        return pl.DataFrame(
            {
                "output": fresh["output"],
                "versions": [self._sets.setdefault(one, len(self._sets)) for one in sets],
                "served": fresh["version"],
                "y": fresh["y"].cast(pl.Float64),
                "time_us": fresh["_time"].dt.epoch("us"),
                "mature_us": fresh["mature_at_us"],
                **outputs,
            },
            schema_overrides={"versions": pl.Int64, **dict.fromkeys(outputs, pl.Float64)},
        )

    def _all(self) -> Matured:
        columns = [f"said_{i}" for i in range(len(self._members))]
        if not self._rows:
            none, at = np.empty(0), np.empty(0, dtype=np.int64)
            said = np.empty((0, len(columns)))
            return Matured(none, said, at, (), np.empty(0, dtype=object), none, at, at)
        self._rows = [pl.concat(self._rows).sort("time_us", maintain_order=True)]
        (rows,) = self._rows
        return Matured(
            rows["output"].to_numpy(),
            rows.select(pl.col(columns).fill_null(float("nan"))).to_numpy(),
            rows["versions"].to_numpy(),
            tuple(self._sets),
            rows["served"].to_numpy(),
            rows["y"].to_numpy(),
            rows["time_us"].to_numpy(),
            rows["mature_us"].to_numpy(),
        )


def versions_now(composite: CompositeDef, champions: Mapping[str, str | None]) -> tuple[str, ...] | None:
    """The version of each member that serves, in order; None while one has none."""
    found = tuple(champions.get(one.name) for one in composite.members)
    return tuple(one for one in found if one is not None) if None not in found else None
