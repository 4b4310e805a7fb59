"""Gateway and intake as processes, killed at random moments while three clients ask; what is logged, by ids.

Every other gateway that is killed has an intake that has stood still for up to a second. Each answer is in the log
once, but for the end of a killed epoch; each request's own event is there once. Used by ``test_crash.py`` here and by
``bench/crash.py``.
"""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mainspring.core.exchange import Exchange
from mainspring.core.run import read_door
from mainspring.events.log import Log

from rides import ride  # isort: skip

sys.path.insert(0, str(Path(__file__).parents[1] / "loop"))

import crash_system

NAMES = ("gateway", "intake")
SOON_S = 0.2  # an answer may be on its way to its client when its gateway is killed


def ready(world):
    """The gateway's URL, once its routes are loaded."""
    crash_system.wait(lambda: read_door(world.config.run, "gateway"), "the gateway has a door")
    url = read_door(world.config.run, "gateway")
    door = Exchange(url, 60.0)
    crash_system.wait(lambda: door.ask("GET", "/ready", b"", {}).status == 200, "the gateway is ready")
    door.close()
    return url


class Asker:
    """Asks for predictions for ever; remembers what was answered, by epoch of the gateway."""

    def __init__(self, run, name):
        self.run, self.name = run, name
        self.answered = {}
        self.at_s = {}

    def work(self, stop):
        """Ask until told to stop."""
        number = 0
        while not stop.is_set():
            url = read_door(self.run, "gateway")
            if url is None:
                stop.wait(0.005)
                continue
            exchange = Exchange(url, 10.0)
            try:
                while not stop.is_set():
                    number += 1
                    body = ride(ride_id=f"{self.name}-{number}")
                    body.pop("asked_at", None)
                    answer = exchange.ask("POST", "/predict/late_ride", msgspec.json.encode(body), {})
                    if answer.status == 200:
                        ident = answer.json()["prediction_id"]
                        self.at_s[ident] = time.monotonic()
                        self.answered[ident] = body["ride_id"]
                    else:
                        stop.wait(0.01)
            except OSError:
                stop.wait(0.005)
            finally:
                exchange.close()


@dataclass(frozen=True)
class Left:
    """What is there after the kills, and what of it is amiss: nothing, if all is well.

    ``oldest_s`` is for how long the oldest answer that is missing had been answered when its gateway was killed.
    """

    kills: dict[str, int]
    answered: int
    logged: int
    missing: int
    oldest_s: float
    amiss: list[str]


def log_of(world):
    """What the gateway says of its prediction log."""
    door = Exchange(read_door(world.config.run, "gateway"), 60.0)
    try:
        return door.ask("GET", "/health", b"", {}).json()["prediction_log"]
    finally:
        door.close()


def run(world, kills, dice):
    """Kill, start again, and compare in the end.

    Args:
        world: A project that serves, ``rides.World`` after ``live``.
        kills: How many.
        dice: Draws the moments and who is killed.
    """
    stop = threading.Event()
    askers = [Asker(world.config.run, f"a{i}") for i in range(3)]
    threads = [threading.Thread(target=asker.work, args=(stop,)) for asker in askers]
    killed = dict.fromkeys(NAMES, 0)
    ends_s = []

    def answered():
        return {one: ident for asker in askers for one, ident in dict(asker.answered).items()}

    config = world.config
    with (
        Log.open(config.log_path, config.limits.log_map_bytes) as log,
        crash_system.started(world.root, NAMES) as system,
    ):
        for thread in threads:
            thread.start()
        try:
            for turn in range(kills):
                had, last = len(answered()), log.last_offset()
                crash_system.wait(lambda had=had: len(answered()) > had, "the gateway answers")
                crash_system.wait(lambda last=last: log.last_offset() > last, "the intake takes answers")
                threading.Event().wait(dice.expovariate(1 / 0.1))
                name = NAMES[turn] if turn < 2 else dice.choice(NAMES)
                stands = name == "gateway" and killed[name] % 2 == 0
                if stands:
                    os.kill(system.pids["intake"], signal.SIGSTOP)
                    threading.Event().wait(dice.random())
                ends_s.append(time.monotonic())
                system.signal(name, signal.SIGKILL)
                killed[name] += 1
                system.start(name)
                if stands:
                    os.kill(system.pids["intake"], signal.SIGCONT)
            had = len(answered())
            crash_system.wait(lambda: len(answered()) > had, "the gateway answers")
            crash_system.wait(lambda: not log_of(world)["spooled_bytes"], "what was left is sent")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        door = Exchange(read_door(world.config.run, "gateway"), 10.0)
        epoch = door.ask("GET", "/health", b"", {}).json()["epoch"]
        door.close()
        for name in NAMES:
            system.signal(name, signal.SIGTERM)
    at_s = {ident: moment for asker in askers for ident, moment in asker.at_s.items()}
    return _compare(world, answered(), epoch, killed, at_s, ends_s)


def _compare(world, answered, last_epoch, killed, at_s, ends_s):
    found = world.logged()
    logged = [row["prediction_id"] for row in found]
    rides = [row["ride_id"] for row in world.logged("ride")]
    amiss = []
    if len(set(logged)) != len(logged):
        amiss.append("an answer is logged twice")
    if len(set(rides)) != len(rides):
        amiss.append("a request is logged twice")
    if not {row["request_id"] for row in found} <= set(rides):
        amiss.append("an answer's request is not logged")
    if any(answered.get(row["prediction_id"], row["request_id"]) != row["request_id"] for row in found):
        amiss.append("an answer is logged with another request")
    there, missing = _epochs(logged), 0
    for epoch, numbers in _epochs(answered).items():
        lost = numbers - there.get(epoch, set())
        missing += len(lost)
        if lost and min(lost) < max(there.get(epoch, {0})):
            amiss.append(f"a hole in the middle of epoch {epoch}")
        if lost and epoch == last_epoch:
            amiss.append("a gateway that was stopped has left answers out")
    lost = answered.keys() - set(logged)
    ages_s = [min(max(0.0, end - at_s[one]) for end in ends_s if end > at_s[one] - SOON_S) for one in lost]
    return Left(killed, len(answered), len(logged), missing, max(ages_s, default=0.0), amiss)


def _epochs(ids):
    found = {}
    for one in ids:
        epoch, _, number = one.rpartition("-")
        found.setdefault(epoch, set()).add(int(number))
    return found
