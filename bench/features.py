"""Replay, the offline fold: 28 features (count, sum, mean, std, min, max, last over 1 h, 24 h, 7 d, 30 d), and more.

Every contender gets the same columns in memory (DuckDB: a table in memory) and answers the same moments; what it says
is compared with ours before it counts. DuckDB takes differences of prefix sums at ASOF joins: 20 of the 28, and not
exact. Polars rolls over events and moments together: all 28, not exact. pandas does so too, on a tenth of the events;
its `merge_asof` answers the latest value alone. Sorting the events by key and time is the floor of most other ways.

Then ours alone: from 1 M to 100 M events (the last from a generator through files, in bounded memory), views of 1 to
1,000 features, and the case that users of Feast complain of: 17,000 rows with 1,000 features in half an hour and 50 GB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import polars as pl
from harness import Bench, take_turns

from mainspring.definitions import Aggregate, Field, SourceDef, ViewDef
from mainspring.definitions.expressions import expression
from mainspring.features import warm_up
from mainspring.features.crew import THREADS
from mainspring.features.moments import replay_views
from mainspring.features.replay import replay
from mainspring.features.scratch import let_go

HOUR_US = 3_600_000_000
WINDOWS = {"1h": HOUR_US, "24h": 24 * HOUR_US, "7d": 168 * HOUR_US, "30d": 720 * HOUR_US}
FUNCTIONS = ("count", "sum", "mean", "std", "min", "max", "last")
START_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
SPAN_US = 90 * 24 * HOUR_US
OURS = "mainspring replay, 28 exact"
DUCKDB = "DuckDB prefix + ASOF, 20 of 28"
FLOORS = ("only sorting: DuckDB", "only sorting: Polars", "only sorting: numpy lexsort")
MEMORY_BYTES = 4 << 30
VALUES = tuple(f"x{i}" for i in range(20))
SOURCE = SourceDef("payments", (Field("k", "int"), Field("x", "float"), Field("at", "datetime")), time="at")
WIDE = SourceDef(
    "wide", (Field("k", "int"), *(Field(name, "float") for name in VALUES), Field("at", "datetime")), time="at"
)


def view(name: str = "spending", windows: dict[str, int] = WINDOWS) -> ViewDef:
    x = expression("x", SOURCE.schema, of="source payments", where=__file__)
    features = [
        Aggregate(f"{function}_{name}", function, x, us) for name, us in windows.items() for function in FUNCTIONS
    ]
    return ViewDef(name, (SOURCE,), ("k",), tuple(features))


def many(features: int) -> ViewDef:
    """So many features: sums, means, counts, extremes and latest values of up to 20 columns over up to 10 windows."""
    made = []
    for i in range(features):
        name, function, hours = VALUES[i // 5 % 20], ("sum", "mean", "count", "max", "last")[i % 5], 1 << (i // 100)
        value = expression(name, WIDE.schema, of="source wide", where=__file__)
        made.append(Aggregate(f"f{i}", function, value, hours * HOUR_US))
    return ViewDef(f"many_{features}", (WIDE,), ("k",), tuple(made))


def keys_of(rng: np.random.Generator, n: int, keys: int) -> np.ndarray:
    """Zipf with exponent 1: the first key has as many as the next two, and so on."""
    ends = np.cumsum(1.0 / np.arange(1, keys + 1))
    return np.searchsorted(ends, rng.random(n) * ends[-1]).astype(np.int64)


def data(events: int, moments: int, keys: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events in order of time and moments in any order; keys are Zipf, amounts log-normal."""
    rng = np.random.default_rng(7)
    t = np.sort(rng.integers(0, SPAN_US, events)) + START_US
    history = pl.DataFrame({"k": keys_of(rng, events, keys), "t": t, "x": rng.lognormal(3, 1, events)})
    asked = rng.integers(SPAN_US // 4, SPAN_US, moments) + START_US
    return history, pl.DataFrame({"k": keys_of(rng, moments, keys), "t": asked})


def as_history(events: pl.DataFrame, first_offset: int = 1) -> pl.DataFrame:
    """The columns that the lake gives to each event."""
    at = pl.col("t").cast(pl.Datetime("us", "UTC"))
    offsets = pl.int_range(first_offset, pl.len() + first_offset)
    return events.select(pl.exclude("t"), at=at, _time=at, _known_at=at, _offset=offsets)


def ours(history: pl.DataFrame, moments: pl.DataFrame, asked: ViewDef, **rest: Any) -> Callable[[], np.ndarray]:
    frame, keys, t_us = as_history(history), moments.select("k"), moments["t"].to_numpy()
    return lambda: replay(asked, frame, keys, t_us, known_us=t_us, **rest)[0]


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
        select m.row, {", ".join(columns)} from m asof left join p b on m.k = b.k and m.t > b.t {joins}"""

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


def in_pandas(history: pl.DataFrame, moments: pl.DataFrame) -> Callable[[], pl.DataFrame]:
    """Events and moments in one frame, rolled by time and group; the latest value by ``merge_asof``."""
    import pandas as pd

    events = pd.DataFrame({name: history[name].to_numpy() for name in ("k", "t", "x")})
    asked = pd.DataFrame({"k": moments["k"].to_numpy(), "t": moments["t"].to_numpy(), "row": np.arange(moments.height)})

    def answer() -> pl.DataFrame:
        both = pd.concat([asked, events]).sort_values(["k", "t", "row"], kind="stable")
        both["at"] = pd.to_datetime(both["t"], unit="us")
        groups = both.set_index("at").groupby("k")["x"]
        latest = latest_in_pandas(events, asked)
        is_moment = both["row"].notna().to_numpy()
        rows = both["row"].to_numpy()[is_moment].astype(np.int64)
        columns: dict[str, np.ndarray] = {}
        for name, us in WINDOWS.items():
            rolled = groups.rolling(pd.Timedelta(us, "us"), closed="left")
            for function in FUNCTIONS[:-1]:
                out = np.empty(len(asked))
                out[rows] = getattr(rolled, function)().to_numpy()[is_moment]
                columns[f"{function}_{name}"] = out
            columns[f"last_{name}"] = latest["x"].where(latest["t"] - latest["at"] <= us).to_numpy()
        return pl.DataFrame(columns)

    return answer


def latest_in_pandas(events: Any, asked: Any) -> Any:
    import pandas as pd

    known = events.rename(columns={"t": "at"}).sort_values("at", kind="stable")
    left = asked.sort_values("t", kind="stable")
    found = pd.merge_asof(left, known, left_on="t", right_on="at", by="k", allow_exact_matches=False)
    return found.sort_values("row")


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


def beside_others(bench: Bench) -> None:
    events, moments, keys = (300_000, 30_000, 3_000) if bench.quick else (10_000_000, 1_000_000, 100_000)
    history, asked = data(events, moments, keys)
    bench.say(f"replay: {events:,} events of {keys:,} keys (Zipf), {moments:,} moments, 28 features, {THREADS} threads")
    run = ours(history, asked, view())
    (prefix, sort_duckdb), rolling = in_duckdb(history, asked), in_polars(history, asked)
    mine = run()
    check(bench, "DuckDB", prefix(), mine)
    check(bench, "Polars", rolling(), mine)
    key, t = history["k"].to_numpy(), history["t"].to_numpy()
    sorts = (sort_duckdb, lambda: history.sort("k", "t"), lambda: np.lexsort((t, key)))
    contenders = {OURS: run, DUCKDB: prefix, "Polars rolling, 28": rolling}
    found = take_turns(contenders | dict(zip(FLOORS, sorts, strict=True)), 3, warm=False)
    bench.compare(found, "s", ours=OURS, floors=FLOORS)
    if not bench.quick:
        aims(bench, {name: median(seconds) for name, seconds in found.items()})
    bench.compare(take_turns({f"{OURS}, one after the other": run}, 3), "s")
    few_events, few_moments = history[::10], asked[::10]
    run, rolling = ours(few_events, few_moments, view()), in_pandas(few_events, few_moments)
    check(bench, "pandas", rolling(), run())
    name = f"{OURS}, a tenth of it"
    contenders = {name: run, "pandas groupby rolling, 28, a tenth of it": rolling}
    bench.compare(take_turns(contenders, 1 if bench.quick else 2, warm=False), "s", ours=name)


def aims(bench: Bench, seconds: dict[str, float]) -> None:
    """What replay is meant to reach, as rows: a ratio of 1 or more is reached."""
    own = seconds[OURS]
    bench.add("aim: seconds for 10 M events, 1 M moments", own, "s", against="at most 1.0 s", ratio=1.0 / own)
    times = seconds[DUCKDB] / own
    bench.add("aim: times as fast as DuckDB", times, "times", against="at least 10", ratio=times / 10.0)
    sorting = own / min(seconds[name] for name in FLOORS)
    bench.add("aim: times as long as the quickest sort", sorting, "times", against="at most 2", ratio=2.0 / sorting)


def cold_start(bench: Bench) -> None:
    """From the start of a process to its first answer, in a folder of kernels that is empty, and then in it again."""
    command = [sys.executable, "-c", "from mainspring.features import warm_up; warm_up()"]  # replays each function once
    with tempfile.TemporaryDirectory() as folder:
        for name in () if bench.quick else ("kernels compiled", "kernels cached"):
            run = partial(subprocess.run, command, check=True, env=os.environ | {"NUMBA_CACHE_DIR": folder})
            bench.compare(take_turns({f"cold start to the first answer, {name}": run}, 1, warm=False), "s")


@dataclass
class Peak:
    """Greatest memory seen beyond what there was at the start: ``anonymous`` cannot be written back to a file."""

    anonymous_bytes: int = 0
    resident_bytes: int = 0


@contextmanager
def peak() -> Iterator[Peak]:
    """Looks at this process's memory 50 times a second."""
    found, before, over = Peak(), _memory(), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            now = _memory()
            found.anonymous_bytes = max(found.anonymous_bytes, now["RssAnon"] - before["RssAnon"])
            found.resident_bytes = max(found.resident_bytes, now["VmRSS"] - before["VmRSS"])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def _memory() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(kilobytes) * 1024 for name, kilobytes, _ in lines}


def stream(events: int, keys: int) -> Iterator[pl.DataFrame]:
    """Years of history, a chunk at a time: never all of it."""
    rng, done, chunk = np.random.default_rng(8), 0, max(events // 50, 1)
    while done < events:
        n = min(chunk, events - done)
        t = START_US + np.sort(rng.integers(SPAN_US * done // events, SPAN_US * (done + n) // events, n))
        frame = pl.DataFrame({"k": keys_of(rng, n, keys), "t": t, "x": rng.lognormal(3, 1, n)})
        yield as_history(frame, done + 1)
        done += n


def growth(bench: Bench) -> None:
    """A tenth as many moments as events, a hundredth as many keys."""
    sizes = (30_000, 300_000) if bench.quick else (1_000_000, 10_000_000)
    for events in sizes:
        history, asked = data(events, events // 10, events // 100)
        run = ours(history, asked, view())
        run()
        let_go()
        with peak() as seen:
            found = take_turns({f"{events:,} events in memory": run}, 3, warm=False)
        bench.compare(found, "events/s", scale=events)
        bench.add(f"{events:,} events: memory besides them", seen.anonymous_bytes, "bytes")
    events = 1_000_000 if bench.quick else 100_000_000
    bound = 64 << 20 if bench.quick else MEMORY_BYTES
    rng = np.random.default_rng(9)
    keys = pl.DataFrame({"k": keys_of(rng, events // 10, events // 100)})
    t_us = rng.integers(SPAN_US // 4, SPAN_US, events // 10) + START_US
    made_s = time.perf_counter()
    for _ in stream(events, events // 100):
        pass
    made_s = time.perf_counter() - made_s
    let_go()
    with peak() as seen:
        started_s = time.perf_counter()
        values, _ = replay(view(), stream(events, events // 100), keys, t_us, known_us=t_us, memory_bytes=bound)
        taken_s = time.perf_counter() - started_s - made_s
    assert values.shape == (events // 10, 28)
    bench.add(f"{events:,} events through files, {bound >> 20:,} MB", events / taken_s, "events/s")
    bench.add("the same: seconds, without making the events", taken_s, "s")
    bench.add("the same: peak of memory that is no file's", seen.anonymous_bytes, "bytes", against=f"{bound:,}")
    bench.add("the same: peak of all resident pages", seen.resident_bytes, "bytes")
    bench.require(f"memory bound kept ({seen.anonymous_bytes:,} of {bound:,})", holds=seen.anonymous_bytes <= bound)


def wide(events: int, moments: int, keys: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    history, asked = data(events, moments, keys)
    rng = np.random.default_rng(10)
    return history.drop("x").with_columns(pl.Series(name, rng.lognormal(3, 1, events)) for name in VALUES), asked


def widths(bench: Bench) -> None:
    events, moments = (50_000, 5_000) if bench.quick else (1_000_000, 100_000)
    history, asked = wide(events, moments, events // 100)
    for features in (1, 10, 100, 1_000):
        run = ours(history, asked, many(features))
        found = take_turns({f"{features:,} features, {events:,} events, {moments:,} moments": run}, 3)
        bench.compare(found, "s")
    history, asked = wide(events, 17_000, events // 100)
    views = [
        ViewDef(
            f"latest_{i}",
            (WIDE,),
            ("k",),
            tuple(Aggregate(name, "last", expression(name, WIDE.schema, of="wide", where=__file__)) for name in VALUES),
        )
        for i in range(50)
    ]
    runs = [ours(history, asked, one) for one in views]
    frame, keys, t_us = as_history(history), asked.select("k"), asked["t"].to_numpy()
    with peak() as seen:
        found = take_turns(
            {
                "17,000 moments x 1,000 features, one view": ours(history, asked, many(1_000)),
                "17,000 moments x 1,000 features, 50 views of 20 latest values": lambda: replay_views(
                    views, keys, lambda _: frame, t_us, known_us=t_us
                ),
                "the same, one replay a view": lambda: [run() for run in runs],
            },
            1 if bench.quick else 2,
        )
    for name, measured in found.items():
        bench.compare({name: measured}, "s")
    bench.add("the three: memory besides the events", seen.anonymous_bytes, "bytes")


def main() -> None:
    bench = Bench.start("Replay against DuckDB, Polars, pandas and sorting alone; its growth with events and features")
    warm_up()
    beside_others(bench)
    growth(bench)
    widths(bench)
    cold_start(bench)
    bench.finish()


if __name__ == "__main__":
    main()
