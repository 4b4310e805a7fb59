"""What a gateway costs: processor time by number of columns and of views, memory, start, a thousand models."""

from __future__ import annotations

import time
from pathlib import Path

from harness import Bench
from parts.gateway import TITLES, children_of, cpu_s, own_bytes, ready, settle, target_of
from parts.served import FIVE_VIEWS, Asked, build, orders

from load import Load, Sender
from mainspring.core import Config
from mainspring.loop.supervisor import Supervisor

COLUMNS = (10, 100, 1_000)
NAMES = ("intake", "gateway")


def cost(bench: Bench, sender: Sender, root: Path) -> None:
    """Processor time of the gateway for a request: 10, 100, 1,000 columns, and 30 of which views give 0, 8, 28."""
    wide = [Asked(f"columns_{n}", floats=n, inputs=n) for n in COLUMNS]
    titles = {model: f"{model.inputs:,} columns of the request" for model in wide} | TITLES
    config = build(root / "project", list(titles), 20_000 if bench.quick else 200_000, train_rows=500)
    rounds, seconds = (1, 1.0) if bench.quick else (3, 5.0)
    with Supervisor(config, names=NAMES, free_ports=True) as up:
        url, pids = ready(up), up.pids()
        found: dict[str, list[tuple[float, float, Load]]] = {title: [] for title in titles.values()}
        targets = {
            title: target_of(url, model, orders(1_000 if model.floats < 1_000 else 100, model.floats))
            for model, title in titles.items()
        }
        for target in targets.values():
            sender.load(target, 1.0)
        for _ in range(rounds):
            for title, target in targets.items():
                settle(url, 30.0)
                before = cpu_s(pids["gateway"]), cpu_s(pids["intake"])
                load = sender.load(target, seconds)
                settle(url, 60.0)
                gateway, intake = cpu_s(pids["gateway"]) - before[0], cpu_s(pids["intake"]) - before[1]
                found[title].append((gateway / load.sent * 1e6, intake / load.sent * 1e6, load))
    for title, loads in found.items():
        bench.require(f"{title}: no request fails", holds=not any(load.errors for *_, load in loads))
        for name, values, unit in (
            ("gateway's processor time a request", [gateway for gateway, _, _ in loads], "us"),
            ("intake's processor time a request", [intake for _, intake, _ in loads], "us"),
            ("requests", [load.per_s for *_, load in loads], "req/s"),
            ("p99", [load.p99_ms for *_, load in loads], "ms"),
        ):
            bench.compare({f"{title}: {name}": values}, unit)


def size(bench: Bench, sender: Sender, root: Path) -> None:
    """Memory of each worker and time until it serves, of one and of two."""
    for workers in (1, 2):
        config = build(root / f"workers_{workers}", list(TITLES), 20_000 if bench.quick else 200_000, workers=workers)
        started_s = time.monotonic()
        with Supervisor(config, names=NAMES, free_ports=True) as up:
            url = ready(up)
            took_s = time.monotonic() - started_s
            load = sender.load(target_of(url, FIVE_VIEWS, orders(1_000)), 2.0)
            settle(url, 30.0)
            parent = up.pids()["gateway"]
            serving = [parent] if workers == 1 else children_of(parent)
            of = f"{workers} worker{'s' if workers > 1 else ''}"
            bench.add(f"{of}: intake and gateway from start to ready", took_s, "s")
            bench.add(f"{of}: memory of each", max(own_bytes(pid) for pid in serving), "bytes")
            bench.add(f"{of}: 28 features of 5 views", load.per_s, "req/s")
            bench.add(f"{of}: 28 features of 5 views: p99", load.p99_ms, "ms")
            bench.require(f"{of}: no request fails", holds=load.errors == 0 and len(serving) == workers)


def models(bench: Bench, sender: Sender, root: Path) -> None:
    """A thousand models of 100 trees in one gateway: memory, time to load, latency when all of them are asked."""
    count = 20 if bench.quick else 1_000
    first = Asked("model_0")
    named = [first, *(Asked(f"model_{i}", same_as=first.name) for i in range(1, count))]
    one, _ = _with_models(bench, sender, build(root / "one", [first], 0), [first])
    many, took_s = _with_models(bench, sender, build(root / "many", named, 0), named)
    bench.add(f"{count:,} models: intake and gateway from start to ready", took_s, "s")
    bench.add(f"{count:,} models: memory of each", (many - one) / max(count - 1, 1), "bytes")


def _with_models(bench: Bench, sender: Sender, config: Config, named: list[Asked]) -> tuple[int, float]:
    started_s = time.monotonic()
    with Supervisor(config, names=NAMES, free_ports=True) as up:
        url = ready(up)
        took_s = time.monotonic() - started_s
        rows, loads = orders(100), []
        for model in named[:: max(len(named) // 10, 1)]:
            loads.append(sender.load(target_of(url, model, rows), 1.0))
            settle(url, 5.0)
        title = f"{len(named):,} model{'s' if len(named) > 1 else ''}"
        bench.add(f"{title}: requests", sum(load.per_s for load in loads) / len(loads), "req/s")
        bench.add(f"{title}: p99", max(load.p99_ms for load in loads), "ms")
        bench.require(f"{title}: no request fails", holds=not any(load.errors for load in loads))
        return own_bytes(up.pids()["gateway"]), took_s
