"""The gateway under load, in parts: `--only peers` and so on runs one of them.

- `peers`: a LightGBM of 100 trees x 31 leaves on 30 floats, one row a request and 100, beside FastAPI + ONNX Runtime,
  MLServer, BentoML, LitServe and mlflow (bench/peers/serving/install.sh has them). Three models of the same size: all
  30 floats from the request; 22 of them and a view of 8 features; 2 of them and five views of 28.
- `sustained`: a minute, the worker folding what comes in beside it. `bursts`, `capacity`: an open loop.
- `cost`: processor time by number of columns and of views. `size`: memory and start. `models`: a thousand of them.
- `trees`: the model alone, compiled and in ONNX Runtime.

Gateway and intake are the real processes; checks, metrics and the prediction log are on, and each request has an id of
its own and so is an event as well. Peers read no features and log nothing. 32 connections (`--connections`) wait for
their answers, driven by wrk (tools/services.sh bench) or, where it is missing, by a slower sender of our own: then no
figure here is the gateway's limit. The load generator shares the machine's cores. What the prediction log held back is
a row too: what is answered faster than the intake stores waits in memory and, beyond its bound, is dropped and counted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import Bench
from parts.at_rate import bursts, capacity, sustained
from parts.beside import peers
from parts.shape import cost, models, size
from parts.trees import trees

from load import CONNECTIONS, Sender, generator

PARTS: dict[str, Callable[[Bench, Sender, Path], None]] = {
    "peers": peers,
    "sustained": sustained,
    "bursts": bursts,
    "capacity": capacity,
    "cost": cost,
    "size": size,
    "models": models,
    "trees": trees,
}


def main() -> None:
    options = [
        ("--only", str, f"one part: {', '.join(PARTS)}"),
        ("--connections", int, f"that wait for their answers, {CONNECTIONS} if not said"),
    ]
    bench = Bench.start("The gateway under load", options)
    only, connections = bench.options.only, bench.options.connections or CONNECTIONS
    if only and only not in PARTS:
        sys.exit(f"--only {only}: there is no such part; there are {', '.join(PARTS)}")
    bench.say(f"load: {generator()}")
    bench.add("the closed loop's connections", connections, "connections")
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        for name in [only] if only else PARTS:
            root = Path(folder) / name
            root.mkdir()
            bench.say(f"-- {name}")
            PARTS[name](bench, Sender(root, connections), root)
    bench.finish()


if __name__ == "__main__":
    main()
