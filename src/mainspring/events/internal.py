"""Rows as our own processes hand them to the intake, and what they become: drafts or rejects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Annotated, Any

import msgspec

from mainspring.core.errors import ContractError
from mainspring.core.names import is_name
from mainspring.events.batch import Batch
from mainspring.events.contract import Contract
from mainspring.events.drafts import Draft
from mainspring.events.held import Reject
from mainspring.events.quarantine import fields_json
from mainspring.events.system import PREDICTION

Entries = Sequence[Draft | Reject]
_PLAIN = frozenset({str, int, float, bool, type(None)})


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
    """Rows of one shape, column by column.

    Attributes:
        shape: Which of the shapes they have.
        rows: How many they are.
        columns: Of each column the values of all rows, or the one value that all of them have.
    """

    shape: int
    rows: Annotated[int, msgspec.Meta(ge=0)]
    columns: Sequence[Sequence[Any]]

    @classmethod
    def of(cls, shape: int, rows: int, columns: Iterable[Sequence[Any]]) -> Block:
        """A block of columns as they are; what is the same in all rows is kept once."""
        return cls(shape, rows, [column[:1] if _is_one_value(column) else column for column in columns])

    def whole(self) -> Iterator[tuple[Any, ...]]:
        """Its rows."""
        n = self.rows
        return zip(*[one if len(one) == n else repeat(one[0], n) for one in self.columns], strict=True)

    def part(self, start: int, stop: int) -> Block:
        """Some of its rows."""
        n = self.rows
        columns = [column if len(column) != n else column[start:stop] for column in self.columns]
        return Block.of(self.shape, stop - start, columns)


class CheckedRows(msgspec.Struct, frozen=True, array_like=True):
    """Rows that one of our own processes has checked by their contracts, by place rather than by name."""

    shapes: tuple[RowShape, ...]
    blocks: list[Block]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(block.rows for block in self.blocks)

    def halves(self) -> tuple[CheckedRows, CheckedRows] | None:
        """The same rows in two parts, in their order; None where there are none to part."""
        blocks = self.blocks
        if len(blocks) > 1:
            middle = len(blocks) // 2
            return CheckedRows(self.shapes, blocks[:middle]), CheckedRows(self.shapes, blocks[middle:])
        if not blocks or blocks[0].rows < 2:
            return None
        middle = blocks[0].rows // 2
        first, second = blocks[0].part(0, middle), blocks[0].part(middle, blocks[0].rows)
        return CheckedRows(self.shapes, [first]), CheckedRows(self.shapes, [second])


class Step(msgspec.Struct, frozen=True):
    """A step as it is sent to the intake, with its rows."""

    before: int
    cursor: Any
    rows: list[InternalRow]


def checked_entries(found: CheckedRows, contracts: Mapping[str, Contract]) -> list[Entries]:
    """Rows that are checked already, those of each shape together; of another version, checked by this one.

    Predictions come last, so that what they are about is there before them.

    Raises:
        ContractError: Rows have no shape, or columns that are not as many, or not as long, as it says (MS-E202).
    """
    by_shape: list[list[tuple[Any, ...]]] = [[] for _ in found.shapes]
    widths = [len(shape.columns) for shape in found.shapes]
    for number, values in found.rows:
        if not 0 <= number < len(widths) or len(values) != widths[number]:
            raise ContractError("MS-E202", "a row is not of the shape that it says", where="body")
        by_shape[number].append(values)
    parts = sorted(zip(found.shapes, by_shape, strict=True), key=lambda part: part[0].source == PREDICTION.name)
    return [_checked(shape, rows, contracts) for shape, rows in parts]


def _checked(shape: RowShape, rows: list[tuple[Any, ...]], contracts: Mapping[str, Contract]) -> Entries:
    contract = contracts.get(shape.source)
    if contract is not None and contract.source.version == shape.version:
        return Batch(contract.source, rows, "internal", first_wins=True)
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


def _is_whole(block: Block, shape: RowShape) -> bool:
    """Whether there is a value for every row and column."""
    return len(block.columns) == len(shape.columns) and all(len(one) in (1, block.rows) for one in block.columns)


def _is_one_value(column: Sequence[Any]) -> bool:
    """Whether all values are the same to the last bit, as far as that is seen at a glance."""
    if not column or column[0] != column[-1] or column[0].__class__ not in _PLAIN:
        return False
    return bool(column[0] or column[0].__class__ is not float) and column.count(column[0]) == len(column)
