"""Judging that fails is told by an incident, tried again later and later, and stops nothing else."""

import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from standing import HOUR, T0, Standing

from mainspring.core import UnavailableError
from mainspring.loop.failures import Failures

MINUTE = HOUR // 60


@pytest.fixture
def standing(config):
    made = Standing(config)
    made.apply(T0)
    yield made
    made.close()


class Judged:
    """What one model is judged by: a list of its boundaries, and what is wrong with it."""

    def __init__(self, standing):
        self.standing = standing
        self.failures = Failures(standing.catalog, standing.ledger)
        self.wrong = None
        self.done = []
        self.tried = 0

    def __call__(self, at_us):
        self.tried += 1
        if self.wrong is not None:
            raise self.wrong
        self.done.append(at_us)

    def run(self, now_us, *due):
        self.standing.clock.set(now_us)
        return self.failures.judge("tipping", due or (T0 + HOUR,), now_us, self)


def test_a_failure_is_one_incident_that_says_why_and_closes_when_it_is_judged_again(standing):
    judged = Judged(standing)
    judged.wrong = pl.exceptions.PanicException("no such thing")  # no Exception to Python
    assert judged.run(T0 + HOUR)
    (incident,) = standing.catalog.incidents(is_open=True)
    assert (incident.kind, incident.model, incident.source) == ("judging", "tipping", None)
    assert "tipping cannot be judged" in incident.reason
    assert "PanicException: no such thing" in incident.reason
    assert standing.catalog.holds("paid") == []
    assert judged.run(T0 + HOUR + MINUTE)
    assert len(standing.catalog.incidents()) == 1
    judged.wrong = None
    assert not judged.run(T0 + 3 * HOUR)
    (closed,) = standing.catalog.incidents()
    assert closed.closing == "tipping is judged again"
    judged.wrong = ValueError("again")
    assert judged.run(T0 + 4 * HOUR, T0 + 4 * HOUR)
    assert len(standing.catalog.incidents()) == 2


def test_it_is_tried_after_a_minute_then_later_each_time_up_to_an_hour(standing):
    judged = Judged(standing)
    judged.wrong = ValueError("still")
    tried = []
    for minute in range(400):
        before = judged.tried
        judged.run(T0 + HOUR + minute * MINUTE)
        tried += [minute] if judged.tried > before else []
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]


def test_boundaries_behind_one_that_fails_wait_for_it(standing):
    judged = Judged(standing)
    judged.wrong = ValueError("still")
    judged.run(T0 + HOUR, T0, T0 + HOUR)
    assert (judged.tried, judged.done) == (1, [])
    judged.wrong = None
    judged.run(T0 + 2 * HOUR, T0, T0 + HOUR)
    assert judged.done == [T0, T0 + HOUR]


def test_an_intake_that_is_away_is_no_failure_of_a_model(standing):
    judged = Judged(standing)
    judged.wrong = UnavailableError("MS-L110", "no intake is running")
    with pytest.raises(UnavailableError):
        judged.run(T0 + HOUR)
    assert standing.catalog.incidents() == ()
