"""Messages of PostgreSQL's logical decoding (``pgoutput``, protocol version 1) as rows.

Source: "Logical Replication Message Formats" in PostgreSQL's manual. Values come as text and are read by the type of
their column; one of a type that is not listed here stays text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from mainspring.core.errors import ContractError

_EPOCH_US = 946_684_800_000_000  # 2000-01-01: PostgreSQL's zero
UNCHANGED = object()
"""A large value that an update did not touch and that is therefore not sent."""


@dataclass(frozen=True)
class Begin:
    """A transaction starts; ``lsn`` is that of its commit."""

    lsn: int
    committed_us: int
    xid: int


@dataclass(frozen=True)
class Commit:
    """A transaction is whole; ``end`` is where the log goes on behind it."""

    end: int


@dataclass(frozen=True)
class Change:
    """One row: ``operation`` is insert, update, delete or truncate; ``old`` is the row before, or its key, if sent."""

    operation: str
    schema: str
    table: str
    row: dict[str, Any]
    old: dict[str, Any] | None = None
    is_key_only: bool = False


@dataclass(frozen=True)
class _Table:
    schema: str
    name: str
    columns: tuple[tuple[str, int], ...]


@dataclass
class Decoder:
    """Reads messages in their order; remembers which tables they speak of."""

    tables: dict[int, _Table] = field(default_factory=dict)

    def read(self, raw: bytes) -> Begin | Commit | Change | None:
        """One message; None for what says nothing about rows.

        Raises:
            ContractError: A message that is not as documented (MS-E438).
        """
        try:
            return self._read(_Reader(raw))
        except (struct.error, LookupError, ValueError) as error:
            raise ContractError("MS-E438", f"a message of pgoutput that is not understood: {error!r}") from None

    def _read(self, raw: _Reader) -> Begin | Commit | Change | None:
        kind = raw.letter()
        if kind == "B":
            lsn, at, xid = raw.take("!QqI")
            return Begin(lsn, at + _EPOCH_US, xid)
        if kind == "C":
            _flags, _lsn, end, _at = raw.take("!BQQq")
            return Commit(end)
        if kind == "R":
            (oid,) = raw.take("!I")
            schema, name = raw.text(), raw.text()
            _identity, count = raw.take("!BH")
            columns = []
            for _ in range(count):
                raw.take("!B")
                column = raw.text()
                kind_oid, _modifier = raw.take("!Ii")
                columns.append((column, kind_oid))
            self.tables[oid] = _Table(schema, name, tuple(columns))
            return None
        if kind in "IUD":
            return self._change(kind, raw)
        if kind == "T":
            _count, _options, oid = raw.take("!IBI")
            table = self.tables[oid]
            return Change("truncate", table.schema, table.name, {})
        return None  # an origin, a type, a message of somebody else's

    def _change(self, kind: str, raw: _Reader) -> Change:
        (oid,) = raw.take("!I")
        table = self.tables[oid]
        part, old, key_only = raw.letter(), None, False
        if part in "KO":
            old, key_only = _row(raw, table), part == "K"
            if kind == "D":
                return Change("delete", table.schema, table.name, old, None, key_only)
            part = raw.letter()
        new = _row(raw, table)
        if old is not None:
            new = {n: old[n] if v is UNCHANGED and not key_only else v for n, v in new.items()}
        return Change("insert" if kind == "I" else "update", table.schema, table.name, new, old, key_only)


class _Reader:
    """Bytes of one message, taken from the left."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self._raw, self._at)
        self._at += struct.calcsize(form)
        return found

    def letter(self) -> str:
        return chr(self.take("!B")[0])

    def text(self) -> str:
        end = self._raw.index(b"\0", self._at)
        found, self._at = self._raw[self._at : end].decode(), end + 1
        return found

    def bytes(self, size: int) -> bytes:
        if self._at + size > len(self._raw):
            raise IndexError(size)
        found, self._at = self._raw[self._at : self._at + size], self._at + size
        return found


def _row(raw: _Reader, table: _Table) -> dict[str, Any]:
    (count,) = raw.take("!H")
    out: dict[str, Any] = {}
    for column, oid in table.columns[:count]:
        kind = raw.letter()
        if kind == "n":
            out[column] = None
        elif kind == "u":
            out[column] = UNCHANGED
        else:
            (size,) = raw.take("!i")
            out[column] = _value(raw.bytes(size).decode(), oid)
    return out


def _value(text: str, oid: int) -> Any:
    convert = _CONVERT.get(oid)
    if convert is None:
        return text
    try:
        return convert(text)
    except (ValueError, ArithmeticError):
        return text  # infinity, a year before Christ: the contract refuses it by name


def _moment(text: str) -> datetime:
    """``2026-01-02 03:04:05.6+00``: the session's time zone is UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text[-3] not in "+-" else datetime.fromisoformat(text)


_CONVERT: dict[int, Callable[[str], Any]] = {
    16: lambda text: text == "t",  # bool
    20: int,
    21: int,
    23: int,
    26: int,
    700: float,
    701: float,
    1082: date.fromisoformat,
    1114: _moment,  # timestamp: read as UTC, as a naive time is everywhere here
    1184: _moment,
    1700: Decimal,
}
