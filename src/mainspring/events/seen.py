"""Which ids a source has seen, for as long as its ``dedup`` says.

An id is known by 128 bits of a hash of source and id, with 8 bytes that stand for the row's content, the offset, and
when it became known: the window is measured by that. It is remembered for ``dedup`` after it became known *and* after
it was written, so that a file of old history can be loaded twice without counting twice.

The newest ids are kept in memory alone: they are in the log, and are read from it again when the log is opened. Once
there are enough of them they become a sorted run (``runs.py``); before their records are trimmed, too.

What stands for a row that lies in the log by column is ``UNREAD``: nearly every id is new, and then nobody asks. Who
does has it read from the record. Before such a record is trimmed another entry says what stands for each of its rows.

Of a corrected source the entry of an id is its latest version, and the id alone does not make an event a duplicate. One
that is equal to the latest version changes nothing and is a duplicate. One that is equal to an older version may be a
row that went back to what it was; it is a redelivery only if rows say themselves when they changed (``known_at=``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import count

import lmdb
import msgspec

from mainspring.definitions.values import SourceDef
from mainspring.events.contents import UNREAD, content_of, contents_at
from mainspring.events.counters import CELL
from mainspring.events.record import BATCH, HEADER, UNPACK, Record, Shape, decode
from mainspring.events.record_batch import Stored
from mainspring.events.runs import ENTRY, Entry, Runs

MEMORY = b"ids:"
SEALED = b"sealed"
_LENGTH = struct.Struct("<I").pack
_encode = msgspec.msgpack.Encoder().encode
_MOST_UNSEALED = 65_536  # records that opening the log reads again


class Earlier(msgspec.Struct, frozen=True, gc=False):
    """An event with the same id that is already in the log, at an offset that may not be known."""

    offset: int | None
    is_same: bool


class Memory(msgspec.Struct, frozen=True):
    """How a source's ids are remembered: what its definition says of it, kept with the log.

    Attributes:
        corrects: The column that says what an event does to the row with its id.
        is_stamped: Whether rows of a corrected source say when they changed.
        aliases: Names that the column of corrections had before.
    """

    source: str
    width_us: int
    corrects: str | None = None
    is_stamped: bool = False
    aliases: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: SourceDef) -> Memory:
        """As a source is defined now."""
        aliases = () if source.corrects is None else source.columns[source.corrects].aliases
        return cls(source.name, max(source.dedup_us, 1), source.corrects, source.known_at is not None, aliases)


class Hasher:
    """Hashes of one source's ids, ``core.ids.hash128`` of source and id."""

    __slots__ = ("_base",)

    def __init__(self, source: str) -> None:
        name = source.encode()
        self._base = _LENGTH(len(name)) + name

    def key(self, ident: bytes, content: bytes = b"") -> bytes:
        """16 bytes that stand for an id; with ``content`` for one row of it."""
        return blake2b(self._base + _LENGTH(len(ident)) + ident + content, digest_size=16).digest()

    def keys(self, idents: Iterable[str]) -> list[bytes]:
        """``key`` of many."""
        base, length = self._base, _LENGTH
        texts = [ident.encode() for ident in idents]
        return [blake2b(base + length(len(text)) + text, digest_size=16).digest() for text in texts]


class Seen:
    """The memory of ids. After ``finish`` call ``committed``, or ``undo`` if the transaction failed."""

    def __init__(self, runs: Runs, events: lmdb._Database, meta: lmdb._Database) -> None:
        self._runs = runs
        self._events = events
        self._meta = meta
        self._memories: dict[str, Memory] = {}
        self._young: dict[bytes, bytes] = {}  # entries of each hash, as runs have them: no objects for a collector
        self._added: list[bytes] = []  # of this transaction
        self._old: dict[bytes, list[Entry]] = {}  # what runs know of the ids of this transaction
        self._met: dict[bytes, list[Entry]] = {}  # and of those that are to be new
        self._shapes: Mapping[int, tuple[Shape, int | None]] = {}
        self._contents: dict[int, bytes] = {}  # by offset, what stands for the rows that they are compared with
        self._entries = 0  # in ``_young``
        self._is_sealed = False
        self._last = self.sealed_offset = 0

    def load(self, txn: lmdb.Transaction[bytes], shapes: dict[int, tuple[Shape, int | None]]) -> None:
        """Read what there is, the newest ids from their records."""
        self._runs.load(txn)
        self._shapes = shapes
        self._memories.clear()
        self._young, self._added, self._old, self._met, self._contents = {}, [], {}, {}, {}
        self._entries, self._is_sealed = 0, False
        with txn.cursor(db=self._meta) as cursor:
            found = cursor.set_range(MEMORY)
            while found and cursor.key().startswith(MEMORY):
                memory = msgspec.msgpack.decode(cursor.value(), type=Memory)
                self._memories[memory.source] = memory
                found = cursor.next()
        raw = txn.get(SEALED, db=self._meta)
        self.sealed_offset = 0 if raw is None else int(CELL.unpack(raw)[0])
        hashers = {name: Hasher(name) for name in self._memories}
        with txn.cursor(db=self._events) as cursor:
            found = cursor.set_range((self.sealed_offset + 1).to_bytes(8, "big"))
            while found:
                offset, raw = int.from_bytes(cursor.key(), "big"), cursor.value()
                if raw[0] == BATCH:
                    stored = Stored.read(offset, raw, shapes, self.sealed_offset)
                    for record in () if stored.is_numbered else stored.records():  # numbers have their own memory
                        self._remember(record, UNREAD, hashers)
                else:
                    record = decode(offset, raw, shapes)
                    self._remember(record, content_of(record.source, raw[HEADER.size :]), hashers)
                found = cursor.next()
        self._added.clear()

    def _remember(self, record: Record, content: bytes, hashers: Mapping[str, Hasher]) -> None:
        """Remember the id of a record of the log."""
        known = self._memories.get(record.source)
        if record.id is None or known is None:
            return
        named = {known.corrects, *known.aliases}  # a record from before there was such a column has none
        does = next((v for c, v in zip(record.columns, record.values, strict=True) if c in named), None)
        ident = record.id.encode()
        key = hashers[record.source].key(ident)
        if does is not None and content == UNREAD:
            content = content_of(record.source, _encode(record.values))
        row = hashers[record.source].key(ident, content) if does is not None else b""
        self._put(known, key, row, content, record.offset, record.known_at_us, record.ingested_at_us, does)

    def memory(self, txn: lmdb.Transaction[bytes], source: SourceDef) -> Memory:
        """How a source's ids are remembered from now on."""
        memory = Memory.of(source)
        if self._memories.get(source.name) != memory:
            txn.put(MEMORY + source.name.encode(), _encode(memory), db=self._meta)
            self._memories[source.name] = memory
        return memory

    def expect(self, txn: lmdb.Transaction[bytes], hashes: Sequence[bytes], compared: Iterable[bytes]) -> None:
        """Look up all that this transaction will ask for.

        Args:
            txn: The append's own transaction.
            hashes: Of ids, and of ids with rows.
            compared: Those of them whose rows will be compared with what was there.
        """
        self._old = self._runs.find(txn, list(dict.fromkeys(hashes)))
        there = (key for key in compared if key in self._young or key in self._old)
        unread = {entry[1] for key in there for entry in self._versions(key) if entry[0] == UNREAD}
        self._contents = dict(contents_at(txn, self._events, self._shapes, unread)) if unread else {}

    def add(
        self, memory: Memory, key: bytes, content: bytes, offset: int, known_us: int, now_us: int
    ) -> Earlier | None:
        """Remember an event under its id, or say which earlier one it repeats or is in conflict with.

        Args:
            memory: Of its source.
            key: The id's hash; one of those that were expected.
            content: What stands for the row.
            offset: Where the event will be.
            known_us: When it became known.
            now_us: When it is written.
        """
        if key in self._young or key in self._old:
            width = memory.width_us
            near = [entry for entry in self._versions(key) if abs(known_us - entry[2]) < width]
            if near:
                first = min(near, key=_first)
                return Earlier(abs(first[1]), first[0] in (content, UNREAD))
        self._put(memory, key, b"", content, offset, known_us, now_us, None)
        return None

    def meet(self, txn: lmdb.Transaction[bytes], hashes: Sequence[bytes]) -> None:
        """Look up which of the ids that ``add_new`` will be asked about are old; all at once, for that is cheaper."""
        self._met = self._runs.find(txn, hashes)

    def add_new(
        self,
        memory: Memory,
        keys: Sequence[bytes],
        contents: Iterable[bytes],
        offset: int,
        known_us: int,
    ) -> bool:
        """Remember live events if none of their ids was ever seen, and say so; else remember none of them.

        Args:
            memory: Of their source, which is not corrected.
            keys: Hashes of their ids, all of which were met.
            contents: What stands for each row.
            offset: Where the first will be; the others follow.
            known_us: When the first becomes known; the others a microsecond later each.
        """
        new = set(keys)
        is_new = len(new) == len(keys) and self._young.keys().isdisjoint(new) and self._met.keys().isdisjoint(new)
        if not is_new:
            return False
        n = len(keys)
        until_us = known_us + memory.width_us
        entries = map(ENTRY.pack, keys, contents, count(offset), count(known_us), range(until_us, until_us + n))
        self._young.update(zip(keys, entries, strict=True))
        self._added += keys
        self._entries += n
        return True

    def correct(
        self,
        memory: Memory,
        keys: tuple[bytes, bytes],
        content: bytes,
        offset: int,
        known_us: int,
        now_us: int,
        does: str,
        *,
        first_wins: bool,
    ) -> Earlier | None:
        """As ``add``, of a corrected source.

        An event equal to the latest version of its id repeats it. An insert of an id that is there is else a repetition
        of an earlier insert, or in conflict. An update and a delete are new, and so is an insert after a delete; but if
        rows say when they changed, whatever came before with the same row is repeated.

        Args:
            memory: Of its source.
            keys: Hashes of the id, and of the id with the row's content; both were expected.
            content: What stands for the row.
            offset: Where the event will be.
            known_us: When it became known.
            now_us: When it is written.
            does: What the event does to the row with its id: insert, update or delete.
            first_wins: Whether the id alone makes it a duplicate.
        """
        latest = self._latest(memory, keys[0], known_us)
        if latest is not None and (latest[0] == content or first_wins):
            return Earlier(abs(latest[1]), latest[0] == content)
        is_there = latest is not None and latest[1] > 0
        if memory.is_stamped or (does == "insert" and is_there):
            same = self._latest(memory, keys[1], known_us)
            if same is not None:
                return Earlier(same[1], is_same=True)
        if latest is not None and is_there and does == "insert":
            return Earlier(latest[1], is_same=False)
        self._put(memory, keys[0], keys[1], content, offset, known_us, now_us, does)
        return None

    def finish(self, txn: lmdb.Transaction[bytes], offset: int, now_us: int) -> None:
        """Make a run of the newest ids if there are enough, and tend the runs; ``offset`` is the log's last now.

        Also when many records without an id have come since the last run: whoever opens the log reads them again.
        """
        if self._runs.is_enough(self._entries) or offset - self.sealed_offset >= _MOST_UNSEALED:
            self.seal(txn, offset)
        self._runs.tend(txn, now_us, len(self._added))

    def tell(self, txn: lmdb.Transaction[bytes], stretches: Iterable[tuple[int, bytes]], now_us: int) -> None:
        """Remember what stands for rows that lie by column and are about to be deleted, where it may be asked for yet.

        Args:
            txn: In which they are deleted.
            stretches: Their records, with the offset of the last row of each.
            now_us: What was remembered until before it may be forgotten.
        """
        entries: list[bytes] = []
        for last, raw in stretches:
            _, _, number, size, _, known_us, _ = UNPACK(raw)
            kept = txn.get(MEMORY + self._shapes[number][0].source.encode(), db=self._meta)
            if kept is None:
                continue
            memory = msgspec.msgpack.decode(kept, type=Memory)
            if known_us + size + memory.width_us < now_us:  # as mostly: the log keeps rows longer than their ids
                continue
            stored = Stored.read(last, raw, self._shapes, 0)
            if stored.is_numbered:
                continue
            hasher, records = Hasher(memory.source), stored.records()
            keys = hasher.keys(str(record.id) for record in records)
            known = self._runs.find(txn, keys)
            for key, record in zip(keys, records, strict=True):
                for said, offset, came_us, until_us in known.get(key, ()):
                    if offset == record.offset and said == UNREAD:
                        content = content_of(memory.source, _encode(record.values))
                        entries.append(ENTRY.pack(key, content, offset, came_us, until_us))
        if entries:
            self._runs.seal(txn, b"".join(entries))

    def seal(self, txn: lmdb.Transaction[bytes], offset: int) -> None:
        """Make a run of what is kept in memory alone: all ids of the log after ``sealed_offset`` up to ``offset``."""
        if self._young:
            self._runs.seal(txn, b"".join(self._young.values()))
        txn.put(SEALED, CELL.pack(offset), db=self._meta)
        self._is_sealed = True
        self._last = offset

    def committed(self) -> None:
        """What was done since the last time is on the disk."""
        self._runs.committed()
        self._added.clear()
        self._old, self._met, self._contents = {}, {}, {}
        if self._is_sealed:
            self._young, self._entries, self._is_sealed = {}, 0, False
            self.sealed_offset = self._last

    def undo(self) -> None:
        """What was done since the last time is not."""
        self._runs.undo()
        for key in self._added:
            left = self._young[key][: -ENTRY.size]
            if left:
                self._young[key] = left
            else:
                del self._young[key]
        self._entries -= len(self._added)
        self._added.clear()
        self._old, self._met, self._contents, self._is_sealed = {}, {}, {}, False
        self._memories.clear()

    def _put(
        self,
        memory: Memory,
        key: bytes,
        row: bytes,
        content: bytes,
        offset: int,
        known_us: int,
        now_us: int,
        does: str | None,
    ) -> None:
        until_us = max(known_us, now_us) + memory.width_us
        self._keep(key, ENTRY.pack(key, content, -offset if does == "delete" else offset, known_us, until_us))
        if does is not None and (memory.is_stamped or does == "insert"):
            self._keep(row, ENTRY.pack(row, content, offset, known_us, until_us))

    def _keep(self, key: bytes, entry: bytes) -> None:
        self._young[key] = self._young.get(key, b"") + entry
        self._added.append(key)
        self._entries += 1

    def _versions(self, key: bytes) -> list[Entry]:
        found = self._old.get(key, []) + [entry[1:] for entry in ENTRY.iter_unpack(self._young.get(key, b""))]
        known = self._contents
        return [(known.get(one[1], UNREAD), *one[1:]) if one[0] == UNREAD else one for one in found]

    def _latest(self, memory: Memory, key: bytes, known_us: int) -> Entry | None:
        """The newest entry within the window."""
        near = [entry for entry in self._versions(key) if abs(known_us - entry[2]) < memory.width_us]
        return max(near, key=_last, default=None)


def _first(entry: Entry) -> tuple[int, bool]:
    """Of two of one event the one comes first that says its content."""
    return entry[2], entry[0] == UNREAD


def _last(entry: Entry) -> tuple[int, bool]:
    return abs(entry[1]), entry[0] != UNREAD
