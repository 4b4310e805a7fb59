"""The standing audit: a state that is wrong makes an incident, one that is right makes none."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from standing import HOUR, T0, Standing

from mainspring.loop import audit as audits
from mainspring.loop.audit import CLEAN_AUDITS, MOST_PREDICTIONS, audit, open_incident

DAY = 24 * HOUR


@pytest.fixture
def standing(config):
    made = Standing(config)
    made.apply(T0)
    made.version("v1", T0 + 1)
    yield made
    made.close()


def pay_and_ask(standing, at_us, n=6):
    """Payments of two drivers, folded, and as many requests."""
    for i in range(n):
        standing.pay(("ann", "bob")[i % 2], 7.25 + i, at_us - HOUR + i)
    standing.fold()
    for i in range(n):
        standing.ask(("ann", "bob")[i % 2], at_us + i)


def run(standing, at_us):
    standing.clock.set(at_us)
    return audit(standing.model, standing.catalog, standing.ledger, standing.history, at_us)


def test_a_clean_run_is_said_and_opens_nothing(standing):
    pay_and_ask(standing, T0 + 5 * HOUR)
    report = run(standing, T0 + DAY)
    assert (report.predictions, report.values, report.exact, report.exact_share) == (6, 12, 12, 1.0)
    assert (report.lag.behind, report.lag.lagging) == (0, 0)
    (said,) = standing.catalog.decisions("parity")
    assert said.reason == "12 of 12 served values are those of a replay"
    assert (said.numbers["different"], said.numbers["share"]) == (0, 1.0)
    assert standing.catalog.incidents() == ()


def test_a_value_changed_in_the_store_is_an_incident_within_one_audit(standing):
    pay_and_ask(standing, T0 + 5 * HOUR)
    assert standing.corrupt(8.25, 800.25) == 1  # a tip of bob's
    for i in range(4):
        standing.ask("bob", T0 + 6 * HOUR + i)
    report = run(standing, T0 + DAY)
    assert report.different == 4
    (incident,) = standing.catalog.incidents(is_open=True)
    assert (incident.kind, incident.model, incident.column) == ("parity", "tipping", "driver__tips_1d")
    assert incident.source is None  # or labels would be held
    assert incident.numbers["share"] == 4 / 20
    assert incident.numbers["examples"][0]["feature"] == "driver__tips_1d"
    assert incident.reason.endswith("mend with: mainspring features backfill driver")
    assert "20.00% of the values" in incident.reason


def test_an_incident_closes_after_several_clean_audits_in_a_row(standing):
    pay_and_ask(standing, T0 + 5 * HOUR)
    standing.corrupt(8.25, 800.25)
    standing.ask("bob", T0 + 6 * HOUR)
    run(standing, T0 + DAY)
    standing.corrupt(800.25, 8.25)
    for i in range(1, CLEAN_AUDITS + 1):
        assert open_incident(standing.catalog, "tipping") is not None
        standing.ask("bob", T0 + DAY * i + HOUR)
        run(standing, T0 + DAY * (i + 1))
    assert open_incident(standing.catalog, "tipping") is None
    (incident,) = standing.catalog.incidents()
    assert incident.closed_us == T0 + DAY * (CLEAN_AUDITS + 1)
    standing.pay("bob", 5.5, T0 + DAY * 6 - HOUR)
    standing.fold()
    standing.corrupt(5.5, 55.5)
    standing.ask("bob", T0 + DAY * 6)
    run(standing, T0 + DAY * 7)
    assert len(standing.catalog.incidents()) == 2  # it can open again


def test_nothing_to_compare_closes_no_incident_and_nothing_new_says_nothing(standing):
    pay_and_ask(standing, T0 + 5 * HOUR)
    standing.corrupt(8.25, 800.25)
    standing.ask("bob", T0 + 6 * HOUR)
    run(standing, T0 + DAY)
    for i in range(1, CLEAN_AUDITS + 2):
        standing.ask("bob", T0 + DAY * i + HOUR, status="[4, 4, 0]", features="[null, null, 3.5]")
        report = run(standing, T0 + DAY * (i + 1))
        assert (report.values, report.not_compared, report.exact_share) == (0, 2, None)
    assert open_incident(standing.catalog, "tipping") is not None
    assert run(standing, T0 + DAY * 10) is None
    assert len(standing.catalog.decisions("parity")) == CLEAN_AUDITS + 2


def test_it_goes_on_where_it_was_and_a_boundary_done_twice_says_nothing_new(standing):
    pay_and_ask(standing, T0 + 5 * HOUR)
    first = run(standing, T0 + DAY)
    again = run(standing, T0 + DAY)  # a worker that died before its boundary was done
    assert again == first
    assert len(standing.catalog.decisions("parity")) == 1
    standing.ask("ann", T0 + DAY + HOUR)
    assert run(standing, T0 + 2 * DAY).predictions == 1


def test_a_sample_bounds_its_cost_and_takes_other_keys_each_time(standing, monkeypatch):
    monkeypatch.setattr(audits, "MOST_PREDICTIONS", 5)
    pay_and_ask(standing, T0 + 5 * HOUR, n=40)
    report = run(standing, T0 + DAY)
    assert 0 < report.predictions <= 10
    assert standing.catalog.decisions("parity")[0].numbers["logged"] == 40
    assert MOST_PREDICTIONS == 500


def test_a_release_is_held_to_the_definitions_that_it_was_trained_by(standing):
    pay_and_ask(standing, T0 + 5 * HOUR)
    path = standing.config.definitions
    path.write_text(
        path.read_text().replace('tips_1d = ms.mean("tip", window="1d")', 'tips_1d = ms.max("tip", window="2h")')
    )
    standing.apply(T0 + 6 * HOUR)
    standing.version("v2", T0 + 6 * HOUR + 1)
    standing.fold()
    standing.ask("bob", T0 + 7 * HOUR, version="v2")
    report = run(standing, T0 + DAY)
    assert (report.predictions, report.different, report.exact) == (7, 0, 14)


def test_what_the_fold_had_not_seen_is_lag_skew_and_no_difference(standing):
    pay_and_ask(standing, T0 + 5 * HOUR)
    standing.pay("ann", 99.0, T0 + 6 * HOUR)  # known, not folded
    standing.ask("ann", T0 + 6 * HOUR + 2_000_000)
    report = run(standing, T0 + DAY)
    assert report.different == 0
    assert (report.lag.behind, report.lag.lagging, report.lag.most_records) == (1, 1, 1)
    numbers = standing.catalog.decisions("parity")[0].numbers
    assert (numbers["behind"], numbers["lag_s"]) == (1, 2.0)
