"""The memory of ids: what is new, repeated or in conflict, whatever was sealed, merged, dropped, undone or reopened."""

import struct
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import ManualClock
from mainspring.core.errors import BackPressureError
from mainspring.core.ids import hash128
from mainspring.definitions.values import Field, SourceDef
from mainspring.events import Draft, Log, Reject, record_batch, runs
from mainspring.events.cells import Cells
from mainspring.events.record_batch import Columns, RecordBatch
from mainspring.events.sieve import Probe, Sieve

MAP = 1 << 26
DAY = 86_400_000_000
FIELDS = (Field("id", "str"), Field("x", "int"), Field("op", "str"), Field("at", "datetime"))
STAMP = Field("changed_at", "datetime")


def source_of(dedup=7 * DAY, *, corrects=False, is_stamped=False):
    return SourceDef(
        "s",
        (*FIELDS, STAMP),
        time="at",
        id="id",
        known_at="changed_at" if is_stamped else None,
        corrects="op" if corrects else None,
        dedup_us=dedup,
        future_us=10**9,
    )


@pytest.fixture
def small(monkeypatch):
    """Runs of eight entries in pages of three, merged sixteen at a time; two rows lie in one record by column."""
    monkeypatch.setattr(runs, "_PAGE_ENTRIES", 3)
    monkeypatch.setattr(runs, "_PAGE_BYTES", 3 * runs.ENTRY.size)
    monkeypatch.setattr(runs, "RUN_ENTRIES", 8)
    monkeypatch.setattr(runs, "_STEP", 16)
    monkeypatch.setattr(record_batch, "LEAST_ROWS", 2)


def stored(log, name):
    with log._environment.read() as txn:
        return txn.stat(db=log._environment.dbs[name])["entries"]


def test_a_log_opens_that_has_records_from_before_its_source_had_corrections(tmp_path):
    """The last ones are read again at open, by the shape that they were written in."""
    now = DAY
    plain = SourceDef("s", (Field("id", "str"), Field("x", "int"), Field("at", "datetime")), time="at", id="id")
    op = Field("op", "str", default="insert", has_default=True, aliases=("what",))
    corrected = SourceDef("s", (*plain.fields, op), time="at", id="id", corrects="op")
    renamed = SourceDef("s", (*plain.fields, Field("what", "str")), time="at", id="id", corrects="what")
    clock = ManualClock(now)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append([Draft(plain, ("a", 1, now))], clock)
        log.append([Draft(renamed, ("b", 1, now, "insert"))], clock)
        log.append([Draft(corrected, ("c", 1, now, "insert"))], clock)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        again = [Draft(corrected, ("c", 1, now, "insert")), Draft(corrected, ("b", 2, now, "update"))]
        assert [ack.status for ack in log.append(again, clock)] == ["duplicate", "accepted"]


# --- duplicates, against a list of everything -------------------------------------------------------------------------


class Everything:
    """The rule by brute force: every version that was taken, and nothing forgotten, for the clock stands still."""

    def __init__(self, source):
        self.source, self.taken = source, []

    def say(self, row, known, *, first_wins):
        """What may become of a row; the window makes it a matter of those that are near."""
        near = [v for v in self.taken if v[0][0] == row[0] and abs(v[1] - known) < self.source.dedup_us]
        if self.source.corrects is None or first_wins:
            return {"duplicate" if first_wins or v[0] == row else "quarantined" for v in near} or {"accepted"}
        latest = near[-1] if near else None
        if latest is not None and latest[0] == row:
            return {"duplicate"}
        is_there, is_insert = latest is not None and latest[0][2] != "delete", row[2] == "insert"
        is_stamped = self.source.known_at is not None
        again = [v for v in near if v[0] == row and (is_stamped or v[0][2] == "insert")]
        if again and (is_stamped or (is_insert and is_there)):
            return {"duplicate"}
        return {"quarantined"} if is_there and is_insert else {"accepted"}


batches = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from("abcdefgh"),
            st.integers(0, 60),
            st.integers(0, 1),
            st.sampled_from(["insert", "update", "delete"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=14,
)
between = st.lists(st.tuples(st.sampled_from(["", "reopen", "trim", "fail"]), st.booleans()), min_size=14, max_size=14)


def by_column(source, rows):
    """Rows as a gateway sends them: of an id that came before, the first one stays."""
    cells = [Cells.of_kind(f.kind, column) for f, column in zip(source.fields, zip(*rows, strict=True), strict=True)]
    (found,) = RecordBatch.several(0, [(len(rows), cells)])
    return Columns.read(source, found)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["plain", "corrected", "stamped"])
@settings(deadline=None, max_examples=60)
@given(batches, between, st.integers(1, 25))
def test_what_becomes_of_an_event_agrees_with_a_list_of_everything_that_was_taken(
    tmp_path_factory, kind, stream, happens, dedup
):
    source = source_of(dedup, corrects=kind != "plain", is_stamped=kind == "stamped")
    everything, clock, path = Everything(source), ManualClock(60), tmp_path_factory.mktemp("log")
    log = Log.open(path, MAP, writable=True)
    last = 0
    for batch, (event, is_by_column) in zip(stream, happens, strict=False):
        if event == "reopen":
            log.close()
            log = Log.open(path, MAP, writable=True)
        elif event == "trim":
            log.trim(log.last_offset())
        rows = [(i, x, op, t, t) for i, t, x, op, _ in batch]
        is_live = kind != "stamped"
        drafts = [Draft(source, r, history=h or not is_live) for r, (*_, h) in zip(rows, batch, strict=True)]
        if event == "fail":
            with pytest.raises(TypeError):
                log.append([*drafts, Reject("s", None, "MS-E101", "bytes that nobody has")], clock)
        comes_by_column = is_by_column and kind == "plain"
        drafts = by_column(source, rows) if comes_by_column else drafts
        for row, draft, ack in zip(rows, drafts, log.append(drafts, clock), strict=True):
            known = row[4] if draft.history else max(clock.now_us(), last + 1)
            assert ack.status in everything.say(row, known, first_wins=comes_by_column)
            if ack.status == "accepted":
                everything.taken.append((row, known))
                last = last if draft.history else known
    assert log.last_offset() == len(everything.taken)
    log.close()


@pytest.mark.usefixtures("small")
def test_ids_are_found_again_in_whatever_run_they_came_to_be(tmp_path):
    source, clock = source_of(), ManualClock(10 * DAY)

    def drafts(start, stop):
        return [Draft(source, (f"r{i}", i, "", 0, 0)) for i in range(start, stop)]

    for part in range(0, 3_000, 300):
        with Log.open(tmp_path / "log", MAP, writable=True) as log:
            for n in range(part, part + 300, 25):
                assert {a.status for a in log.append(drafts(n, n + 25), clock)} == {"accepted"}
                again = log.append(drafts(n // 2, n // 2 + 25), clock)
                assert [a.offset for a in again] == list(range(n // 2 + 1, n // 2 + 26))
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        acks = log.append(drafts(0, 3_000), clock)
        assert [(a.status, a.offset) for a in acks] == [("duplicate", i + 1) for i in range(3_000)]
        (other,) = log.append([Draft(source, ("r7", 0, "", 0, 0))], clock)
        assert (other.status, other.code) == ("quarantined", "MS-E106")
        assert stored(log, "runs") < 20


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_what_is_out_of_its_window_is_dropped(tmp_path):
    source, clock = source_of(), ManualClock(DAY)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        for day in range(120):
            clock.set((day + 1) * DAY)
            log.append([Draft(source, (f"{day}-{i}", i, "", 0, 0)) for i in range(20)], clock)
        assert stored(log, "runs") <= 20
        assert stored(log, "ids") <= 400
        assert log.append([Draft(source, ("118-3", 3, "", 0, 0))], clock)[0].status == "duplicate"
        assert log.append([Draft(source, ("100-3", 3, "", 0, 0))], clock)[0].status == "accepted"


@pytest.mark.usefixtures("small")
def test_ids_are_kept_as_128_bit_hashes_of_source_and_id_and_outlive_their_records(tmp_path):
    source, clock = source_of(), ManualClock(DAY)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append([Draft(source, (text, 1, "", 0, 0)) for text in ("é1", "é2")], clock)
        assert stored(log, "ids") == 0
        log.trim(2)
        with log._environment.read() as txn, txn.cursor(db=log._environment.dbs["ids"]) as cursor:
            pages = b"".join(cursor.iternext(keys=False, values=True))
        assert all(hash128(b"s", text.encode()) in pages for text in ("é1", "é2"))
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        acks = log.append([Draft(source, (text, 1, "", 0, 0)) for text in ("é1", "é2")], clock)
        assert [(a.status, a.offset) for a in acks] == [("duplicate", 1), ("duplicate", 2)]


def test_runs_that_are_small_because_the_log_is_trimmed_often_do_not_become_many(tmp_path):
    source, clock = source_of(), ManualClock(DAY)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        for n in range(300):
            log.append([Draft(source, (f"r{n}-{i}", i, "", 0, 0)) for i in range(5)], clock)
            log.trim(log.last_offset())
        assert stored(log, "runs") <= 12
        assert log.append([Draft(source, ("r3-2", 2, "", 0, 0))], clock)[0].offset == 18


@pytest.mark.usefixtures("small")
def test_pages_of_a_merge_that_was_cut_off_by_a_crash_are_deleted_and_it_begins_again(tmp_path):
    source, clock = source_of(), ManualClock(DAY)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        n = 0
        while (merge := log._appender._seen._runs._state.merge) is None or merge.pages == 0:
            log.append([Draft(source, (f"r{n}", n, "", 0, 0))], clock)
            n += 1
        under_way = merge.number
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        acks = log.append([Draft(source, (f"r{i}", i, "", 0, 0)) for i in range(n + 50)], clock)
        assert [a.status for a in acks] == ["duplicate"] * n + ["accepted"] * 50
        numbers = {run.number for run in log._appender._seen._runs._state.runs}
        with log._environment.read() as txn, txn.cursor(db=log._environment.dbs["ids"]) as cursor:
            found = {int.from_bytes(key[:8], "big") for key in cursor.iternext(values=False)}
        assert under_way not in numbers | found


@pytest.mark.usefixtures("small")
def test_an_append_that_fails_while_runs_are_made_forgets_nothing_and_remembers_nothing(tmp_path):
    source, clock = source_of(), ManualClock(DAY)
    with Log.open(tmp_path / "log", 2 << 20, writable=True) as log:
        sent = 0
        too_much = [Reject("s", b"x" * 60_000, "MS-E101", "no JSON") for _ in range(60)]
        for n in (5, 9, 40, 90):
            drafts = [Draft(source, (f"r{sent + i}", 1, "", 0, 0)) for i in range(n)]
            with pytest.raises(BackPressureError):
                log.append([*drafts, *too_much], clock)
            assert [a.status for a in log.append(drafts, clock)] == ["accepted"] * n
            sent += n
        acks = log.append([Draft(source, (f"r{i}", 1, "", 0, 0)) for i in range(sent)], clock)
        assert [a.offset for a in acks] == list(range(1, sent + 1))


# --- logs of format 1 -------------------------------------------------------------------------------------------------


def make_old(log, width):
    """Give a log the form that format 1 had: an entry an id under its bucket of time."""
    records, buckets = log.read(0), defaultdict(int)
    dbs = log._environment.dbs
    with log._environment.write() as txn:
        for record in records:
            index = (1 << 63) + record.known_at_us // width
            key = struct.pack(">IQ", 1, index) + hash128(b"s", record.id.encode())
            body = txn.get(record.offset.to_bytes(8, "big"), db=dbs["events"])[34:]
            value = hash8(body) + struct.pack("<qq", record.offset, record.known_at_us)
            txn.put(key, value, db=dbs["seen"])
            buckets[index] = max(buckets[index], record.ingested_at_us)
        for index, written in buckets.items():
            txn.put(struct.pack(">IQ", 1, index), struct.pack("<q", written), db=dbs["buckets"])
        txn.put(b"stream:s:%d" % width, (1).to_bytes(4, "big"), db=dbs["meta"])
        for name in (b"sealed", b"ids:s"):
            txn.delete(name, db=dbs["meta"])
        for name in ("ids", "runs"):
            txn.drop(dbs[name], delete=False)
        txn.put(b"format", b"\x01", db=dbs["meta"])


def hash8(body):
    from hashlib import blake2b

    return blake2b(body, digest_size=8).digest()


def test_a_log_of_format_1_is_read_as_it_is_and_its_ids_are_moved_by_the_first_writer(tmp_path, monkeypatch):
    source, clock = source_of(), ManualClock(60 * DAY)
    drafts = [Draft(source, (f"r{i}", i, "", i * DAY, 0), history=True) for i in range(50)]
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append(drafts, clock)
        make_old(log, source.dedup_us)
    with Log.open(tmp_path / "log", MAP) as log:
        assert [record.id for record in log.read(0)] == [f"r{i}" for i in range(50)]
    monkeypatch.setattr("mainspring.events.old_ids._SLICE", 7)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        assert (stored(log, "seen"), stored(log, "buckets")) == (0, 0)
        acks = log.append([*drafts, Draft(source, ("r3", 9, "", 3 * DAY, 0), history=True)], clock)
        assert [(a.status, a.offset) for a in acks[:50]] == [("duplicate", i + 1) for i in range(50)]
        assert acks[50].code == "MS-E106"
        log.trim(40)
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        assert {a.status for a in log.append(drafts, clock)} == {"duplicate"}


def test_a_full_log_of_format_1_opens_so_that_it_can_be_trimmed(tmp_path):
    source, clock = source_of(), ManualClock(60 * DAY)

    def drafts(k):
        return [Draft(source, (f"r{k}-{i}-{'x' * 200}", i, "", k * DAY // 1_000, 0), history=True) for i in range(100)]

    with Log.open(tmp_path / "log", 8 << 20, writable=True) as log:
        with pytest.raises(BackPressureError, match="MS-E301"):  # noqa: PT012  until it is full
            for k in range(1_000):
                log.append(drafts(k), clock)
        with log._environment.reserve():
            make_old(log, source.dedup_us)
    with Log.open(tmp_path / "log", 8 << 20, writable=True) as log:
        last = log.last_offset()
        assert log.trim(last - 100) == last - 101
        assert {a.status for a in log.append(drafts(0), clock)} == {"duplicate"}
        assert {a.status for a in log.append(drafts(5_000), clock)} == {"accepted"}


# --- the sieve --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 3_000))
def test_a_sieve_lets_all_of_its_own_pass_and_few_strangers(seed, n):
    hashes = np.random.default_rng(seed).integers(0, 2**64, 6_000, dtype=np.uint64)
    sieve = Sieve.empty(n)
    for part in np.array_split(hashes[:n], 3):
        sieve.add(part)
        sieve.add(part)
    assert sieve.passes(Probe.of(hashes[:n])).tolist() == list(range(n))
    assert len(sieve.passes(Probe.of(hashes[3_000:]))) < 150
