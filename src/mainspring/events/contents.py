"""What stands for the content of a row, when an id comes a second time: is it the same row?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import repeat

import lmdb

from mainspring.events.batch import encode_row
from mainspring.events.record import BATCH, KEY, Shape, size_of
from mainspring.events.record_batch import Stored
from mainspring.events.system import PREDICTION

NO_CONTENT = bytes(8)
UNREAD = b"\xff" * 8
"""In place of what stands for a row that lies in the log by column: it is read from there, should somebody ask."""


def content_of(source: str, body: bytes) -> bytes:
    """8 bytes that stand for a row; zeros for a prediction: its id is a number that is used once, and decides alone."""
    return NO_CONTENT if source == PREDICTION.name else blake2b(body, digest_size=8).digest()


def contents_of(source: str, bodies: Iterable[bytes]) -> Iterable[bytes]:
    """``content_of`` of many."""
    if source == PREDICTION.name:
        return repeat(NO_CONTENT)
    return (blake2b(body, digest_size=8).digest() for body in bodies)


def contents_at(
    txn: lmdb.Transaction[bytes],
    events: lmdb._Database,
    shapes: Mapping[int, tuple[Shape, int | None]],
    offsets: Iterable[int],
) -> Iterator[tuple[int, bytes]]:
    """Offset and ``content_of`` of rows that lie by column, those of one record together; of what was trimmed none.

    Args:
        txn: In which to read.
        events: The database of records.
        shapes: Shape and the index of its id, by number.
        offsets: Where the rows are.
    """
    left = sorted(offsets)
    at = 0
    with txn.cursor(db=events) as cursor:
        while at < len(left) and cursor.set_range(KEY(left[at])):
            last, raw = int.from_bytes(cursor.key(), "big"), cursor.value()
            first = last - size_of(raw) + 1
            start = at
            while at < len(left) and left[at] <= last:
                at += 1
            mine = [offset for offset in left[start:at] if offset >= first]
            if mine and raw[0] == BATCH:
                stored = Stored.read(last, raw, shapes, 0)
                bodies = map(encode_row, stored.rows([offset - first for offset in mine]))
                yield from zip(mine, contents_of(stored.shape.source, bodies), strict=False)
