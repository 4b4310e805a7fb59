"""The gateway at rates that others set: a minute with the worker folding beside it, a burst, and a capacity."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from harness import Bench
from parts.gateway import TITLES, children_of, log_of, own_bytes, ready, settle, target_of
from parts.served import FIVE_VIEWS, HOUR_US, KEYS, ONE_VIEW, VIEWS, Asked, build, orders

from load import Sender
from mainspring.core.run import internal_token
from mainspring.definitions import load_project
from mainspring.events.client import IntakeClient
from mainspring.load import Level, Limit, pool, search, spike, steady
from mainspring.load.traffic import Server, Traffic
from mainspring.loop.supervisor import Supervisor

EVENTS_PER_S = 500
GOAL = 10_000
GOAL_LIMIT = Limit(0.99, 50.0)


def sustained(bench: Bench, sender: Sender, root: Path) -> None:
    """A minute at full load, while events come in at 500 a second and the worker folds and writes them."""
    for model in (ONE_VIEW, FIVE_VIEWS):
        for workers in (1, 2):
            _sustained(bench, sender, root / f"{model.name}_{workers}", model, workers)


def _sustained(bench: Bench, sender: Sender, root: Path, model: Asked, workers: int) -> None:
    seconds, history = (2.0, 2_000) if bench.quick else (60.0, 100_000)
    config = build(root, [ONE_VIEW, FIVE_VIEWS], 0, workers=workers)
    with Supervisor(config, names=("intake", "gateway", "worker"), free_ports=True) as up:
        url = ready(up)
        client = IntakeClient(up.urls()["intake"], internal_token(config.run))
        _tell(client, history)
        target = target_of(url, model, orders(1_000))
        sender.load(target, 1.0)
        parent = up.pids()["gateway"]
        serving = [parent] if workers == 1 else children_of(parent)
        with _feeding(client) as sent:
            settle(url, 30.0)
            before = sum(map(own_bytes, serving))
            load = sender.load(target, seconds)
            log = log_of(url)
        of = f"{workers} worker{'s' if workers > 1 else ''}"
        name = f"{TITLES[model]}, {of}, {seconds:g} s, folding {EVENTS_PER_S} events/s beside it"
        bench.add(name, load.per_s, "req/s", against=f"20,000 of {os.cpu_count()} cores", ratio=load.per_s / 20_000)
        for label, value in (("p50", load.p50_ms), ("p99", load.p99_ms), ("p99.9", load.p999_ms)):
            bench.add(f"{name}: {label}", value, "ms")
        bench.add(f"{name}: errors of {load.sent}", load.errors, "requests")
        bench.add(f"{name}: events sent meanwhile", sent[0], "events")
        bench.add(f"{name}: growth of memory", sum(map(own_bytes, serving)) - before, "bytes")
        bench.add(f"{name}: the prediction log, waiting when the load ends", log["buffered"], "answers")
        bench.add(f"{name}: the prediction log, dropped of all", log["dropped"], "answers")
        bench.require(f"{name}: no request fails ({load.errors} did)", holds=load.errors == 0)


def bursts(bench: Bench, _wrk: Sender, root: Path) -> None:
    """An open loop at 1,000 a second that is 8,000 for a fifth of the time, before two workers."""
    with _open_loop(bench, root) as traffic:
        for level in traffic.run(spike(1_000, 8_000, 2.5 if bench.quick else 20.0)):
            _show(bench, f"{level.stage.name}, {level.stage.high:,.0f}/s", level)


def capacity(bench: Bench, _wrk: Sender, root: Path) -> None:
    """10,000 a second in an open loop before two workers, and the greatest rate at which p99 stays under 50 ms."""
    with _open_loop(bench, root) as traffic:
        seconds = 2.0 if bench.quick else 10.0
        level = traffic.run(steady(GOAL, seconds))[0]
        _show(bench, f"{GOAL:,}/s", level)
        if bench.quick:
            return
        found = search(lambda rate: traffic.run(steady(rate, seconds))[0], GOAL_LIMIT, start=2_000.0)
        name = f"capacity at p99 under {GOAL_LIMIT.under_ms:g} ms, ended by: {found.ended_by}"
        bench.add(name, found.rate, "req/s", against=f"{GOAL:,}", ratio=found.rate / GOAL)


@contextlib.contextmanager
def _open_loop(bench: Bench, root: Path) -> Iterator[Traffic]:
    config = build(root / "project", [FIVE_VIEWS], 20_000 if bench.quick else 200_000, workers=2)
    with Supervisor(config, names=("intake", "gateway"), free_ports=True) as up:
        url = urlsplit(ready(up))
        source = load_project(config.definitions).models[FIVE_VIEWS.name].request
        rows: Any = [{"order_id": "x"} | row for row in orders(1_000)]
        made = pool(source, f"/predict/{FIVE_VIEWS.name}", url.netloc, rows, run=os.getpid() % 65_536)
        with Traffic(Server(url.hostname or "", url.port or 0), made, seed=7) as traffic:
            traffic.probe()
            yield traffic
        settle(url.geturl(), 30.0)


def _show(bench: Bench, name: str, level: Level) -> None:
    of = f"open loop, {TITLES[FIVE_VIEWS]}, {name}"
    bench.add(f"{of}: answered", level.answered_per_s, "req/s")
    for q, label in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")):
        bench.add(f"{of}: {label}", level.at(q), "ms")
    bench.add(f"{of}: errors of {level.sent}", sum(level.errors.values()), "requests")
    bench.add(f"{of}: the sender's own lateness, p99", level.late_ms, "ms")


def _tell(client: IntakeClient, events: int) -> None:
    """History of the views, for the worker to fold."""
    rng = np.random.default_rng(6)
    now_us = time.time_ns() // 1_000
    times = np.sort(now_us - 1 - (rng.random(events) ** 3 * 700 * HOUR_US).astype(np.int64)).tolist()
    for first in range(0, events, 5_000):
        rows = [("paid", _paid(rng, f"h{i}", times[i])) for i in range(first, min(first + 5_000, events))]
        client.post_internal(rows, history=True)


@contextlib.contextmanager
def _feeding(client: IntakeClient) -> Iterator[list[int]]:
    """Events that go on coming, in a thread; how many is the list's only number."""
    stop, sent, rng = threading.Event(), [0], np.random.default_rng(7)

    def feed() -> None:
        while not stop.wait(0.1):
            now_us = time.time_ns() // 1_000
            rows = [("paid", _paid(rng, f"l{sent[0] + i}", now_us)) for i in range(EVENTS_PER_S // 10)]
            client.post_internal(rows)
            sent[0] += len(rows)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


def _paid(rng: np.random.Generator, order: str, time_us: int) -> dict[str, Any]:
    keys = {f"k{i}": str(k) for i, k in enumerate(rng.integers(0, KEYS, VIEWS).tolist())}
    return {"order_id": order, **keys, "x": float(rng.random()), "late": bool(rng.random() < 0.3), "paid_at": time_us}
