"""Many rows of one shape as one record of the log, by column.

Its envelope is that of a record (`record.py`) with format 2: where that has the subject's key is the number of rows,
where that has the event's time the place of the column that says it. The rows became known a microsecond after one
another, from ``known_at`` on. The record's key is the offset of its last row, so that whoever looks for an offset finds
the record that holds it, or else the first one after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.core.errors import ContractError, FormatError
from mainspring.definitions.values import SourceDef
from mainspring.events.batch import Drafts, encode_row, records_of
from mainspring.events.cells import INTS, NUMBERED, Cells, joined, values_of
from mainspring.events.contract import Row
from mainspring.events.drafts import Draft
from mainspring.events.record import BATCH, HEADER, KEY, UNPACK, Record, Shape

MOST_ROWS = 256
"""Rows in one record: a larger value costs LMDB more to find room for, and takes readers of one row longer."""
LEAST_ROWS = 16
"""Of fewer a record each: a column of a few rows costs readers more than the rows do."""
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(list[Cells]).decode


class RecordBatch(msgspec.Struct, frozen=True, array_like=True):
    """Rows of one shape by column, as one of our own processes hands them to the intake.

    Attributes:
        shape: Which of the shapes they have.
        size: How many there are.
        body: The columns in the shape's order, a ``Cells`` each, in msgpack: as the log stores them.
    """

    shape: int
    size: int
    body: bytes

    @classmethod
    def several(cls, shape: int, parts: Sequence[tuple[int, Sequence[Cells]]]) -> list[RecordBatch]:
        """Of parts, each with the number of its rows, one after the other, in as few batches as may be."""
        found: list[RecordBatch] = []
        some: list[tuple[int, Sequence[Cells]]] = []
        size = 0
        for n, columns in (piece for part in parts for piece in _pieces(*part)):
            if size + n > MOST_ROWS:
                found.append(cls._of(shape, size, some))
                some, size = [], 0
            some.append((n, columns))
            size += n
        return [*found, cls._of(shape, size, some)] if some else found

    @classmethod
    def _of(cls, shape: int, size: int, parts: Sequence[tuple[int, Sequence[Cells]]]) -> RecordBatch:
        if len(parts) == 1:
            return cls(shape, size, _ENCODE(parts[0][1]))
        counts = [n for n, _ in parts]
        columns = zip(*(part for _, part in parts), strict=True)
        return cls(shape, size, _ENCODE([joined(list(zip(column, counts, strict=True))) for column in columns]))

    def rows(self) -> list[Row]:
        """The values of each row."""
        return rows_of(_DECODE(self.body), self.size)

    def halves(self) -> tuple[RecordBatch, RecordBatch] | None:
        """The same rows in two parts, in their order; None where there are none to part."""
        if self.size < 2:
            return None
        middle = self.size // 2
        columns = _DECODE(self.body)
        parts = ((middle, slice(None, middle)), (self.size - middle, slice(middle, None)))
        first, second = (
            RecordBatch(self.shape, n, _ENCODE([one.part(self.size, places) for one in columns])) for n, places in parts
        )
        return first, second


class Columns(Drafts):
    """Rows that came by column, from a gateway: of an id that came before, the first one stays.

    Attributes:
        size: How many.
        columns: In the source's order.
        body: The columns as the log stores them.
    """

    __slots__ = ("_rows", "body", "columns", "size", "source")

    def __init__(self, source: SourceDef, size: int, columns: Sequence[Cells], body: bytes) -> None:
        self.source = source
        self.size = size
        self.columns = columns
        self.body = body
        self._rows: list[Row] | None = None

    @classmethod
    def read(cls, source: SourceDef, found: RecordBatch) -> Columns:
        """The rows of a source at the version that it has now.

        Raises:
            ContractError: They are not of the shape that they say (MS-E202).
        """
        columns = columns_of(found, len(source.fields))
        for field, column in zip(source.fields, columns, strict=True):
            fault = column.fault(found.size, field.kind, nullable=field.nullable)
            if fault:
                raise no_shape(f"column {field.name}: {fault}")
        return cls(source, found.size, columns, found.body)

    @property
    def lies_by_column(self) -> bool:
        """Whether the log keeps them in one record; few are a record each."""
        return self.size >= LEAST_ROWS

    @property
    def numbers(self) -> tuple[str, npt.NDArray[np.int64]] | None:
        """Epoch and numbers of the ids; None where they are no numbers of one."""
        ids = None if self.source.id is None else self.columns[self.source.places[self.source.id]]
        return None if ids is None or ids.form != NUMBERED else (ids.more, ids.numbers())

    @property
    def idents(self) -> list[str] | None:
        """The ids as text; None where the source has none."""
        if self.source.id is None:
            return None
        return list(map(str, self.columns[self.source.places[self.source.id]].values(self.size)))

    @property
    def latest_us(self) -> int:
        """The newest event's time."""
        times = self.columns[self.source.places[self.source.time]]
        return int(times.numbers().max()) if times.form == INTS else max(times.values(self.size))

    def part(self, places: npt.NDArray[np.intp]) -> Columns:
        """Some of the rows."""
        columns = [one.part(self.size, places) for one in self.columns]
        return Columns(self.source, len(places), columns, _ENCODE(columns))

    @property
    def rows(self) -> list[Row]:
        """The values of each row."""
        if self._rows is None:
            self._rows = rows_of(self.columns, self.size)
        return self._rows

    @property
    def bodies(self) -> Iterator[bytes]:
        """The values of each row as the log stores them of a row."""
        return map(encode_row, self.rows)

    def records(self, number: int, start: int, known_us: int, now_us: int) -> list[tuple[bytes, bytes]]:
        """One record of all, or one of each where they are few."""
        at = self.source.places[self.source.time]
        if not self.lies_by_column:
            return records_of(self.bodies, self.columns[at].values(self.size), number, start, known_us, now_us)
        header = HEADER.pack(BATCH, 0, number, self.size, at, known_us, now_us)
        return [(KEY(start + self.size - 1), header + self.body)]

    def __len__(self) -> int:
        """How many rows."""
        return self.size

    def draft(self, place: int) -> Draft:
        """One row."""
        return Draft(self.source, self.rows[place], None, False, "internal", None, True)


def _pieces(n: int, columns: Sequence[Cells]) -> Iterator[tuple[int, Sequence[Cells]]]:
    """A part in pieces of at most ``MOST_ROWS``."""
    if n <= MOST_ROWS:
        yield n, columns
        return
    for start in range(0, n, MOST_ROWS):
        size = min(MOST_ROWS, n - start)
        yield size, [one.part(n, slice(start, start + size)) for one in columns]


def columns_of(found: RecordBatch, width: int) -> list[Cells]:
    """The columns of rows that came from elsewhere.

    Raises:
        ContractError: They are not so many, or of no rows (MS-E202).
    """
    try:
        columns = _DECODE(found.body)
    except msgspec.DecodeError as error:
        raise no_shape(str(error)) from None
    if len(columns) != width or found.size < 1:
        raise no_shape(f"{len(columns)} columns of {found.size} rows")
    return columns


def no_shape(why: str = "") -> ContractError:
    """The error of rows that cannot be read as they should be."""
    return ContractError("MS-E202", "a row is not of the shape that it says", where="body", why=why)


def rows_of(columns: Sequence[Cells], n: int) -> list[Row]:
    """The values of each row."""
    return list(zip(*values_of(columns, n), strict=True))


class Stored(msgspec.Struct, frozen=True, gc=False):
    """Rows of a record of the log, by column.

    Attributes:
        first: Offset of the first.
        size: How many.
        time_at: Place of the column that says their time.
        known_us: When the first became known; each other a microsecond after the one before.
        ingested_us: When they were written.
    """

    shape: Shape
    id_at: int | None
    columns: Sequence[Cells]
    first: int
    size: int
    time_at: int
    known_us: int
    ingested_us: int
    flags: int

    @classmethod
    def read(
        cls, last: int, raw: bytes, shapes: Mapping[int, tuple[Shape, int | None]], after: int, limit: int = MOST_ROWS
    ) -> Stored:
        """At most ``limit`` rows of a record, of those that follow the offset ``after``; at least one.

        Args:
            last: Offset of its last row.
            raw: As the log stores it.
            shapes: Shape and the index of its id, by number; complete for every number that the log uses.
            after: Rows up to this offset are left out.
            limit: How many at most.

        Raises:
            FormatError: It cannot be read (MS-E901).
        """
        _, flags, number, n, time_at, known_us, ingested_us = UNPACK(raw)
        shape, id_at = shapes[number]
        try:
            columns = _DECODE(memoryview(raw)[HEADER.size :])
        except msgspec.DecodeError as error:
            what = f"a record of the log cannot be read: {error}"
            raise FormatError("MS-E901", what, where=f"offset {last}") from None
        first = last - n + 1
        start = max(0, after + 1 - first)
        stop = min(n, start + limit)
        if (start, stop) != (0, n):
            columns = [one.part(n, slice(start, stop)) for one in columns]
        return cls(shape, id_at, columns, first + start, stop - start, time_at, known_us + start, ingested_us, flags)

    @property
    def last(self) -> int:
        """Offset of the last."""
        return self.first + self.size - 1

    @property
    def is_numbered(self) -> bool:
        """Whether the ids are numbers."""
        return self.id_at is not None and self.columns[self.id_at].form == NUMBERED

    def rows(self, places: Sequence[int]) -> list[Row]:
        """The values of the rows at ``places``."""
        at = np.array(places, np.intp)
        return rows_of([one.part(self.size, at) for one in self.columns], len(at))

    def records(self) -> list[Record]:
        """Each row as a record."""
        shape, id_at, time_at = self.shape, self.id_at, self.time_at
        return [
            Record(
                self.first + i,
                shape.source,
                shape.version,
                None if id_at is None else str(values[id_at]),
                values[time_at],
                self.known_us + i,
                self.ingested_us,
                values,
                shape.columns,
                self.flags,
                shape.aliases,
            )
            for i, values in enumerate(rows_of(self.columns, self.size))
        ]
