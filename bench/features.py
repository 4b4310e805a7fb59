"""The fold, offline and live: 28 features (count, sum, mean, std, min, max, last over 1 h, 24 h, 7 d, 30 d).

Offline every contender gets the same columns in memory (DuckDB: a table in memory) and answers the same moments.
DuckDB takes differences of prefix sums at ASOF joins: 20 of the 28, and not exact. Polars rolls over events and
moments together: all 28, not exact. Sorting the events by key and time is the floor of most other ways. What they
answer is compared with ours before it counts.

Live, the floor beside the fold is LMDB alone reading a value of the same size. 50 records over seven views is one tick
of `mainspring demo`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
from harness import Bench, take_turns

from mainspring.definitions import Aggregate, Field, SourceDef, ViewDef
from mainspring.definitions.expressions import expression
from mainspring.events.record import Record
from mainspring.features import Folder, OnlineStore, Reader, warm_up
from mainspring.features.replay import replay

HOUR_US = 3_600_000_000
WINDOWS = {"1h": HOUR_US, "24h": 24 * HOUR_US, "7d": 168 * HOUR_US, "30d": 720 * HOUR_US}
FUNCTIONS = ("count", "sum", "mean", "std", "min", "max", "last")
START_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
SPAN_US = 90 * 24 * HOUR_US
OURS = "mainspring replay, 28 exact"
FLOORS = ("only sorting: DuckDB", "only sorting: Polars", "only sorting: numpy lexsort")
SOURCE = SourceDef("payments", (Field("k", "int"), Field("x", "float"), Field("at", "datetime")), time="at")


def view(name: str = "spending", windows: dict[str, int] = WINDOWS) -> ViewDef:
    x = expression("x", SOURCE.schema, of="source payments", where=__file__)
    features = [
        Aggregate(f"{function}_{name}", function, x, us) for name, us in windows.items() for function in FUNCTIONS
    ]
    return ViewDef(name, (SOURCE,), ("k",), tuple(features))


def data(events: int, moments: int, keys: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events in order of time and moments in any order; keys are Zipf, amounts log-normal."""
    rng = np.random.default_rng(7)
    share = 1.0 / np.arange(1, keys + 1)
    share /= share.sum()

    def frame(n: int, t: np.ndarray) -> pl.DataFrame:
        return pl.DataFrame({"k": rng.choice(keys, n, p=share).astype(np.int64), "t": t})

    t = np.sort(rng.integers(0, SPAN_US, events)) + START_US
    history = frame(events, t).with_columns(pl.Series("x", rng.lognormal(3, 1, events)))
    return history, frame(moments, rng.integers(SPAN_US // 4, SPAN_US, moments) + START_US)


def ours(history: pl.DataFrame, moments: pl.DataFrame) -> Callable[[], np.ndarray]:
    at = pl.col("t").cast(pl.Datetime("us", "UTC"))
    frame = history.select(
        "k",
        "x",
        at.alias("at"),
        at.alias("_time"),
        at.alias("_known_at"),
        pl.int_range(1, pl.len() + 1).alias("_offset"),
    )
    keys, t_us, spending = moments.select("k"), moments["t"].to_numpy(), view()
    return lambda: replay(spending, frame, keys, t_us, known_us=t_us)[0]


def in_duckdb(history: pl.DataFrame, moments: pl.DataFrame) -> tuple[Callable[[], pl.DataFrame], Callable[[], object]]:
    """Prefix sums and ASOF joins; and a sort alone."""
    db = duckdb.connect(config={"threads": 2})
    db.register("history", history.to_arrow())
    db.register("moments", moments.to_arrow())
    db.execute("create table e as select k, t, x from history")
    db.execute("create table m as select row_number() over () - 1 as row, k, t from moments")
    # The state of a key after each instant: of events at one instant the last carries all of them.
    prefix = """create or replace temp table p as
        select k, t, max(n) n, max_by(s, n) s, max_by(q, n) q, max_by(x, n) x from (
            select k, t, x, row_number() over w n, sum(x) over w s, sum(x * x) over w q from e
            window w as (partition by k order by t rows unbounded preceding)) group by k, t"""
    joins = "\n".join(
        f"asof left join p p{i} on m.k = p{i}.k and m.t - {us} > p{i}.t" for i, us in enumerate(WINDOWS.values())
    )
    columns = []
    for i, name in enumerate(WINDOWS):
        n = f"(coalesce(b.n, 0) - coalesce(p{i}.n, 0))"
        s, q = (f"(coalesce(b.{c}, 0) - coalesce(p{i}.{c}, 0))" for c in "sq")
        columns += [
            f"{n} count_{name}",
            f"case when {n} > 0 then {s} end sum_{name}",
            f"case when {n} > 0 then {s} / {n} end mean_{name}",
            f"case when {n} > 1 then sqrt(greatest(0, ({q} - {s} * {s} / {n}) / ({n} - 1))) end std_{name}",
            f"case when {n} > 0 then b.x end last_{name}",
        ]
    asked = f"""create or replace temp table a as
        select m.row, {", ".join(columns)} from m asof left join p b on m.k = b.k and m.t > b.t {joins}"""  # noqa: S608  ours

    def answer() -> pl.DataFrame:
        db.execute(prefix)
        db.execute(asked)
        return pl.DataFrame(db.sql("select * from a order by row").to_arrow_table())

    return answer, lambda: db.execute("create or replace temp table s as select * from e order by k, t")


def in_polars(history: pl.DataFrame, moments: pl.DataFrame) -> Callable[[], pl.DataFrame]:
    """Events and moments in one frame, rolled by time with the window's end left out."""
    asked = moments.with_row_index("row")

    def answer() -> pl.DataFrame:
        both = pl.concat([asked, history], how="diagonal").sort("k", "t", "row", nulls_last=True)
        both = both.with_columns(pl.col("t").cast(pl.Datetime("us")), one=pl.col("x").is_not_null().cast(pl.Float64))
        before = both.select(
            "k",
            "t",
            "row",
            x=pl.col("x").forward_fill().over("k"),
            at=pl.when(pl.col("x").is_not_null()).then("t").forward_fill().over("k"),
        )
        columns = [before["row"]]
        for name, us in WINDOWS.items():
            how: Any = {"window_size": f"{us}us", "closed": "left"}
            x, age = pl.col("x"), pl.col("t") - pl.col("at")
            columns += both.select(
                pl.col("one").rolling_sum_by("t", **how).over("k").alias(f"count_{name}"),
                x.rolling_sum_by("t", **how).over("k").alias(f"sum_{name}"),
                x.rolling_mean_by("t", **how).over("k").alias(f"mean_{name}"),
                x.rolling_std_by("t", **how).over("k").alias(f"std_{name}"),
                x.rolling_min_by("t", **how).over("k").alias(f"min_{name}"),
                x.rolling_max_by("t", **how).over("k").alias(f"max_{name}"),
            ).get_columns()
            columns.append(
                before.select(pl.when(age <= pl.duration(microseconds=us)).then("x").alias(f"last_{name}")).to_series()
            )
        return pl.DataFrame(columns).filter(pl.col("row").is_not_null()).sort("row")

    return answer


def check(bench: Bench, who: str, found: pl.DataFrame, mine: np.ndarray) -> None:
    """Counts, sums, means and extremes of a peer are ours, up to its rounding (its sums cancel: 1e-6)."""
    for place, feature in enumerate(view().features):
        function, _, window = feature.name.partition("_")
        if function == "std" or feature.name not in found.columns:
            continue
        theirs = found[feature.name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        own = mine[:, place]
        if function in ("sum", "mean"):  # an empty window is null or 0, by contender
            theirs, own = np.nan_to_num(theirs), np.nan_to_num(own)
        if function == "count":
            theirs = np.nan_to_num(theirs)
        same = np.isclose(theirs, own, rtol=1e-6, atol=1e-6, equal_nan=True)
        bench.require(f"{who}: {function} over {window} agrees ({(~same).sum()} differ)", holds=same.mean() > 0.9999)


def offline(bench: Bench) -> None:
    events, moments, keys = (300_000, 30_000, 3_000) if bench.quick else (10_000_000, 1_000_000, 100_000)
    history, asked = data(events, moments, keys)
    bench.say(f"replay: {events:,} events of {keys:,} keys (Zipf), {moments:,} moments, 28 features")
    run, (prefix, sort_duckdb), rolling = ours(history, asked), in_duckdb(history, asked), in_polars(history, asked)
    mine = run()
    check(bench, "DuckDB", prefix(), mine)
    check(bench, "Polars", rolling(), mine)
    key, t = history["k"].to_numpy(), history["t"].to_numpy()
    bench.compare(
        take_turns(
            {
                OURS: run,
                "DuckDB prefix + ASOF, 20 of 28": prefix,
                "Polars rolling, 28": rolling,
            }
            | dict(
                zip(FLOORS, (sort_duckdb, lambda: history.sort("k", "t"), lambda: np.lexsort((t, key))), strict=True)
            ),
            3,
            warm=False,
        ),
        "s",
        ours=OURS,
        floors=FLOORS,
    )


def records(n: int, history: pl.DataFrame) -> list[Record]:
    columns = ("k", "x", "at")
    return [
        Record(i, SOURCE.name, SOURCE.version, None, t, t, t, (k, x, t), columns)
        for i, (k, t, x) in enumerate(history.head(n).iter_rows(), 1)
    ]


def live(bench: Bench, folder: Path) -> None:
    n = 100_000 if bench.quick else 1_000_000
    history, _ = data(n, 1, n // 100)
    stream = records(n, history)
    with OnlineStore.open(folder / "state", 8 << 30, writable=True) as store:
        spending = view()
        fold = Folder([spending], store)
        sizes = (50, 1_000, 5_000)
        rates: dict[int, list[float]] = {size: [] for size in sizes}
        at = 0
        for _ in range(5):
            for size in sizes:
                end, started_s, first = at + n // 15, time.perf_counter(), at
                while at < end:
                    at = fold.fold(stream[at : min(at + size, end)])
                rates[size].append((at - first) / (time.perf_counter() - started_s))
        bench.compare({f"fold, {size} records a transaction": found for size, found in rates.items()}, "events/s")
        _reads(bench, store, spending, history, stream[at - 1].time_us + 1)
    _tick(bench, folder, stream)


def _reads(bench: Bench, store: OnlineStore, spending: ViewDef, history: pl.DataFrame, now_us: int) -> None:
    rng = np.random.default_rng(3)
    asked = history["k"].to_numpy()[rng.integers(0, history.height, 6_400)].tolist()
    reader = Reader([spending], store)
    with store.env.begin() as txn:
        places = [bytes(place) for place, _ in txn.cursor(db=store.heads)]
    chosen = [places[i] for i in rng.integers(0, len(places), len(asked))]

    def read(size: int) -> None:
        t_us = np.full(size, now_us, np.int64)
        for first in range(0, len(asked), size):
            with reader.snapshot() as snap:
                snap.read(spending, [(k,) for k in asked[first : first + size]], t_us)

    def get() -> None:
        with store.env.begin(buffers=True) as txn:
            for place in chosen:
                txn.get(place, db=store.heads)

    bench.compare(
        take_turns(
            {
                "read, 1 key a snapshot": lambda: read(1),
                "read, 32 keys a snapshot": lambda: read(32),
                "LMDB get alone": get,
            },
            5,
        ),
        "keys/s",
        scale=len(asked),
    )


def _tick(bench: Bench, folder: Path, stream: list[Record]) -> None:
    """One tick of the demo: 50 records, seven views, one durable transaction."""
    views = [view(f"v{i}", {name: WINDOWS[name]}) for i, name in enumerate([*WINDOWS, *WINDOWS][:7])]
    with OnlineStore.open(folder / "tick", 4 << 30, writable=True) as store:
        fold, at, taken = Folder(views, store), 0, []
        for _ in range(40 if bench.quick else 400):
            started_s = time.perf_counter()
            at = fold.fold(stream[at : at + 50])
            taken.append((time.perf_counter() - started_s) * 1e3)
    found = sorted(taken[5:])
    bench.add(
        "one tick: 50 records, 7 views, durable",
        found[len(found) // 2],
        "ms",
        spread=(found[int(len(found) * 0.9)] - found[len(found) // 10]) / found[len(found) // 2],
    )


def main() -> None:
    bench = Bench.start("The fold against DuckDB, Polars and sorting alone; live folds and reads")
    warm_up()
    offline(bench)
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        live(bench, Path(folder))
    bench.finish()


if __name__ == "__main__":
    main()
