"""The gateway and other servers of the same graph, in turns: one row a request, then a hundred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from contenders import PEERS, Running, running
from harness import Bench
from parts.gateway import TITLES, ready, settle, target_of, tensors_of
from parts.served import FIVE_VIEWS, PLAIN, build, graph_of, orders

from load import Load, Sender, Target
from mainspring.loop.supervisor import Supervisor

BATCH = 100
WORKERS = (1, 2)
BEST = f"{TITLES[FIVE_VIEWS]}, 2 workers"


def peers(bench: Bench, sender: Sender, root: Path) -> None:
    """All that are installed; with ``--quick`` and no ``--only``, FastAPI + ONNX Runtime alone."""
    wanted = PEERS[:1] if bench.quick and not bench.options.only else PEERS
    events, rows = 20_000 if bench.quick else 200_000, orders(1_000)
    configs = [build(root / f"workers_{n}", list(TITLES), events, workers=n) for n in WORKERS]
    with ExitStack() as stack:
        ups = [stack.enter_context(Supervisor(one, names=("intake", "gateway"), free_ports=True)) for one in configs]
        graph = graph_of(configs[0], PLAIN.name)
        others, missing = stack.enter_context(running(root / "peers", graph, wanted))
        for title, why in missing.items():
            bench.say(f"left out: {title}: {why}")
        urls = [ready(up) for up in ups]
        for batch, unit in ((1, "req/s"), (BATCH, "rows/s")):
            mine = [one for n, url in zip(WORKERS, urls, strict=True) for one in _targets(url, n, rows, batch)]
            _side_by_side(bench, sender, mine, {one: one.target(rows, batch) for one in others}, unit)
        for n, url in zip(WORKERS, urls, strict=True):
            log = settle(url, 60.0)
            bench.add(f"prediction log, {_of(n)}: dropped of all answers", log["dropped"], "answers")
            text = f"{_of(n)}: the intake took every prediction ({log['quarantined']} quarantined)"
            bench.require(text, holds=log["quarantined"] == 0)


def _targets(url: str, workers: int, rows: Sequence[Mapping[str, object]], batch: int) -> list[Target]:
    """What is asked of the gateway."""
    found = [target_of(url, model, rows, batch) for model in TITLES]
    found += [tensors_of(url, PLAIN, rows, batch)] if batch > 1 else []
    return [replace(one, name=f"{one.name}, {_of(workers)}") for one in found]


def _of(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _side_by_side(
    bench: Bench, sender: Sender, mine: list[Target], others: Mapping[Running, Target], unit: str
) -> None:
    rounds, seconds = (2, 1.0) if bench.quick else (5, 5.0)
    found: dict[str, list[Load]] = {target.name: [] for target in (*mine, *others.values())}
    for number in range(rounds):
        for target in mine:
            if not number:
                sender.load(target, 1.0)
                settle(target.url, 30.0)  # what is asked of the next one is not asked beside the log of this one
            found[target.name].append(sender.load(target, seconds))
            settle(target.url, 30.0)
        for one, target in others.items():
            one.wake()
            if not number:
                sender.load(target, 1.0)
            found[target.name].append(sender.load(target, seconds))
            one.sleep()
    what = "" if unit == "req/s" else f", {BATCH} rows a request"
    floors = [target.name + what for target in mine]
    for name, unit_of, value in (
        ("", unit, lambda load: load.per_s * (1 if unit == "req/s" else BATCH)),
        (": p50", "ms", lambda load: load.p50_ms),
        (": p99", "ms", lambda load: load.p99_ms),
        (": p99.9", "ms", lambda load: load.p999_ms),
    ):
        shown = {f"{target}{what}{name}": [value(load) for load in loads] for target, loads in found.items()}
        bench.compare(shown, unit_of, ours=f"{BEST}{what}{name}", floors=[f"{one}{name}" for one in floors])
    for target, loads in found.items():
        errors = sum(load.errors for load in loads)
        is_ours = f"{target}{what}" in floors
        bench.add(f"{target}{what}: errors of {sum(load.sent for load in loads)}", errors, "requests")
        bench.require(f"{target}{what}: no request fails ({errors} did)", holds=not (is_ours and errors))
