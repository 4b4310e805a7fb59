"""Corrections at the door and in history: what is taken, what repeats, and which version holds when."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ContractError
from mainspring.definitions.values import Field, Project, SourceDef
from mainspring.events import Contract, Draft, Log, Reject
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.quarantine import parse_mend, replayed
from mainspring.events.versions import first_asked, visible, with_untils

FIELDS = (
    Field("payment_id", "str"),
    Field("card", "str", nullable=True),
    Field("amount", "float"),
    Field("op", "str", default="insert", has_default=True),
    Field("at", "datetime"),
    Field("changed_at", "datetime", nullable=True),
)
PAID = SourceDef("paid", FIELDS, time="at", id="payment_id", corrects="op")
DAY_US = 86_400_000_000


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log", 1 << 26, writable=True) as found:
        yield found


@pytest.fixture
def send(log, clock):
    """Appends rows of (id, op, amount) a second apart; their statuses."""

    def run(*rows, source=PAID, at=None):
        out = []
        for ident, op, amount in rows:
            clock.set(clock.now_us() + 1_000_000)
            values = (ident, "c", amount, op, clock.now_us() if at is None else at, None)
            out += [a.status for a in log.append([Draft(source, values)], clock)]
        return out

    return run


def test_an_update_and_a_delete_of_an_id_that_was_seen_are_taken(send):
    assert send(("a", "insert", 1.0), ("a", "update", 2.0), ("a", "delete", 2.0)) == ["accepted"] * 3


def test_an_update_and_a_delete_of_an_unknown_id_are_taken(send, log):
    assert send(("a", "update", 1.0), ("b", "delete", 1.0)) == ["accepted"] * 2
    assert log.last_offset() == 2


def test_an_insert_of_an_id_that_is_there_goes_to_quarantine_unless_it_is_the_same_insert(send, clock):
    at = clock.now_us()
    assert send(("a", "insert", 1.0), ("a", "update", 2.0), at=at) == ["accepted"] * 2
    assert send(("a", "insert", 3.0), ("a", "insert", 1.0), at=at) == ["quarantined", "duplicate"]
    assert send(("b", "update", 1.0), ("b", "insert", 1.0), at=at) == ["accepted", "quarantined"]


def test_what_is_equal_to_the_latest_version_is_acknowledged_and_counted_once(send, log, clock):
    at = clock.now_us()
    sent = [("a", "insert", 1.0), ("a", "insert", 1.0), ("a", "update", 2.0), ("a", "update", 2.0)]
    sent += [("a", "delete", 2.0), ("a", "delete", 2.0)]
    assert send(*sent, at=at) == ["accepted", "duplicate"] * 3
    assert (log.counts()["paid"].accepted, log.counts()["paid"].duplicate) == (3, 3)


def test_a_row_that_goes_back_to_what_it_was_is_a_change(send, clock):
    at = clock.now_us()
    sent = [("a", "insert", 1.0), ("a", "update", 2.0), ("a", "update", 1.0), ("a", "update", 2.0)]
    assert send(*sent, at=at) == ["accepted"] * 4
    assert send(("a", "delete", 2.0), ("a", "insert", 1.0), ("a", "delete", 2.0), at=at) == ["accepted"] * 3


def test_where_rows_say_when_they_changed_an_equal_row_is_a_redelivery_whatever_came_between(log, clock):
    fields = (*FIELDS[:-1], Field("changed_at", "datetime"))
    stamped = SourceDef("paid", fields, time="at", id="payment_id", known_at="changed_at", corrects="op")
    now = clock.now_us()
    rows = [("a", "c", 1.0, "insert", now, now), ("a", "c", 2.0, "update", now, now + 1)]
    rows += [("a", "c", 1.0, "update", now, now + 2), ("a", "c", 2.0, "delete", now, now + 3)]
    first = log.append([Draft(stamped, row, history=True) for row in rows], clock)
    again = log.append([Draft(stamped, row, history=True) for row in rows], clock)
    assert [a.status for a in first] == ["accepted"] * 4
    assert [(a.status, a.offset) for a in again] == [("duplicate", n) for n in (1, 2, 3, 4)]


def test_ids_are_forgotten_after_dedup_and_a_correction_begins_it_anew(send, clock):
    at = clock.now_us()
    assert send(("a", "insert", 1.0), at=at) == ["accepted"]
    clock.set(clock.now_us() + 5 * DAY_US)
    assert send(("a", "update", 2.0), at=at) == ["accepted"]
    clock.set(clock.now_us() + 5 * DAY_US)
    assert send(("a", "insert", 3.0), at=at) == ["quarantined"]
    clock.set(clock.now_us() + 8 * DAY_US)
    assert send(("a", "insert", 3.0), at=at) == ["accepted"]


def test_a_request_that_is_asked_again_is_the_first_one_whatever_else_it_says(log, clock):
    now = clock.now_us()
    drafts = [Draft(PAID, ("a", "c", x, "insert", now, None), first_wins=True) for x in (1.0, 2.0)]
    assert [a.status for a in log.append(drafts, clock)] == ["accepted", "duplicate"]
    assert log.append([Draft(PAID, ("a", "c", 3.0, "update", now, None))], clock)[0].status == "accepted"


def test_a_delete_needs_no_more_than_what_finds_its_row():
    contract = Contract(PAID)
    raw = b'{"payment_id": "a", "op": "delete", "at": "2020-01-01T00:00:00Z"}'
    row = ("a", None, None, "delete", 1_577_836_800_000_000, None)
    assert contract.check_json(raw) == contract.check(json.loads(raw)) == row


@pytest.mark.parametrize(
    ("fields", "path", "what"),
    [
        ({"payment_id": "a", "op": "update", "at": 5}, "$", "missing required field `amount`"),
        ({"payment_id": "a", "op": "delete"}, "$", "missing required field `at`"),
        ({"payment_id": "a", "op": "update"}, "$", "missing required field `amount`"),
        ({"op": "delete", "at": 5}, "$", "missing required field `payment_id`"),
        ({"payment_id": "a", "op": "delete", "at": 5, "amount": "x"}, "$.amount", "Expected `float"),
        ({"payment_id": "a", "op": "upsert", "at": 5, "amount": 1.0}, "$.op", "one of 'insert', 'update', 'delete'"),
    ],
    ids=["an update", "no time", "an update without a time", "no id", "another type", "another word"],
)
def test_anything_else_is_refused_with_its_path(fields, path, what):
    with pytest.raises(ContractError, match=what) as caught:
        Contract(PAID).check(fields)
    assert caught.value.where == path


@pytest.mark.parametrize(
    "raw",
    [b"[]", b"3", b'{"card": 5, "op": "delete", ', b'{"card": 5, "x": ' + b"[" * 5_000, b'{"card": 5, "op": "\xff"}'],
    ids=["a list", "a number", "cut off", "deep", "no text"],
)
def test_what_is_broken_more_than_once_is_refused_as_a_record_all_the_same(raw):
    with pytest.raises(ContractError, match=r"MS-E10[12]"):
        Contract(PAID).check_json(raw)


# --- versions ---------------------------------------------------------------------------------------------------------

versions = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 6), st.sampled_from(["insert", "update", "delete"])),
    max_size=14,
)


def frame_of(rows):
    """Rows of (id, known_at, op) in the order of the log."""
    return pl.DataFrame(
        {
            "op": pl.Series([r[2] for r in rows], dtype=pl.String),
            "_id": pl.Series([r[0] for r in rows], dtype=pl.String),
            "_known_at": pl.Series([r[1] for r in rows], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "_offset": pl.Series(range(1, len(rows) + 1), dtype=pl.Int64),
        }
    )


def latest(rows, limit, stamp):
    """Offsets of the rows that hold at a limit, as semantics.md says it: of each id the latest version, no deletes."""
    known = [(r[1], offset, r[0], r[2]) for offset, r in enumerate(rows, 1) if (offset, r[1])[stamp] <= limit]
    alone = {offset for _, offset, ident, op in known if ident is None and op != "delete"}
    newest = {ident: (offset, op) for _, offset, ident, op in sorted(known, key=lambda v: v[:2]) if ident is not None}
    return alone | {offset for offset, op in newest.values() if op != "delete"}


@given(versions, st.integers(-1, 15))
def test_a_moment_sees_the_latest_version_that_it_knows(rows, limit):
    frame = with_untils(frame_of(rows), PAID)
    known, until = frame["_known_at"].cast(pl.Int64), frame["_until_known_at"].cast(pl.Int64).fill_null(99)
    assert set(frame.filter((known <= limit) & (until > limit))["_offset"]) == latest(rows, limit, 1)
    assert set(visible(frame, limit)["_offset"]) == latest(rows, limit, 0)


def test_a_source_without_corrections_has_no_untils():
    plain = SourceDef("paid", FIELDS, time="at", id="payment_id")
    frame = frame_of([("a", 1, "insert")])
    assert with_untils(frame, plain) is frame
    assert first_asked(frame) is frame
    assert visible(frame, 0).is_empty()


def test_a_request_is_the_row_as_it_was_first_asked():
    rows = [("a", 5, "update"), ("a", 3, "insert"), ("a", 9, "delete"), ("b", 2, "delete"), ("b", 4, "update")]
    assert first_asked(with_untils(frame_of(rows), PAID))["_offset"].to_list() == [2, 5]


def test_history_shows_until_when_each_version_held_whether_it_is_in_the_lake_or_in_the_log(tmp_path, log, clock, send):
    project = Project({"paid": PAID}, {}, {})
    start = datetime.fromtimestamp(clock.now_us() / 1e6, UTC)
    send(("a", "insert", 1.0), ("b", "insert", 5.0))
    history = History(project, log, Lake(tmp_path / "lake"))
    history.catch_up()
    history.flush()
    send(("a", "update", 2.0))
    history.catch_up()
    history.flush()
    send(("a", "delete", 2.0), ("a", "update", 3.0))
    for reader in (history, History(project, log, Lake(tmp_path / "lake"))):
        reader.catch_up()
        frame = reader.frame("paid")
        assert frame["amount"].to_list() == [1.0, 5.0, 2.0, 2.0, 3.0]
        assert frame["_until_offset"].to_list() == [3, None, 4, 4, None]
        seconds = [3, None, 4, 4, None]
        expected = [None if s is None else start + timedelta(seconds=s) for s in seconds]
        assert frame["_until_known_at"].to_list() == expected


def test_a_correction_is_seen_by_whoever_had_looked_before_it_came(tmp_path, log, send):
    history = History(Project({"paid": PAID}, {}, {}), log, Lake(tmp_path / "lake"))
    send(("a", "insert", 1.0))
    for n in (1, 2, 3):
        history.catch_up()
        assert history.frame("paid")["_until_offset"].to_list() == [*range(2, n + 1), None]
        assert history.frame("paid", ["amount", "_until_offset"]).height == n
        send(("a", "update", n + 1.0))


def test_a_correction_that_is_mended_becomes_known_when_it_is_replayed_and_supersedes_what_came_before(
    tmp_path, log, clock, send
):
    at = clock.now_us()
    send(("a", "insert", 1.0), at=at)
    contract = Contract(PAID)
    raw = json.dumps({"payment_id": "a", "op": "update", "amount": "2.5", "at": "2013-03-01T12:00:00Z"}).encode()
    with pytest.raises(ContractError) as caught:
        contract.check_json(raw)
    log.append([Reject.of("paid", raw, caught.value)], clock)
    send(("a", "update", 9.0), at=at)
    clock.set(clock.now_us() + DAY_US)
    mend = parse_mend(b'{"cast": {"amount": "float"}}', PAID)
    (ack,) = log.append(replayed(log.quarantined("paid"), mend, contract), clock)
    assert ack.status == "accepted"
    history = History(Project({"paid": PAID}, {}, {}), log, Lake(tmp_path / "lake"))
    history.catch_up()
    frame = history.frame("paid")
    assert frame["amount"].to_list() == [1.0, 9.0, 2.5]
    assert frame["_until_offset"].to_list() == [2, 3, None]
