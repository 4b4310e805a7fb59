"""The record envelope: what one event is in the log, in bytes and as a value.

Layout, little-endian: format u8 · flags u8 · shape u32 · subject key u32 (0: none) · time i64 · known_at i64 ·
ingested_at i64, all times in microseconds, then the values of the row as a msgpack array in the order of the shape's
columns. A shape is a source's contract at one version; the log stores each once and refers to it by number.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from mainspring.core.errors import FormatError
from mainspring.core.times import from_datetime
from mainspring.definitions.values import Field, Kind, SourceDef

FORMAT = 1
BATCH = 2  # the format of many rows in one record: record_batch.py
HISTORY = 1  # loaded as history: known_at is what the source declares
MENDED = 2  # came out of quarantine
KEY = struct.Struct(">Q").pack
HEADER = struct.Struct("<BBIIqqq")
UNPACK = HEADER.unpack_from
_VALUES = msgspec.msgpack.Decoder(tuple)
_AT = HEADER.size


class Shape(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source's contract at one version, as records of that version need it to be read.

    Attributes:
        aliases: Names that columns had before, ``(earlier, now)``: definitions of then find their values by them.
    """

    source: str
    version: str
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    id: str | None
    aliases: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, source: SourceDef) -> Shape:
        """The shape of a source as it is defined now."""
        names = tuple(f.name for f in source.fields)
        aliases = tuple((alias, f.name) for f in source.fields for alias in f.aliases)
        return cls(source.name, source.version, names, tuple(f.kind for f in source.fields), source.id, aliases)

    @property
    def id_index(self) -> int | None:
        """Where the id is among the columns."""
        return None if self.id is None else self.columns.index(self.id)


class Record(msgspec.Struct, frozen=True, gc=False):
    """One event as the log holds it.

    Attributes:
        offset: Place in the log, from 1, rising by 1.
        version: Of the contract that the record was checked against.
        values: The row in the order of ``columns``; datetimes are microseconds, vectors are lists.
        columns: Names of the values: the source's columns at ``version``.
        aliases: Names that they had before, ``(earlier, now)``.
    """

    offset: int
    source: str
    version: str
    id: str | None
    time_us: int
    known_at_us: int
    ingested_at_us: int
    values: tuple[Any, ...]
    columns: tuple[str, ...]
    flags: int = 0
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def first(self) -> int:
        """As ``last``: of several rows that lie in one record the two differ (`record_batch.Stored`)."""
        return self.offset

    @property
    def last(self) -> int:
        """As ``offset``."""
        return self.offset

    @property
    def is_history(self) -> bool:
        """Whether the event was loaded as history rather than streamed."""
        return bool(self.flags & HISTORY)

    def to_dict(self) -> dict[str, Any]:
        """The row by column names."""
        return dict(zip(self.columns, self.values, strict=True))

    def row_for(self, source: SourceDef) -> tuple[Any, ...]:
        """The values in the order of ``source``'s columns, whatever version each of the two is of.

        A column is found by its name, by one that it had before, or by the one that it has since then. What this
        version lacked is the default, or None.
        """
        if self.version == source.version:
            return self.values
        known = self.to_dict()
        for earlier, now in self.aliases:
            known.setdefault(earlier, known[now])
        return tuple(_value_of(f, known) for f in source.fields)


class Stretch(msgspec.Struct, frozen=True):
    """Consecutive records of the log, of which only those of some sources have been read.

    Attributes:
        records: Of these sources, in order.
        first: Offset of the first record, read or not.
        last: Offset of the last one.
        known_at_us: The greatest of any.
    """

    records: Sequence[Record]
    first: int
    last: int
    known_at_us: int

    @classmethod
    def of(cls, records: Sequence[Record]) -> Stretch:
        """All of these records, at least one."""
        return cls(records, records[0].offset, records[-1].offset, max(r.known_at_us for r in records))


def _value_of(field: Field, known: dict[str, Any]) -> Any:
    for name in (field.name, *field.aliases):
        if name in known:
            value = _as_kind(known[name], field)
            return stored_default(field) if value is None and field.has_default and not field.nullable else value
    return stored_default(field)


def _as_kind(value: Any, field: Field) -> Any:
    """Another version's value as its column is in this one.

    An int becomes the float that the column is now: the one widening that a contract may make. A vector of another
    length is null.
    """
    if field.kind == "vector" and isinstance(value, list):
        return value if len(value) == (known_length(field) or len(value)) else None
    return float(value) if field.kind == "float" and isinstance(value, int) else value


def known_length(field: Field) -> int | None:
    """How many numbers a vector has; None if that is not known: the records of a source that is gone do not say it."""
    return field.dim if any(c.name == "dim" for c in field.constraints) else None


def stored_default(field: Field) -> Any:
    """A column's default as rows hold it."""
    return from_datetime(field.default) if isinstance(field.default, datetime) else field.default


def size_of(raw: bytes) -> int:
    """How many rows a record of the log holds."""
    return UNPACK(raw)[3] if raw[0] == BATCH else 1


def decode(offset: int, raw: bytes, shapes: dict[int, tuple[Shape, int | None]]) -> Record:
    """The record that ``raw`` holds.

    Args:
        offset: Place in the log.
        raw: As the log stores it.
        shapes: Shape and the index of its id, by number; complete for every number that the log uses.

    Raises:
        FormatError: A format version this release does not know (MS-E901).
    """
    form, flags, number, _subject, time_us, known_at_us, ingested_at_us = UNPACK(raw)
    if form != FORMAT:
        raise FormatError(
            "MS-E901",
            f"the log holds a record of format {form}, this release reads {FORMAT}",
            where=f"offset {offset}",
            hint="use the release that wrote it, or a newer one",
        )
    shape, id_index = shapes[number]
    values = _VALUES.decode(memoryview(raw)[_AT:])
    return Record(
        offset,
        shape.source,
        shape.version,
        None if id_index is None else str(values[id_index]),
        time_us,
        known_at_us,
        ingested_at_us,
        values,
        shape.columns,
        flags,
        shape.aliases,
    )
