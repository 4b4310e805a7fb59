"""Rows that lie in one record of the log by column: read, found, trimmed and known again like any other."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import ManualClock
from mainspring.core.errors import BackPressureError, FormatError
from mainspring.core.ids import PredictionIds
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events import PREDICTION, Draft, Log, record_batch, runs, seen
from mainspring.events.batch import Batch
from mainspring.events.cells import Cells
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.record_batch import MOST_ROWS, Columns, RecordBatch, Stored

MAP = 1 << 26
DAY = 86_400_000_000
NOW = 1_772_366_400_000_000


@pytest.fixture(autouse=True, scope="module")
def few():
    """Two rows are enough for one record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batch, "LEAST_ROWS", 2)
        yield


@pytest.fixture
def clock():
    return ManualClock(NOW)


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log", MAP, writable=True) as found:
        yield found


def row(number, at_us=NOW, epoch="e"):
    """A prediction as a row."""
    given = {
        "prediction_id": f"{epoch}-{number}",
        "predicted_at": at_us,
        "model": "m",
        "version": "v1",
        "variant": "champion",
        "probability": 1.0,
        "unit": f"u{number}",
        "folded": 7,
        "output": number / 8,
        "features": f"[{number / 4},null]",
        "status": "[0,1]" if number % 2 else "",
        "latency_us": number,
    }
    return tuple(given.get(name) for name in PREDICTION.columns)


def columns(numbers, at_us=NOW, epoch="e"):
    """The same predictions by column, in the forms in which they come."""
    n = len(numbers)
    rows = [row(number, at_us, epoch) for number in numbers]
    made = {name: Cells.of(values) for name, values in zip(PREDICTION.columns, zip(*rows, strict=True), strict=True)}
    made["prediction_id"] = Cells.ids(PredictionIds(epoch, numbers))
    made["predicted_at"] = Cells.ints([at_us] * n)
    made["output"] = Cells.floats([number / 8 for number in numbers])
    made["features"] = Cells.arrays(np.array([[number / 4, np.nan] for number in numbers]), {})
    made["status"] = Cells.codes(np.array([[0, number % 2] for number in numbers], np.uint8))
    (found,) = RecordBatch.several(0, [(n, list(made.values()))])
    return Columns.read(PREDICTION, found)


def is_full(log, rows, clock):
    """Whether the log has no room for more rows."""
    try:
        log.append_all([rows], clock)
    except BackPressureError:
        return True
    return False


def ids(records):
    return [one.id for one in records]


def test_rows_by_column_become_records_as_rows_do(tmp_path, log, clock):
    with Log.open(tmp_path / "other", MAP, writable=True) as other:
        (acks,) = log.append_all([columns(range(5))], clock)
        other.append([Draft(PREDICTION, row(number)) for number in range(5)], clock)
        assert [(ack.status, ack.offset) for ack in acks] == [("accepted", i) for i in range(1, 6)]
        assert log.read(0) == other.read(0)
        assert log.served_until_us() == other.served_until_us() == NOW
        assert log.counts() == other.counts()


def test_every_offset_is_found_wherever_it_lies_in_a_record(log, clock):
    log.append_all([columns(range(4))], clock)
    log.append([Draft(PREDICTION, row(4))], clock)
    log.append_all([columns(range(5, 8)), columns(range(8, 9))], clock)
    every = log.read(0)
    assert [one.offset for one in every] == list(range(1, 10))
    assert ids(every) == [f"e-{i}" for i in range(9)]
    assert [one.known_at_us for one in every] == sorted({one.known_at_us for one in every})
    for after in range(10):
        for limit in range(1, 11):
            assert log.read(after, limit) == every[after : after + limit]
            page = log.page(after, limit)
            rows = [one for part in page for one in (part.records() if isinstance(part, Stored) else [part])]
            assert rows == every[after : after + limit]
        stretch = log.stretch(after, {PREDICTION.name}, 2)
        if after < 9:
            assert (stretch.first, stretch.last) == (after + 1, stretch.records[-1].offset)
            assert list(stretch.records) == every[after : stretch.last]
            assert stretch.known_at_us == every[stretch.last - 1].known_at_us
            passed = log.stretch(after, {"nobody"}, 2)
            assert (passed.first, passed.last, passed.known_at_us) == (
                stretch.first,
                stretch.last,
                stretch.known_at_us,
            )
            assert passed.records == []
        else:
            assert stretch is None


def test_a_number_counts_once_however_it_comes(log, clock):
    log.append_all([columns([1, 2, 3])], clock)
    (again,) = log.append_all([columns([1, 2, 3])], clock)
    assert [ack.status for ack in again] == ["duplicate"] * 3
    (some,) = log.append_all([columns([2, 4, 3, 5])], clock)
    assert [(ack.status, ack.offset) for ack in some] == [
        ("duplicate", None),
        ("accepted", 4),
        ("duplicate", None),
        ("accepted", 5),
    ]
    as_rows = log.append([Draft(PREDICTION, row(n), first_wins=True) for n in (5, 6, 6)], clock)
    assert [ack.status for ack in as_rows] == ["duplicate", "accepted", "duplicate"]
    (after_rows,) = log.append_all([columns([6, 7])], clock)
    assert [ack.status for ack in after_rows] == ["duplicate", "accepted"]
    (other,) = log.append_all([columns([1], epoch="f")], clock)
    assert [ack.status for ack in other] == ["accepted"]
    assert ids(log.read(0)) == ["e-1", "e-2", "e-3", "e-4", "e-5", "e-6", "e-7", "f-1"]
    counts = log.counts()[PREDICTION.name]
    assert (counts.accepted, counts.duplicate) == (8, 8)


def test_rows_of_an_earlier_releases_frame_count_once_before_and_after_they_come_by_column(log, clock):
    def statuses(rows):
        (acks,) = log.append_all([rows], clock)
        return [ack.status for ack in acks]

    def frame(*numbers):
        return Batch.of_rows(PREDICTION, [row(n) for n in numbers], "internal", first_wins=True)

    assert statuses(frame(1, 2)) == ["accepted"] * 2
    assert statuses(columns([1, 2, 3])) == ["duplicate", "duplicate", "accepted"]
    assert statuses(frame(2, 3, 4)) == ["duplicate", "duplicate", "accepted"]
    assert statuses(columns([4, 5])) == ["duplicate", "accepted"]


def test_a_number_twice_in_one_batch_counts_once(log, clock):
    (acks,) = log.append_all([columns([1, 2, 1])], clock)
    assert [ack.status for ack in acks] == ["accepted", "accepted", "duplicate"]
    assert ids(log.read(0)) == ["e-1", "e-2"]


def test_a_failed_append_is_forgotten_and_a_later_one_is_not(tmp_path, clock):
    with Log.open(tmp_path / "log", 1 << 23, writable=True) as log:
        sent = 0
        while not is_full(log, columns(range(sent, sent + MOST_ROWS)), clock):
            sent += MOST_ROWS
        assert sent
        assert len(log.read(0, sent + 1)) == sent
        log.trim(log.last_offset())
        (acks,) = log.append_all([columns(range(sent, sent + 8))], clock)
        assert {ack.status for ack in acks} == {"accepted"}


def test_numbers_are_known_after_the_log_was_closed_and_its_records_are_gone(tmp_path, clock):
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append_all([columns(range(10)), columns(range(10, 12))], clock)
        log.trim(log.last_offset())
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        (acks,) = log.append_all([columns(range(5, 13))], clock)
        assert [ack.status for ack in acks] == ["duplicate"] * 7 + ["accepted"]


def test_numbers_are_forgotten_when_they_are_out_of_their_time(tmp_path, clock):
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append_all([columns([1])], clock)
        clock.set(NOW + PREDICTION.dedup_us + DAY)
        later = clock.now_us()
        for number in range(3):  # one block in turn is looked at with each append
            log.append_all([columns([number], later, "f")], clock)
        (acks,) = log.append_all([columns([1], later)], clock)
        assert [ack.status for ack in acks] == ["accepted"]


def test_trimming_takes_whole_records_and_says_where_the_log_begins(log, clock):
    log.append_all([columns(range(4)), columns(range(4, 8))], clock)
    log.append([Draft(PREDICTION, row(8))], clock)
    assert log.trim(3) == 0
    assert log.first_offset() == 1
    assert log.trim(7) == 4
    assert (log.first_offset(), log.last_offset()) == (5, 9)
    assert ids(log.read(0)) == [f"e-{i}" for i in range(4, 9)]
    assert log.trim(100) == 4
    assert (log.first_offset(), ids(log.read(0))) == (9, ["e-8"])


def test_where_records_of_an_age_begin_is_found_among_batches(log, clock):
    moments = []
    for start in (0, 3, 6):
        clock.set(clock.now_us() + 1_000_000)
        moments.append(clock.now_us())
        log.append_all([columns(range(start, start + 3), clock.now_us())], clock)
    assert [log.offset_before(at) for at in (0, *moments, moments[-1] + 1)] == [1, 1, 4, 7, 10]


@pytest.mark.parametrize("n", [1, 15, 16])
def test_a_few_rows_are_a_record_each(log, clock, monkeypatch, n):
    monkeypatch.setattr(record_batch, "LEAST_ROWS", 16)
    log.append_all([columns(range(n))], clock)
    assert len(log.page(0)) == (1 if n == 16 else n)
    assert ids(log.read(0)) == [f"e-{i}" for i in range(n)]
    (again,) = log.append_all([columns(range(n + 1))], clock)
    assert [ack.status for ack in again] == ["duplicate"] * n + ["accepted"]


def test_rows_that_lie_ahead_are_held_one_by_one(log, clock):
    (acks,) = log.append_all([columns([1, 2], NOW + 400 * DAY)], clock)
    assert [(ack.status, ack.code) for ack in acks] == [("quarantined", "MS-E105")] * 2
    assert [entry.source for entry in log.quarantined()] == [PREDICTION.name] * 2
    log.append_all([columns([1, 2])], clock)
    assert ids(log.read(0)) == ["e-1", "e-2"]


@given(st.lists(st.tuples(st.sampled_from(["rows", "columns", "catch up", "flush"]), st.integers(1, 70)), max_size=8))
@settings(max_examples=25)
def test_history_has_the_same_frame_of_rows_and_of_columns(tmp_path_factory, steps):
    folder, clock = tmp_path_factory.mktemp("history"), ManualClock(NOW)
    project = Project({}, {}, {})
    with (
        Log.open(folder / "log", MAP, writable=True) as log,
        Log.open(folder / "plain", MAP, writable=True) as plain,
    ):
        history = History(project, log, Lake(folder / "lake"))
        oracle = History(project, plain, Lake(folder / "other"))
        number = 0
        for what, n in steps:
            numbers = range(number, number + n)
            if what in ("rows", "columns"):
                drafts = [Draft(PREDICTION, row(one)) for one in numbers]
                plain.append(drafts, clock)
                log.append_all([columns(numbers)] if what == "columns" else [drafts], clock)
                number += n
            elif what == "catch up":
                history.catch_up()
            else:
                history.catch_up()
                history.flush()
        assert history.catch_up() == oracle.catch_up() == number
        assert history.frame(PREDICTION.name).equals(oracle.frame(PREDICTION.name))
        assert history.frame(PREDICTION.name).schema == oracle.frame(PREDICTION.name).schema


FIELDS = (
    Field("id", "str"),
    Field("text", "str", nullable=True),
    Field("whole", "int", nullable=True),
    Field("number", "float", nullable=True),
    Field("yes", "bool", nullable=True),
    Field("vector", "vector", nullable=True, constraints=(Constraint("dim", (2,)),)),
    Field("since", "datetime", nullable=True),
    Field("at", "datetime"),
)
ORDER = SourceDef("order", FIELDS, time="at", id="id")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ORDERS = st.tuples(
    st.none() | st.text(max_size=3),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | FLOATS,
    st.none() | st.booleans(),
    st.none() | st.lists(FLOATS, min_size=2, max_size=2),
    st.none() | st.integers(0, NOW),
)


def by_column(source, rows):
    """Rows of a source as a gateway sends them."""
    cells = [Cells.of_kind(f.kind, column) for f, column in zip(source.fields, zip(*rows, strict=True), strict=True)]
    (found,) = RecordBatch.several(0, [(len(rows), cells)])
    return Columns.read(source, found)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), ORDERS), min_size=1, max_size=6), st.sampled_from([1, 8]))
@settings(max_examples=40)
def test_any_sources_rows_come_by_column_as_they_do_one_by_one(tmp_path_factory, drawn, times):
    folder, clock = tmp_path_factory.mktemp("orders"), ManualClock(NOW)
    rows = [(f"{ident}{i // len(drawn)}", *rest, NOW) for i, (ident, rest) in enumerate(drawn * times)]
    with (
        Log.open(folder / "log", MAP, writable=True) as log,
        Log.open(folder / "plain", MAP, writable=True) as plain,
    ):
        project = Project({"order": ORDER}, {}, {})
        histories = [History(project, one, Lake(folder / one.path.name / "lake")) for one in (log, plain)]
        for _ in range(2):  # the second time each is a duplicate, or in conflict with what came first: that stays
            (acks,) = log.append_all([by_column(ORDER, rows)], clock)
            as_rows = plain.append([Draft(ORDER, row, first_wins=True) for row in rows], clock)
            assert [(ack.status, ack.offset, ack.id) for ack in acks] == [
                (ack.status, ack.offset, ack.id) for ack in as_rows
            ]
        assert repr(log.read(0)) == repr(plain.read(0))
        assert log.counts() == plain.counts()
        for one in histories:
            one.catch_up()
        mine, other = (one.frame("order") for one in histories)
        assert mine.schema == other.schema
        assert mine.equals(other)
        for again in rows[:3]:  # one that comes at another door is compared with what came by column
            changed = (*again[:2], 7 if again[2] != 7 else 8, *again[3:])
            for row in (again, changed):
                acks = [one.append([Draft(ORDER, row)], clock)[0] for one in (log, plain)]
                assert (acks[0].status, acks[0].offset) == (acks[1].status, acks[1].offset)


def test_ids_of_rows_by_column_are_known_when_the_log_is_opened_again(tmp_path, clock):
    rows = [(f"o{i}", "x", i, i / 8, None, [0.0, 1.0], None, NOW) for i in range(40)]
    for size in (40, 3):
        path = tmp_path / f"log{size}"
        with Log.open(path, MAP, writable=True) as log:
            log.append_all([by_column(ORDER, rows[:size])], clock)
        with Log.open(path, MAP, writable=True) as log:
            same, other = Draft(ORDER, rows[2]), Draft(ORDER, (*rows[2][:2], 99, *rows[2][3:]))
            assert [ack.status for ack in log.append([same, other], clock)] == ["duplicate", "quarantined"]


def orders(start, stop):
    return [(f"o{i}", "x", i, i / 8, None, [0.0, 1.0], None, NOW) for i in range(start, stop)]


def said_of(log, clock, row):
    """What becomes of a row that comes at another door, as it was and with another content."""
    same, other = Draft(ORDER, row), Draft(ORDER, (*row[:2], 99, *row[3:]))
    return [(ack.status, ack.offset) for ack in log.append([same, other], clock)]


@pytest.mark.parametrize("where", ["memory", "run", "merged", "trimmed", "trimmed and merged"])
def test_rows_by_column_are_compared_with_what_comes_at_another_door_wherever_their_ids_are(
    tmp_path, clock, monkeypatch, where
):
    monkeypatch.setattr(runs, "RUN_ENTRIES", 1_000_000 if where in ("memory", "trimmed") else 8)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append_all([by_column(ORDER, orders(0, 10))], clock)
        if "trimmed" in where:
            log.append([Draft(PREDICTION, row(0))], clock)
            assert log.trim(11) == 10
        if "merged" in where:
            for start in range(10, 5_000, 250):
                log.append_all([by_column(ORDER, orders(start, start + 250))], clock)
        for place in (0, 3, 9):
            assert said_of(log, clock, orders(0, 10)[place]) == [("duplicate", place + 1), ("quarantined", None)]
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        assert said_of(log, clock, orders(0, 10)[5]) == [("duplicate", 6), ("quarantined", None)]


def test_rows_by_column_are_compared_within_the_transaction_that_brings_them(log, clock):
    same, other = orders(3, 4)[0], (*orders(3, 4)[0][:2], 99, *orders(3, 4)[0][3:])
    groups = [by_column(ORDER, orders(0, 8)), [Draft(ORDER, same), Draft(ORDER, other)]]
    _, acks = log.append_all(groups, clock)
    assert [(ack.status, ack.offset) for ack in acks] == [("duplicate", 4), ("quarantined", None)]


def test_batches_that_come_together_know_each_others_ids_and_those_of_runs(log, clock, monkeypatch):
    monkeypatch.setattr(runs, "RUN_ENTRIES", 8)
    log.append_all([by_column(ORDER, orders(0, 8))], clock)
    some = [by_column(ORDER, orders(start, start + 4)) for start in (8, 12, 10, 6)]
    said = [[(ack.status, ack.offset) for ack in acks] for acks in log.append_all(some, clock)]
    accepted = [[("accepted", start + i) for i in range(4)] for start in (9, 13)]
    again = [[("duplicate", start + i) for i in range(4)] for start in (11, 7)]
    assert said == [*accepted, *again]


def test_new_rows_by_column_are_written_without_a_row_being_made(log, clock):
    rows = by_column(ORDER, orders(0, 8))
    log.append_all([rows], clock)
    assert rows._rows is None


def test_a_row_by_column_that_nobody_can_compare_any_more_is_known_by_its_id(log, clock):
    """``dedup`` was so short for a while that what stood for its content was not kept when it was trimmed."""
    brief = replace(ORDER, dedup_us=1)
    log.append_all([by_column(ORDER, orders(0, 8))], clock)
    clock.set(NOW + DAY)
    log.append([Draft(brief, orders(8, 9)[0])], clock)
    assert log.trim(9) == 8
    assert said_of(log, clock, orders(0, 1)[0]) == [("duplicate", 1), ("duplicate", 1)]


def test_a_trim_that_fails_has_forgotten_nothing(log, clock, monkeypatch):
    log.append_all([by_column(ORDER, orders(0, 8))], clock)
    log.append([Draft(PREDICTION, row(0))], clock)
    monkeypatch.setattr(seen, "Stored", None)
    with pytest.raises(AttributeError):
        log.trim(9)
    monkeypatch.undo()
    assert len(log.read(0)) == 9
    assert said_of(log, clock, orders(0, 1)[0]) == [("duplicate", 1), ("quarantined", None)]
    assert log.trim(9) == 8
    assert said_of(log, clock, orders(0, 1)[0]) == [("duplicate", 1), ("quarantined", None)]


def test_a_record_whose_columns_cannot_be_read_is_an_error_with_its_offset(log, clock):
    rows = columns(range(3))
    log.append_all([Columns(PREDICTION, 3, rows.columns, b"\xc1")], clock)
    with pytest.raises(FormatError, match="MS-E901"):
        log.read(0)


def test_more_rows_than_one_record_holds_are_several(log, clock):
    sizes, n = (200, 50, MOST_ROWS, 7), 257 + MOST_ROWS
    firsts = (0, 200, 250, 250 + MOST_ROWS)
    parts = [(size, columns(range(start, start + size)).columns) for start, size in zip(firsts, sizes, strict=True)]
    found = RecordBatch.several(0, parts)
    assert [one.size for one in found] == [250, MOST_ROWS, 7]
    whole = tuple(Cells.of(values) for values in zip(*(row(number) for number in range(n)), strict=True))
    assert [one.size for one in RecordBatch.several(0, [(n, whole)])] == [MOST_ROWS, MOST_ROWS, 1]
    assert [values for one in found for values in one.rows()] == [row(number) for number in range(n)]
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=list[RecordBatch])
    log.append_all([Columns.read(PREDICTION, one) for one in sent], clock)
    assert ids(log.read(0)) == [f"e-{i}" for i in range(n)]
