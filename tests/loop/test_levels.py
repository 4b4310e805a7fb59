"""A view that promises to be fresh opens an incident when it is not, and closes it when it is again."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from standing import HOUR, T0, Standing

from mainspring.catalog import Incident
from mainspring.core import Clock
from mainspring.core.errors import DefinitionError
from mainspring.definitions import Latency, Rollout, guard, load_project
from mainspring.definitions.release import vetoes_of
from mainspring.features.freshness import freshness, lag_of
from mainspring.loop.controller import Controller
from mainspring.loop.levels import freshness_changes, latency_changes

MINUTE = HOUR // 60
DAY = 24 * HOUR


@pytest.fixture
def standing(config):
    path = config.definitions
    path.write_text(path.read_text().replace('entity="driver")', 'entity="driver", fresh="10m")'))
    made = Standing(config)
    made.apply(T0)
    yield made
    made.close()


def look(standing, at_us):
    """What opens and closes at a moment, carried out."""
    view = standing.project.views["driver"]
    open_now = standing.catalog.incidents(is_open=True)
    found = freshness_changes([freshness(view, standing.store, standing.log, at_us)], open_now, at_us)
    standing.clock.set(at_us)
    for one in found:
        numbers = one.numbers
        standing.ledger.decide(
            one.kind,
            f"{one.kind}-{one.incident_id}",
            at_us,
            subject=one.incident_id,
            reason=one.reason,
            numbers=numbers,
        )
    return found


def test_a_promise_of_freshness_is_no_part_of_the_version(standing):
    view = standing.project.views["driver"]
    assert view.fresh_us == 10 * MINUTE
    path = standing.config.definitions
    path.write_text(path.read_text().replace(', fresh="10m"', ""))
    without = load_project(path).views["driver"]
    assert (without.fresh_us, without.version) == (None, view.version)
    path.write_text(path.read_text().replace('entity="driver")', 'entity="driver", fresh="0s")'))
    with pytest.raises(DefinitionError, match="must be longer than nothing"):
        load_project(path)


def test_a_view_that_is_not_fresh_any_more_is_an_incident_until_it_is(standing):
    (first,) = look(standing, T0 + HOUR)
    assert "paid (nothing yet)" in first.reason
    standing.pay("ann", 3.0, T0 + 2 * HOUR)
    assert look(standing, T0 + 2 * HOUR + MINUTE) == []  # it is known, and not folded: not fresh
    standing.fold()
    (closed,) = look(standing, T0 + 2 * HOUR + 2 * MINUTE)
    assert (closed.kind, closed.incident_id) == ("incident_close", first.incident_id)
    assert look(standing, T0 + 2 * HOUR + 10 * MINUTE) == []  # to the microsecond
    (again,) = look(standing, T0 + 2 * HOUR + 10 * MINUTE + 1)
    assert again.reason == (
        "driver shall be fresh within 10m; newest folded events: paid (10m ago); the fold is 1 records behind"
    )
    incident = standing.catalog.incidents(is_open=True)[0]
    assert (incident.kind, incident.column, incident.source) == ("freshness", "driver", None)
    assert standing.catalog.holds("paid") == []  # labels are not held: a quiet source is not a wrong one


def test_the_controller_looks_each_minute(standing):
    clock: Clock = standing.clock
    controller = Controller(
        standing.config,
        standing.project,
        clock,
        standing.log,
        standing.history,
        standing.catalog,
        standing.ledger,
        None,
    )
    clock.set(T0 + HOUR)
    controller.run_due(T0 + HOUR)
    (incident,) = standing.catalog.incidents(is_open=True)
    assert incident.kind == "freshness"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda view: {view.name: replace(view, fresh_us=None)}, "driver need not be fresh any more"),
        (lambda view: {}, "driver is no longer defined"),
    ],
)
def test_the_incident_of_a_promise_that_was_given_up_closes(standing, change, why):
    look(standing, T0 + HOUR)
    given_up = replace(standing.project, views=change(standing.project.views["driver"]), models={})
    parts = (standing.config, given_up, standing.clock, standing.log, standing.history, standing.catalog)
    controller = Controller(*parts, standing.ledger, None)
    now_us = T0 + 2 * HOUR
    standing.clock.set(now_us)
    controller.run_due(now_us)
    assert [one.closing for one in standing.catalog.incidents()] == [why]


def test_the_lag_of_the_fold_is_told_in_records_and_seconds(standing):
    standing.fold()
    at = standing.store.folded_offset()
    assert lag_of(standing.log, at, T0 + DAY) == lag_of(standing.log, at + 5, T0)
    standing.pay("ann", 3.0, T0 + HOUR)
    standing.pay("ann", 4.0, T0 + HOUR + MINUTE)
    lag = lag_of(standing.log, at, T0 + HOUR + 2 * MINUTE)
    assert (lag.records, lag.seconds) == (2, 120.0)
    standing.fold()
    found = freshness(standing.project.views["driver"], standing.store, standing.log, T0 + HOUR + 2 * MINUTE)
    assert (found.lag.records, found.serves, found.feeds["paid"].events) == (0, True, 2)
    assert found.age_s("paid", T0 + HOUR + 2 * MINUTE) == 60.0
    assert found.age_s("nothing", T0) is None


def answers(*took_ms, every_s=1.0):
    """Predictions, one after another."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=i * every_s) for i in range(len(took_ms))]
    offsets, took_us = range(len(took_ms)), [int(1_000 * ms) for ms in took_ms]
    types = {"_offset": pl.Int64, "_time": pl.Datetime("us", "UTC"), "latency_us": pl.Int64}
    return pl.DataFrame({"_offset": offsets, "_time": times, "latency_us": took_us}, schema=types)


class Budgeted:
    name, latency = "tipping", Latency(p50="5ms", p99="20ms")


def open_latency():
    return Incident("latency-tipping-1", "latency", None, "tipping", "tipping", 1, None, "slow", "", {})


def test_answers_that_are_slower_than_the_budget_for_long_open_one_incident_which_closes_again():
    slow = answers(*[3.0] * 300, *[30.0] * 30)
    (opened,) = latency_changes(Budgeted, slow, [], 5)
    assert (opened.kind, opened.incident_id) == ("incident_open", "latency-tipping-5")
    assert "9.09% of answers took longer than 20ms, 1% may" in opened.reason
    assert latency_changes(Budgeted, slow, [open_latency()], 6) == []
    assert latency_changes(Budgeted, answers(*[3.0] * 50), [open_latency()], 7) == []  # too few to tell
    (closed,) = latency_changes(Budgeted, answers(*[3.0] * 300), [open_latency()], 8)
    assert (closed.kind, closed.incident_id) == ("incident_close", "latency-tipping-1")


def test_a_slow_median_is_seen_as_well_as_a_slow_tail():
    (opened,) = latency_changes(Budgeted, answers(*[6.0] * 200), [], 5)
    assert "100.00% of answers took longer than 5ms, 50% may" in opened.reason


def test_one_stall_over_many_answers_is_no_incident():
    assert latency_changes(Budgeted, answers(*[3.0] * 300, *[500.0] * 300, every_s=0.001), [], 5) == []


def test_clean_days_open_no_incident():
    random = np.random.default_rng(7)
    opened = 0
    for _ in range(300):
        took = np.where(random.random(1_000) < 0.01, 25.0, np.where(random.random(1_000) < 0.5, 6.0, 3.0))
        opened += len(latency_changes(Budgeted, answers(*took), [], 5))
    assert opened == 0


def test_a_budget_is_a_veto_of_every_rollout_and_what_a_rollout_says_itself_stays():
    vetoes = vetoes_of(Rollout(veto=[guard("p99_ms", under=100)]), Budgeted.latency).veto
    assert [(one.metric, one.under) for one in vetoes] == [("p99_ms", 100), ("p50_ms", 5.0)]
