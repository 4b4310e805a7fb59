"""Reading the events of the log, within a transaction of whoever reads.

The key of a record is its offset; rows that lie in one record by column have the offset of the last (`record_batch`).
Offsets have no gaps.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import lmdb

from mainspring.events.record import BATCH, KEY, UNPACK, Record, Stretch, decode, size_of
from mainspring.events.shapes import Shapes

if TYPE_CHECKING:
    from mainspring.events.record_batch import Stored

_INGESTED = 6


class Pages:
    """The records of one log.

    Args:
        events: The database of them.
        shapes: What they hold; read again where one is younger than what is known.
    """

    def __init__(self, events: lmdb._Database, shapes: Shapes) -> None:
        self._events = events
        self._shapes = shapes

    def page(self, txn: lmdb.Transaction[bytes], after: int, limit: int) -> list[Record | Stored]:
        """Records whose offsets follow ``after``, in order, of at most ``limit`` rows."""
        out: list[Record | Stored] = []
        with txn.cursor(db=self._events) as cursor:
            if not cursor.set_range(KEY(after + 1)):
                return out
            for key, raw in cursor.iternext():
                last = int.from_bytes(key, "big")
                try:
                    one = self._decode(last, raw, after, limit)
                except KeyError:  # a shape younger than our cache
                    self._shapes.load(txn)
                    one = self._decode(last, raw, after, limit)
                out.append(one)
                limit -= one.last - one.first + 1
                if limit <= 0:
                    break
        return out

    def stretch(self, txn: lmdb.Transaction[bytes], after: int, sources: Collection[str], limit: int) -> Stretch | None:
        """At least ``limit`` rows that follow ``after``, if there are as many, and less than a record more.

        Only those of ``sources`` are decoded. None without any.
        """
        out: list[Record] = []
        wanted = self._wanted(sources)
        known_at_us = -(1 << 63)
        with txn.cursor(db=self._events) as cursor:
            if not cursor.set_range(KEY(after + 1)):
                return None
            last = int.from_bytes(cursor.key(), "big") - size_of(cursor.value())
            first = max(after, last) + 1
            for raw in cursor.iternext(keys=False):
                form, _, number, size, _, at_us, _ = UNPACK(raw)
                if form != BATCH:
                    size = 1
                last += size
                known_at_us = max(at_us + size - 1, known_at_us)
                if number not in wanted:  # a shape younger than our cache
                    self._shapes.load(txn)
                    wanted = self._wanted(sources)
                if wanted[number]:
                    one = self._decode(last, raw, after, size)
                    out += (one,) if isinstance(one, Record) else one.records()
                if last - after >= limit:
                    break
        return Stretch(out, first, last, known_at_us)

    def offset_before(self, txn: lmdb.Transaction[bytes], ingested_at_us: int, low: int, high: int) -> int:
        """The first offset from ``low`` on, and before ``high``, that was ingested then or later; else ``high``."""
        with txn.cursor(db=self._events) as cursor:
            while low < high:
                middle = (low + high) // 2
                if cursor.set_range(KEY(middle)) and UNPACK(cursor.value())[_INGESTED] >= ingested_at_us:
                    high = middle
                else:
                    low = middle + 1
        return low

    def _wanted(self, sources: Collection[str]) -> dict[int, bool]:
        return {number: shape.source in sources for number, (shape, _) in self._shapes.known.items()}

    def _decode(self, last: int, raw: bytes, after: int, limit: int) -> Record | Stored:
        """What a key of the log holds, at most ``limit`` of its rows, and only those that follow ``after``."""
        if raw[0] != BATCH:
            return decode(last, raw, self._shapes.known)
        from mainspring.events.record_batch import Stored  # needs numpy, which `mainspring status` has no time for

        return Stored.read(last, raw, self._shapes.known, after, limit)
