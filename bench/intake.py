"""The intake: durable events a second and the time to their acknowledgement, beside databases on the same disk.

One client sends events one by one and waits for each, as it does with SQLite (WAL, synchronous=FULL) and, where it is
installed, PostgreSQL (a server of its own in the same folder, synchronous_commit=on); then 32 clients at once; then
batches of 1,000. The intake is the real process, spoken to over HTTP: contract, ids, quarantine and group commit are in
the figures. The databases' inserts have none of these; SQLite has no socket in between either.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg
from harness import Bench, quantile

from mainspring.core import load_config
from mainspring.loop.supervisor import Supervisor

DEFINITIONS = """
from datetime import datetime
import mainspring as ms

class Payment(ms.Source, id="payment_id", time="paid_at"):
    payment_id: str
    card: str
    amount: float
    paid_at: datetime
"""
SCHEMA = "create table payments (payment_id text primary key, card text, amount double precision, paid_at text)"
CLIENTS = 32
BATCH = 1_000
Event = tuple[str, str, float, str]
Write = Callable[[list[Event]], None]
FIELDS = ("payment_id", "card", "amount", "paid_at")


class Events:
    """Events with ids of their own."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, n: int) -> list[Event]:
        """The next ``n``, of this second."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        first = self._next
        self._next += n
        return [(f"p{i:09d}", f"c{i * 7919 % 5_000}", float(i % 997) / 7, now) for i in range(first, first + n)]


def body_of(events: list[Event]) -> bytes:
    rows = [dict(zip(FIELDS, event, strict=True)) for event in events]
    return msgspec.json.encode(rows if len(rows) > 1 else rows[0])


@contextlib.contextmanager
def intake(root: Path) -> Iterator[str]:
    """A real intake; its URL."""
    root.mkdir()
    (root / "mainspring.toml").write_text('[project]\nname = "bench"\n[intake]\nport = 0\n')
    (root / "definitions.py").write_text(DEFINITIONS)
    config = load_config(root)
    with Supervisor(config, names=("intake",), free_ports=True) as up:
        yield up.urls()["intake"]


@contextlib.contextmanager
def http_writer(url: str) -> Iterator[Write]:
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(str(parts.hostname), parts.port)) as connection:

        def write(events: list[Event]) -> None:
            connection.request("POST", "/events/payment", body_of(events))
            answer = json.loads(connection.getresponse().read())
            assert answer["accepted"] == len(events), answer

        yield write


@contextlib.contextmanager
def sqlite_writer(path: Path) -> Iterator[Write]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
        db.execute(SCHEMA)

        def write(events: list[Event]) -> None:
            db.execute("begin immediate")
            db.executemany("insert into payments values (?, ?, ?, ?)", events)
            db.execute("commit")

        yield write


@contextlib.contextmanager
def postgres_writer(root: Path) -> Iterator[Write | None]:
    """A PostgreSQL of our own on a Unix socket; None where none is installed."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        yield None
        return
    user: dict[str, Any] = {}
    root.mkdir()
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        user = {"user": "nobody", "group": "nogroup"}
        shutil.chown(root, "nobody", "nogroup")
        root.parent.chmod(0o755)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": root}
    data = str(root / "data")
    subprocess.run(["initdb", "-D", data, "-U", "bench", "-A", "trust"], check=True, **quiet, **user)
    options = f"-c listen_addresses= -c unix_socket_directories='{root}' -c synchronous_commit=on -c fsync=on"
    subprocess.run(
        ["pg_ctl", "-D", data, "-w", "-l", str(root / "log"), "-o", options, "start"], check=True, **quiet, **user
    )
    try:
        with psycopg.connect(f"host={root} user=bench dbname=postgres", autocommit=True) as db:
            db.execute(SCHEMA)

            def write(events: list[Event]) -> None:
                with db.transaction(), db.cursor() as cursor:
                    cursor.executemany("insert into payments values (%s, %s, %s, %s)", events)

            yield write
    finally:
        subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], check=True, **quiet, **user)


def timed(write: Write, events: Events, size: int, seconds: float) -> list[float]:
    """Seconds of each acknowledged batch."""
    taken: list[float] = []
    ends_s = time.perf_counter() + seconds
    while time.perf_counter() < ends_s:
        batch = events.take(size)
        started_s = time.perf_counter()
        write(batch)
        taken.append(time.perf_counter() - started_s)
    return taken


async def many_clients(url: str, events: Events, seconds: float) -> list[float]:
    """Seconds of each acknowledgement, 32 clients that each wait for their own."""
    parts = urlsplit(url)
    taken: list[float] = []
    ends_s = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while time.perf_counter() < ends_s:
            body = body_of(events.take(1))
            started_s = time.perf_counter()
            writer.write(
                b"POST /events/payment HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            assert b'"accepted":1' in answer, answer
            taken.append(time.perf_counter() - started_s)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return taken


def side_by_side(bench: Bench, writers: dict[str, Write], events: Events, size: int, how: str) -> None:
    seconds, rounds = (0.6, 3) if bench.quick else (4.0, 5)
    rates: dict[str, list[float]] = {name: [] for name in writers}
    times: dict[str, list[list[float]]] = {name: [] for name in writers}
    for write in writers.values():
        write(events.take(size))
    for _ in range(rounds):
        for name, write in writers.items():
            taken = timed(write, events, size, seconds)
            rates[name].append(size * len(taken) / sum(taken))
            times[name].append(taken)
    ours = f"mainspring intake, {how}"
    bench.compare({f"{name}, {how}": found for name, found in rates.items()}, "events/s", ours=ours)
    for share in (0.5, 0.99):
        found = {f"{n}, {how}: p{share:.0%}"[:-1]: [quantile(t, share) * 1e3 for t in ts] for n, ts in times.items()}
        bench.compare(found, "ms", ours=next(iter(found)))


def main() -> None:
    bench = Bench.start("Durable events a second, beside SQLite and PostgreSQL", [("--folder", Path, "on which disk")])
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-", dir=bench.options.folder) as folder:
        root, events = Path(folder), Events()
        with (
            intake(root / "project") as url,
            http_writer(url) as ours,
            sqlite_writer(root / "payments.db") as sqlite,
            postgres_writer(root / "postgres") as postgres,
        ):
            writers = {"mainspring intake": ours, "SQLite FULL": sqlite}
            if postgres is not None:
                writers["PostgreSQL"] = postgres
            else:
                bench.say("PostgreSQL is not installed here: left out")
            side_by_side(bench, writers, events, 1, "one by one")
            side_by_side(bench, writers, events, BATCH, f"{BATCH:,} a batch")
            rounds = [asyncio.run(many_clients(url, events, 1.0 if bench.quick else 5.0)) for _ in range(3)]
            name = f"mainspring intake, {CLIENTS} clients"
            bench.compare({name: [CLIENTS * len(t) / sum(t) for t in rounds]}, "events/s")
            for share in (0.5, 0.99):
                bench.compare({f"{name}: p{share:.0%}"[:-1]: [quantile(t, share) * 1e3 for t in rounds]}, "ms")
    bench.finish()


if __name__ == "__main__":
    main()
