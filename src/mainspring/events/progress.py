"""How far a connector has come: kept in the log's own files, and moved on in the transaction that writes its rows.

So a connector that is killed anywhere reads on from exactly behind what is durable. Nothing is lost and nothing comes
twice, also where rows have no ids, and in quarantine as well.
"""

from __future__ import annotations

from typing import Any

import lmdb
import msgspec

from mainspring.core.errors import MainspringError

_PREFIX = b"connector:"


class Position(msgspec.Struct, frozen=True):
    """Where a connector is.

    Attributes:
        sequence: How often it has moved on; who moves it says from where.
        cursor: What its ``read`` gave with the last batch; None at the beginning.
        rows: How many rows it has brought so far.
        moved_at_us: When it last moved.
    """

    sequence: int = 0
    cursor: Any = None
    rows: int = 0
    moved_at_us: int = 0


class Advance(msgspec.Struct, frozen=True):
    """A connector's step: from the position with the sequence ``before`` to ``cursor``, by ``rows`` rows."""

    name: str
    before: int
    cursor: Any
    rows: int


class MovedError(MainspringError, ValueError):
    """The connector's position is another: this step was done already, or somebody else runs it too."""

    exit_code = 7
    http_status = 409


def positions(txn: lmdb.Transaction[bytes], meta: lmdb._Database) -> dict[str, Position]:
    """Position of each connector that ever moved, by name."""
    out: dict[str, Position] = {}
    with txn.cursor(db=meta) as cursor:
        found = cursor.set_range(_PREFIX)
        while found and cursor.key().startswith(_PREFIX):
            out[cursor.key()[len(_PREFIX) :].decode()] = _decode(cursor.value())
            found = cursor.next()
    return out


def advance(txn: lmdb.Transaction[bytes], meta: lmdb._Database, step: Advance, now_us: int) -> None:
    """Move a connector on, within the transaction that writes its rows.

    Raises:
        MovedError: It is not where the step begins (MS-E430).
    """
    key = _PREFIX + step.name.encode()
    raw = txn.get(key, db=meta)
    at = Position() if raw is None else _decode(raw)
    if at.sequence != step.before:
        raise MovedError(
            "MS-E430",
            f"connector {step.name} has moved since it was read",
            where=f"at step {at.sequence}, not {step.before}",
            why="another process runs it as well, or the answer to this very step was lost",
        )
    after = Position(at.sequence + 1, step.cursor, at.rows + step.rows, now_us)
    txn.put(key, msgspec.msgpack.encode(after), db=meta)


def _decode(raw: bytes) -> Position:
    return msgspec.msgpack.decode(raw, type=Position)
