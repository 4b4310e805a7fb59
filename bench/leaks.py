"""Rude clients by the thousand, then a million requests: nothing hangs, no neighbour notices, memory stays flat.

The clients leave in the middle of a request or of an answer, pipeline and reset, dawdle, send too much
(tests/serving/rude_clients.py), while a neighbour asks one request after the other and checks each answer. Then the
sender of bench/load.py asks in ten turns; after each, once the prediction log is out, the memory of gateway and intake
is read: what they have for themselves (RssAnon of Linux), without the pages of files that they have mapped, and of the
intake without what it has to remember of each id.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from harness import ROOT, Bench
from parts.gateway import ready, settle, target_of
from parts.served import PLAIN, build, orders

from load import Sender, generator
from mainspring.core.exchange import Exchange
from mainspring.loop.supervisor import Supervisor

TURNS = 10
GROWTH = 0.03
"""The share by which the later turns may lie above the earlier ones."""
ID_BYTES = 6
"""What the intake keeps in memory of an id that may come again (docs/decisions/030-ids-in-runs.md): no leak."""

sys.path.insert(0, str(ROOT / "tests" / "serving"))
import rude_clients  # type: ignore[import-not-found]  # noqa: E402


def memory_bytes(pid: int) -> int:
    """What a process has for itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("RssAnon:"))


async def crowd(bench: Bench, url: str, clients: int) -> None:
    """Rude clients and their neighbour."""
    port, path = urlsplit(url).port, f"/predict/{PLAIN.name}"
    numbers, row = itertools.count(), dict(orders(1)[0])

    def body() -> bytes:
        return json.dumps({"order_id": f"rude{next(numbers)}"} | row).encode()

    def large() -> bytes:
        return b"[" + b",".join(body() for _ in range(200)) + b"]"

    with closing(Exchange(url, 10.0)) as exchange:
        expected = exchange.ask("POST", path, body(), {}).json()["prediction"]
    stop = asyncio.Event()
    near = asyncio.ensure_future(rude_clients.neighbour(port, path, body, expected, stop))
    rude = rude_clients.Crowd(port, path, body, large, seed=1)
    await rude.run(clients)
    stop.set()
    answers, wrong = await near
    bench.require(f"every answer to the neighbour is right: {wrong[:3]}", holds=not wrong)
    bench.require(f"who sends too much or half closes is told so: {rude.odd[:3]}", holds=not rude.odd)
    for way, times in sorted(rude.done.items()):
        bench.add(f"rude clients: {way.replace('_', ' ')}", times, "clients")
    bench.add("answers to the neighbour meanwhile", answers, "answers")


def main() -> None:
    bench = Bench.start("Rude clients, and memory over a million requests")
    clients, requests = (500, 20_000) if bench.quick else (10_000, 1_000_000)
    bench.say(f"load: {generator()}")
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        root = Path(folder)
        config = build(root / "project", [PLAIN], 1_000)
        sender = Sender(root)
        with Supervisor(config, names=("intake", "gateway"), free_ports=True) as up:
            url, pids = ready(up), up.pids()
            asyncio.run(crowd(bench, url, clients))
            target = target_of(url, PLAIN, orders(1_000))
            found: dict[str, list[int]] = {name: [] for name in pids}
            asked, sent = list[int](), 0
            for turn in range(1, TURNS + 1):
                while sent < requests * turn / TURNS:
                    load = sender.load(target, 1.0 if bench.quick else 5.0)
                    bench.require(f"no request fails ({load.errors} did)", holds=not load.errors)
                    sent += load.sent
                settle(url, 120.0)
                asked.append(sent)
                for name, pid in pids.items():
                    found[name].append(memory_bytes(pid))
                    bench.add(f"{name}: memory after {sent:,} requests", found[name][-1] / 2**20, "MiB")
            found["intake"] = [size - ID_BYTES * n for size, n in zip(found["intake"], asked, strict=True)]
            for name, sizes in found.items():
                early, late = median(sizes[2:6]), median(sizes[6:])
                bench.add(f"{name}: later turns against earlier ones", late / early, "ratio")
                bench.require(f"{name}: memory is flat: {late / early:.3f}", holds=late <= early * (1 + GROWTH))
            bench.require("the processes are those that were started", holds=up.pids() == pids)
    bench.finish()


if __name__ == "__main__":
    main()
