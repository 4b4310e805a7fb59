"""The gateway under load, in parts: `--only peers` and so on runs one of them.

- `peers`: a LightGBM of 100 trees x 31 leaves on 30 floats, one row a request and 100, beside FastAPI + ONNX Runtime,
  MLServer, BentoML, LitServe and mlflow (bench/peers/serving/install.sh has them). Three models of the same size: all
  30 floats from the request; 22 of them and a view of 8 features; 2 of them and five views of 28.

Gateway and intake are the real processes; checks, metrics and the prediction log are on, and each request has an id of
its own and so is an event as well. Peers read no features and log nothing. 32 connections wait for their answers,
driven by wrk (tools/services.sh bench) or, where it is missing, by a slower sender of our own: then no figure here is
the gateway's limit. The load generator shares the machine's cores. What the prediction log held back is a row too: what
is answered faster than the intake stores waits in memory and, beyond its bound, is dropped and counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contenders import PEERS, Running, running, wait_for
from harness import Bench
from parts.served import FIVE_VIEWS, ONE_VIEW, PLAIN, Asked, build, graph_of, orders

from load import ID, Load, Sender, Target, generator
from mainspring.loop.supervisor import Supervisor

BATCH = 100
OURS = {PLAIN: "mainspring, no features", ONE_VIEW: "mainspring, 8 features of 1 view"}
OURS |= {FIVE_VIEWS: "mainspring, 28 features of 5 views"}
BEST = OURS[FIVE_VIEWS]


def target_of(url: str, model: Asked, rows: Sequence[Mapping[str, object]], batch: int = 1) -> Target:
    """Requests to one model of the gateway, in plain JSON."""
    raw = [json.dumps({"order_id": ID} | dict(row), separators=(",", ":")) for row in rows]
    if batch > 1:
        parts = ([raw[(first + i) % len(raw)] for i in range(batch)] for first in range(0, len(raw), batch))
        raw = ["[" + ",".join(part) + "]" for part in parts]
    return Target(OURS.get(model, model.name), url, f"/predict/{model.name}", raw, batch)


def health(url: str) -> dict[str, Any]:
    """What the gateway's prediction log says."""
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:  # noqa: S310  our own server
        log: dict[str, Any] = json.load(answer)["prediction_log"]
        return log


def settle(url: str, seconds: float) -> dict[str, Any]:
    """Wait until the prediction log has nothing left in memory, so that its work falls on nobody else's turn."""
    ends_s = time.monotonic() + seconds
    while (log := health(url))["buffered"] and time.monotonic() < ends_s:
        time.sleep(0.05)
    return log


# --- beside other servers ---------------------------------------------------------------------------------------------


def peers(bench: Bench, sender: Sender, root: Path) -> None:
    """One row a request, then 100: ours and theirs in turns."""
    wanted = PEERS[:1] if bench.quick and not bench.options.only else PEERS
    config = build(root / "project", list(OURS), 20_000 if bench.quick else 200_000)
    rows = orders(1_000)
    with (
        Supervisor(config, names=("intake", "gateway"), free_ports=True) as up,
        running(root / "peers", graph_of(config, PLAIN.name), wanted) as (others, missing),
    ):
        for title, why in missing.items():
            bench.say(f"left out: {title}: {why}")
        url = up.urls()["gateway"]
        wait_for(f"{url}/ready")
        for batch, ours, unit in ((1, list(OURS), "req/s"), (BATCH, [FIVE_VIEWS], "rows/s")):
            mine = [target_of(url, model, rows, batch) for model in ours]
            _side_by_side(bench, sender, mine, {one: one.target(rows, batch) for one in others}, unit)
        log = settle(url, 60.0)
        bench.add("prediction log: dropped of all answers", log["dropped"], "answers")
        bench.require(
            f"the intake took every prediction ({log['quarantined']} quarantined)", holds=not log["quarantined"]
        )


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


PARTS: dict[str, Callable[[Bench, Sender, Path], None]] = {"peers": peers}


def main() -> None:
    bench = Bench.start("The gateway under load", [("--only", str, f"one part: {', '.join(PARTS)}")])
    only = bench.options.only
    if only and only not in PARTS:
        sys.exit(f"--only {only}: there is no such part; there are {', '.join(PARTS)}")
    bench.say(f"load: {generator()}")
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        for name in [only] if only else PARTS:
            root = Path(folder) / name
            root.mkdir()
            bench.say(f"-- {name}")
            PARTS[name](bench, Sender(root), root)
    bench.finish()


if __name__ == "__main__":
    main()
