"""``kill -9`` of gateway and intake under load: answers are in the log once, but for the end of a killed epoch."""

import os
import random
import signal

import crash_gateway
import crash_system
import httpx
import pytest

from mainspring.core.run import read_door

from rides import ride  # isort: skip

KILLS = 8
ROWS = 10
pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.processes]


def test_answers_are_logged_once_and_only_the_last_of_a_killed_gateway_may_be_missing(world):
    world.live()
    left = crash_gateway.run(world, KILLS, random.Random(5))
    assert left.amiss == []
    assert sum(left.kills.values()) == KILLS
    assert min(left.kills.values()) > 0
    assert left.logged > 100


def test_what_came_while_the_intake_stood_still_survives_a_kill_of_the_gateway_and_is_logged_once(world):
    world.live()
    answered = {}

    def log_of():
        return crash_gateway.log_of(world)

    def ask(url, name):
        rows = [ride(ride_id=f"{name}{i}", asked_at=...) for i in range(ROWS)]
        said = client.post(f"{url}/predict/late_ride", json=rows).json()
        answered.update({one["prediction_id"]: row["ride_id"] for one, row in zip(said, rows, strict=True)})

    with httpx.Client(timeout=60) as client, crash_system.started(world.root, crash_gateway.NAMES) as system:
        url = crash_gateway.ready(world)
        ask(url, "before")
        crash_system.wait(lambda: log_of()["sent"] == ROWS, "the intake takes an answer")
        os.kill(system.pids["intake"], signal.SIGSTOP)
        for turn in range(5):
            ask(url, f"during{turn}-")
        crash_system.wait(lambda: not log_of()["buffered"], "nothing is in memory alone")
        found = log_of()
        assert (found["sent"], found["away"]) == (ROWS, False), "the post is under way: nobody has given it up"
        system.signal("gateway", signal.SIGKILL)
        system.start("gateway")
        url = crash_gateway.ready(world)
        ask(url, "after")
        os.kill(system.pids["intake"], signal.SIGCONT)
        crash_system.wait(lambda: not log_of()["spooled_bytes"] and log_of()["sent"], "what was left is sent")
        for name in crash_gateway.NAMES:
            system.signal(name, signal.SIGTERM)
        assert read_door(world.config.run, "gateway") is None
    logged = [(row["prediction_id"], row["request_id"]) for row in world.logged()]
    assert sorted(logged) == sorted(answered.items())
    assert sorted(row["ride_id"] for row in world.logged("ride")) == sorted(answered.values())
