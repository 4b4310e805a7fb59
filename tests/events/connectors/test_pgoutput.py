"""Messages of logical decoding: whatever the bytes are, they are read or refused."""

import contextlib
import struct
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ContractError
from mainspring.events.connectors.pgoutput import UNCHANGED, Begin, Change, Commit, Decoder

KINDS = {"id": 20, "ok": 16, "x": 701, "d": 1082, "at": 1184, "n": 1700, "t": 25}


def relation(kinds=KINDS):
    head = b"R" + struct.pack("!I", 7) + b"public\0rides\0" + b"d" + struct.pack("!H", len(kinds))
    return head + b"".join(b"\0" + name.encode() + b"\0" + struct.pack("!Ii", oid, -1) for name, oid in kinds.items())


def values(*texts):
    parts = [
        b"n" if text is None else b"u" if text is UNCHANGED else b"t" + struct.pack("!i", len(text)) + text.encode()
        for text in texts
    ]
    return struct.pack("!H", len(texts)) + b"".join(parts)


def decoder():
    found = Decoder()
    assert found.read(relation()) is None
    return found


ROW = ("12", "t", "1.5", "2026-01-02", "2026-01-02 03:04:05.6+00", "1.25", "text")


def test_values_are_read_by_the_type_of_their_column():
    change = decoder().read(b"I" + struct.pack("!I", 7) + b"N" + values(*ROW))
    assert change.row == {
        "id": 12,
        "ok": True,
        "x": 1.5,
        "d": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC),
        "n": Decimal("1.25"),
        "t": "text",
    }
    assert (change.operation, change.schema, change.table) == ("insert", "public", "rides")


def test_what_no_python_value_can_be_stays_text():
    row = ("12", "f", "-Infinity", "infinity", "0044-03-15 00:00:00 BC", "NaN", "")
    change = decoder().read(b"I" + struct.pack("!I", 7) + b"N" + values(*row))
    assert change.row["d"] == "infinity"
    assert change.row["at"] == "0044-03-15 00:00:00 BC"
    assert change.row["x"] == float("-inf")


def test_an_update_takes_what_it_did_not_touch_from_the_old_row_if_that_was_sent():
    new = (*ROW[:6], UNCHANGED)
    head = b"U" + struct.pack("!I", 7)
    whole = decoder().read(head + b"O" + values(*ROW) + b"N" + values(*new))
    assert whole.row["t"] == "text"
    key = decoder().read(head + b"K" + values("12", *[None] * 6) + b"N" + values(*new))
    assert key.row["t"] is UNCHANGED
    assert (key.is_key_only, key.old["id"]) == (True, 12)


def test_begin_and_commit_say_where_and_when():
    assert decoder().read(b"B" + struct.pack("!QqI", 5, 1_000_000, 9)) == Begin(5, 946_684_801_000_000, 9)
    assert decoder().read(b"C" + struct.pack("!BQQq", 0, 5, 6, 0)) == Commit(6)
    truncate = decoder().read(b"T" + struct.pack("!IBI", 1, 0, 7))
    assert isinstance(truncate, Change)
    assert truncate.operation == "truncate"


@given(st.sampled_from(list("BCRIUDTOYM\0")), st.binary(max_size=80))
def test_any_bytes_are_a_message_or_an_error_of_ours(kind, rest):
    with contextlib.suppress(ContractError):
        decoder().read(kind.encode() + rest)


@given(st.data())
def test_a_damaged_message_is_an_error_of_ours(data):
    whole = bytearray(b"I" + struct.pack("!I", 7) + b"N" + values(*ROW))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ContractError):
        decoder().read(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_a_row_of_a_table_that_was_not_told_is_refused():
    with pytest.raises(ContractError, match="MS-E438"):
        Decoder().read(b"I" + struct.pack("!I", 7) + b"N" + values(*ROW))
