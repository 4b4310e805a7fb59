"""What the expressions of a model cost a batch of requests: compiled, beside the same ones evaluated by polars."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
from harness import Bench, take_turns
from polars import col

import mainspring as ms
from mainspring.definitions import MOMENT
from mainspring.definitions.expressions import UTC_US
from mainspring.features.request import Program, of_objects, view_column

VALUES = [f"card__v{i}" for i in range(8)]
SCHEMA = dict.fromkeys(VALUES, pl.Float64()) | {
    "card__last_at": UTC_US,
    "amount": pl.Float64(),
    "shop": pl.String(),
    "asked_at": UTC_US,
    MOMENT: UTC_US,
}
NOW_US = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp() * 1_000_000)
V = [col(name) for name in VALUES]
EXPRESSIONS = {
    "share": V[0] / V[1],
    "relative": col("amount") / V[2],
    "z": (col("amount") - V[3]) / V[4],
    "difference": V[1] - V[5] * 24,
    "since_s": ms.time_since("card__last_at"),
    "hour": col("asked_at").dt.hour(),
    "weekday": col("asked_at").dt.weekday(),
    "log": col("amount").log1p(),
    "large": (col("amount") > 500) & (V[6] > 3),
    "night": col("asked_at").dt.hour().is_between(0, 5),
    "clipped": (V[0] / V[1]).clip(0, 1).fill_null(0),
    "pub": col("shop").is_in(["pub", "bar"]),
}
ROUNDS = 15


class Batch:
    """Requests, and what the views answered for them."""

    def __init__(self, rows: int) -> None:
        random = np.random.default_rng(rows)
        self.rows = [(float(a), "pub" if a > 1 else "inn", NOW_US) for a in random.gamma(2, 1, rows)]
        self.values = {name: random.normal(size=rows) for name in VALUES}
        self.values["card__v1"][:: max(2, rows // 4)] = np.nan
        self.last_at = NOW_US - random.integers(0, 10**12, rows).astype(np.float64)
        self.t_us = np.full(rows, NOW_US)

    def compiled(self, program: Program) -> list[np.ndarray]:
        """As the gateway does it: from rows and blocks to columns, then the program."""
        columns = {name: view_column("float", values) for name, values in self.values.items()}
        columns["card__last_at"] = view_column("datetime", self.last_at)
        for place, name in enumerate(("amount", "shop", "asked_at")):
            columns[name] = of_objects([row[place] for row in self.rows], SCHEMA[name])
        columns[MOMENT] = self.t_us, None
        return program.run(columns, len(self.rows))

    def by_polars(self, expressions: dict[str, pl.Expr]) -> list[np.ndarray]:
        """The same rows and blocks as a frame, and the expressions over it."""
        series = [pl.Series(name, values).fill_nan(None) for name, values in self.values.items()]
        series.append(pl.Series("card__last_at", self.last_at.astype(np.int64)).cast(UTC_US))
        for place, name in enumerate(("amount", "shop", "asked_at")):
            dtype = SCHEMA[name]
            stored = pl.Int64() if dtype.is_temporal() else dtype
            series.append(pl.Series(name, [row[place] for row in self.rows], stored).cast(dtype))
        series.append(pl.Series(MOMENT, self.t_us).cast(UTC_US))
        frame = pl.DataFrame(series).select(**expressions)
        return [frame[name].cast(pl.Float64).to_numpy() for name in expressions]


def program_of(expressions: dict[str, pl.Expr]) -> Program:
    return Program([(name, e.meta.serialize(format="json")) for name, e in expressions.items()], SCHEMA)


def repeated(times: int, work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            work()

    return run


def main() -> None:
    bench = Bench.start("Expressions of a model on a batch of requests: compiled, and by polars")
    program = program_of(EXPRESSIONS)
    bench.require("all of it is compiled", holds=not program.interpreted)
    back = {"back": col("shop").str.reverse()}
    one = program_of(back)
    bench.require("a reversed text is left to polars", holds=len(one.interpreted) == 1)
    times = 20 if bench.quick else 200
    for rows in (1, 32, 1024):
        batch = Batch(rows)
        for ours, theirs in zip(batch.compiled(program), batch.by_polars(EXPRESSIONS), strict=True):
            same = np.array_equal(ours, np.where(np.isnan(theirs), np.nan, theirs), equal_nan=True)
            bench.require("compiled is what polars says", holds=same)
        found = take_turns(
            {
                f"{len(EXPRESSIONS)} expressions, {rows} rows: compiled": repeated(
                    times, lambda b=batch: b.compiled(program)
                ),
                f"{len(EXPRESSIONS)} expressions, {rows} rows: polars": repeated(
                    times, lambda b=batch: b.by_polars(EXPRESSIONS)
                ),
                f"1 expression left to polars, {rows} rows": repeated(
                    times,
                    lambda b=batch: one.run({"shop": of_objects([r[1] for r in b.rows], pl.String())}, len(b.rows)),
                ),
            },
            ROUNDS,
        )
        names = list(found)
        scaled = {name: [s / times * 1e6 for s in seconds] for name, seconds in found.items()}
        bench.compare({name: scaled[name] for name in names[:2]}, "us", ours=names[0])
        bench.compare({names[2]: scaled[names[2]]}, "us")
    bench.finish()


if __name__ == "__main__":
    main()
