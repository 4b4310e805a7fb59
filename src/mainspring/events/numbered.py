"""Which numbered ids the log has: a bit a number, where any other id takes a hash.

The ids of predictions are numbers of an epoch, one start of a gateway, and each is used once. A block holds 8,192 of
them: when they may be forgotten (i64, microseconds), and their bits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import lmdb
import numpy as np
import numpy.typing as npt

from mainspring.core.ids import numbered

_BLOCK_BITS = 13
_NUMBERS = 1 << _BLOCK_BITS
_UNTIL = struct.Struct("<q")
_NUMBER = struct.Struct(">Q").pack


class Numbered:
    """The memory of numbered ids, within transactions of the log's writer.

    After ``finish`` the blocks that were touched are written; after a failed transaction call ``forget``.
    """

    def __init__(self, db: lmdb._Database) -> None:
        self._db = db
        self._blocks: dict[bytes, _Block] = {}
        self._swept = b""

    def add(
        self, txn: lmdb.Transaction[bytes], epoch: str, numbers: npt.NDArray[np.int64], until_us: int
    ) -> npt.NDArray[np.bool_]:
        """Remember numbers of an epoch, each of them once; which of them were known.

        Args:
            txn: The append's own transaction.
            epoch: Which.
            numbers: int64[n], none negative, no two alike.
            until_us: Until when they are remembered.

        Returns:
            bool[n].
        """
        blocks = numbers >> _BLOCK_BITS
        first = int(blocks[0])
        if (blocks == first).all():  # as nearly always: they come one after the other
            return self._mark(txn, _key(epoch, first), numbers, until_us)
        known = np.empty(len(numbers), np.bool_)
        for block in np.unique(blocks).tolist():
            mine = blocks == block
            known[mine] = self._mark(txn, _key(epoch, block), numbers[mine], until_us)
        return known

    def add_id(self, txn: lmdb.Transaction[bytes], ident: str, until_us: int) -> bool:
        """Remember one id, if it is a numbered one; whether it was known."""
        found = numbered(ident)
        return found is not None and bool(self.add(txn, found[0], np.array([found[1]]), until_us)[0])

    def finish(self, txn: lmdb.Transaction[bytes], now_us: int) -> None:
        """Write what was remembered, and forget a block that is out of its time, if the next in turn is."""
        for key, block in self._blocks.items():
            raw = _UNTIL.pack(block.until_us) + np.packbits(block.flags, bitorder="little").tobytes()
            txn.put(key, raw, db=self._db)
        self.forget()
        with txn.cursor(db=self._db) as cursor:
            if cursor.set_range(self._swept + b"\0") or cursor.first():
                self._swept = cursor.key()
                if _UNTIL.unpack_from(cursor.value())[0] < now_us:
                    cursor.delete()

    def forget(self) -> None:
        """What is in memory is what the disk says."""
        self._blocks.clear()

    def _mark(
        self, txn: lmdb.Transaction[bytes], key: bytes, numbers: npt.NDArray[np.int64], until_us: int
    ) -> npt.NDArray[np.bool_]:
        """Remember numbers of one block; which of them were known."""
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = _Block.read(txn.get(key, db=self._db))
        places = numbers & (_NUMBERS - 1)
        known: npt.NDArray[np.bool_] = block.flags[places]
        block.flags[places] = True
        block.until_us = max(block.until_us, until_us)
        return known


@dataclass(slots=True, eq=False)
class _Block:
    """A block within a transaction: bool[8192], which numbers are known."""

    until_us: int
    flags: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, raw: bytes | None) -> _Block:
        """As the log stores it; None if it has none yet."""
        if raw is None:
            return cls(0, np.zeros(_NUMBERS, np.bool_))
        bits = np.frombuffer(raw, np.uint8, offset=_UNTIL.size)
        return cls(_UNTIL.unpack_from(raw)[0], np.unpackbits(bits, bitorder="little").view(np.bool_))


def _key(epoch: str, block: int) -> bytes:
    return epoch.encode() + b"\0" + _NUMBER(block)
