"""Capacity: the search finds the greatest rate that keeps the limit, and a plan keeps its word."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mainspring.load.capacity import CLOSE, Limit, needed, plan, search
from mainspring.load.measure import QUANTILES, Level, levels, quantile
from mainspring.load.sender import Sent
from mainspring.load.shape import Stage, steady


def level(rate, p99_ms, *, errors=0, late_ms=0.0):
    quantiles = dict.fromkeys(QUANTILES, p99_ms)
    return Level(Stage("steady", rate, rate, 1), 1_000, rate, quantiles, p99_ms, {"503": errors}, late_ms)


def queue(true_rate):
    """A server whose p99 passes 20 ms at ``true_rate``: that of a queue of one, p99 = ln(100) / (mu - rate)."""
    mu = true_rate + math.log(100) / 0.020
    return lambda rate: level(rate, math.inf if rate >= mu else math.log(100) / (mu - rate) * 1e3)


@given(st.floats(1, 200_000))
def test_the_search_ends_close_below_the_true_rate(true_rate):
    found = search(queue(true_rate), Limit())
    assert found.rate <= true_rate
    assert found.rate * CLOSE >= true_rate * 0.999
    assert found.ended_by == "too slow"
    assert found.rate in [one.stage.rate for one, verdict in found.tried if verdict == "kept"]
    assert len(found.tried) <= 24


def test_a_machine_that_was_busy_once_does_not_bound_the_search():
    glitches, answers = {400.0, 3_200.0}, queue(9_000.0)

    def measure(rate):
        slow = rate in glitches
        glitches.discard(rate)
        return level(rate, 500.0) if slow else answers(rate)

    assert search(measure, Limit()).rate * CLOSE >= 8_900


def test_a_server_that_takes_nothing_has_no_capacity():
    found = search(lambda rate: level(rate, 500.0), Limit())
    assert (found.rate, found.ended_by) == (0.0, "too slow")


def test_the_search_goes_no_further_than_it_may():
    found = search(lambda rate: level(rate, 1.0), Limit(), most=3_000)
    assert (found.rate, found.ended_by) == (3_000, "most")


def test_a_verdict_says_what_was_broken():
    limit = Limit(0.99, 20.0, 0.01)
    assert limit.verdict(level(1, 20.0, errors=10)) == "kept"
    assert limit.verdict(level(1, 20.1)) == "too slow"
    assert limit.verdict(level(1, 1.0, errors=11)) == "errors"
    assert limit.verdict(level(1, 30.0, late_ms=15.0)) == "the sender was late"
    assert limit.verdict(level(1, math.nan, errors=0)) == "too slow"  # nothing was answered: nothing was kept


@given(st.floats(1, 1e5), st.floats(1, 1e6), st.floats(0, 0.9))
def test_what_is_needed_keeps_the_headroom_and_stands_the_loss_of_one(rate, need, headroom):
    n = needed(rate, need, headroom=headroom)
    *_, fewer, enough = plan(rate, range(n - 1, n + 1), headroom=headroom)
    assert min(enough.planned, enough.one_lost) >= need * (1 - 1e-9)
    assert min(fewer.planned, fewer.one_lost) < need
    assert n >= 2


@given(st.lists(st.floats(0, 10), min_size=1), st.sampled_from(QUANTILES))
def test_a_quantile_is_the_least_value_that_enough_do_not_exceed(values, q):
    found = quantile(np.sort(np.array(values)), q)
    assert found == min(v for v in values if sum(w <= v for w in values) >= q * len(values) - 1e-9)


def test_levels_count_by_stage_and_kind():
    stages = (*steady(2.0, 1.0), Stage("spike", 4.0, 4.0, 0.5))
    sent = Sent(
        np.array([0.001, 0.5, 0.002, 9.0]),
        np.array([0, 1, 0, 2], np.int16),
        ("answered", "503", "no answer in time"),
        np.zeros(4),
        1,
    )
    first, second = levels(stages, np.array([0, 0, 1, 1], np.int16), sent)
    assert (first.sent, first.answered_per_s, first.errors, first.most_ms) == (2, 1.0, {"503": 1}, 1.0)
    assert (second.answered_per_s, second.errors, second.most_ms) == (2.0, {"no answer in time": 1}, 9_000.0)
    assert second.error_share == 0.5
