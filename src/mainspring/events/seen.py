"""Which ids a source has seen, for as long as its ``dedup`` says: 128-bit hashes in buckets of time, dropped whole.

A bucket is as wide as the source's window, so an id can only be in its own bucket or in a neighbour. Events are put in
buckets by ``known_at``; a bucket goes when nothing new can fall in its window *and* nothing has been written to it for
as long, so that a file of old history can be loaded twice without counting twice.

Of a corrected source the entry of an id is its latest version, and the id alone does not make an event a duplicate. One
that is equal to the latest version changes nothing and is a duplicate. One that is equal to an older version may be a
row that went back to what it was; it is a redelivery only if rows say themselves when they changed (``known_at=``).
"""

from __future__ import annotations

import struct
from hashlib import blake2b

import lmdb
import msgspec

from mainspring.definitions.values import SourceDef

_STREAM = b"stream:"
_PREFIX = struct.Struct(">IQ")
_LENGTH = struct.Struct("<I").pack
_PACK = struct.Struct("<qq").pack
_VALUE = struct.Struct("<qq").unpack_from
_TIME = struct.Struct("<q")
_BIAS = 1 << 63
_NEVER_US = 1 << 62
_SLICE = 20_000  # entries deleted in one transaction at most, so that dropping never holds up an append for long


class Earlier(msgspec.Struct, frozen=True):
    """An event with the same id that is already in the log."""

    offset: int
    is_same: bool


class Stream:
    """One source's part of the memory."""

    __slots__ = ("base", "buckets", "number", "prefixes", "width_us")

    def __init__(self, source: str, width_us: int, number: int) -> None:
        self.number = number
        self.width_us = width_us
        name = source.encode()
        self.base = len(name).to_bytes(4, "little") + name
        self.buckets: dict[int, int] = {}  # when each was last written
        self.prefixes: dict[int, tuple[bytes, tuple[bytes, ...]]] = {}  # of the keys of a bucket, and of its neighbours

    def key(self, ident: bytes, content: bytes = b"") -> bytes:
        """16 bytes that stand for an id, ``core.ids.hash128`` of source and id; with ``content`` for one row of it."""
        return blake2b(self.base + _LENGTH(len(ident)) + ident + content, digest_size=16).digest()

    def prefixes_of(self, index: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Prefix of the keys of a bucket, and those of its neighbours that exist."""
        beside = tuple(_PREFIX.pack(self.number, i + _BIAS) for i in (index - 1, index + 1) if i in self.buckets)
        return _PREFIX.pack(self.number, index + _BIAS), beside


class Seen:
    """The memory of ids, kept in two databases of the log's environment: entries, and buckets with their last write.

    What it holds besides is a cache of the buckets' table: after a transaction that failed, call ``reload``.
    """

    def __init__(self, entries: lmdb._Database, buckets: lmdb._Database, meta: lmdb._Database) -> None:
        self._entries = entries
        self._table = buckets
        self._meta = meta
        self._streams: dict[int, Stream] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._touched: set[tuple[int, int]] = set()
        self._next_drop_us = 0

    def load(self, txn: lmdb.Transaction[bytes]) -> None:
        """Read what there is; also after a transaction that failed, to forget what it put in the cache."""
        self._streams.clear()
        self._numbers.clear()
        self._touched.clear()
        self._next_drop_us = 0
        with txn.cursor(db=self._meta) as cursor:
            found = cursor.set_range(_STREAM)
            while found and cursor.key().startswith(_STREAM):
                name, _, width = cursor.key()[len(_STREAM) :].decode().partition(":")
                number = int.from_bytes(cursor.value(), "big")
                self._numbers[name, int(width)] = number
                self._streams[number] = Stream(name, int(width), number)
                found = cursor.next()
        with txn.cursor(db=self._table) as cursor:
            for key, value in cursor:
                number, biased = _PREFIX.unpack(key)
                self._streams[number].buckets[biased - _BIAS] = _TIME.unpack(value)[0]

    def stream(self, txn: lmdb.Transaction[bytes], source: SourceDef) -> Stream:
        """A source's part, made when it has none. Another ``dedup`` starts another part, and the old one fades."""
        width_us = max(source.dedup_us, 1)
        number = self._numbers.get((source.name, width_us))
        if number is None:
            number = len(self._numbers) + 1
            key = _STREAM + f"{source.name}:{width_us}".encode()
            txn.put(key, number.to_bytes(4, "big"), db=self._meta)
            self._numbers[source.name, width_us] = number
            self._streams[number] = Stream(source.name, width_us, number)
        return self._streams[number]

    def add(
        self,
        txn: lmdb.Transaction[bytes],
        stream: Stream,
        ident: str,
        content: bytes,
        offset: int,
        known_at_us: int,
        operation: str | None = None,
        *,
        is_stamped: bool = False,
    ) -> Earlier | None:
        """Remember an event under its id, or say which earlier one it repeats or is in conflict with.

        Of a corrected source an event equal to the latest version of its id repeats it. An insert of an id that is
        there is else a repetition of an earlier insert, or in conflict. An update and a delete are new, and so is an
        insert after a delete; but if rows say when they changed, whatever came before with the same row is repeated.

        Args:
            txn: The append's own transaction.
            stream: The source's part.
            ident: The event's id.
            content: 8 bytes that stand for the row's content.
            offset: Where the event will be.
            known_at_us: When it became known: what the window is measured by.
            operation: What the event of a corrected source does to the row with its id.
            is_stamped: Whether rows of a corrected source say when they changed.
        """
        text = ident.encode()
        key = stream.key(text)
        if operation is None:
            return self._add(txn, stream, key, content, offset, known_at_us)
        latest = self._find(txn, stream, key, known_at_us)
        if latest is not None and latest[0] == content:
            return Earlier(abs(latest[1]), is_same=True)
        row = stream.key(text, content)
        is_there = latest is not None and latest[1] > 0
        if is_stamped or (operation == "insert" and is_there):
            same = self._find(txn, stream, row, known_at_us)
            if same is not None:
                return Earlier(same[1], is_same=True)
        if latest is not None and is_there and operation == "insert":
            return Earlier(latest[1], is_same=False)
        self._put(txn, stream, key, content, -offset if operation == "delete" else offset, known_at_us)
        if is_stamped or operation == "insert":
            self._put(txn, stream, row, content, offset, known_at_us)
        return None

    def _add(
        self, txn: lmdb.Transaction[bytes], stream: Stream, key: bytes, content: bytes, offset: int, known_at_us: int
    ) -> Earlier | None:
        width = stream.width_us
        own, beside = self._prefixes(stream, known_at_us // width)
        for prefix in beside:
            found = txn.get(prefix + key, db=self._entries)
            if found is not None:
                at, then_us = _VALUE(found, 8)
                if abs(known_at_us - then_us) < width:
                    return Earlier(abs(at), found[:8] == content)
        own += key
        if not txn.put(own, content + _PACK(offset, known_at_us), overwrite=False, db=self._entries):
            found = txn.get(own, db=self._entries)
            if found is not None:
                return Earlier(abs(_VALUE(found, 8)[0]), found[:8] == content)
        return None

    def _find(
        self, txn: lmdb.Transaction[bytes], stream: Stream, key: bytes, known_at_us: int
    ) -> tuple[bytes, int] | None:
        """Content and offset, negative for a delete, of the newest entry of ``key`` within the window."""
        newest: tuple[bytes, int] | None = None
        own, beside = self._prefixes(stream, known_at_us // stream.width_us)
        for prefix in (own, *beside):
            found = txn.get(prefix + key, db=self._entries)
            if found is not None:
                at, then_us = _VALUE(found, 8)
                is_newer = newest is None or abs(at) > abs(newest[1])
                if is_newer and abs(known_at_us - then_us) < stream.width_us:
                    newest = found[:8], at
        return newest

    def _put(
        self, txn: lmdb.Transaction[bytes], stream: Stream, key: bytes, content: bytes, offset: int, known_at_us: int
    ) -> None:
        own, _ = self._prefixes(stream, known_at_us // stream.width_us)
        txn.put(own + key, content + _PACK(offset, known_at_us), db=self._entries)

    def _prefixes(self, stream: Stream, index: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Prefixes of a bucket that is written to in this transaction, and of its neighbours."""
        found = stream.prefixes.get(index)
        if found is None:
            if index not in stream.buckets:
                stream.buckets[index] = 0
                self._next_drop_us = 0
                stream.prefixes.clear()
            found = stream.prefixes[index] = stream.prefixes_of(index)
            self._touched.add((stream.number, index))
        return found

    def finish(self, txn: lmdb.Transaction[bytes], now_us: int) -> None:
        """Note when the buckets of this transaction were written, and delete some of what is out of its window."""
        for number, index in self._touched:
            self._streams[number].prefixes.clear()
            self._streams[number].buckets[index] = now_us
            txn.put(_PREFIX.pack(number, index + _BIAS), _TIME.pack(now_us), db=self._table)
        self._touched.clear()
        if now_us >= self._next_drop_us:
            self._drop_due(txn, now_us)

    def _drop_due(self, txn: lmdb.Transaction[bytes], now_us: int) -> None:
        left = _SLICE
        upcoming: list[int] = []
        for number, stream in self._streams.items():
            for index, written_us in sorted(stream.buckets.items()):
                due_us = max((index + 1) * stream.width_us, written_us) + stream.width_us
                if due_us >= now_us:
                    upcoming.append(due_us + 1)
                elif left <= 0:
                    upcoming.append(now_us)
                else:
                    left -= self._drop(txn, stream, number, index, left)
                    if index in stream.buckets:
                        upcoming.append(now_us)
        self._next_drop_us = min(upcoming, default=_NEVER_US)

    def _drop(self, txn: lmdb.Transaction[bytes], stream: Stream, number: int, index: int, limit: int) -> int:
        prefix = _PREFIX.pack(number, index + _BIAS)
        dropped = 0
        with txn.cursor(db=self._entries) as cursor:
            found = cursor.set_range(prefix)
            while found and dropped < limit and cursor.key().startswith(prefix):
                found = cursor.delete() and bool(cursor.key())
                dropped += 1
            is_empty = not found or not cursor.key().startswith(prefix)
        if is_empty:
            del stream.buckets[index]
            stream.prefixes.clear()
            txn.delete(prefix, db=self._table)
        return dropped
