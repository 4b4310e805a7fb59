"""A file held against a contract without loading it: which rows the door would refuse, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mainspring.core.errors import ContractError
from mainspring.definitions.values import SourceDef
from mainspring.events.columns import Pick, picked_rows
from mainspring.events.contract import Contract
from mainspring.events.file_rows import FileRow, read_rows


@dataclass(frozen=True)
class Breach:
    """Rows that break a contract in the same place in the same way.

    Attributes:
        path: Where in a row, such as ``$.amount``.
        rows: How many there are.
        line: Line (or row) of the first one.
        reason: In the words of the first one.
    """

    code: str
    path: str
    rows: int
    line: int
    reason: str


@dataclass(frozen=True)
class Rehearsal:
    """What would become of a file's rows, as far as one row alone tells; breaches by how often they are there."""

    rows: int
    broken: int
    breaches: tuple[Breach, ...]


def rehearse(path: Path, source: SourceDef, *, pick: bool = False) -> Rehearsal:
    """Check every row of a CSV, JSON Lines or Parquet file as the door would.

    Raises:
        NotFoundError: No such file (MS-E400).
        ContractError: What is wrong with the file as a whole (MS-E401 to MS-E407).
    """
    contract = Contract(source)
    found: dict[tuple[str, str], Breach] = {}
    rows = 0
    for row in picked_rows(path, source, Pick()) if pick else read_rows(path, source):
        rows += 1
        error = _broken(row, contract)
        if error is None:
            continue
        first = found.get((error.code, error.where))
        line, reason, n = (row.line, error.what, 0) if first is None else (first.line, first.reason, first.rows)
        found[error.code, error.where] = Breach(error.code, error.where, n + 1, line, reason)
    ordered = sorted(found.values(), key=lambda breach: (-breach.rows, breach.line))
    return Rehearsal(rows, sum(breach.rows for breach in ordered), tuple(ordered))


def _broken(row: FileRow, contract: Contract) -> ContractError | None:
    if row.problem is not None:
        return row.problem
    try:
        if row.fields is None:
            contract.check_json(row.raw or b"")
        else:
            contract.check(row.fields)
    except ContractError as error:
        return error
    return None
