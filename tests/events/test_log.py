"""The log: order, durability of one append, duplicates, bounds, back-pressure, trimming, many readers."""

import os
import subprocess
import sys

import pytest

from mainspring.core.errors import BackPressureError, FormatError, RefusedError, UnavailableError
from mainspring.definitions.values import Field, SourceDef
from mainspring.events import DECISION, PREDICTION, Counts, Draft, Log, Reject

MAP = 1 << 26
DAY = 86_400_000_000


def row(ident, at, delay=1.0):
    return (ident, "UA", delay, None, at)


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log", MAP, writable=True) as found:
        yield found


def test_offsets_start_at_one_and_rise_without_gaps_across_sources_and_refusals(log, arrived, weather, clock):
    now = clock.now_us()
    drafts = [
        Draft(arrived, row("a", now)),
        Reject("arrived", b"x", "MS-E101", "no JSON"),
        Draft(weather, ("EWR", None, False, now, now)),
        Draft(arrived, row("a", now)),
        Draft(arrived, row("b", now)),
    ]
    acks = log.append(drafts, clock)
    assert [a.status for a in acks] == ["accepted", "quarantined", "accepted", "duplicate", "accepted"]
    assert [a.offset for a in acks] == [1, None, 2, 1, 3]
    assert [r.offset for r in log.read(0)] == [1, 2, 3]
    assert [r.offset for r in log.read(1, limit=1)] == [2]
    assert log.read(3) == []
    assert (log.first_offset(), log.last_offset()) == (1, 3)


def test_the_id_of_an_event_is_text_also_where_it_is_a_number(log, clock):
    source = SourceDef("s", (Field("n", "int"), Field("at", "datetime")), time="at", id="n")
    acks = log.append([Draft(source, (7, 0)), Draft(source, (7, 0))], clock)
    assert [(ack.status, ack.id) for ack in acks] == [("accepted", "7"), ("duplicate", "7")]
    assert [record.id for record in log.read(0)] == ["7"]


def test_a_stretch_is_what_was_read_of_some_sources_and_how_far_it_goes(tmp_path, log, arrived, weather, clock):
    with Log.open(tmp_path / "log", MAP) as reader:
        assert reader.stretch(0, {"arrived"}) is None
        for i in range(7):
            now = clock.now_us() + 1_000
            clock.set(now)
            draft = Draft(arrived, row(f"a{i}", now)) if i % 3 == 0 else Draft(weather, ("EWR", None, False, now, now))
            log.append([draft], clock)
        every = reader.read(0)
        for sources in ({"arrived"}, {"weather"}, {"arrived", "weather"}, {"nobody"}):
            for after, limit in ((0, 100), (0, 3), (2, 2), (4, 100)):
                found = reader.stretch(after, sources, limit)
                covered = every[after : after + limit]
                assert found.records == [r for r in covered if r.source in sources]
                assert (found.first, found.last) == (covered[0].offset, covered[-1].offset)
                assert found.known_at_us == covered[-1].known_at_us
        assert reader.stretch(7, {"arrived"}) is None


def test_live_events_become_known_in_the_order_of_the_log_even_if_the_clock_stands_still_or_goes_back(
    log, arrived, clock
):
    now = clock.now_us()
    log.append([Draft(arrived, row("a", now)), Draft(arrived, row("b", now))], clock)
    clock.set(now - 1_000)
    log.append([Draft(arrived, row("c", now))], clock)
    clock.set(now + 50)
    log.append([Draft(arrived, row("d", now))], clock)
    assert [r.known_at_us - now for r in log.read(0)] == [0, 1, 2, 50]


def test_the_order_of_knowing_survives_a_restart(tmp_path, arrived, clock):
    now = clock.now_us()
    for ident in "ab":
        with Log.open(tmp_path / "log", MAP, writable=True) as log:
            log.append([Draft(arrived, row(ident, now))], clock)
    with Log.open(tmp_path / "log", MAP) as log:
        assert [(r.offset, r.known_at_us - now) for r in log.read(0)] == [(1, 0), (2, 1)]


def test_history_keeps_the_known_at_that_its_source_declares(log, arrived, weather, clock):
    now = clock.now_us()
    drafts = [
        Draft(weather, ("EWR", 3.0, True, now - 9, now - 4), history=True),
        Draft(arrived, row("a", -7), history=True),
    ]
    log.append(drafts, clock)
    first, second = log.read(0)
    assert (first.time_us, first.known_at_us, first.ingested_at_us) == (now - 9, now - 4, now)
    assert (second.time_us, second.known_at_us) == (-7, -7)


def test_an_event_from_the_future_goes_to_quarantine(log, arrived, weather, clock):
    now = clock.now_us()
    edge = now + arrived.future_us
    drafts = [
        Draft(arrived, row("in", edge)),
        Draft(arrived, row("out", edge + 2)),  # known one microsecond after the first
        Draft(arrived, row("2999", 32_472_144_000_000_000)),
        Draft(arrived, row("h2999", 32_472_144_000_000_000), history=True),
        Draft(weather, ("EWR", None, False, now, edge + 1), history=True),
    ]
    acks = log.append(drafts, clock)
    assert [a.status for a in acks] == ["accepted"] + ["quarantined"] * 4
    assert {a.code for a in acks[1:]} == {"MS-E105"}
    assert [a.path for a in acks[1:]] == ["$.arrived_at"] * 3 + ["$.published_at"]
    held = log.quarantined("arrived")
    assert [h.source for h in held] == ["arrived"] * 3
    assert b'"flight_id":"out"' in held[0].raw
    assert log.counts()["arrived"] == Counts(accepted=1, quarantined=3)


def test_the_same_id_with_other_content_goes_to_quarantine_with_the_reason(log, arrived, clock):
    now = clock.now_us()
    log.append([Draft(arrived, row("a", now))], clock)
    (ack,) = log.append([Draft(arrived, row("a", now, delay=2.0), raw=b"as sent")], clock)
    assert (ack.status, ack.code, ack.path) == ("quarantined", "MS-E106", "$.flight_id")
    assert "offset 1" in ack.reason
    assert log.quarantined()[0].raw == b"as sent"


def test_an_id_is_remembered_for_dedup_and_no_longer(log, arrived, clock):
    now = clock.now_us()
    log.append([Draft(arrived, row("a", now))], clock)
    clock.set(now + arrived.dedup_us - 1)
    assert log.append([Draft(arrived, row("a", now))], clock)[0].status == "duplicate"
    clock.set(now + arrived.dedup_us)
    assert log.append([Draft(arrived, row("a", now))], clock)[0].status == "accepted"


def test_history_that_is_loaded_twice_counts_once_however_old_it_is(tmp_path, arrived, clock):
    drafts = [Draft(arrived, row(f"f{i}", i * DAY), history=True) for i in range(400)]
    for status in ("accepted", "duplicate"):
        with Log.open(tmp_path / "log", MAP, writable=True) as log:
            assert {a.status for a in log.append(drafts, clock)} == {status}
        clock.set(clock.now_us() + DAY)


def test_a_second_writer_is_refused_and_told_who_is_first(tmp_path):
    path = str(tmp_path / "log")
    script = "from mainspring.events import Log; from pathlib import Path; "
    script += f"Log.open(Path({path!r}), {MAP}, writable=True)"
    with Log.open(tmp_path / "log", MAP, writable=True):
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "MS-C010" in found.stderr
    assert f"pid {os.getpid()}" in found.stderr
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path, log):
    with pytest.raises(UnavailableError, match="MS-C010"):
        Log.open(tmp_path / "log", MAP, writable=True)


def test_a_reader_in_the_same_process_sees_each_append_and_cannot_write(tmp_path, log, arrived, weather, clock):
    with Log.open(tmp_path / "log", MAP) as reader:
        assert (reader.last_offset(), reader.read(0)) == (0, [])
        log.append([Draft(arrived, row("a", 0))], clock)
        assert reader.read(0)[0].id == "a"
        log.append([Draft(weather, ("EWR", None, False, 0, 0), history=True)], clock)  # a shape it has not seen
        assert reader.read(1)[0].source == "weather"
        with pytest.raises(RefusedError, match="MS-E304"):
            reader.append([Draft(arrived, row("b", 0))], clock)


def test_a_reader_may_come_before_the_writer(tmp_path, arrived, clock):
    with Log.open(tmp_path / "log", MAP) as reader, Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append([Draft(arrived, row("a", 0))], clock)
        assert reader.last_offset() == 1


def test_a_full_map_is_back_pressure_that_writes_nothing_and_trimming_makes_room(tmp_path, arrived, clock):
    with Log.open(tmp_path / "log", 8 << 20, writable=True) as log:
        sent = 0
        with pytest.raises(BackPressureError, match="MS-E301"):  # noqa: PT012  until it is full
            while True:
                log.append([Draft(arrived, row(f"f{sent + i}", 0)) for i in range(100)], clock)
                sent += 100
        assert sent > 1_000
        assert log.last_offset() == sent
        assert log.counts()["arrived"].accepted == sent
        again = [Draft(arrived, row(f"f{sent + i}", 0)) for i in range(100)]
        with pytest.raises(BackPressureError):
            log.append(again, clock)
        log.trim(sent - 10)
        clock.set(clock.now_us() + 60 * DAY)  # and the ids may be forgotten
        assert [a.offset for a in log.append(again[:10], clock)] == list(range(sent + 1, sent + 11))
        assert [r.offset for r in log.read(0)] == list(range(sent - 10, sent + 11))


def test_after_back_pressure_nothing_of_the_failed_append_is_remembered(tmp_path, arrived, weather, clock):
    with Log.open(tmp_path / "log", 2 << 20, writable=True) as log:
        too_much = [Draft(weather, ("x" * 1_000, None, False, 0, 0)) for _ in range(3_000)]
        with pytest.raises(BackPressureError):
            log.append([Draft(arrived, row("a", 0)), *too_much], clock)
        assert (log.last_offset(), log.counts(), log.quarantined()) == (0, {}, [])
        assert log.append([Draft(arrived, row("a", 0))], clock)[0].status == "accepted"
        assert [r.source for r in log.read(0)] == ["arrived"]


def test_a_nearly_full_disk_is_back_pressure(tmp_path, arrived, clock):
    with Log.open(tmp_path / "log", MAP, writable=True, disk_free_bytes=1 << 60) as log:
        with pytest.raises(BackPressureError, match="MS-E302"):
            log.append([Draft(arrived, row("a", 0))], clock)
        assert log.last_offset() == 0


def test_trimming_keeps_the_newest_and_the_offsets(log, arrived, clock):
    log.append([Draft(arrived, row(f"f{i}", 0)) for i in range(30)], clock)
    assert log.trim(11) == 10
    assert (log.first_offset(), log.last_offset(), log.read(0)[0].offset) == (11, 30, 11)
    assert log.trim(1_000) == 19
    assert [r.offset for r in log.read(0)] == [30]
    log.append([Draft(arrived, row("more", 0))], clock)
    assert [r.offset for r in log.read(0)] == [30, 31]


def test_the_offset_at_an_age_is_found(log, arrived, clock):
    now = clock.now_us()
    for i in range(50):
        clock.set(now + i * 10)
        log.append([Draft(arrived, row(f"f{i}", 0))], clock)
    log.trim(5)
    assert log.offset_before(now + 200) == 21
    assert log.offset_before(0) == 5
    assert log.offset_before(now + 10**9) == 51


def test_history_from_before_a_served_prediction_is_refused(log, arrived, clock):
    now = clock.now_us()
    old = Draft(arrived, row("a", now - 5), history=True)
    log.check_history([old])
    values = {"predicted_at": now, "status": "", "features": "[]", "folded": 0, "latency_us": 1, "probability": 1.0}
    prediction = tuple(values.get(f.name, None if f.nullable else f.name) for f in PREDICTION.fields)
    assert log.append([Draft(PREDICTION, prediction)], clock)[0].status == "accepted"
    with pytest.raises(RefusedError, match="--backfill"):
        log.check_history([old])
    log.check_history([Draft(arrived, row("a", now + 1), history=True), Draft(arrived, row("a", now - 5))])


def test_counts_are_kept_across_restarts(tmp_path, arrived, clock):
    for _ in range(2):
        with Log.open(tmp_path / "log", MAP, writable=True) as log:
            log.append([Draft(arrived, row("a", 0)), Reject("arrived", b"", "MS-E101", "")], clock)
    with Log.open(tmp_path / "log", MAP) as log:
        assert log.counts() == {"arrived": Counts(accepted=1, duplicate=1, quarantined=2)}
        assert [h.sequence for h in log.quarantined()] == [1, 2]


def test_a_log_of_another_format_is_refused(tmp_path, log):
    with log._environment.write() as txn:
        txn.put(b"format", b"\x63", db=log._environment.dbs["meta"])
    with pytest.raises(FormatError, match="format 99"):
        Log.open(tmp_path / "log", MAP)


def test_system_events_pass_like_any_other(log, clock):
    row_ = ("d1", clock.now_us(), "apply", None, None, "me", "why not", "{}")
    assert log.append([Draft(DECISION, row_)], clock)[0].status == "accepted"
    assert log.read(0)[0].to_dict()["kind"] == "apply"


def test_a_log_that_was_opened_before_a_fork_says_so(log):
    pid = os.fork()
    if pid == 0:
        try:
            log.last_offset()
        except UnavailableError as error:
            os._exit(0 if error.code == "MS-E305" else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_request_that_is_asked_again_is_the_first_one_whatever_else_it_says(log, arrived, clock):
    now = clock.now_us()
    acks = log.append([Draft(arrived, row("a", now, delay), first_wins=True) for delay in (1.0, 2.0)], clock)
    assert [(ack.status, ack.offset) for ack in acks] == [("accepted", 1), ("duplicate", 1)]
    assert log.quarantined() == []
