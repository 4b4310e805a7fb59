"""The gateway and other servers of the same graph, in turns: one row a request, then a hundred."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from contenders import PEERS, Running, running
from harness import Bench
from parts.gateway import TITLES, ready, settle, target_of, tensors_of
from parts.served import FIVE_VIEWS, PLAIN, build, graph_of, orders

from load import Load, Sender, Target
from mainspring.loop.supervisor import Supervisor

BATCH = 100
BEST = TITLES[FIVE_VIEWS]


def peers(bench: Bench, sender: Sender, root: Path) -> None:
    """All that are installed; with ``--quick`` and no ``--only``, FastAPI + ONNX Runtime alone."""
    wanted = PEERS[:1] if bench.quick and not bench.options.only else PEERS
    config = build(root / "project", list(TITLES), 20_000 if bench.quick else 200_000)
    rows = orders(1_000)
    with (
        Supervisor(config, names=("intake", "gateway"), free_ports=True) as up,
        running(root / "peers", graph_of(config, PLAIN.name), wanted) as (others, missing),
    ):
        for title, why in missing.items():
            bench.say(f"left out: {title}: {why}")
        url = ready(up)
        singly = [target_of(url, model, rows) for model in TITLES]
        in_batches = [target_of(url, model, rows, BATCH) for model in TITLES] + [tensors_of(url, PLAIN, rows, BATCH)]
        for batch, mine, unit in ((1, singly, "req/s"), (BATCH, in_batches, "rows/s")):
            _side_by_side(bench, sender, mine, {one: one.target(rows, batch) for one in others}, unit)
        log = settle(url, 60.0)
        bench.add("prediction log: dropped of all answers", log["dropped"], "answers")
        text = f"the intake took every prediction ({log['quarantined']} quarantined)"
        bench.require(text, holds=log["quarantined"] == 0)


def _side_by_side(
    bench: Bench, sender: Sender, mine: list[Target], others: Mapping[Running, Target], unit: str
) -> None:
    rounds, seconds = (2, 1.0) if bench.quick else (5, 5.0)
    found: dict[str, list[Load]] = {target.name: [] for target in (*mine, *others.values())}
    for number in range(rounds):
        for target in mine:
            if not number:
                sender.load(target, 1.0)
            found[target.name].append(sender.load(target, seconds))
            settle(target.url, 5.0)
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
