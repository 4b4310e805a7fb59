"""The intake: durable events a second and the time to their acknowledgement, beside databases on the same disk.

One client, and 32 at once (8 with batches), each waiting for its acknowledgement before it sends the next; one event a
request, and 1,000; then at the rates that are the aim, timed from when each was due. The intake is the real process,
spoken to over HTTP: contract, ids, quarantine and group commit are in the figures. Beside it Redis Streams (appendfsync
always, XADD, a pipeline a batch), PostgreSQL (synchronous_commit on, psycopg) and SQLite (WAL, synchronous FULL, in the
process: no socket in between). Their inserts have no checks; only the databases have an id that must be unique.
`bash tools/services.sh bench` installs what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg
import uvloop
from harness import ROOT, Bench, quantile

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
CLIENTS = {1: 32, 1_000: 8}  # at once, by events a request
AIMS, AIM_MS = {1: 3_000, 1_000: 20_000}, 20.0  # events a second, and the 99th percentile of an acknowledgement
BATCH = 1_000
Event = tuple[str, str, float, str]
Write = Callable[[list[Event]], Awaitable[None]]
Connect = Callable[[], AbstractAsyncContextManager[Write]]
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


def http_client(url: str) -> Connect:
    parts = urlsplit(url)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Write]:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)

        async def write(events: list[Event]) -> None:
            body = body_of(events)
            head = b"POST /events/payment HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % len(body) + body)
            said = await reader.readuntil(b"\r\n\r\n")
            length = int(said.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            assert b'"accepted":%d,' % len(events) in answer, answer

        yield write
        writer.close()

    return connect


def redis_client(url: str) -> Connect:
    parts = urlsplit(url)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Write]:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)

        async def write(events: list[Event]) -> None:
            writer.write(b"".join(_xadd(event) for event in events))
            for _ in events:
                said = await reader.readline()
                assert said.startswith(b"$"), said
                await reader.readline()

        yield write
        writer.close()

    return connect


def _xadd(event: Event) -> bytes:
    words = ["XADD", "payments", "*", *(str(x) for pair in zip(FIELDS, event, strict=True) for x in pair)]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)


def postgres_client(url: str) -> Connect:
    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Write]:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:

            async def write(events: list[Event]) -> None:
                async with db.transaction(), db.cursor() as cursor:
                    await cursor.executemany("insert into payments values (%s, %s, %s, %s)", events)

            async def write_one(events: list[Event]) -> None:
                await db.execute("insert into payments values (%s, %s, %s, %s)", events[0])

            yield lambda events: write(events) if len(events) > 1 else write_one(events)

    return connect


def sqlite_client(path: Path) -> Connect:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("pragma journal_mode=wal")
        db.execute(SCHEMA)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Write]:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("pragma synchronous=full")

            async def write(events: list[Event]) -> None:
                db.execute("begin immediate")
                db.executemany("insert into payments values (?, ?, ?, ?)", events)
                db.execute("commit")

            yield write

    return connect


@contextlib.contextmanager
def postgres(root: Path) -> Iterator[str]:
    """A PostgreSQL of our own on a Unix socket, as durable as it is by default."""
    from services import installed  # type: ignore[import-not-found]

    initdb = Path(installed("initdb", "postgresql"))
    user: dict[str, Any] = {}
    root.mkdir()
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        user = {"user": "nobody", "group": "nogroup"}
        shutil.chown(root, "nobody", "nogroup")
        root.parent.chmod(0o755)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": root}
    data, control = str(root / "data"), str(initdb.with_name("pg_ctl"))
    subprocess.run([str(initdb), "-D", data, "-U", "bench", "-A", "trust"], check=True, **quiet, **user)
    options = f"-c listen_addresses= -c unix_socket_directories='{root}' -c synchronous_commit=on -c fsync=on"
    start = [control, "-D", data, "-w", "-l", str(root / "log"), "-o", options, "start"]
    subprocess.run(start, check=True, **quiet, **user)
    try:
        url = f"host={root} user=bench dbname=postgres"
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(SCHEMA)
        yield url
    finally:
        subprocess.run([control, "-D", data, "-m", "immediate", "stop"], check=True, **quiet, **user)


async def timed(connect: Connect, events: Events, clients: int, size: int, seconds: float) -> tuple[float, list[float]]:
    """Events a second, and the seconds of each acknowledgement."""
    taken: list[float] = []
    started_s = time.perf_counter()

    async def run() -> None:
        async with connect() as write:
            while time.perf_counter() - started_s < seconds:
                batch = events.take(size)
                sent_s = time.perf_counter()
                await write(batch)
                taken.append(time.perf_counter() - sent_s)

    await asyncio.gather(*(run() for _ in range(clients)))
    return size * len(taken) / (time.perf_counter() - started_s), taken


def side_by_side(bench: Bench, contenders: dict[str, Connect], events: Events, size: int, clients: int) -> None:
    seconds, rounds = (0.6, 3) if bench.quick else (4.0, 5)
    how = f"{size:,} a request, {clients} client" + ("s" if clients > 1 else "")
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, connect in contenders.items():
            rate, taken = uvloop.run(timed(connect, events, clients, size, seconds))
            rates[name].append(rate)
            times[name].append(taken)
    ours = f"mainspring intake: {how}"
    bench.compare({f"{name}: {how}": found for name, found in rates.items()}, "events/s", ours=ours)
    for share in (0.5, 0.99):
        found = {f"{n}: {how}: p{share:.0%}"[:-1]: [quantile(t, share) * 1e3 for t in ts] for n, ts in times.items()}
        bench.compare(found, "ms", ours=next(iter(found)))


async def paced(connect: Connect, events: Events, clients: int, size: int, rate: int, seconds: float) -> list[float]:
    """Seconds from when each request was due until its acknowledgement, at a rate that others set."""
    taken: list[float] = []
    started_s, period_s = time.perf_counter(), clients * size / rate

    async def run(number: int) -> None:
        due_s = started_s + number * size / rate
        async with connect() as write:
            while due_s < started_s + seconds:
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                await write(events.take(size))
                taken.append(time.perf_counter() - due_s)
                due_s += period_s

    await asyncio.gather(*(run(number) for number in range(clients)))
    return taken


def at_the_aim(bench: Bench, name: str, connect: Connect, events: Events, size: int, clients: int) -> None:
    rate, seconds = AIMS[size], 2.0 if bench.quick else 20.0
    taken = uvloop.run(paced(connect, events, clients, size, rate, seconds))
    p99_ms = quantile(taken, 0.99) * 1e3
    of = f"{name}: {size:,} a request, {clients} clients, paced at {rate:,} events/s: p99"
    bench.add(of, p99_ms, "ms", against=f"{AIM_MS:g} ms", ratio=AIM_MS / p99_ms)


def main() -> None:
    bench = Bench.start(
        "Durable events a second, beside Redis, PostgreSQL and SQLite", [("--folder", Path, "on which disk")]
    )
    sys.path.insert(0, str(ROOT / "tools"))
    from services import MissingError, redis

    with tempfile.TemporaryDirectory(prefix="mainspring-bench-", dir=bench.options.folder) as folder:
        root, events = Path(folder), Events()
        root.chmod(0o755)
        with contextlib.ExitStack() as stack:
            contenders = {"mainspring intake": http_client(stack.enter_context(intake(root / "project")))}
            servers: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[Any], Connect]]] = {
                "Redis Streams": (lambda: redis(root / "redis"), lambda server: redis_client(server.url)),
                "PostgreSQL": (lambda: postgres(root / "postgres"), postgres_client),
            }
            for name, (start, client) in servers.items():
                try:
                    contenders[name] = client(stack.enter_context(start()))
                except MissingError:
                    bench.say(f"{name} is not installed here: left out (bash tools/services.sh bench)")
            for size, clients in CLIENTS.items():
                alone = {"SQLite FULL": sqlite_client(root / f"payments_{size}.db")}
                side_by_side(bench, contenders | alone, events, size, 1)
                side_by_side(bench, contenders, events, size, clients)
                name, ours = next(iter(contenders.items()))
                at_the_aim(bench, name, ours, events, size, clients)
    bench.finish()


if __name__ == "__main__":
    main()
