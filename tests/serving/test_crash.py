"""``kill -9`` of gateway and intake under load: answers are in the log once, but for the end of a killed epoch."""

import random
import signal
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from mainspring.core.exchange import Exchange
from mainspring.core.run import read_door

from rides import ride  # isort: skip

sys.path.insert(0, str(Path(__file__).parents[1] / "loop"))

import crash_system

KILLS = 8


class Asker:
    """Asks for predictions for ever; remembers what was answered, by epoch of the gateway."""

    def __init__(self, run, name):
        self.run, self.name = run, name
        self.answered = {}

    def work(self, stop):
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
                        self.answered[answer.json()["prediction_id"]] = body["ride_id"]
                    else:
                        stop.wait(0.01)
            except OSError:
                stop.wait(0.005)
            finally:
                exchange.close()


def _epochs(ids):
    found = {}
    for one in ids:
        epoch, _, number = one.rpartition("-")
        found.setdefault(epoch, set()).add(int(number))
    return found


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.processes
def test_answers_are_logged_once_and_only_the_last_of_a_killed_gateway_may_be_missing(world):
    world.live()
    dice, stop = random.Random(5), threading.Event()
    askers = [Asker(world.config.run, f"a{i}") for i in range(3)]
    threads = [threading.Thread(target=asker.work, args=(stop,)) for asker in askers]

    def answered():
        return {one: ident for asker in askers for one, ident in dict(asker.answered).items()}

    with crash_system.started(world.root, ("intake", "gateway")) as system:
        for thread in threads:
            thread.start()
        try:
            for turn in range(KILLS):
                had, logged = len(answered()), len(world.logged())
                crash_system.wait(lambda had=had: len(answered()) > had, "the gateway answers")
                crash_system.wait(lambda logged=logged: len(world.logged()) > logged, "the intake takes answers")
                ends_s = time.monotonic() + dice.expovariate(1 / 0.1)
                while time.monotonic() < ends_s:
                    time.sleep(0.002)
                name = ("gateway", "intake")[turn] if turn < 2 else dice.choice(("gateway", "intake"))
                system.signal(name, signal.SIGKILL)
                system.start(name)
            had = len(answered())
            crash_system.wait(lambda: len(answered()) > had, "the gateway answers")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        door = Exchange(read_door(world.config.run, "gateway"), 10.0)
        last = door.ask("GET", "/health", b"", {}).json()["epoch"]
        door.close()
        system.signal("gateway", signal.SIGTERM)
        system.signal("intake", signal.SIGTERM)

    found = world.logged()
    logged = [row["prediction_id"] for row in found]
    assert len(set(logged)) == len(logged)
    there = _epochs(logged)
    for epoch, numbers in _epochs(answered()).items():
        missing = numbers - there.get(epoch, set())
        assert not missing or min(missing) > max(there.get(epoch, {0})), "a hole in the middle of an epoch"
        if epoch == last:
            assert not missing, "a gateway that was stopped has left answers out"
    rides = [row["ride_id"] for row in world.logged("ride")]
    assert len(set(rides)) == len(rides)
    assert {row["request_id"] for row in found} <= set(rides)
    assert len(logged) > 100
