"""A day of real arrivals that goes wrong in one of six ways: found within a window, one incident, undone or contained.

The commands are those of docs/reference/checks.md, "When a source goes wrong".
"""

import getpass
import json
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from flightdays import DAY_US, HOUR_US, STREAM_US, Days, cli, happened, prepare

from mainspring.cli.app import run

pytestmark = pytest.mark.processes
BAD_US = STREAM_US + DAY_US
"""The day that goes wrong begins."""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
        yield prepare(tmp_path_factory.mktemp("flights") / "project")


@pytest.fixture
def days(template, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    with Days(folder) as running:
        yield running


@pytest.fixture(scope="module")
def clean(template, tmp_path_factory):
    """The training set of a world in which nothing went wrong."""
    folder = tmp_path_factory.mktemp("clean") / "project"
    shutil.copytree(template, folder)
    with Days(folder) as running:
        running.stream(3)
        assert running.incidents() == []
        return running.training_set()


@pytest.fixture
def command(days, capsys, monkeypatch):
    """A command line on the project, whose wall clock is the test's."""
    monkeypatch.setattr("mainspring.cli.workspace.WallClock", lambda: days.clock)
    return lambda *argv: cli(run, capsys, days.config.root, *argv)


def changed(**columns):
    """Arrivals whose columns are made otherwise."""
    return lambda rows, _: [[row | {name: make(row) for name, make in columns.items()} for row in rows]]


def differing(one, other, since_us=0):
    """Rows of the same flight, asked since a moment, that are not the same in both sets."""
    names = [*one.meta.features, "_y"]
    both = one.frame.join(other.frame, on="_unit", suffix="_other").filter(pl.col("_t") >= since_us)
    assert both.height > 100
    return both.filter(pl.any_horizontal(~pl.col(n).eq_missing(pl.col(f"{n}_other")) for n in names))


def labels(one):
    return one.frame.select("_unit", "_y").sort("_unit")


def is_contained(days, clean):
    """After two good days: the incident has closed by itself, and no row that is left has seen the bad day."""
    (one,) = days.incidents()
    assert (one.numbers["blocking"], one.closed_us, one.numbers["until_us"]) == (
        True,
        BAD_US + 2 * DAY_US,
        BAD_US + DAY_US,
    )
    left = days.training_set()
    assert differing(left, clean).is_empty()
    counts = left.meta.counts
    assert counts.left_out > 400
    assert counts.rows > 20_000
    return left


def test_wrong_units_are_found_within_a_day_and_no_row_that_is_left_has_seen_them(days, clean, command):
    days.stream(1, fault=changed(arr_delay_min=lambda row: row["arr_delay_min"] * 60.0))
    (one,) = days.incidents()
    assert (one.source, one.column, one.kind, one.closed_us) == ("arrived", "arr_delay_min", "check", None)
    assert one.numbers["seen_us"] - BAD_US == DAY_US
    assert "distribution: differs from before by a PSI of" in one.reason
    assert days.training_set().meta.counts.held > 400
    days.stream(2)
    left = is_contained(days, clean)
    assert command("checks", "accept", one.incident_id, "--reason", "seconds are right")["accepted"] == one.incident_id
    accepted = days.training_set()
    assert accepted.meta.counts.left_out == 0
    assert accepted.meta.counts.rows > left.meta.counts.rows
    assert differing(accepted, clean).height > 100


def declare_corrections(days, command, patch, *columns):
    """Let arrivals be corrected from now on, and have further columns."""
    path = days.config.definitions
    op = '    op: Annotated[str, ms.one_of("insert", "update", "delete")] = "insert"\n'
    text = path.read_text().replace('time="arrived_at"', 'time="arrived_at", corrects="op"')
    more = "".join(f"    {column}\n" for column in columns)
    path.write_text(text.replace("    arrived_at: datetime\n", f"    arrived_at: datetime\n{op}{more}"))
    patch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
    command("apply")


def is_undone(days, clean, mended_us, since_us):
    """What is left are the rows of a world without the fault, but for those that were asked while it was believed."""
    after = days.training_set()
    assert differing(after, clean).is_empty()
    missing = clean.frame.join(after.frame, on="_unit", how="anti")
    assert missing["_t"].is_between(since_us, mended_us).all()
    return missing.height


def is_served_as_replayed(command):
    """What is live is what a replay makes of the log, key by key."""
    for view, *key in (("route", "UA", "LAX"), ("base", "UA", "EWR"), ("dest", "ORD")):
        found = command("features", "diff", view, *key)
        assert (found["different"], found["unavailable"]) == (0, 0)


def test_wrong_units_are_undone_by_a_mend_once_the_source_has_corrections(days, clean, command, monkeypatch, capsys):
    book = days.stream(1, fault=changed(arr_delay_min=lambda row: row["arr_delay_min"] * 60.0))
    (one,) = days.incidents()
    mend = ("checks", "mend", one.incident_id, "--with-expr", "arr_delay_min=arr_delay_min / 60", "--reason", "seconds")
    assert run([*mend, "--json", "-C", str(days.config.root)]) == 5
    refused = json.loads(capsys.readouterr().err)
    assert (refused["code"], 'corrects="op"' in refused["hint"]) == ("MS-E141", True)
    declare_corrections(days, command, monkeypatch)
    shown = command(*mend, "--dry-run")
    assert (shown["sent"], shown["would_send"], shown["unchanged"]) == (0, book["accepted"] - still(days), still(days))
    assert days.incidents()[0].closed_us is None
    done = command(*mend)
    assert (done["sent"], done["examples"]) == (shown["would_send"], shown["examples"])
    (one,) = days.incidents()
    assert (one.closing, one.numbers["until_us"] - one.opened_us) == ("seconds", DAY_US)
    mended_us = one.closed_us
    assert [(d.actor, d.reason) for d in days.catalog.decisions("mend")] == [(getpass.getuser(), "seconds")]
    again = command(*mend)
    assert (again["sent"], again["done_before"]) == (0, done["sent"])
    days.stream(2)
    assert [found.incident_id for found in days.incidents()] == [one.incident_id]
    assert 400 < is_undone(days, clean, mended_us, BAD_US) < 1_200
    is_served_as_replayed(command)


def still(days):
    """Arrivals of the bad day that are right in any unit."""
    return sum(row["arr_delay_min"] == 0 for row in happened("arrived", BAD_US, BAD_US + DAY_US))


def test_events_of_a_frozen_sensor_are_withdrawn(days, clean, command, monkeypatch):
    declare_corrections(days, command, monkeypatch)
    days.stream(1, fault=lambda rows, hour: [[row | {"air_time_min": 123.0} if hour > 5 else row for row in rows]])
    (one,) = days.incidents()
    mend = ("checks", "mend", one.incident_id, "--withdraw", "--where", "air_time_min == 123", "--reason", "frozen")
    done = command(*mend)
    assert done["sent"] > 500
    assert done["unchanged"] > 50
    days.stream(2)
    assert len(days.incidents()) == 1
    after = days.training_set()
    assert after.meta.counts.excluded - clean.meta.counts.excluded > 500  # flights that never arrived
    is_served_as_replayed(command)


def test_a_renamed_column_waits_in_quarantine_and_replayed_it_counts_as_if_nothing_had_been(days, clean, command):
    def renamed(rows, _):
        return [[{"arrival_delay" if k == "arr_delay_min" else k: v for k, v in row.items()} for row in rows]]

    book = days.stream(1, fault=renamed)
    assert book["accepted"] == 0
    (one,) = days.incidents()
    assert (one.kind, one.source, one.column) == ("contract", "arrived", "arrival_delay")
    assert one.opened_us < BAD_US + 3 * HOUR_US
    days.stream(hours=8)
    again = command("quarantine", "replay", "arrived", "--rename", "arrival_delay=arr_delay_min")
    assert (again["accepted"], again["quarantined"]) == (book["quarantined"], 0)
    mended_us = days.clock.now_us()
    days.stream(1, hours=16)
    (one,) = days.incidents()
    assert one.closed_us is not None
    after = days.training_set()
    assert labels(after).equals(labels(clean))
    assert differing(after, clean, mended_us + 60_000_000).is_empty()


def test_a_column_that_keeps_its_new_name_is_declared_under_both(days, clean, command, monkeypatch):
    def renamed(rows, _):
        return [[{"arrival_delay" if k == "arr_delay_min" else k: v for k, v in row.items()} for row in rows]]

    days.stream(1, fault=renamed)
    path = days.config.definitions
    path.write_text(
        path.read_text().replace(
            "    arr_delay_min: float\n", '    arr_delay_min: Annotated[float, ms.alias("arrival_delay")]\n'
        )
    )
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
    command("apply")
    assert command("quarantine", "replay", "arrived")["quarantined"] == 0
    mended_us = days.clock.now_us()
    days.stream(2, fault=renamed)
    (one,) = days.incidents()
    assert one.closed_us is not None
    after = days.training_set()
    assert labels(after).equals(labels(clean))
    assert differing(after, clean, mended_us + HOUR_US).is_empty()


def test_a_burst_of_nulls_where_null_is_allowed_is_found_within_a_day_and_kept_out(days, clean):
    days.stream(1, fault=changed(tailnum=lambda row: None if row["flight_id"][-1] in "05" else row["tailnum"]))
    (one,) = days.incidents()
    assert (one.source, one.column, one.kind) == ("arrived", "tailnum", "check")
    assert "are null" in one.reason
    days.stream(2)
    is_contained(days, clean)


def test_a_burst_of_nulls_is_undone_by_a_mend_from_another_column(days, clean, command, monkeypatch):
    declare_corrections(days, command, monkeypatch, "tail: str = ''")
    is_moved = "05".__contains__  # such flights have their tail number in another field

    def moved(rows, _):
        found = [(row, row["tailnum"] if is_moved(row["flight_id"][-1]) else None) for row in rows]
        return [[row if tail is None else row | {"tailnum": None, "tail": tail} for row, tail in found]]

    days.stream(1, fault=moved)
    (one,) = days.incidents()
    assert (one.source, one.column, one.closed_us) == ("arrived", "tailnum", None)
    assert one.numbers["seen_us"] - BAD_US == DAY_US
    undo = ("--with-expr", "tailnum=tail", "--where", "tail != ''", "--reason", "it came in another field")
    done = command("checks", "mend", one.incident_id, *undo)
    sent = happened("arrived", BAD_US, BAD_US + DAY_US)
    assert done["sent"] == sum(row["tailnum"] is not None and is_moved(row["flight_id"][-1]) for row in sent)
    assert done["unchanged"] == len(sent) - done["sent"]
    mended_us = days.incidents()[0].closed_us
    days.stream(2)
    assert [found.incident_id for found in days.incidents()] == [one.incident_id]
    assert is_undone(days, clean, mended_us, BAD_US) > 400
    is_served_as_replayed(command)
    assert command("features", "diff", "plane", sent[0]["tailnum"])["different"] == 0


def test_a_burst_of_nulls_where_none_is_allowed_never_comes_in_and_is_discarded(days, clean, command):
    book = days.stream(1, fault=changed(arr_delay_min=lambda _: None))
    assert book["accepted"] == 0
    (one,) = days.incidents()
    assert (one.kind, one.source, one.column) == ("contract", "arrived", "arr_delay_min")
    days.stream(hours=8)
    done = command("quarantine", "discard", "arrived", "--all", "--reason", "the feed lost its delays on 21 May")
    assert done["discarded"] == book["quarantined"]
    days.stream(1, hours=16)
    (one,) = days.incidents()
    assert one.closed_us is not None
    after = days.training_set()
    asked = after.frame.join(clean.frame, on="_unit", suffix="_other")
    assert asked.filter(pl.col("_y") != pl.col("_y_other")).is_empty()
    assert after.meta.counts.excluded > clean.meta.counts.excluded + 700


def test_a_frozen_sensor_is_found_within_a_day_and_kept_out(days, clean):
    days.stream(1, fault=lambda rows, hour: [[row | {"air_time_min": 123.0} if hour > 5 else row for row in rows]])
    (one,) = days.incidents()
    assert (one.source, one.column, one.kind) == ("arrived", "air_time_min", "check")
    assert "frozen: 123 " in one.reason
    days.stream(2)
    is_contained(days, clean)


def test_a_storm_of_duplicates_is_found_within_a_day_and_counts_once(days, clean, command):
    book = days.stream(1, fault=lambda rows, _: [rows] * 3)
    assert book["duplicate"] == 2 * book["accepted"]
    days.stream(2)
    (one,) = days.incidents()
    assert (one.source, one.column, one.numbers["blocking"]) == ("arrived", None, False)
    assert one.numbers["checks"] == ["arrived_duplicates"]
    assert one.numbers["seen_us"] - BAD_US == DAY_US
    assert one.closed_us is not None
    said = command("checks", "history", "arrived_duplicates")
    assert [result["state"] for result in said[:3]] == ["pass", "pass", "fail"]
    after = days.training_set()
    assert after.meta.counts == clean.meta.counts
    assert differing(after, clean).is_empty()


def test_a_delay_of_ten_hours_is_found_within_eight_and_ends_when_the_feed_has_caught_up(days, clean, command):
    late = []

    def delayed(rows, hour):
        late.append(rows)
        return [late[hour - 10]] if hour >= 10 else []

    days.stream(1, fault=delayed)
    (one,) = days.incidents()
    assert (one.source, one.column, one.kind) == ("arrived", None, "check")
    assert "freshness: the newest event is" in one.reason
    assert one.numbers["seen_us"] - BAD_US <= 8 * HOUR_US
    rest = iter(late[14:])
    days.stream(hours=10, fault=lambda rows, _: [next(rest), rows])
    caught_up_us = days.clock.now_us()
    days.stream(1, hours=14)
    (one,) = days.incidents()
    assert one.closed_us is not None
    after = days.training_set()
    assert labels(after).equals(labels(clean))
    assert differing(after, clean, caught_up_us).is_empty()
    said = command("checks", "history", "arrived_freshness")
    assert [result["state"] for result in said[:2]] == ["pass", "pass"]
    assert "fail" in [result["state"] for result in said]
    is_served_as_replayed(command)
