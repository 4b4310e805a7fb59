"""Rows that are written as a whole: the same log as one by one, which is the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import ManualClock
from mainspring.core.errors import BackPressureError
from mainspring.definitions.values import About, Field, SourceDef
from mainspring.events import PREDICTION, Draft, Log, Reject
from mainspring.events.batch import Accepted, Batch

MAP = 1 << 26
FIELDS = (Field("id", "str"), Field("x", "float", nullable=True), Field("op", "str"), Field("at", "datetime"))
FUTURE_US = 50
SOURCES = {
    "plain": SourceDef("s", FIELDS, time="at", id="id", future_us=FUTURE_US),
    "no id": SourceDef("s", FIELDS, time="at", future_us=FUTURE_US),
    "corrected": SourceDef("s", FIELDS, time="at", id="id", corrects="op", future_us=FUTURE_US),
    "deprecated": SourceDef(
        "s",
        (*FIELDS[:-1], Field("at", "datetime"), Field("old", "int", nullable=True, about=About(deprecated="no"))),
        time="at",
        id="id",
        future_us=FUTURE_US,
    ),
}

rows = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.sampled_from([None, 1.5, -0.0]),
        st.sampled_from(["insert", "update", "delete"]),
        st.integers(0, 120),
    ),
    min_size=1,
    max_size=25,
)
streams = st.lists(st.tuples(rows, st.booleans(), st.booleans()), min_size=1, max_size=6)


def everything(log):
    return log.read(0), log.counts(), log.quarantined(), log.sent(), log.served_until_us()


@pytest.mark.parametrize("kind", SOURCES)
@settings(max_examples=40)
@given(streams)
def test_batches_leave_the_same_log_and_answers_as_their_rows_one_by_one(tmp_path_factory, kind, stream):
    source, clock = SOURCES[kind], ManualClock(60)
    path = tmp_path_factory.mktemp("logs")
    with Log.open(path / "whole", MAP, writable=True) as whole, Log.open(path / "single", MAP, writable=True) as single:
        for found, first_wins, has_neighbours in stream:
            made = [(f"i{i}", x, op, at, *([i % 3 or None] if kind == "deprecated" else [])) for i, x, op, at in found]
            raws = [b"as sent %d" % n for n in range(len(made))]
            batch = Batch.of_rows(source, made, "me", lambda raws=raws: raws, first_wins=first_wins)
            drafts = [Draft(source, r, w, False, "me", None, first_wins) for r, w in zip(made, raws, strict=True)]
            assert list(batch) == drafts
            around = [[Reject("s", b"x", "MS-E101", "")], drafts[:2]] if has_neighbours else []
            said = whole.append_all([*around, batch, *around], clock)
            one_by_one = single.append_all([*around, drafts, *around], clock)
            assert [list(acks) for acks in said] == [list(acks) for acks in one_by_one]
        assert everything(whole) == everything(single)


def test_new_rows_are_accepted_as_a_whole_and_predictions_by_row_one_by_one_whose_id_decides_alone(tmp_path):
    clock = ManualClock(1_000)
    values = {"predicted_at": 900, "status": "", "features": "[]", "folded": 0, "latency_us": 1, "probability": 1.0}
    predictions = [
        tuple(
            f"k-{i}" if f.name == "prediction_id" else values.get(f.name, None if f.nullable else f.name)
            for f in PREDICTION.fields
        )
        for i in range(20)
    ]
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        source = SOURCES["plain"]
        batch = Batch.of_rows(source, [(f"i{i}", 1.0, "", 60) for i in range(20)], "me")
        first, second = log.append_all([batch, Batch.of_rows(PREDICTION, predictions, "me", first_wins=True)], clock)
        assert isinstance(first, Accepted)
        assert (first.first, first.last) == (1, 20)
        assert [(ack.status, ack.offset) for ack in second] == [("accepted", n) for n in range(21, 41)]
        assert [ack.id for ack in second[:2]] == ["k-0", "k-1"]
        assert log.served_until_us() == 900
        assert [record.known_at_us for record in log.read(0)] == list(range(1_000, 1_040))
        assert {ack.status for ack in log.append(batch, clock)} == {"duplicate"}
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        other = tuple(0.5 if value == 1.0 else value for value in predictions[3])
        assert other != predictions[3]
        (ack,) = log.append([Draft(PREDICTION, other)], clock)
        assert ack.status == "duplicate"


def test_after_back_pressure_nothing_of_a_batch_is_remembered(tmp_path):
    clock, source = ManualClock(60), SOURCES["plain"]
    batch = Batch.of_rows(source, [(f"i{i}", 1.0, "", 60) for i in range(50)], "me")
    with Log.open(tmp_path / "log", 2 << 20, writable=True) as log:
        too_much = [Reject("s", b"x" * 60_000, "MS-E101", "no JSON") for _ in range(60)]
        with pytest.raises(BackPressureError):
            log.append_all([batch, too_much], clock)
        assert (log.last_offset(), log.counts(), log.read(0)) == (0, {}, [])
        assert {ack.status for ack in log.append(batch, clock)} == {"accepted"}


def test_the_bytes_of_a_batch_are_asked_for_once_and_only_if_its_rows_are_looked_at(tmp_path):
    clock, source, asked = ManualClock(60), SOURCES["plain"], []

    def raws():
        asked.append(1)
        return [b"as sent"] * 50

    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append(Batch.of_rows(source, [(f"i{i}", 1.0, "", 60) for i in range(50)], "me", raws), clock)
        assert asked == []
        acks = log.append(Batch.of_rows(source, [("i7", 2.0, "", 60)] * 50, "me", raws), clock)
        assert {ack.code for ack in acks} == {"MS-E106"}
        assert asked == [1]
        assert {held.raw for held in log.quarantined()} == {b"as sent"}
