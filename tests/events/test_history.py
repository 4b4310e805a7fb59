"""History: lake and log tail as one, each event once."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import ManualClock
from mainspring.core.errors import NotFoundError
from mainspring.definitions.values import Field, Project, SourceDef
from mainspring.events import DECISION, Draft, Log
from mainspring.events.history import History
from mainspring.events.lake import Lake

MAP = 1 << 26


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log", MAP, writable=True) as found:
        yield found


@pytest.fixture
def add(log, arrived, weather, clock):
    """Appends n flights and one weather row, numbered on."""
    numbers = iter(range(10**6))

    def run(n):
        now = clock.now_us()
        drafts = [Draft(arrived, (f"f{next(numbers)}", "UA", None, 1, now)) for _ in range(n)]
        log.append([*drafts, Draft(weather, ("EWR", 1.5, True, now - 10, now))], clock)

    return run


def test_a_frame_has_the_columns_of_the_source_and_those_of_the_log(project, log, add, tmp_path, arrived, clock):
    add(2)
    history = History(project, log, Lake(tmp_path / "lake"))
    assert history.frame("arrived").is_empty()
    assert history.catch_up() == 3
    frame = history.frame("arrived")
    assert frame.columns == [*arrived.columns, "_offset", "_id", "_time", "_known_at", "_ingested_at"]
    assert frame["_id"].to_list() == ["f0", "f1"]
    assert frame.schema["arrived_at"] == frame.schema["_known_at"] == pl.Datetime("us", "UTC")
    assert frame["_known_at"].cast(pl.Int64).to_list() == [clock.now_us(), clock.now_us() + 1]
    assert history.frame("weather")["_id"].to_list() == [None]


def test_catching_up_reads_only_what_is_new_and_frames_are_kept(project, log, add, tmp_path):
    history = History(project, log, Lake(tmp_path / "lake"))
    for n in range(1, 120):
        add(1)
        assert history.catch_up() == 2 * n
        frame = history.frame("arrived")
        assert frame.height == n
        assert history.frame("arrived") is frame
    assert history.frame("arrived")["_offset"].to_list() == list(range(1, 239, 2))
    assert len(history._buffers["arrived"].frames) <= 34


def test_only_the_columns_that_are_asked_for_are_read_from_the_lake_and_kept(project, log, add, tmp_path):
    writer = History(project, log, Lake(tmp_path / "lake"))
    add(5)
    writer.catch_up()
    whole = writer.frame("arrived")
    reader = History(project, log, Lake(tmp_path / "lake"))
    for history in (writer, reader):
        history.flush()
    reader = History(project, log, Lake(tmp_path / "lake"))
    assert not reader._buffers["arrived"].frames
    add(2)
    reader.catch_up()
    writer.catch_up()
    writer.flush()
    whole = writer.frame("arrived")
    assert reader.frame("arrived", ["carrier", "_offset"]).equals(whole.select("carrier", "_offset"))
    assert [f.columns for f in reader._buffers["arrived"].frames] == [["carrier", "_offset"]]
    assert reader.frame("arrived", ["flight_id"]).equals(whole.select("flight_id"))
    assert reader.frame("arrived").equals(whole)


def test_rows_that_nobody_asked_for_leave_the_memory_once_they_are_in_the_lake(project, log, add, tmp_path):
    history = History(project, log, Lake(tmp_path / "lake"))
    history.frame("weather", ["wind_mph"])
    for _ in range(3):
        add(4)
        history.catch_up()
        history.flush()
    assert not history._buffers["arrived"].frames
    assert not history._buffers["arrived"].unflushed
    assert history.frame("weather", ["wind_mph"])["wind_mph"].to_list() == [1.5] * 3
    assert {c for f in history._buffers["weather"].frames for c in f.columns} == {"wind_mph"}
    assert history.frame("arrived").height == 12


def test_what_was_flushed_and_what_was_not_are_each_there_once_after_a_restart(project, log, add, tmp_path):
    history = History(project, log, Lake(tmp_path / "lake"))
    add(3)
    history.catch_up()
    assert history.flush() == 4
    assert history.flush() == 0
    add(2)
    history.catch_up()
    before = {name: history.frame(name) for name in ("arrived", "weather")}
    again = History(project, log, Lake(tmp_path / "lake"))
    assert again.flushed_offset == 4
    assert again.catch_up() == 7
    for name, frame in before.items():
        assert again.frame(name).equals(frame)
    assert again.flush() == 3
    assert Lake(tmp_path / "lake").frame("arrived").equals(before["arrived"])


def test_losing_the_mark_loses_and_doubles_nothing(project, log, add, tmp_path):
    history = History(project, log, Lake(tmp_path / "lake"))
    add(3)
    history.catch_up()
    history.flush()
    (tmp_path / "lake" / "_flushed").unlink()
    again = History(project, log, Lake(tmp_path / "lake"))
    assert again.catch_up() == 4
    assert again.frame("arrived").equals(history.frame("arrived"))


def test_a_source_that_waits_for_more_rows_holds_the_flushed_offset_back(project, log, add, tmp_path):
    history = History(project, log, Lake(tmp_path / "lake"))
    add(5)
    history.catch_up()
    assert history.flush(least_rows=3) == 5  # the flights; one row of weather waits at offset 6
    assert history.flushed_offset == 5
    again = History(project, log, Lake(tmp_path / "lake"))
    again.catch_up()
    assert (again.frame("arrived").height, again.frame("weather").height) == (5, 1)


def test_a_reader_that_was_overtaken_by_trimming_starts_again_from_the_lake(project, log, add, tmp_path):
    reader = History(project, log, Lake(tmp_path / "lake"))
    writer = History(project, log, Lake(tmp_path / "lake"))
    add(2)
    reader.catch_up()
    add(5)
    writer.catch_up()
    writer.flush()
    log.trim(8)
    add(1)
    assert reader.catch_up() == writer.catch_up() == 11
    for name in ("arrived", "weather"):
        assert reader.frame(name).equals(writer.frame(name))
    assert reader.frame("arrived").height == 8


def test_rows_of_an_older_contract_have_null_in_a_new_column(project, log, add, arrived, tmp_path, clock):
    add(1)
    first = History(project, log, Lake(tmp_path / "lake"))
    first.catch_up()
    first.flush()
    add(1)
    newer = SourceDef("arrived", (*arrived.fields, Field("gate", "str", nullable=True)), "arrived_at", "flight_id")
    log.append([Draft(newer, ("n", "AA", 2.0, None, clock.now_us(), "B4"))], clock)
    history = History(Project({"arrived": newer}, {}, {}), log, Lake(tmp_path / "lake"))
    history.catch_up()
    assert history.frame("arrived")["gate"].to_list() == [None, None, "B4"]
    history.flush()
    again = History(Project({"arrived": newer}, {}, {}), log, Lake(tmp_path / "lake"))
    assert again.frame("arrived").equals(history.frame("arrived"))


@pytest.mark.parametrize("nullable", [False, True])
def test_rows_of_an_older_contract_have_the_default_in_a_new_column_wherever_they_are(
    project, log, add, arrived, tmp_path, clock, nullable
):
    """In the lake, joined with newer files, and in the log: replay sees what the fold saw."""
    opened = datetime(2013, 1, 2, tzinfo=UTC)
    new = (
        Field("gate", "str", nullable=nullable, default="?", has_default=True),
        Field("open_at", "datetime", nullable=nullable, default=opened, has_default=True),
    )
    newer = SourceDef("arrived", (*arrived.fields, *new), "arrived_at", "flight_id")
    lake = Lake(tmp_path / "lake")
    add(1)
    first = History(project, log, lake)
    first.catch_up()
    first.flush()
    add(1)
    now = clock.now_us()
    log.append([Draft(newer, ("n1", "AA", 2.0, None, now, None if nullable else "A1", 7))], clock)
    second = History(Project({"arrived": newer}, {}, {}), log, lake)
    second.catch_up()
    gates = second.frame("arrived")["gate"].to_list()
    assert gates == ["?", "?", None if nullable else "A1"]
    assert second.frame("arrived")["open_at"].to_list()[:2] == [opened, opened]
    assert gates == [r.row_for(newer)[5] for r in log.read(0) if r.source == "arrived"]
    second.flush()
    log.append([Draft(newer, ("n2", "AA", 2.0, None, now, "A2", 7))], clock)
    second.catch_up()
    second.flush()
    lake.compact("arrived")
    again = History(Project({"arrived": newer}, {}, {}), log, Lake(tmp_path / "lake"))
    assert again.frame("arrived").equals(second.frame("arrived"))


def test_a_column_that_left_keeps_what_is_stored_when_another_comes_with_a_default(
    project, log, add, arrived, tmp_path, clock
):
    add(1)
    first = History(project, log, Lake(tmp_path / "lake"))
    first.catch_up()
    first.flush()
    gate = Field("gate", "str", nullable=True, default="?", has_default=True)
    kept = tuple(f for f in arrived.fields if f.name != "seats")
    newer = SourceDef("arrived", (*kept, gate), "arrived_at", "flight_id")
    log.append([Draft(newer, ("n", "AA", 2.0, clock.now_us(), "B4"))], clock)
    history = History(Project({"arrived": newer}, {}, {}), log, Lake(tmp_path / "lake"))
    history.catch_up()
    assert history.flush() == 1
    assert history.flush() == 0
    found = Lake(tmp_path / "lake").frame("arrived")
    assert found.select("flight_id", "seats", "gate").rows() == [("f0", 1, "?"), ("n", None, "B4")]


def test_events_of_a_source_that_is_no_longer_defined_still_reach_the_lake(project, log, add, weather, tmp_path):
    add(1)
    history = History(Project({"arrived": project.sources["arrived"]}, {}, {}), log, Lake(tmp_path / "lake"))
    history.catch_up()
    history.flush()
    assert Lake(tmp_path / "lake").frame("weather")["origin"].to_list() == ["EWR"]


def test_system_events_are_history_too(project, log, tmp_path, clock):
    log.append([Draft(DECISION, ("d1", clock.now_us(), "apply", None, None, "me", "", "{}"))], clock)
    history = History(project, log, Lake(tmp_path / "lake"))
    history.catch_up()
    history.flush()
    assert History(project, log, Lake(tmp_path / "lake")).frame("_decision")["kind"].to_list() == ["apply"]


def test_an_unknown_source_is_an_error_with_a_hint(project, log, tmp_path):
    with pytest.raises(NotFoundError, match="did you mean 'arrived'"):
        History(project, log, Lake(tmp_path / "lake")).frame("arived")


steps = st.lists(st.sampled_from(["append", "catch_up", "flush", "trim", "restart", "frame", "reader"]), max_size=25)


@settings(max_examples=40)
@given(steps)
def test_whatever_happens_in_whatever_order_every_event_is_there_once(tmp_path_factory, steps):
    root = tmp_path_factory.mktemp("history")
    source = SourceDef("s", (Field("id", "str"), Field("at", "datetime")), "at", "id")
    project, clock = Project({"s": source}, {}, {}), ManualClock(10)
    n = 0
    with Log.open(root / "log", 1 << 24, writable=True) as log:
        history = History(project, log, Lake(root / "lake"))
        reader = History(project, log, Lake(root / "lake"))
        for step in [*steps, "catch_up", "reader"]:
            if step == "append":
                log.append([Draft(source, (f"{n}-{i}", 5)) for i in range(3)], clock)
                n += 1
            elif step == "catch_up":
                history.catch_up()
            elif step == "flush":
                history.flush()
            elif step == "trim":
                log.trim(history.flushed_offset)
            elif step == "restart":
                history = History(project, log, Lake(root / "lake"))
            elif step == "frame":
                history.frame("s")
            else:
                reader.catch_up()
                assert reader.frame("s")["_offset"].to_list() == list(range(1, 3 * n + 1))
        assert history.frame("s")["_offset"].to_list() == list(range(1, 3 * n + 1))
        assert history.frame("s")["_id"].to_list() == [f"{k}-{i}" for k in range(n) for i in range(3)]
