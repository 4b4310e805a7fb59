"""A view that promises to be fresh opens an incident when it is not, and closes it when it is again."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from standing import HOUR, T0, Standing

from mainspring.core import Clock
from mainspring.core.errors import DefinitionError
from mainspring.definitions import load_project
from mainspring.features.freshness import freshness, lag_of
from mainspring.loop.controller import Controller
from mainspring.loop.levels import freshness_changes

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
