"""``kill -9`` of gateway and intake under load: answers are in the log once, but for the end of a killed epoch."""

import random

import crash_gateway
import pytest

KILLS = 8


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.processes
def test_answers_are_logged_once_and_only_the_last_of_a_killed_gateway_may_be_missing(world):
    world.live()
    left = crash_gateway.run(world, KILLS, random.Random(5))
    assert left.amiss == []
    assert sum(left.kills.values()) == KILLS
    assert min(left.kills.values()) > 0
    assert left.logged > 100
