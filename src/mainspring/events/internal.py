"""Rows as our own processes hand them to the intake, and what they become: drafts or rejects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from mainspring.core.errors import ContractError
from mainspring.core.names import is_name
from mainspring.definitions.values import SourceDef
from mainspring.events.contract import Contract
from mainspring.events.held import Reject
from mainspring.events.log import Draft
from mainspring.events.quarantine import fields_json

Entries = list[Draft | Reject]


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


class CheckedRows(msgspec.Struct, frozen=True, array_like=True):
    """Rows that one of our own processes has checked by their contract, by place rather than by name.

    Attributes:
        rows: Which of the shapes each has, and its values.
    """

    shapes: tuple[RowShape, ...]
    rows: list[tuple[int, tuple[Any, ...]]]


class Step(msgspec.Struct, frozen=True):
    """A step as it is sent to the intake, with its rows."""

    before: int
    cursor: Any
    rows: list[InternalRow]


def checked_entries(found: CheckedRows, contracts: Mapping[str, Contract]) -> Entries:
    """Drafts of rows that are checked already; those of another version of their source are checked by this one.

    Raises:
        ContractError: A row has no shape, or another number of values than its shape has columns (MS-E202).
    """
    out: Entries = []
    known: list[SourceDef | None] = []
    for shape in found.shapes:
        contract = contracts.get(shape.source)
        source = contract.source if contract is not None else None
        known.append(source if source is not None and source.version == shape.version else None)
    for number, values in found.rows:
        if not 0 <= number < len(known) or len(values) != len(found.shapes[number].columns):
            raise ContractError("MS-E202", "a row is not of the shape that it says", where="body")
        source = known[number]
        if source is not None:
            out.append(Draft(source, values, None, False, "internal", None, True))
        else:
            shape = found.shapes[number]
            row = InternalRow(shape.source, dict(zip(shape.columns, values, strict=True)))
            out += entries_of([row], contracts, "internal", is_history=False, first_wins=True)
    return out


def entries_of(
    rows: Iterable[InternalRow],
    contracts: Mapping[str, Contract],
    sender: str,
    *,
    is_history: bool,
    first_wins: bool = False,
) -> Entries:
    """Check each row by its source's contract; what breaks it is on its way to quarantine, its neighbours are not."""
    out: Entries = []
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
