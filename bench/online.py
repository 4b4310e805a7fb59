"""The live half of the fold: events a second that readers can see, what a read takes, how old features are.

One view is 28 features (count, sum, mean, std, min, max, last over 1 h, 24 h, 7 d, 30 d); keys are Zipf over 100,000.
*Sustained*: a log that was written before is read and folded at the pace at which its events are said to come, as the
worker does it: whatever is there, at most a batch, in one transaction; the backlog is what has come and is not visible.
The events are durable in the log; the state outlives any process, and a power cut has it built anew (decision 031).
*Age*: an appender, a worker's fold and a reader are three processes; from the moment that ``append`` returned until a
new snapshot has the event, polled each half millisecond. *Cold starts* are the real processes (parts/cold.py).

Feast has no windows: it stores and reads one row a key, the latest, in SQLite. It runs in an environment of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from harness import Bench, quantile
from parts.cold import cold_starts

from mainspring.core import ManualClock, WallClock
from mainspring.core.collector import rest_what_is_loaded
from mainspring.definitions import Aggregate, Field, SourceDef, ViewDef
from mainspring.definitions.expressions import expression
from mainspring.events.log import Draft, Log
from mainspring.events.wake import Bell, Wake
from mainspring.features import Folder, OnlineStore, Reader, warm_up
from mainspring.features.footprint import footprint
from mainspring.loop.worker import FOLD_BATCH, fold_next

HOUR_US = 3_600_000_000
WINDOWS = {"1h": HOUR_US, "24h": 24 * HOUR_US, "7d": 168 * HOUR_US, "30d": 720 * HOUR_US}
FUNCTIONS = ("count", "sum", "mean", "std", "min", "max", "last")
START_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
SOURCE = SourceDef("payments", (Field("k", "int"), Field("x", "float"), Field("at", "datetime")), time="at")
KEYS = 100_000
MAP_BYTES = 16 << 30
FEAST = "feast==0.67.0"


def views(n: int, hop_us: int | None = None) -> list[ViewDef]:
    """Views of 28 features each."""
    x = expression("x", SOURCE.schema, of="source payments", where=__file__)
    features = tuple(Aggregate(f"{f}_{name}", f, x, us) for name, us in WINDOWS.items() for f in FUNCTIONS)
    return [ViewDef(f"v{i}", (SOURCE,), ("k",), features, hop_us=hop_us) for i in range(n)]


def draw(n: int, seed: int) -> tuple[list[int], list[float]]:
    """Keys (Zipf, the busiest anywhere in the store) and log-normal amounts."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, KEYS + 1)
    keys = np.random.default_rng(0).permutation(KEYS)[rng.choice(KEYS, n, p=share / share.sum())]
    return keys.tolist(), rng.lognormal(3, 1, n).tolist()


def write_log(path: Path, n: int) -> float:
    """A log of ``n`` events, ten microseconds apart; events a second that it took in."""
    clock, started_s = ManualClock(START_US), time.perf_counter()
    with Log.open(path, MAP_BYTES, writable=True) as log:
        for first in range(0, n, 50_000):
            keys, amounts = draw(min(50_000, n - first), first)
            at = clock.now_us()
            clock.set(at + 500_000)
            rows = zip(keys, amounts, range(at, at + 10 * len(keys), 10), strict=True)
            log.append([Draft(SOURCE, row) for row in rows], clock)
    return n / (time.perf_counter() - started_s)


def sustained(bench: Bench, folder: Path, log: Log, n_views: int, rate: int, seconds: float) -> None:
    """Fold at the pace of ``rate`` events a second; then as fast as it goes."""
    total, at = int(rate * seconds), 0
    backlogs: list[float] = []
    sizes: list[int] = []
    with OnlineStore.open(folder / "state", MAP_BYTES, writable=True) as store:
        fold = Folder(views(n_views), store)
        started_s = time.perf_counter()
        while at < total:
            due = min(total, int((time.perf_counter() - started_s) * rate))
            if due == at:
                time.sleep(0.000_5)
                continue
            before = at
            fold_next(fold, log, min(due - at, FOLD_BATCH))
            at = fold.offset
            sizes.append(at - before)
            backlogs.append(min(total, (time.perf_counter() - started_s) * rate) - at)
        took_s = time.perf_counter() - started_s
    shutil.rmtree(folder / "state")
    what = f"{n_views} view{'s' if n_views > 1 else ''} at {rate:,} events/s for {seconds:.0f} s"
    third = len(backlogs) // 3
    early, late = median(backlogs[third : 2 * third]), median(backlogs[-third:])
    bench.add(
        f"{what}: folded and visible",
        total / took_s,
        "events/s",
        against=f"{rate:,}",
        ratio=total / took_s / rate,
    )
    bench.add(f"{what}: records in a transaction, median", median(sizes), "records")
    bench.add(f"{what}: backlog, median of the second third", early / rate * 1e3, "ms")
    bench.add(f"{what}: backlog, median of the last third", late / rate * 1e3, "ms")
    bench.add(f"{what}: backlog, greatest", max(backlogs) / rate * 1e3, "ms")
    bench.require(f"{what}: the backlog does not grow", holds=late < max(2 * early, 0.1 * rate))


def flat_out(bench: Bench, folder: Path, log: Log, n_views: int, size: int, n: int) -> None:
    """Read from the log and fold, without a pause."""
    at, taken = 0, []
    with OnlineStore.open(folder / "state", MAP_BYTES, writable=True) as store:
        fold = Folder(views(n_views), store)
        while at < n:
            started_s, before = time.perf_counter(), at
            fold_next(fold, log, min(size, n - at))
            at = fold.offset
            taken.append((time.perf_counter() - started_s) / (at - before))
    shutil.rmtree(folder / "state")
    half = sorted(taken[len(taken) // 2 :])  # the state has filled by then
    spread = (half[-1] - half[0]) / median(half) if len(half) > 1 else None
    name = (
        f"{n_views} view{'s' if n_views > 1 else ''}, {size:,} record{'s' if size > 1 else ''} a transaction, flat out"
    )
    bench.add(name, 1.0 / median(half), "events/s", spread=spread)


def history(counts: Sequence[int]) -> pl.DataFrame:
    """Events of key i: ``counts[i]``, evenly over sixty days."""
    rng = np.random.default_rng(5)
    keys = np.repeat(np.arange(len(counts)), counts)
    t = np.concatenate([np.sort(rng.integers(0, 1440 * HOUR_US, n)) for n in counts]) + START_US
    order = np.argsort(t, kind="stable")
    frame = pl.DataFrame({"k": keys[order], "x": rng.lognormal(3, 1, len(t)), "at": t[order]})
    at = pl.col("at").cast(pl.Datetime("us", "UTC"))
    stamps = at.alias("_time"), at.alias("_known_at"), pl.int_range(1, pl.len() + 1).alias("_offset")
    return frame.with_columns(at, *stamps, pl.lit(None, pl.String).alias("_id"))


def reads(bench: Bench, folder: Path) -> None:
    """What a read takes: by the events that a key has, by the keys at once, by the views at once."""
    counts = [1, 10, 100, 1_000, 10_000, *([] if bench.quick else [100_000, 1_000_000])]
    events = history([*counts, *[20] * 1_000])
    rounds, now_us = 200 if bench.quick else 1_000, START_US + 1440 * HOUR_US
    some = views(10)
    with OnlineStore.open(folder / "reads", MAP_BYTES, writable=True) as store:
        fold, started_s = Folder(some, store), time.perf_counter()
        for view in some:
            fold.backfill(view, events if view is some[0] else events.filter(pl.col("k") >= len(counts)), events.height)
            if view is some[0]:
                bench.add("backfill, one view", events.height / (time.perf_counter() - started_s), "events/s")
        fold.skip_to(events.height)

        def time_reads(name: str, which: Sequence[ViewDef], keys: Sequence[int], *, cold: bool) -> None:
            reader, taken = Reader(some, store), []
            t_us = np.full(len(keys), now_us)
            for i in range(rounds + 20):
                reader = Reader((), store) if cold else reader
                asked = [(k + i) % 1_000 + len(counts) if k >= len(counts) else k for k in keys]
                started_s = time.perf_counter()
                with reader.snapshot() as snap:
                    snap.read_views([(view, [asked]) for view in which], t_us)
                taken.append((time.perf_counter() - started_s) * 1e6)
            bench.add(f"{name}, median", median(taken[20:]), "us")
            bench.add(f"{name}, p99", quantile(taken[20:], 0.99), "us")

        for key, n in enumerate(counts):
            for cold in (True, False):
                time_reads(f"read {'cold' if cold else 'warm'}: 1 key of {n:,} events", some[:1], [key], cold=cold)
        busy = len(counts)
        for n in (32, 256):
            time_reads(f"read: {n} keys of 20 events", some[:1], range(busy, busy + n), cold=False)
        for n in (2, 5, 10):
            time_reads(f"read: 1 key of {n} views", some[:n], [busy], cold=False)
        time_reads("read: 32 keys of 5 views", some[:5], range(busy, busy + 32), cold=False)


def sizes(bench: Bench, folder: Path) -> None:
    """Bytes of state, of a view with one column."""
    for n in (1, 10, 100, 1_000):
        keys = 2_000 if n < 1_000 else 300
        events = history([n] * keys)
        with OnlineStore.open(folder / f"size{n}", MAP_BYTES, writable=True) as store:
            fold = Folder(views(1), store)
            fold.backfill(views(1)[0], events, events.height)
            with store.env.begin() as txn:
                stats = [txn.stat(db) for db in (store.heads, store.parts)]
        pages = sum(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"] for s in stats)
        bench.add(f"state of a key of {n:,} events of one column", pages * stats[0]["psize"] / keys, "bytes")
    counts = [10_000, 100_000, *([] if bench.quick else [1_000_000])]
    for n in counts:
        events, taken = history([n]), []
        for hop_us in (None, HOUR_US):
            with OnlineStore.open(folder / f"hop{n}-{hop_us}", MAP_BYTES, writable=True) as store:
                (view,) = views(1, hop_us)
                Folder([view], store).backfill(view, events, events.height)
                taken.append(footprint(store, store.root().views[f"{view.name}@{view.version}"]).bytes)
        name = f"state of a key of {n:,} events in 60 days, windows to 30 days, hop=1h"
        bench.add(name, taken[1], "bytes", against=f"{taken[0]:,} without hop", ratio=taken[0] / taken[1])


def _append_at(folder: Path, rate: int, seconds: float, ready: Event, out: Any) -> None:
    """Append at a pace, a few events each five milliseconds; says when which offset was acknowledged."""
    keys, amounts = draw(int(rate * seconds) + rate, 1)
    acked, done, clock, bell = [], 0, WallClock(), Bell(folder)
    with Log.open(folder / "log", MAP_BYTES, writable=True) as log:
        ready.set()
        started_s = time.monotonic()
        while (elapsed_s := time.monotonic() - started_s) < seconds:
            due = int(elapsed_s * rate)
            if due > done:
                now_us = clock.now_us()
                rows = zip(keys[done:due], amounts[done:due], strict=True)
                log.append([Draft(SOURCE, (k, x, now_us)) for k, x in rows], clock)
                acked.append((time.monotonic(), due, due - done))
                bell.ring()
                done = due
            time.sleep(0.005)
    out.put(acked)


def _fold_from(folder: Path, ready: Event, stop: Event) -> None:
    """Fold as the worker does."""
    warm_up()
    log = Log.open(folder / "log", MAP_BYTES)
    with OnlineStore.open(folder / "state", MAP_BYTES, writable=True) as store, Wake(folder, "fold") as woken:
        fold = Folder(views(1), store)
        rest_what_is_loaded()
        ready.set()
        while not stop.is_set():
            if not fold_next(fold, log):
                woken.wait(0.05)


def age(bench: Bench, folder: Path, rate: int, seconds: float) -> None:
    """From acknowledged by the log to readable."""
    context = multiprocessing.get_context("spawn")
    folds, appends, stop, out = context.Event(), context.Event(), context.Event(), context.Queue()
    Log.open(folder / "log", MAP_BYTES, writable=True).close()
    folding = context.Process(target=_fold_from, args=(folder, folds, stop))
    appending = context.Process(target=_append_at, args=(folder, rate, seconds, appends, out))
    for process, ready in ((folding, folds), (appending, appends)):
        process.start()
        while not ready.wait(1.0):
            if not process.is_alive():
                raise SystemExit("a process of the bench ended before it began")
    seen: list[tuple[int, float]] = []
    with OnlineStore.open(folder / "state", MAP_BYTES) as store:
        until_s = time.monotonic() + seconds + 60
        acked: list[tuple[float, int, int]] = []
        while time.monotonic() < until_s:
            offset = store.folded_offset()
            if not seen or offset > seen[-1][0]:
                seen.append((offset, time.monotonic()))
            if not acked and not out.empty():
                acked = out.get()
            if acked and offset >= acked[-1][1]:
                break
            time.sleep(0.000_5)
    stop.set()
    appending.join()
    folding.join()
    offsets = [offset for offset, _ in seen]
    ages = [
        (seen[at][1] - acked_s) * 1e3
        for acked_s, last, n in acked
        if (at := bisect_left(offsets, last)) < len(seen)
        for _ in range(n)
    ]
    bench.require("every acknowledged event became readable", holds=len(ages) == acked[-1][1])
    name = f"age of features at {rate:,} events/s, acknowledged to readable"
    bench.add(f"{name}, median", median(ages), "ms")
    bench.add(f"{name}, p99", quantile(ages, 0.99), "ms", against="50 ms", ratio=50 / quantile(ages, 0.99))
    bench.add(f"{name}, greatest", max(ages), "ms")


def feast(bench: Bench) -> None:
    """Feast's push and online read, in an environment of its own under the cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainspring" / "bench-feast"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        bench.say(f"installing {FEAST} into {home} …")
        venv.create(home, with_pip=True, clear=True)
        made = subprocess.run(
            [python, "-m", "pip", "install", "-q", FEAST], capture_output=True, text=True, check=False
        )
        if made.returncode:
            bench.say(made.stderr)
            bench.add("Feast could not be installed", float("nan"), "")
            return
        (home / "ready").touch()
    script = Path(__file__).parent / "peers" / "feast_online.py"
    with tempfile.TemporaryDirectory(prefix="mainspring-feast-") as scratch:
        args = [python, script, scratch, *(["--quick"] if bench.quick else [])]
        run = subprocess.run(args, capture_output=True, text=True, check=False)
    if run.returncode:
        bench.say(run.stderr)
        bench.add("Feast did not run", float("nan"), "")
        return
    for name, value, unit in json.loads(run.stdout.splitlines()[-1]):
        bench.add(f"Feast 0.67, latest row only, SQLite: {name}", value, unit)


def main() -> None:
    bench = Bench.start("The online store: folds a second, reads, ages, bytes")
    warm_up()
    rest_what_is_loaded()
    seconds = 5.0 if bench.quick else 60.0
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as name:
        folder = Path(name)
        bench.add("the log took them in at", write_log(folder / "log", int(100_000 * seconds)), "events/s")
        with Log.open(folder / "log", MAP_BYTES) as log:
            sustained(bench, folder, log, 1, 100_000, seconds)
            sustained(bench, folder, log, 5, 30_000, seconds)
            for n_views, size in ((1, 1), (1, 100), (1, 5_000), (1, FOLD_BATCH), (5, 5_000), (5, FOLD_BATCH)):
                n = size * 400 if size < 1_000 else int(20_000 * seconds)
                flat_out(bench, folder, log, n_views, size, n)
        shutil.rmtree(folder / "log")
        reads(bench, folder)
        sizes(bench, folder)
        age(bench, folder, 10_000, seconds / 2)
        cold_starts(bench, folder)
    feast(bench)
    bench.finish()


if __name__ == "__main__":
    sys.exit(main())
