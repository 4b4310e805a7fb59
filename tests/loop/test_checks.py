"""Checks as the worker runs them: each fault of a feed is one incident that names source and column, and ends."""

import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from feed import DAY_US, Feed, feed_module

import mainspring as ms
from mainspring.catalog import Catalog
from mainspring.core import ManualClock
from mainspring.definitions.project import collect
from mainspring.events import Draft, Log
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.loop.checks import Checker, blocked
from mainspring.loop.ledger import Ledger


class World:
    """A feed, a log, and a checker that looks at it day by day."""

    def __init__(self, config, log):
        self.module = feed_module()
        self.project = collect(self.module)
        self.source = self.module.Arrived.definition
        self.clock = ManualClock(Feed.START_US)
        self.config, self.log = config, log
        self.history = History(self.project, log, Lake(config.lake_path))
        self.catalog = Catalog.open(config.catalog_url)
        self.ledger = Ledger(config, self.catalog, self.history, threading.Event(), alone=True, clock=self.clock)
        self.checker = self.start()
        self.feed = Feed()

    def start(self):
        """A checker as a worker starts it."""
        args = (self.config, self.project, self.log, self.history, self.catalog, self.clock.now_us())
        return Checker(*args)

    def load(self, days):
        """Days of the past."""
        for _ in range(days):
            self._send(self.feed.day())
            self.clock.set(self.feed.until_us)
        self.checker = self.start()

    def day(self, fault=None, times=1):
        """One day of the feed, with a fault, and what the checker says at its end; returns what was opened."""
        before = {one.incident_id for one in self.catalog.incidents()}
        self._send(self.feed.day(fault), times)
        self.clock.set(self.feed.until_us)
        self.ledger.project()
        self.checker.run_due(self.ledger, self.clock.now_us())
        return [one for one in self.catalog.incidents() if one.incident_id not in before]

    def _send(self, rows, times=1):
        drafts = [(at_us, Draft(self.source, row)) for at_us, row in rows]
        with Log.open(self.config.log_path, self.config.limits.log_map_bytes, writable=True) as writer:
            for hour in range(24):  # what comes within an hour is known at its end
                end_us = self.feed.until_us - DAY_US + (hour + 1) * 3_600_000_000
                part = [d for at, d in drafts if end_us - 3_600_000_000 <= at < end_us]
                self.clock.set(end_us - 1_000_000)
                for _ in range(times if part else 0):
                    writer.append(part, self.clock)
        self.history.catch_up()


@pytest.fixture
def world(config):
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        found = World(config, log)
        yield found
        found.catalog.close()


def test_each_fault_of_a_feed_is_one_incident_that_names_its_column_and_ends_when_it_does(world):
    world.load(35)
    for _ in range(2):
        assert world.day() == []
    for fault, column, words in (
        ("units", "delay_min", "distribution"),
        ("nulls", "air_min", "nulls"),
        ("frozen", "wind_mph", "frozen"),
        ("silence", None, "freshness"),
    ):
        (opened,) = world.day(fault)
        assert (opened.source, opened.column, opened.kind) == ("arrived", column, "check"), fault
        assert words in opened.reason
        if fault != "silence":  # a day that begins well ends the first silence
            assert world.day(fault) == [], fault
        assert world.day() == []
        assert world.catalog.incidents(is_open=True) == (), fault
    (storm,) = world.day(times=3)
    assert (storm.column, storm.numbers["blocking"]) == (None, False)
    assert "had been sent before" in storm.reason
    assert world.day() == []
    assert world.catalog.incidents(is_open=True) == ()


def test_a_delayed_feed_is_found_within_its_span_and_closes_when_it_has_caught_up(world):
    world.load(3)
    world.checker = world.start()
    late_us = world.clock.now_us() + 10 * 3_600_000_000
    world.clock.set(late_us)
    world.checker.run_due(world.ledger, late_us)
    (opened,) = world.catalog.incidents(is_open=True)
    assert (opened.source, opened.column) == ("arrived", None)
    assert "freshness: the newest event is" in opened.reason
    assert opened.numbers["seen_us"] - (world.feed.until_us) <= 8 * 3_600_000_000


@pytest.mark.parametrize("with_freshness", [False, True])
def test_the_incident_of_a_gap_opens_once_and_closes_by_itself_after_a_normal_window(world, with_freshness):
    arrived = world.module.Arrived
    silent = [ms.check.freshness(arrived, "8h", every="1d")] if with_freshness else []
    world.module.checks = [ms.check.volume(arrived), *silent]
    world.project = collect(world.module)
    world.load(35)
    assert world.day() == []
    (opened,) = world.day("silence")
    assert opened.numbers["checks"] == [one.name for one in world.project.checks.values()]
    assert world.day("silence") == []
    assert [one.incident_id for one in world.catalog.incidents(is_open=True)] == [opened.incident_id]
    assert world.day() == []
    assert world.catalog.incidents(is_open=True) == ()
    assert world.day() == []
    said = [one.state for one in world.catalog.check_results("arrived_volume", 5)]
    assert said == ["pass", "pass", "fail", "fail", "pass"]


def test_a_blocking_check_holds_labels_and_one_that_warns_does_not(world):
    world.load(35)
    world.day()
    world.day("units")
    assert blocked(world.catalog, ["arrived"]).column == "delay_min"
    (hold,) = world.catalog.holds("arrived")
    assert hold == (world.clock.now_us() - DAY_US, None)
    world.day()
    assert blocked(world.catalog, ["arrived"]) is None
    world.day("silence")
    assert blocked(world.catalog, ["arrived"]) is None
    assert len(world.catalog.holds("arrived")) == 1


def test_a_blocking_check_that_fails_while_a_warning_is_open_widens_it_and_holds_from_its_window(world):
    arrived = world.module.Arrived
    world.module.checks = [
        ms.check.sql("air", arrived, "select count(*) from recent where air_min < 0", blocking=False),
        ms.check.sql("late", arrived, "select count(*) from recent where delay_min > 1000"),
    ]
    world.project = collect(world.module)
    world.load(1)
    (warned,) = world.day("negative")
    assert (warned.numbers["checks"], warned.numbers["blocking"]) == (["arrived_air"], False)
    assert world.catalog.holds("arrived") == []
    from_us = world.clock.now_us()
    assert world.day("units") == []
    (one,) = world.catalog.incidents(is_open=True)
    assert one.reason.startswith(f"{warned.reason}; sql: late: ")
    assert one.reason.endswith("; labels, trainings and promotions that depend on it are held")
    assert blocked(world.catalog, ["arrived"]) == one
    assert world.catalog.holds("arrived") == [(from_us, None)]
    world.checker = world.start()
    for fault in ("units", "negative"):  # only one of them passes
        assert world.day(fault) == []
        assert world.catalog.holds("arrived") == [(from_us, None)]
    good_us = world.clock.now_us()
    assert world.day() == []
    assert world.catalog.incidents(is_open=True) == ()
    assert world.catalog.holds("arrived") == [(from_us, world.clock.now_us())]
    (bad,) = world.catalog.bad_windows(["arrived"])
    assert (bad.from_us, bad.until_us) == (from_us, good_us)
    said = [one.kind for one in world.catalog.decisions() if one.subject == warned.incident_id]
    assert said == ["incident_open", "incident_widen", "incident_close"]


def test_an_incident_of_checks_with_other_windows_closes_when_each_has_passed_one(world):
    arrived = world.module.Arrived
    query = "select count(*) from recent where delay_min > 1000"
    world.module.checks = [
        ms.check.sql("often", arrived, query, every="8h", blocking=False),
        ms.check.sql("daily", arrived, query),
    ]
    world.project = collect(world.module)
    world.load(1)
    began_us = world.clock.now_us()
    (opened,) = world.day("units")
    assert opened.numbers["checks"] == ["arrived_often", "arrived_daily"]
    assert world.catalog.holds("arrived") == [(began_us, None)]
    assert world.day() == []
    (closed,) = world.catalog.incidents()
    assert closed.closed_us == world.clock.now_us()
    assert closed.numbers["until_us"] == began_us + DAY_US


def test_results_are_kept_and_a_restarted_checker_goes_on_where_the_last_one_was(world):
    world.load(10)
    world.day()
    results = world.catalog.check_results("arrived_volume")
    assert (results[0].at_us, results[0].state) == (world.clock.now_us(), "pass")
    world.checker = world.start()
    world.checker.run_due(world.ledger, world.clock.now_us())
    assert world.catalog.check_results("arrived_volume") == results
    world.day()
    assert len(world.catalog.check_results("arrived_volume")) == len(results) + 1


def test_what_a_person_accepts_is_what_later_windows_are_compared_with(world):
    world.load(35)
    world.day()
    (opened,) = world.day("units")
    check = world.project.checks["arrived_delay_min_distribution"]
    assert len(world.checker._bad(check)) == 1
    now_us = world.clock.now_us()
    world.ledger.decide("incident_accept", "accept-1", now_us, subject=opened.incident_id, reason="new units")
    assert world.catalog.incidents(is_open=True) == ()
    assert world.checker._bad(check) == []


def test_a_check_in_sql_counts_what_must_not_be_and_a_broken_query_stops_nothing(config, world):
    module = world.module
    module.extra = [
        ms.check.sql("no negative air time", module.Arrived, "select count(*) from recent where air_min < 0"),
        ms.check.sql("carriers are known", module.Arrived, "from recent where carrier not in ('UA', 'AA', 'DL')"),
        ms.check.sql("a typo", module.Arrived, "select count(*) from recnt"),
    ]
    world.project = collect(module)
    world.load(2)
    found = world.checker.look(world.project.checks.values(), world.clock.now_us())
    assert found["arrived_no_negative_air_time"].state == "pass"
    assert found["arrived_carriers_are_known"].state == "pass"
    assert found["arrived_a_typo"].state == "unknown"
    assert "recnt does not exist" in found["arrived_a_typo"].reason
    world.day("negative")
    assert world.catalog.check_results("arrived_no_negative_air_time")[0].state == "fail"


def test_a_check_in_sql_can_ask_for_a_text_of_the_lake(world):
    query = "select count(*) from arrived where carrier = 'UA'"
    world.module.extra = [ms.check.sql("no UA", world.module.Arrived, query)]
    world.project = collect(world.module)
    world.load(2)
    assert world.history.flush() > 0
    found = world.checker.look(world.project.checks.values(), world.clock.now_us())
    assert found["arrived_no_ua"].state == "fail"


def test_a_small_shift_that_lasts_warns_within_a_month_across_a_restart_and_holds_nothing(world):
    world.load(63)
    for _ in range(2):
        assert world.day() == []
    for day in range(28):
        if day == 4:
            world.checker = world.start()
        shifts = [one for one in world.day("shift") if one.kind == "shift"]
        if shifts:
            break
    (one,) = shifts
    assert (one.source, one.column, one.numbers["blocking"]) == ("arrived", "wind_mph", False)
    assert "small, and lasting: distribution" in one.reason
    assert blocked(world.catalog, ["arrived"]) is None
    assert one.opened_us not in [since_us for since_us, _ in world.catalog.holds("arrived")]
    while world.catalog.incidents(is_open=True):
        day += 1
        assert day < 40
        assert world.day() == []


def test_a_look_reads_the_last_decision_and_no_others(world, monkeypatch):
    world.load(10)
    world.day()
    world.day(times=3)
    monkeypatch.delattr(type(world.catalog), "decisions")
    world.checker = world.start()
    assert world.day() == []
    last = world.catalog.check_results("arrived_duplicates", 1)[0]
    assert (last.state, last.value) == ("pass", 0.0)


@pytest.mark.parametrize(
    ("query", "state", "said"),
    [
        ("select null", "pass", "0 found"),
        ("select sum(case when air_min < 0 then 1 else 0 end) from recent", "pass", "0 found"),
        ("select sum(flight_id = flight_id) from recent", "fail", " found"),
        ("select 'nan'::double", "unknown", "answers no number"),
        ("select -0.0", "pass", "0 found"),
        ("select 'something'", "fail", "1 found"),
        ("from range(3000000)", "fail", "3e+06 found"),
        ("select 1, 2", "fail", "1 found"),
        ("from recent where false", "pass", "0 found"),
        ("select timestamp '290000-01-01'", "unknown", "cannot be evaluated"),
        ("drop table recent", "unknown", "one SELECT"),
        ("select 1; select 0", "unknown", "one SELECT"),
        ("", "unknown", ""),
        ("select error('no')", "unknown", "no"),
        ("select 1/0 / 'x'", "unknown", ""),
        ("select count(*) from range(100000000000) a, range(100000) b", "unknown", "takes longer"),
    ],
)
def test_a_query_may_answer_nonsense_fail_or_never_end_and_all_other_checks_are_looked_at(
    config, world, monkeypatch, query, state, said
):
    monkeypatch.setattr("mainspring.loop.checks.SQL_US", 1_000_000)
    world.load(1)
    check = ms.check.sql("odd", world.module.Arrived, "select 0")
    odd = replace(check, limits=(("query", query), ("title", "odd")))
    last = world.project.checks["arrived_freshness"]
    found = world.checker.look([odd, last], world.clock.now_us())
    assert found["arrived_freshness"].state == "pass"
    assert found["arrived_odd"].state == state, found["arrived_odd"].reason
    assert said in found["arrived_odd"].reason


def test_a_check_that_cannot_be_evaluated_says_so_and_stops_nothing(world, monkeypatch):
    def broken(check, window):
        raise ArithmeticError("one in a million")

    world.load(1)
    monkeypatch.setattr("mainspring.loop.checks.evaluate", broken)
    assert world.day() == []
    (result,) = world.catalog.check_results("arrived_volume", 1)
    assert (result.state, result.reason) == ("unknown", "it cannot be evaluated: ArithmeticError: one in a million")
