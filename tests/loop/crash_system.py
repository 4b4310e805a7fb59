"""Real processes, forked from a warmed parent and killed at random moments under load; what is left is compared by ids.

Intake, worker and connector run as in production. A sender posts events with ids and sends again whatever was not
acknowledged; a connector reads files of events without ids, which another thread writes. After the kills:

    acknowledged ids ⊆ ids in the log; the log = lake ∪ tail, each offset once, each id once;
    each line of the files is in the log once;
    every view of the online store counts and sums exactly these events, per key: folded once each.

Used by ``test_crash.py`` here and in ``serving``, and by ``bench/crash.py``. Run as a program it is the parent:
``crash_system.py ROOT``.
"""

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from mainspring.core import MainspringError, WallClock, load_config
from mainspring.core.run import read_door
from mainspring.definitions import load_project
from mainspring.events.client import IntakeClient
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Counts, Log
from mainspring.features import OnlineStore, Reader

SETTINGS = """
[project]
name = "crash"
[intake]
port = 0
[limits]
disk_free_bytes = 0
[connect.landing]
kind = "files"
source = "reading"
url = "landing/*.ndjson"
every = "20ms"
batch = 50
"""
DEFINITIONS = """
from datetime import datetime
import mainspring as ms

class Payment(ms.Source, id="payment_id", time="paid_at"):
    payment_id: str
    card: str
    amount: float
    paid_at: datetime

class Reading(ms.Source, time="read_at"):
    number: int
    meter: str
    read_at: datetime

@ms.feature_view(Payment, entity="card")
class Card:
    payments = ms.count()
    spent = ms.sum("amount")
    spent_30d = ms.sum("amount", window="30d")

@ms.feature_view(Reading, entity="meter")
class Meter:
    readings = ms.count()
"""
NAMES = ("intake", "worker", "connect")
CARDS, METERS, BATCH, FILE_ROWS = 40, 7, 20, 40


def nursery(root):
    """Fork a process for each name on standard input, and say its pid.

    Everything is imported before, and no thread is started here, for a fork has none of them: polars (which checks
    definitions) and LMDB are first used in the children.
    """
    from mainspring.events.connectors.run import run_connectors
    from mainspring.events.intake_process import run_intake
    from mainspring.loop.worker import run_worker
    from mainspring.serving.gateway import run_gateway

    config = load_config(root)
    run = {
        "intake": run_intake,
        "worker": run_worker,
        "gateway": run_gateway,
        "connect": lambda config, project, clock, stop: run_connectors(config, project, clock, stop, ()),
    }
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not kept as zombies
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(line.strip(), run[line.strip()], config)
        print(child, flush=True)


def _become(name, run, config):
    """In the child: the process ``name`` until it is told to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())  # as the commands do, before anything is served
    try:
        run(config, load_project(config.definitions), WallClock(), stop)
    except BaseException:  # noqa: BLE001  whatever it is, the child must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class Sender:
    """Posts batches of events for ever; an unacknowledged batch is sent again, with the same ids."""

    run: Path
    acknowledged: dict[str, float] = field(default_factory=dict)
    sent_again: int = 0

    def work(self, stop):
        """Send until told to stop."""
        number, rng = 0, random.Random(1)
        batch = []
        while not stop.is_set():
            url = read_door(self.run, "intake")
            if url is None:
                stop.wait(0.005)
                continue
            with IntakeClient(url, timeout_s=10.0) as client:
                try:
                    while not stop.is_set():
                        if not batch:
                            batch = [self._event(number + i, rng) for i in range(BATCH)]
                            number += BATCH
                        answer = client.post_events("payment", batch)
                        assert answer["accepted"] + answer["duplicate"] == BATCH, answer
                        self.acknowledged |= {event["payment_id"]: event["amount"] for event in batch}
                        batch = []
                except MainspringError:
                    self.sent_again += 1
                    stop.wait(0.005)

    @staticmethod
    def _event(number, rng):
        amount = rng.lognormvariate(3, 2)
        return {"payment_id": f"p{number}", "card": f"c{rng.randrange(CARDS)}", "amount": amount, "paid_at": _now()}


@dataclass
class Writer:
    """Writes files of readings, each of them whole at once, as fast as the connector takes them."""

    folder: Path
    written: int = 0

    def work(self, stop):
        """Write until told to stop."""
        while not stop.wait(0.05):
            lines = [
                msgspec.json.encode({"number": n, "meter": f"m{n % METERS}", "read_at": _now()}) + b"\n"
                for n in range(self.written, self.written + FILE_ROWS)
            ]
            scratch = self.folder / "next"
            scratch.write_bytes(b"".join(lines))
            scratch.replace(self.folder / f"{self.written:09}.ndjson")
            self.written += FILE_ROWS


@dataclass
class System:
    """The parent and its children."""

    nursery: subprocess.Popen
    pids: dict[str, int] = field(default_factory=dict)

    def start(self, name):
        """Have a process forked."""
        self.nursery.stdin.write(name + "\n")
        self.nursery.stdin.flush()
        self.pids[name] = int(self.nursery.stdout.readline())

    def signal(self, name, number):
        """Send a signal and wait until the process is gone."""
        pid = self.pids[name]
        os.kill(pid, number)
        wait(lambda: _is_gone(pid), f"{name} ends")


@contextlib.contextmanager
def started(root, names=NAMES):
    """Processes of the project in ``root``."""
    argv = [sys.executable, str(Path(__file__).resolve()), str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        system = System(process)
        try:
            for name in names:
                system.start(name)
            yield system
        finally:
            for pid in system.pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.stdin.close()


@dataclass(frozen=True)
class Left:
    """What is there after the kills, and what of it is amiss: nothing, if all is well."""

    kills: dict[str, int]
    events: int
    acknowledged: int
    lines: int
    sent_again: int
    amiss: list[str]


def run(root, kills, dice):
    """Kill, start again, and compare in the end."""
    (root / "mainspring.toml").write_text(SETTINGS)
    (root / "definitions.py").write_text(DEFINITIONS)
    (root / "landing").mkdir()
    config = load_config(root)
    sender, writer, stop = Sender(config.run), Writer(root / "landing"), threading.Event()
    threads = [threading.Thread(target=one.work, args=(stop,)) for one in (sender, writer)]
    killed = dict.fromkeys(NAMES, 0)
    with started(root) as system:
        for thread in threads:
            thread.start()
        try:
            for turn in range(kills):
                _make_progress(config, sender)
                threading.Event().wait(dice.expovariate(1 / 0.1))
                name = NAMES[turn % 3] if turn < 3 else dice.choice(NAMES)
                system.signal(name, signal.SIGKILL)
                killed[name] += 1
                system.start(name)
            _make_progress(config, sender)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        with Log.open(config.log_path, config.limits.log_map_bytes) as log:
            wait(
                lambda: log.counts().get("reading", Counts()).accepted >= writer.written,
                "the connector reads all lines",
            )
            last = log.last_offset()
        with OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store:
            wait(lambda: store.folded_offset() == last, "the fold reaches the end of the log")
        for name in ("connect", "worker", "intake"):
            system.signal(name, signal.SIGTERM)
    return _compare(config, sender, writer, killed)


def _make_progress(config, sender):
    """Both ends work: something new is acknowledged, and after it something new is folded."""
    had = len(sender.acknowledged)
    wait(lambda: len(sender.acknowledged) > had, "the intake acknowledges")
    with OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store:
        folded = store.folded_offset()
        wait(lambda: store.folded_offset() > folded, "the worker folds")


def _compare(config, sender, writer, killed):
    project = load_project(config.definitions)
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        history = History(project, log, Lake(config.lake_path))
        last = history.catch_up()
        payments, readings = history.frame("payment"), history.frame("reading")
        tail = {record.offset: record.values[0] for record in log.read(0, 10**9) if not record.source.startswith("_")}
        held = log.quarantined()
    in_lake = {}
    for source, column in (("payment", "payment_id"), ("reading", "number")):
        frame = Lake(config.lake_path).frame(source)
        if frame is not None:
            in_lake |= dict(zip(frame["_offset"].to_list(), frame[column].to_list(), strict=True))
    ids, numbers = payments["payment_id"].to_list(), readings["number"].to_list()
    offsets = payments["_offset"].to_list() + readings["_offset"].to_list()
    known = dict(zip(offsets, ids + numbers, strict=True))
    amounts = dict(zip(ids, payments["amount"].to_list(), strict=True))
    lost = [ident for ident, amount in sender.acknowledged.items() if amounts.get(ident) != amount]
    cards, meters = [f"c{i}" for i in range(CARDS)], [f"m{i}" for i in range(METERS)]
    counts, snapped = [], []
    with OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store:
        for view, keys in ((project.views["card"], cards), (project.views["meter"], meters)):
            with Reader([view], store).snapshot() as snap:
                now_us = time.time_ns() // 1_000
                values, _ = snap.read(view, [(key,) for key in keys], np.full(len(keys), now_us + 1_000_000))
                counts.append(values.tolist())
                snapped.append(snap.offset)
    of_meter = [[float(sum(n % METERS == i for n in numbers))] for i in range(METERS)]
    checks = {
        f"acknowledged ids are missing or changed: {lost[:3]}": not lost,
        "an id is in the log twice": len(set(ids)) == len(ids),
        "a line of the files is missing, or in the log twice": sorted(numbers) == list(range(writer.written)),
        "offsets have gaps or come twice": sorted(known) == sorted(offsets),
        "the log is not lake and tail together": known == in_lake | tail,
        "lake and tail do not agree": all(tail.get(o, i) == i for o, i in in_lake.items()),
        "something is in quarantine": not held,
        f"the fold stands at {snapped}, not at the log's end, {last}": set(snapped) == {last},
        "an event of a card is not folded, or twice": counts[0] == _sums(payments, cards),
        "an event of a meter is not folded, or twice": counts[1] == of_meter,
    }
    amiss = [what for what, holds in checks.items() if not holds]
    return Left(killed, len(offsets), len(sender.acknowledged), writer.written, sender.sent_again, amiss)


def _sums(payments, cards):
    """Count and correctly rounded sum of each card, twice over: the brute-force oracle."""
    by_card = {card: [] for card in cards}
    for card, amount in zip(payments["card"].to_list(), payments["amount"].to_list(), strict=True):
        by_card[card].append(amount)
    return [[float(len(found)), math.fsum(found), math.fsum(found)] for found in by_card.values()]


def wait(condition, what, seconds=120.0):
    """Poll another process's state."""
    ends_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_s:
            raise TimeoutError(f"it does not come about that {what}")
        time.sleep(0.002)


def _is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


if __name__ == "__main__":
    nursery(Path(sys.argv[1]))
