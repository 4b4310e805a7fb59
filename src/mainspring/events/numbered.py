"""Which numbered ids the log has: a bit a number, where any other id takes a hash.

The ids of predictions are numbers of an epoch, one start of a gateway, and each is used once. A block holds 8,192 of
them: when they may be forgotten (i64, microseconds), and their bits.
"""

from __future__ import annotations

import struct

import lmdb
import numpy as np
import numpy.typing as npt

from mainspring.core.ids import numbered

_BLOCK_BITS = 13
_BYTES = 1 << (_BLOCK_BITS - 3)
_UNTIL = struct.Struct("<q")
_NUMBER = struct.Struct(">Q").pack


class Numbered:
    """The memory of numbered ids, within transactions of the log's writer.

    After ``finish`` the blocks that were touched are written; after a failed transaction call ``forget``.
    """

    def __init__(self, db: lmdb._Database) -> None:
        self._db = db
        self._blocks: dict[bytes, bytearray] = {}
        self._touched: set[bytes] = set()
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
        known = np.zeros(len(numbers), np.bool_)
        blocks = numbers >> _BLOCK_BITS
        for block in np.unique(blocks).tolist():
            mine = blocks == block
            places = numbers[mine] & ((1 << _BLOCK_BITS) - 1)
            key = _key(epoch, block)
            found = self._block(txn, key)
            bits = np.frombuffer(found, np.uint8, offset=_UNTIL.size)
            at, mask = places >> 3, np.left_shift(1, places & 7).astype(np.uint8)
            known[mine] = bits[at] & mask != 0
            np.bitwise_or.at(bits, at, mask)
            _UNTIL.pack_into(found, 0, max(until_us, *_UNTIL.unpack_from(found)))
            self._touched.add(key)
        return known

    def add_id(self, txn: lmdb.Transaction[bytes], ident: str, until_us: int) -> bool:
        """Remember one id, if it is a numbered one; whether it was known."""
        found = numbered(ident)
        return found is not None and bool(self.add(txn, found[0], np.array([found[1]]), until_us)[0])

    def finish(self, txn: lmdb.Transaction[bytes], now_us: int) -> None:
        """Write what was remembered, and forget a block that is out of its time, if the next in turn is."""
        for key in self._touched:
            txn.put(key, bytes(self._blocks[key]), db=self._db)
        self.forget()
        with txn.cursor(db=self._db) as cursor:
            if cursor.set_range(self._swept + b"\0") or cursor.first():
                self._swept = cursor.key()
                if _UNTIL.unpack_from(cursor.value())[0] < now_us:
                    cursor.delete()

    def forget(self) -> None:
        """What is in memory is what the disk says."""
        self._blocks.clear()
        self._touched.clear()

    def _block(self, txn: lmdb.Transaction[bytes], key: bytes) -> bytearray:
        found = self._blocks.get(key)
        if found is None:
            raw = txn.get(key, db=self._db)
            found = self._blocks[key] = bytearray(_UNTIL.size + _BYTES) if raw is None else bytearray(raw)
        return found


def _key(epoch: str, block: int) -> bytes:
    return epoch.encode() + b"\0" + _NUMBER(block)
