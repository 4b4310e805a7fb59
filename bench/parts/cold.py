"""How long a worker takes from its start to the first event folded, and a gateway to its first answer.

Both are the real processes, of a project of five views and a model that reads them. *Cached*: the compiled kernels are
on disk, as they are at every start but a release's first. Interpreter, imports and packages are in the page cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from harness import Bench
from parts.served import FIVE_VIEWS, build, orders

from mainspring.core import Config, to_iso
from mainspring.core.exchange import Exchange
from mainspring.core.run import read_door
from mainspring.events.client import IntakeClient
from mainspring.features import OnlineStore
from mainspring.loop.supervisor import Supervisor

ROUNDS = 5
LIMIT_S = 900.0


def cold_starts(bench: Bench, folder: Path) -> None:
    """Start each process with a cache that is empty, then with what that start has left there."""
    config = build(folder / "cold", [FIVE_VIEWS], 0, train_rows=1_000)
    with Supervisor(config, ("intake",), free_ports=True) as up:
        intake = up.urls()["intake"]
        for name, first in (("worker", _first_fold(config, intake)), ("gateway", _first_answer(config))):
            kernels = folder / f"kernels-{name}"
            until = "first event folded" if name == "worker" else "first answer"
            bench.add(
                f"{name}, kernels to be compiled: from start to {until}", _started(config, name, kernels, first), "s"
            )
            taken = [_started(config, name, kernels, first) for _ in range(2 if bench.quick else ROUNDS)]
            bench.compare({f"{name}, kernels cached: from start to {until}": taken}, "s")


def _started(config: Config, name: str, kernels: Path, first: Callable[[subprocess.Popen[bytes]], float]) -> float:
    """Start a process and stop it after its first deed; seconds from one to the other."""
    command = ["worker"] if name == "worker" else ["serve", "--port", "0"]
    program = [sys.executable, "-m", "mainspring", *command, "-C", str(config.root)]
    with (config.root / f"{name}.log").open("ab") as log:
        started_s = time.monotonic()
        process = subprocess.Popen(program, stderr=log, env=os.environ | {"NUMBA_CACHE_DIR": str(kernels)})
        try:
            return first(process) - started_s
        finally:
            process.terminate()
            process.wait()


def _first_fold(config: Config, intake: str) -> Callable[[subprocess.Popen[bytes]], float]:
    """Until an event that was in the log before is folded."""
    numbers = iter(range(1_000_000))

    def wait(process: subprocess.Popen[bytes]) -> float:
        keys = {f"k{i}": "a" for i in range(5)}
        row = {"order_id": f"cold{next(numbers)}", "x": 1.0, "late": False, "paid_at": to_iso(time.time_ns() // 1_000)}
        with IntakeClient(intake) as client:
            last = int(client.post_events("paid", [row | keys])["last_offset"])
        with OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store:
            _until(lambda: store.folded_offset() >= last, process)
        return time.monotonic()

    return wait


def _first_answer(config: Config) -> Callable[[subprocess.Popen[bytes]], float]:
    """Until a prediction is answered."""
    numbers = iter(range(1_000_000))

    def answers() -> bool:
        url = read_door(config.run, "gateway")
        if url is None:
            return False
        body = json.dumps({"order_id": f"cold{next(numbers)}"} | orders(1)[0]).encode()
        with closing(Exchange(url, 10.0)) as exchange:
            try:
                return exchange.ask("POST", f"/predict/{FIVE_VIEWS.name}", body, {}).status == 200
            except OSError:
                return False

    def wait(process: subprocess.Popen[bytes]) -> float:
        _until(answers, process)
        return time.monotonic()

    return wait


def _until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + LIMIT_S
    while not holds():
        if process.poll() is not None or time.monotonic() > ends_s:
            raise SystemExit(f"{process.args!r} did nothing")
        time.sleep(0.005)
