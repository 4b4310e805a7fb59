"""Kills a process that appends and writes the lake, at random moments, and counts what is left by ids.

Run by ``test_crash.py`` in a process of its own: every child is forked from this warmed parent, which never starts a
thread and never opens the log or polars' pool, so that a fork is a fresh process that need not import anything.

Usage: crash_driver.py FOLDER KILLS SEED
"""

import json
import os
import random
import select
import signal
import sys
import traceback
from pathlib import Path

from mainspring.core import WallClock
from mainspring.definitions.values import Field, Project, SourceDef
from mainspring.events import Draft, Log, Reject
from mainspring.events.history import History
from mainspring.events.lake import Lake

MAP = 1 << 28
BATCH = 20
WITH_ID = SourceDef("flights", (Field("id", "str"), Field("n", "int"), Field("at", "datetime")), "at", "id")
WITHOUT = SourceDef("weather", (Field("n", "int"), Field("at", "datetime")), "at")
PROJECT = Project({"flights": WITH_ID, "weather": WITHOUT}, {}, {})


def work(root: Path, acknowledgements: int, start: int) -> None:
    """Append, flush and trim for ever; say each acknowledged id on the pipe, in one write a batch."""
    clock = WallClock()
    log = Log.open(root / "log", MAP, writable=True)
    history = History(PROJECT, log, Lake(root / "lake"))
    turn = start
    while True:
        now = clock.now_us()
        drafts: list = [Draft(WITH_ID, (f"{turn}-{i}", i, turn), history=True) for i in range(BATCH)]
        drafts += [Draft(WITHOUT, (turn, now)), Reject("flights", b"%d" % turn, "MS-E101", "broken")]
        drafts += drafts[:3]  # duplicates
        acks = log.append(drafts, clock)
        said = [f"{a.id}:{a.offset}" for a in acks[:BATCH] if a.status in ("accepted", "duplicate")]
        os.write(acknowledgements, (" ".join([*said, f"w{turn}:{acks[BATCH].offset}"]) + "\n").encode())
        turn += 1
        if turn % 3 == 0:
            history.catch_up()
            history.flush()
        if turn % 7 == 0:
            log.trim(history.flushed_offset)


def check(root: Path, said: list[str], answer: int) -> None:
    """Everything acknowledged is in log or lake at its offset, everything is there once, nothing is half there."""
    with Log.open(root / "log", MAP) as log:
        history = History(PROJECT, log, Lake(root / "lake"))
        last = history.catch_up()
        flights, weather = history.frame("flights"), history.frame("weather")
        offsets = sorted(flights["_offset"].to_list() + weather["_offset"].to_list())
        assert offsets == list(range(1, last + 1)), "offsets have gaps or come twice"
        assert last == log.last_offset()
        ids = dict(zip(flights["id"].to_list(), flights["_offset"].to_list(), strict=True))
        assert len(ids) == flights.height, "an id is there twice"
        for text in said:
            ident, _, offset = text.partition(":")
            if ident.startswith("w"):
                assert weather.filter(weather["_offset"] == int(offset))["n"].to_list() == [int(ident[1:])], text
            else:
                assert ids.get(ident) == int(offset), f"{text} was acknowledged and is at {ids.get(ident)}"
        turns = {ident.partition("-")[0] for ident in ids}
        assert len(ids) == BATCH * len(turns), "a batch is half there"
        assert weather.height >= len(turns), "a batch is half there"
        held, counts = log.quarantined(), log.counts()
        assert len(held) == weather.height == counts["flights"].quarantined, "quarantine and log disagree"
        assert counts["flights"].accepted == flights.height
        assert counts["weather"].accepted == weather.height
        for name, frame in (("flights", flights), ("weather", weather)):
            stored = Lake(root / "lake").frame(name)
            if stored is not None:
                assert stored["_offset"].to_list() == frame["_offset"].to_list()[: stored.height], f"lake of {name}"
        tail = [r.offset for r in log.read(0, 10**9)]
        assert tail == list(range(tail[0], last + 1))
        found = {"events": last, "in_lake": history.flushed_offset, "trimmed": log.first_offset() - 1}
    os.write(answer, json.dumps(found).encode())


def forked(run, *args) -> tuple[int, int]:
    """Pid of a child that runs ``run`` with the writing end of a pipe, and the reading end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            run(*args, writing)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    return pid, reading


def drain(handle: int) -> bytes:
    """All that is left in a pipe whose other end is closed."""
    out = b""
    while part := os.read(handle, 1 << 16):
        out += part
    os.close(handle)
    return out


def main(root: Path, kills: int, seed: int) -> None:
    """Kill, check, go on with the same files."""
    random.seed(seed)
    said: list[str] = []
    turn = 0
    found = {}
    for _ in range(kills):
        pid, reading = forked(lambda out, turn=turn: work(root, out, turn))
        select.select([reading], [], [], 20)  # until its first batch is acknowledged …
        select.select([], [], [], random.expovariate(1 / 0.08))  # … and a random while
        os.kill(pid, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
            sys.exit("the worker ended by itself")
        lines = drain(reading).decode().split("\n")[:-1]
        said += [text for line in lines for text in line.split()]
        turn += len(lines)  # the next one sends again what was not acknowledged
        pid, reading = forked(lambda out, said=said: check(root, said, out))
        answer = drain(reading)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
            sys.exit("the check failed")
        found = json.loads(answer)
    print(json.dumps(found | {"kills": kills, "acknowledged": len(said)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
