"""What happens inside one append: who comes in, who is a duplicate, who goes to quarantine, what is counted.

The ``Appender`` works within a write transaction that the log opens and, with it, takes back when anything fails.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import lmdb
import msgspec

from mainspring.core.spans import format_span
from mainspring.core.times import to_iso
from mainspring.definitions.values import SourceDef
from mainspring.events import held
from mainspring.events.contract import Row
from mainspring.events.held import MAX_RAW_BYTES, Held, Reject
from mainspring.events.record import FORMAT, HEADER, HISTORY, MENDED, Shape, stored_default
from mainspring.events.seen import Seen, Stream
from mainspring.events.system import PREDICTION

CELL = struct.Struct("<q")
COUNTS = struct.Struct("<4Q")
SENT = struct.Struct("<Qq")
DEPRECATED = b"deprecated:"
KEY = struct.Struct(">Q").pack
ACCEPTED, DUPLICATE, QUARANTINED, MENDED_COUNT = range(4)
_encode = msgspec.msgpack.Encoder().encode
_to_json = msgspec.json.Encoder().encode


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A checked row on its way into the log.

    Attributes:
        raw: The bytes it came as, for quarantine; made from the row if None.
        history: Whether it keeps the ``known_at`` that its source declares instead of becoming known now.
        resolves: Sequence number of the quarantined record that this is the mended form of.
        first_wins: A request that is asked again is the first one, whatever else it says now: its id alone decides.
    """

    source: SourceDef
    row: Row
    raw: bytes | None = None
    history: bool = False
    sender: str = ""
    resolves: int | None = None
    first_wins: bool = False

    @property
    def known_at_us(self) -> int:
        """What the source declares for history."""
        names = tuple(self.source.columns)
        known_at_us: int = self.row[names.index(self.source.known_at or self.source.time)]
        return known_at_us


class Ack(msgspec.Struct, frozen=True, gc=False):
    """What became of a draft: accepted, duplicate (of the event at ``offset``) or quarantined, with the reason."""

    status: str
    offset: int | None = None
    reason: str | None = None
    id: str | None = None
    code: str | None = None
    path: str | None = None


class Counts(msgspec.Struct, frozen=True):
    """Of one source since the beginning: sent = accepted + duplicate + quarantined; mended were quarantined before."""

    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    mended: int = 0


class Sent(msgspec.Struct, frozen=True):
    """How often a deprecated column came, other than null or its default, and when it last did."""

    times: int
    last_us: int


class _Target:
    """What appending to one source needs, looked up once."""

    __slots__ = (
        "corrects_at",
        "deprecated",
        "future_us",
        "id_at",
        "is_prediction",
        "is_stamped",
        "known_at",
        "name",
        "number",
        "source",
        "stream",
        "time_at",
    )

    def __init__(self, source: SourceDef, number: int, stream: Stream | None) -> None:
        names = [f.name for f in source.fields]
        self.source = source
        self.name = source.name
        self.number = number
        self.stream = stream
        self.time_at = names.index(source.time)
        self.known_at = names.index(source.known_at or source.time)
        self.id_at = names.index(source.id) if source.id is not None else None
        self.corrects_at = names.index(source.corrects) if source.corrects is not None else None
        self.is_stamped = source.known_at is not None
        self.future_us = source.future_us
        self.is_prediction = source.name == PREDICTION.name
        self.deprecated = tuple(
            (f"{source.name}:{f.name}", i, stored_default(f)) for i, f in enumerate(source.fields) if f.about.deprecated
        )


class Shapes:
    """The shapes that records of the log have, by number, with the index of their id."""

    def __init__(self, db: lmdb._Database) -> None:
        self._db = db
        self.known: dict[int, tuple[Shape, int | None]] = {}

    def load(self, txn: lmdb.Transaction[bytes]) -> None:
        """Read those that are not known yet."""
        with txn.cursor(db=self._db) as cursor:
            for key, raw in cursor:
                number = int.from_bytes(key, "big")
                if number not in self.known:
                    shape = msgspec.msgpack.decode(raw, type=Shape)
                    self.known[number] = (shape, shape.id_index)

    def number(self, txn: lmdb.Transaction[bytes], source: SourceDef) -> int:
        """The number of a source's shape as it is defined now, stored if it is new."""
        shape = Shape.of(source)
        for number, (known, _) in self.known.items():
            if known == shape:
                return number
        number = max(self.known, default=0) + 1
        txn.put(number.to_bytes(4, "big"), _encode(shape), db=self._db)
        self.known[number] = (shape, shape.id_index)
        return number


class Appender:
    """The writer's memory of the log, and what it does with drafts.

    After a transaction that failed, or before the first one, call ``load``.
    """

    def __init__(self, dbs: Mapping[str, lmdb._Database], shapes: Shapes) -> None:
        self._events, self._meta = dbs["events"], dbs["meta"]
        self._quarantine, self._counts = dbs["quarantine"], dbs["counts"]
        self._shapes = shapes
        self._seen = Seen(dbs["seen"], dbs["buckets"], self._meta)
        self._targets: dict[int, _Target] = {}
        self._last_known_us = self._sequence = 0
        self.last_offset = 0
        self.served_until_us: int | None = None

    def load(self, txn: lmdb.Transaction[bytes]) -> None:
        """Make the memory what the disk says."""
        self._targets.clear()
        self._shapes.known.clear()
        self._shapes.load(txn)
        self._seen.load(txn)
        self.last_offset = self._cell(txn, b"last") or 0
        self._last_known_us = self._cell(txn, b"known") or 0
        self.served_until_us = self._cell(txn, b"served")
        with txn.cursor(db=self._quarantine) as cursor:
            self._sequence = int.from_bytes(cursor.key(), "big") if cursor.last() else 0

    def append(  # noqa: C901, PLR0912, PLR0915  the loop that every event passes: a call costs more than a branch
        self, txn: lmdb.Transaction[bytes], drafts: Sequence[Draft | Reject], now_us: int
    ) -> list[Ack]:
        """Decide on each draft in order, and write. See ``Log.append``."""
        acks: list[Ack] = []
        items: list[tuple[bytes, bytes]] = []
        tallies: dict[str, list[int]] = {}
        targets: dict[int, tuple[_Target, list[int]]] = {}
        sent: dict[str, int] = {}
        offset, last_us, served_us = self.last_offset, self._last_known_us, self.served_until_us
        for draft in drafts:
            if isinstance(draft, Reject):
                acks.append(self._hold(txn, draft, now_us, tallies, None))
                continue
            source, row = draft.source, draft.row
            found = targets.get(id(source))
            if found is None:
                tally = tallies.setdefault(source.name, [0, 0, 0, 0])
                found = targets[id(source)] = (self._target(txn, source), tally)
            target, tally = found
            time_us = row[target.time_at]
            known_us = row[target.known_at] if draft.history else max(now_us, last_us + 1)
            ident = None if target.id_at is None else str(row[target.id_at])
            body = _encode(row)
            wrong = _future(target, time_us, known_us, now_us if draft.history else known_us)
            if wrong is None and target.stream is not None and ident is not None:
                content = blake2b(body, digest_size=8).digest()
                does = None if target.corrects_at is None or draft.first_wins else row[target.corrects_at]
                earlier = self._seen.add(
                    txn, target.stream, ident, content, offset + 1, known_us, does, is_stamped=target.is_stamped
                )
                if earlier is not None:
                    if earlier.is_same or draft.first_wins:
                        acks.append(Ack("duplicate", earlier.offset, None, ident))
                        if draft.resolves is None:
                            tally[DUPLICATE] += 1
                        else:
                            self._resolve(txn, draft.resolves, held.DUPLICATE, earlier.offset)
                        continue
                    wrong = _conflict(target, ident, earlier.offset)
            if wrong is not None:
                acks.append(self._hold(txn, _reject(draft, *wrong), now_us, tallies, ident))
                continue
            offset += 1
            flags = HISTORY if draft.history else 0
            if draft.resolves is None:
                tally[ACCEPTED] += 1
            else:
                tally[MENDED_COUNT] += 1
                flags |= MENDED
                self._resolve(txn, draft.resolves, held.REPLAYED, offset)
            for name, at, default in target.deprecated:
                if row[at] != default and row[at] is not None:
                    sent[name] = sent.get(name, 0) + 1
            if not draft.history:
                last_us = known_us
            if target.is_prediction and (served_us is None or time_us > served_us):
                served_us = time_us
            items.append((KEY(offset), HEADER.pack(FORMAT, flags, target.number, 0, time_us, known_us, now_us) + body))
            acks.append(Ack("accepted", offset, None, ident))
        if items:
            with txn.cursor(db=self._events) as cursor:
                cursor.putmulti(items, append=True)
            txn.put(b"last", CELL.pack(offset), db=self._meta)
            txn.put(b"known", CELL.pack(last_us), db=self._meta)
            if served_us is not None and served_us != self.served_until_us:
                txn.put(b"served", CELL.pack(served_us), db=self._meta)
        self._count(txn, tallies)
        for name, times in sent.items():
            key = DEPRECATED + name.encode()
            before = SENT.unpack(txn.get(key, bytes(SENT.size), db=self._meta))[0]
            txn.put(key, SENT.pack(before + times, now_us), db=self._meta)
        self._seen.finish(txn, now_us)
        self.last_offset, self._last_known_us, self.served_until_us = offset, last_us, served_us
        return acks

    def _target(self, txn: lmdb.Transaction[bytes], source: SourceDef) -> _Target:
        target = self._targets.get(id(source))
        if target is None or target.source is not source:
            stream = self._seen.stream(txn, source) if source.id is not None else None
            target = self._targets[id(source)] = _Target(source, self._shapes.number(txn, source), stream)
        return target

    def _hold(
        self,
        txn: lmdb.Transaction[bytes],
        reject: Reject,
        now_us: int,
        tallies: dict[str, list[int]],
        ident: str | None,
    ) -> Ack:
        ack = Ack("quarantined", None, reject.reason, ident, reject.code, reject.path)
        if reject.resolves is not None:  # mended, and still wrong: it stays, with its new reason
            raw = txn.get(KEY(reject.resolves), db=self._quarantine)
            if raw is not None:
                before = held.from_bytes(raw)
                after = msgspec.structs.replace(before, code=reject.code, reason=reject.reason, path=reject.path)
                txn.put(KEY(reject.resolves), after.to_bytes(), db=self._quarantine)
            return ack
        self._sequence += 1
        entry = Held(
            self._sequence,
            reject.source,
            reject.raw[:MAX_RAW_BYTES],
            reject.code,
            reject.reason,
            reject.path,
            reject.version,
            reject.sender,
            now_us,
            reject.is_history,
            len(reject.raw) > MAX_RAW_BYTES,
        )
        txn.put(KEY(self._sequence), entry.to_bytes(), append=True, db=self._quarantine)
        tallies.setdefault(reject.source, [0, 0, 0, 0])[QUARANTINED] += 1
        return ack

    def _resolve(self, txn: lmdb.Transaction[bytes], sequence: int, status: str, offset: int | None) -> None:
        raw = txn.get(KEY(sequence), db=self._quarantine)
        if raw is not None:
            after = msgspec.structs.replace(held.from_bytes(raw), status=status, offset=offset, raw=b"")
            txn.put(KEY(sequence), after.to_bytes(), db=self._quarantine)

    def _count(self, txn: lmdb.Transaction[bytes], tallies: Mapping[str, Sequence[int]]) -> None:
        for name, tally in tallies.items():
            if any(tally):
                key = name.encode()
                before = COUNTS.unpack(txn.get(key, bytes(COUNTS.size), db=self._counts))
                txn.put(key, COUNTS.pack(*(a + b for a, b in zip(tally, before, strict=True))), db=self._counts)

    def _cell(self, txn: lmdb.Transaction[bytes], key: bytes) -> int | None:
        raw = txn.get(key, db=self._meta)
        return None if raw is None else int(CELL.unpack(raw)[0])


def row_json(source: SourceDef, row: Sequence[Any]) -> bytes:
    """A checked row as the JSON that its contract takes: datetimes are ISO 8601 texts."""
    shown = {
        f.name: to_iso(v) if f.kind == "datetime" and v is not None else v
        for f, v in zip(source.fields, row, strict=True)
    }
    return _to_json(shown)


def _future(target: _Target, time_us: int, known_us: int, now_us: int) -> tuple[str, str, str] | None:
    """Code, reason and path when an event lies further in the future than its source allows.

    ``now_us`` is the moment for history, which says itself when it was known. A live event is known when the log says,
    be it a year ahead because the clock once was.
    """
    source = target.source
    if time_us > known_us + target.future_us:
        late, column = f"{to_iso(time_us)} lies after it was known, {to_iso(known_us)},", source.time
    elif known_us > now_us + target.future_us:
        late, column = f"{to_iso(known_us)} has not come yet, it is {to_iso(now_us)},", source.known_at or source.time
    else:
        return None
    return "MS-E105", f"{late} by more than the source's future={format_span(target.future_us)}", f"$.{column}"


def _conflict(target: _Target, ident: str, offset: int) -> tuple[str, str, str]:
    column = target.source.id
    return "MS-E106", f"{column} {ident!r} came before with other content, at offset {offset}", f"$.{column}"


def _reject(draft: Draft, code: str, reason: str, path: str) -> Reject:
    source = draft.source
    raw = draft.raw if draft.raw is not None else row_json(source, draft.row)
    return Reject(source.name, raw, code, reason, path, source.version, draft.sender, draft.history, draft.resolves)
