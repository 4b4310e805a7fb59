"""``kill -9`` at random moments under load, and what is left, compared by ids. Ends with code 1 if anything is amiss.

Three parts, each a share of the kills. *Log and lake* and *fold* drive the children of the tests' own drivers. *System*
runs the real intake and the real worker, each forked from a parent that has imported everything: a sender posts events
over HTTP and sends again whatever was not acknowledged, while intake or worker is killed and started again. Then

    acknowledged ids ⊆ ids in the log; the log = lake ∪ tail, each offset once, each id once;
    every view of the online store counts and sums exactly these events, per key: folded once each.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from harness import ROOT, Bench

from mainspring.core import Config, MainspringError, WallClock, load_config
from mainspring.core.run import read_door
from mainspring.definitions import load_project
from mainspring.events.client import IntakeClient
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Log
from mainspring.features import OnlineStore, Reader

DEFINITIONS = """
from datetime import datetime
import mainspring as ms

class Payment(ms.Source, id="payment_id", time="paid_at"):
    payment_id: str
    card: str
    amount: float
    paid_at: datetime

@ms.feature_view(Payment, entity="card")
class Card:
    payments = ms.count()
    spent = ms.sum("amount")
    spent_30d = ms.sum("amount", window="30d")
"""
CARDS = 40
BATCH = 20


# --- the system -------------------------------------------------------------------------------------------------------


def nursery(root: Path) -> None:
    """Fork a process for each name on standard input; say its pid, and later ``pid status``.

    Everything is imported before, and no thread is started here, for a fork has none of them: polars (which checks
    definitions) and LMDB are first used in the children.
    """
    from mainspring.events.intake import run_intake
    from mainspring.loop.worker import run_worker

    config = load_config(root)
    run: dict[str, Any] = {"intake": run_intake, "worker": run_worker}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not kept as zombies
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(line.strip(), run[line.strip()], config)
        print(child, flush=True)


def _become(name: str, run: Callable[..., None], config: Config) -> NoReturn:
    """In the child: the process ``name`` until it is told to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if name == "worker":
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        run(config, load_project(config.definitions), WallClock(), stop)
    except BaseException:  # noqa: BLE001  whatever it is, the child must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@dataclass
class Sender:
    """Posts batches of events for ever; an unacknowledged batch is sent again, with the same ids."""

    run: Path
    acknowledged: dict[str, float] = field(default_factory=dict)
    sent_again: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        """Send until told to stop."""
        number, rng = 0, random.Random(1)
        batch: list[dict[str, Any]] = []
        while not self.stop.is_set():
            url = read_door(self.run, "intake")
            if url is None:
                time.sleep(0.005)
                continue
            with IntakeClient(url, timeout_s=10.0) as client:
                try:
                    while not self.stop.is_set():
                        if not batch:
                            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                            batch = [self._event(number + i, rng, now) for i in range(BATCH)]
                            number += BATCH
                        answer = client.post_events("payment", batch)
                        assert answer["accepted"] + answer["duplicate"] == BATCH, answer
                        self.acknowledged |= {event["payment_id"]: event["amount"] for event in batch}
                        batch = []
                except MainspringError:
                    self.sent_again += 1
                    time.sleep(0.005)

    @staticmethod
    def _event(number: int, rng: random.Random, now: str) -> dict[str, Any]:
        amount = rng.lognormvariate(3, 2)
        return {"payment_id": f"p{number}", "card": f"c{rng.randrange(CARDS)}", "amount": amount, "paid_at": now}


@dataclass
class System:
    """The nursery and its two children."""

    root: Path
    nursery: subprocess.Popen[str]
    pids: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Have the nursery fork a process."""
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.write(name + "\n")
        self.nursery.stdin.flush()
        self.pids[name] = int(self.nursery.stdout.readline())

    def signal(self, name: str, number: int) -> None:
        """Send a signal and wait until the process is gone."""
        pid = self.pids[name]
        os.kill(pid, number)
        wait(lambda: _is_gone(pid), f"{name} ends")


@contextlib.contextmanager
def started(root: Path) -> Iterator[System]:
    argv = [sys.executable, str(Path(__file__).resolve()), "--nursery", str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        system = System(root, process)
        try:
            for name in ("intake", "worker"):
                system.start(name)
            yield system
        finally:
            for pid in system.pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert process.stdin is not None
            process.stdin.close()


def system_part(bench: Bench, root: Path, kills: int, dice: random.Random) -> None:
    (root / "mainspring.toml").write_text('[project]\nname = "bench"\n[intake]\nport = 0\n')
    (root / "definitions.py").write_text(DEFINITIONS)
    config = load_config(root)
    sender = Sender(config.run)
    thread = threading.Thread(target=sender.work)
    with started(root) as system:
        thread.start()
        try:
            for _ in range(kills):
                _make_progress(config.state_path, config.limits.state_map_bytes, sender)
                time.sleep(dice.expovariate(1 / 0.1))
                name = dice.choice(("intake", "worker"))
                system.signal(name, signal.SIGKILL)
                system.start(name)
            _make_progress(config.state_path, config.limits.state_map_bytes, sender)
        finally:
            sender.stop.set()
            thread.join()
        with Log.open(config.log_path, config.limits.log_map_bytes) as log:
            last = log.last_offset()
        with OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store:
            wait(lambda: store.folded_offset() == last, "the fold reaches the end of the log")
        system.signal("worker", signal.SIGTERM)
        system.signal("intake", signal.SIGTERM)
    _compare(bench, root, sender, kills)


def _make_progress(state: Path, map_bytes: int, sender: Sender) -> None:
    """Both processes work: something new is acknowledged, and after it something new is folded."""
    had = len(sender.acknowledged)
    wait(lambda: len(sender.acknowledged) > had, "the intake acknowledges")
    with OnlineStore.open(state, map_bytes) as store:
        folded = store.folded_offset()
        wait(lambda: store.folded_offset() > folded, "the worker folds")


def _compare(bench: Bench, root: Path, sender: Sender, kills: int) -> None:
    config = load_config(root)
    project = load_project(config.definitions)
    view, source = project.views["card"], "payment"
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        history = History(project, log, Lake(config.lake_path))
        last = history.catch_up()
        frame = history.frame(source)
        tail = {record.offset: record.id for record in log.read(0, 10**9) if record.source == source}
    lake = Lake(config.lake_path).frame(source)
    ids, offsets = frame["payment_id"].to_list(), frame["_offset"].to_list()
    known = dict(zip(offsets, ids, strict=True))
    amounts = dict(zip(ids, frame["amount"].to_list(), strict=True))
    in_lake = {} if lake is None else dict(zip(lake["_offset"].to_list(), lake["payment_id"].to_list(), strict=True))
    lost = [ident for ident, amount in sender.acknowledged.items() if amounts.get(ident) != amount]
    bench.require(f"no acknowledged id is missing or changed ({lost[:3]})", holds=not lost)
    bench.require("each id is in the log once", holds=len(set(ids)) == len(ids))
    bench.require("offsets rise by one, none twice", holds=offsets == list(range(1, last + 1)))
    bench.require("the log is lake and tail together", holds=known == in_lake | tail)
    bench.require(
        "lake and tail agree where both have an event", holds=all(tail.get(o, i) == i for o, i in in_lake.items())
    )
    cards = [f"c{i}" for i in range(CARDS)]
    with (
        OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store,
        Reader([view], store).snapshot() as snap,
    ):
        bench.require(f"the fold stands at the log's end ({snap.offset} of {last})", holds=snap.offset == last)
        now_us = time.time_ns() // 1_000
        values, _ = snap.read(view, [(card,) for card in cards], np.full(CARDS, now_us + 1_000_000))
    folded = _sums(frame["card"].to_list(), frame["amount"].to_list(), cards)
    bench.require("every event is folded exactly once, by card", holds=values.tolist() == folded)
    bench.add("system: kills of intake and worker", kills, "kills")
    bench.add("system: events in the log", last, "events")
    bench.add("system: acknowledged and not there", len(lost), "events")
    bench.add("system: posts that had to be sent again", sender.sent_again, "posts")


def _sums(cards: list[str], amounts: list[float], asked: list[str]) -> list[list[float]]:
    """Count and correctly rounded sum of each card, twice over: the brute-force oracle."""
    by_card: dict[str, list[float]] = {card: [] for card in asked}
    for card, amount in zip(cards, amounts, strict=True):
        by_card[card].append(amount)
    return [[float(len(found)), math.fsum(found), math.fsum(found)] for found in by_card.values()]


# --- the tests' drivers -----------------------------------------------------------------------------------------------


def log_part(bench: Bench, root: Path, kills: int, seed: int) -> None:
    """Appends, flushes to the lake and trims: tests/events/crash_driver.py."""
    driver = ROOT / "tests" / "events" / "crash_driver.py"
    command = [sys.executable, str(driver), str(root), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    bench.require(f"log and lake agree by ids after {kills} kills: {done.stderr[-2_000:]}", holds=done.returncode == 0)
    if done.returncode == 0:
        found = json.loads(done.stdout)
        for name in ("kills", "events", "acknowledged"):
            bench.add(f"log and lake: {name}", found[name], "kills" if name == "kills" else "events")


def fold_part(bench: Bench, root: Path, kills: int, dice: random.Random) -> None:
    """Folds alone: tests/features/folding_child.py, judged by the comparison with replay of its test."""
    sys.path.insert(0, str(ROOT / "tests" / "features"))
    import folding_child  # type: ignore[import-not-found]
    from test_crash import assert_is_replay  # type: ignore[import-not-found]

    records, reached, done = folding_child.stream(), 0, 0
    path = os.pathsep.join(p for p in sys.path if p)
    with subprocess.Popen(
        [sys.executable, str(Path(folding_child.__file__)), str(root / "state0")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        while done < kills and reached < len(records) - 2_000:
            parent.stdin.write("\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            with OnlineStore.open(root / "state0", folding_child.MAP_BYTES) as store:
                store.wait_for(reached + dice.randint(1, 300), timeout_s=60.0)
            os.kill(child, signal.SIGKILL)
            parent.stdout.readline()
            with OnlineStore.open(root / "state0", folding_child.MAP_BYTES) as store:
                reached = store.folded_offset()
                assert_is_replay(store, records)
            done += 1
        parent.stdin.close()
    bench.add("fold: kills", done, "kills")
    bench.add("fold: events folded, each compared with replay", reached, "events")


def wait(condition: Any, what: str, seconds: float = 120.0) -> None:
    """Poll another process's state."""
    ends_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_s:
            raise TimeoutError(f"it does not come about that {what}")
        time.sleep(0.002)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def main() -> None:
    if sys.argv[1:2] == ["--nursery"]:
        nursery(Path(sys.argv[2]))
        return
    bench = Bench.start(
        "kill -9 under load: acknowledged = stored = folded once, by ids",
        [("--kills", int, "how many"), ("--seed", int, "of the moments")],
    )
    kills, seed = bench.options.kills or (15 if bench.quick else 300), bench.options.seed or time.time_ns() % 10**6
    bench.say(f"{kills} kills, --seed {seed}")
    dice = random.Random(seed)
    shares = (kills // 2, kills // 4, kills - kills // 2 - kills // 4)
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        roots = [Path(folder, name) for name in ("log", "fold", "system")]
        for root in roots:
            root.mkdir()
        log_part(bench, roots[0], shares[0], seed)
        fold_part(bench, roots[1], shares[1], dice)
        system_part(bench, roots[2], shares[2], dice)
    bench.finish()


if __name__ == "__main__":
    main()
