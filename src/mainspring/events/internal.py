"""Rows as our own processes hand them to the intake, and what they become: drafts or rejects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mainspring.core.errors import ContractError
from mainspring.core.names import is_name
from mainspring.events.batch import Batch, decode_row, encode_row
from mainspring.events.contract import Contract, Row
from mainspring.events.drafts import Draft
from mainspring.events.held import Reject
from mainspring.events.quarantine import fields_json
from mainspring.events.record_batch import Columns, RecordBatch, columns_of, no_shape, rows_of
from mainspring.events.system import PREDICTION

Entries = Sequence[Draft | Reject]
_MOST_SHORT, _SHORT, _LONG = 15, 0x90, b"\xdc"  # how msgpack begins an array


class InternalRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event in one of three forms: its fields, the JSON bytes it came as, or bytes that could not be read.

    On the wire it is an array; what is not needed is left off at the end: ``["arrived", {"flight_id": …}]``.

    Attributes:
        fields: Values by column; times are int64 microseconds, datetimes or ISO 8601 texts.
        sender: What it came from, for quarantine: file and line.
        raw: The bytes, in the second and third form.
        code: In the third form, the reason's error code; ``reason`` says it in words.
    """

    source: str
    fields: Any = None
    sender: str = ""
    raw: bytes | None = None
    code: str = ""
    reason: str = ""


class RowShape(msgspec.Struct, frozen=True, array_like=True):
    """What the values of checked rows are: a source at one version, and its columns in their order."""

    source: str
    version: str
    columns: tuple[str, ...]


class Block(msgspec.Struct, frozen=True, array_like=True):
    """Rows of one shape.

    Attributes:
        shape: Which of the shapes they have.
        bodies: Each as the log stores it: its values as a msgpack array.
    """

    shape: int
    bodies: Sequence[bytes]

    @classmethod
    def of(cls, shape: int, rows: Iterable[Sequence[Any]]) -> Block:
        """A block of rows of values."""
        return cls(shape, [encode_row(row) for row in rows])

    def rows(self) -> list[tuple[Any, ...]]:
        """The values of each row."""
        return [decode_row(body) for body in self.bodies]

    def halves(self) -> tuple[Block, Block] | None:
        """The same rows in two parts, in their order; None where there are none to part."""
        middle = len(self.bodies) // 2
        return (Block(self.shape, self.bodies[:middle]), Block(self.shape, self.bodies[middle:])) if middle else None


class CheckedRows(msgspec.Struct, frozen=True, array_like=True):
    """Rows that one of our own processes has checked by their contracts, by place rather than by name.

    Attributes:
        blocks: Those that come row by row.
        batches: Those that come by column; what they are about may be in the blocks.
    """

    shapes: tuple[RowShape, ...]
    blocks: Sequence[Block]
    batches: Sequence[RecordBatch] = ()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(len(block.bodies) for block in self.blocks) + sum(batch.size for batch in self.batches)

    def halves(self) -> tuple[CheckedRows, CheckedRows] | None:
        """The same rows in two parts, in their order; None where there are none to part."""
        parts: list[Block | RecordBatch] = [*self.blocks, *self.batches]
        if len(parts) < 2:
            halves = parts[0].halves() if parts else None
            if halves is None:
                return None
            parts = [*halves]
        middle = len(parts) // 2
        return self._of(parts[:middle]), self._of(parts[middle:])

    def _of(self, parts: Sequence[Block | RecordBatch]) -> CheckedRows:
        blocks = [part for part in parts if isinstance(part, Block)]
        return CheckedRows(self.shapes, blocks, [part for part in parts if isinstance(part, RecordBatch)])


class Step(msgspec.Struct, frozen=True):
    """A step as it is sent to the intake, with its rows."""

    before: int
    cursor: Any
    rows: list[InternalRow]


def checked_entries(found: CheckedRows, contracts: Mapping[str, Contract]) -> list[Entries]:
    """Rows that are checked already, those of each shape together; of another version, checked by this one.

    Those that come by column come last, and of the others the predictions, so that what they are about is there before.

    Raises:
        ContractError: A row has no shape, or is not of the shape that it says (MS-E202).
    """
    by_shape: list[list[bytes]] = [[] for _ in found.shapes]
    for block in found.blocks:
        by_shape[_place(block.shape, found)] += block.bodies
    parts = sorted(zip(found.shapes, by_shape, strict=True), key=lambda part: part[0].source == PREDICTION.name)
    batches = [(found.shapes[_place(batch.shape, found)], batch) for batch in found.batches]
    return [_checked(*part, contracts) for part in parts if part[1]] + [_by_column(*one, contracts) for one in batches]


def _place(shape: int, found: CheckedRows) -> int:
    if not 0 <= shape < len(found.shapes):
        raise no_shape()
    return shape


def _by_column(shape: RowShape, batch: RecordBatch, contracts: Mapping[str, Contract]) -> Entries:
    contract = contracts.get(shape.source)
    if contract is not None and contract.source.version == shape.version:
        return Columns.read(contract.source, batch)
    rows = rows_of(columns_of(batch, len(shape.columns)), batch.size)
    return _by_name(shape, rows, contracts)


def _checked(shape: RowShape, bodies: list[bytes], contracts: Mapping[str, Contract]) -> Entries:
    width = len(shape.columns)
    start = bytes([_SHORT | width]) if width <= _MOST_SHORT else _LONG + width.to_bytes(2, "big")
    if not all(body.startswith(start) for body in bodies):
        raise no_shape()
    contract = contracts.get(shape.source)
    try:
        if contract is not None and contract.source.version == shape.version:
            source = contract.source
            read, values_of = contract.head
            heads = [values_of(read(body)) for body in bodies]
            times = [time_us for time_us, _ in heads]
            idents = None if source.id is None else [str(ident) for _, ident in heads]
            return Batch(source, bodies, times, idents, "internal", first_wins=True)
        rows = [decode_row(body) for body in bodies]
    except msgspec.DecodeError as error:
        raise no_shape(str(error)) from None
    return _by_name(shape, rows, contracts)


def _by_name(shape: RowShape, rows: Iterable[Row], contracts: Mapping[str, Contract]) -> Entries:
    named = [InternalRow(shape.source, dict(zip(shape.columns, row, strict=True))) for row in rows]
    return entries_of(named, contracts, "internal", is_history=False, first_wins=True)


def entries_of(
    rows: Iterable[InternalRow],
    contracts: Mapping[str, Contract],
    sender: str,
    *,
    is_history: bool,
    first_wins: bool = False,
) -> Entries:
    """Check each row by its source's contract; what breaks it is on its way to quarantine, its neighbours are not."""
    out: list[Draft | Reject] = []
    for row in rows:
        contract = contracts.get(row.source)
        try:
            out.append(_draft(row, contract, sender, is_history=is_history, first_wins=first_wins))
        except ContractError as error:
            source = contract.source if contract is not None else None
            raw = row.raw if row.raw is not None else fields_json(source, row.fields)
            reject = Reject.of(
                row.source if is_name(row.source) else "unknown",
                raw,
                error,
                version=source.version if source is not None else "",
                sender=row.sender or sender,
                is_history=is_history,
            )
            out.append(reject)
    return out


def _draft(row: InternalRow, contract: Contract | None, sender: str, *, is_history: bool, first_wins: bool) -> Draft:
    if contract is None:
        raise ContractError("MS-E201", f"no source is named {row.source[:100]!r}", where="$")
    if row.code:
        raise ContractError(row.code, row.reason, where="$")
    values = contract.check(row.fields) if row.raw is None else contract.check_json(row.raw)
    return Draft(contract.source, values, row.raw, is_history, row.sender or sender, first_wins=first_wins)
