"""What happens inside one append: who comes in, who is a duplicate, who goes to quarantine, what is counted.

The ``Appender`` works within a write transaction that the log opens and, with it, takes back when anything fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby, repeat

import lmdb
import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.definitions.values import SourceDef
from mainspring.events import held
from mainspring.events.batch import Accepted, Batch, encode_row
from mainspring.events.contents import UNREAD, content_of, contents_of
from mainspring.events.counters import CELL, COUNTS, DEPRECATED, SENT
from mainspring.events.drafts import Ack, Draft
from mainspring.events.held import Reject
from mainspring.events.holding import Holding
from mainspring.events.numbered import Numbered
from mainspring.events.objections import lies_ahead, rejected, says_otherwise
from mainspring.events.record import BATCH, FORMAT, HEADER, HISTORY, KEY, MENDED, size_of
from mainspring.events.record_batch import Columns
from mainspring.events.runs import Runs
from mainspring.events.seen import Earlier, Memory, Seen
from mainspring.events.shapes import Shapes
from mainspring.events.targets import Target

ACCEPTED, DUPLICATE, QUARANTINED, MENDED_COUNT = range(4)
_BATCHES = (Batch, Columns)
_Named = dict[int, tuple[Sequence[str], list[bytes]]]


class _Step:
    """One append: its moment, and what is counted on the way."""

    __slots__ = ("now_us", "sent", "tallies")

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us
        self.tallies: dict[str, list[int]] = {}
        self.sent: dict[str, int] = {}

    def tally(self, source: str) -> list[int]:
        """Counts of a source."""
        found = self.tallies.get(source)
        if found is None:
            found = self.tallies[source] = [0, 0, 0, 0]
        return found


class _Ready(msgspec.Struct, frozen=True, gc=False):
    """A draft as it would be written.

    Attributes:
        keys: Hashes of its id and, where the source is corrected, of the id with the row; empty without an id.
        content: What stands for the row; empty without an id.
    """

    target: Target
    draft: Draft
    body: bytes
    ident: str | None
    keys: tuple[bytes, ...]
    content: bytes


class Appender:
    """The writer's memory of the log, and what it does with drafts.

    Before the first transaction call ``load``; after each that appended or sealed ``committed``, or ``undo`` if it
    failed.
    """

    def __init__(self, dbs: Mapping[str, lmdb._Database], shapes: Shapes) -> None:
        self._events, self._meta = dbs["events"], dbs["meta"]
        self._holding, self._counts = Holding(dbs["quarantine"]), dbs["counts"]
        self._shapes = shapes
        self._seen = Seen(Runs(dbs["ids"], dbs["runs"]), self._events, self._meta)
        self._numbered = Numbered(dbs["numbered"])
        self._targets: dict[int, Target] = {}
        self._last_known_us = 0
        self.last_offset = 0
        self.served_until_us: int | None = None

    def load(self, txn: lmdb.Transaction[bytes]) -> None:
        """Make the memory what the disk says."""
        self._load_cells(txn)
        self._seen.load(txn, self._shapes.known)

    def _load_cells(self, txn: lmdb.Transaction[bytes]) -> None:
        self._targets.clear()
        self._shapes.known.clear()
        self._shapes.load(txn)
        self.last_offset = self._cell(txn, b"last") or 0
        self._last_known_us = self._cell(txn, b"known") or 0
        self.served_until_us = self._cell(txn, b"served")
        self._holding.load(txn)

    def committed(self) -> None:
        """What was done is on the disk."""
        self._seen.committed()

    def undo(self, txn: lmdb.Transaction[bytes]) -> None:
        """What was done is not: make the memory what the disk says."""
        self._load_cells(txn)
        self._seen.undo()
        self._numbered.forget()

    def seal(self, txn: lmdb.Transaction[bytes], before_offset: int) -> None:
        """See to it that no id is in memory and in a record before an offset alone."""
        if before_offset > self._seen.sealed_offset + 1:
            self._seen.seal(txn, self.last_offset)

    def trim(self, txn: lmdb.Transaction[bytes], before_offset: int, limit: int) -> int:
        """Delete the oldest records whose offsets lie before ``before_offset``, ``limit`` at most or a few rows more.

        Returns:
            How many were deleted.
        """
        stop = min(before_offset, self.last_offset)
        deleted = 0
        by_column: list[tuple[int, bytes]] = []
        with txn.cursor(db=self._events) as cursor:
            more = cursor.first()
            while more and deleted < limit and (last := int.from_bytes(cursor.key(), "big")) < stop:
                raw = cursor.value()
                deleted += size_of(raw)
                if raw[0] == BATCH:
                    by_column.append((last, raw))
                more = cursor.delete()
            if deleted and cursor.first():
                first = int.from_bytes(cursor.key(), "big") - size_of(cursor.value()) + 1
                txn.put(b"first", CELL.pack(first), db=self._meta)
        self._seen.tell(txn, by_column, self._last_known_us)
        return deleted

    def append(
        self, txn: lmdb.Transaction[bytes], groups: Sequence[Sequence[Draft | Reject]], now_us: int
    ) -> list[Sequence[Ack]]:
        """Decide on each draft in order, and write; what became of each, group by group. See ``Log.append``.

        Batches of new events, which is what mostly comes, are written as a whole; everything else one by one.
        """
        first = self.last_offset
        served_us = self.served_until_us
        step = _Step(now_us)
        out: list[Sequence[Ack]] = []
        named = self._named(txn, groups)
        for is_batch, some in groupby(groups, _is_batch):
            if not is_batch:
                out += self._one_by_one(txn, list(some), step)
                continue
            for batch in some:
                acks = self._as_a_whole(txn, batch, named, step) if isinstance(batch, Batch | Columns) else None
                out += self._one_by_one(txn, [batch], step) if acks is None else [acks]
        if self.last_offset > first:
            txn.put(b"last", CELL.pack(self.last_offset), db=self._meta)
            txn.put(b"known", CELL.pack(self._last_known_us), db=self._meta)
            if self.served_until_us is not None and self.served_until_us != served_us:
                txn.put(b"served", CELL.pack(self.served_until_us), db=self._meta)
        self._count(txn, step.tallies)
        for name, times in step.sent.items():
            key = DEPRECATED + name.encode()
            before = SENT.unpack(txn.get(key, bytes(SENT.size), db=self._meta))[0]
            txn.put(key, SENT.pack(before + times, now_us), db=self._meta)
        self._seen.finish(txn, self.last_offset, now_us)
        self._numbered.finish(txn, now_us)
        return out

    def _named(self, txn: lmdb.Transaction[bytes], groups: Sequence[Sequence[Draft | Reject]]) -> _Named:
        """Ids of batches that may be written as a whole, and their hashes; runs are asked about all of them at once."""
        found: _Named = {}
        for rows in groups:
            if not isinstance(rows, Batch | Columns) or not len(rows) or rows.source.corrects is not None:
                continue
            is_numbered = isinstance(rows, Columns) and rows.numbers is not None
            if not is_numbered and (idents := rows.idents) is not None:
                found[id(rows)] = idents, self._target(txn, rows.source).hasher.keys(idents)
        if found:
            self._seen.meet(txn, [key for _, keys in found.values() for key in keys])
        return found

    def _as_a_whole(
        self, txn: lmdb.Transaction[bytes], rows: Batch | Columns, named: _Named, step: _Step
    ) -> Sequence[Ack] | None:
        """Write rows, all of which are new; None if something about them may be otherwise, and nothing is done.

        Of those that have numbers for ids the new ones are written.
        """
        target, known_us = self._target(txn, rows.source), max(step.now_us, self._last_known_us + 1)
        if target.corrects_at is not None or target.deprecated or rows.latest_us > known_us + target.future_us:
            return None
        if isinstance(rows, Columns) and (numbers := rows.numbers) is not None:
            return self._numbered_ones(txn, target, rows, numbers, known_us, step)
        if target.is_prediction:  # by row, as earlier releases sent them: they may come by column too
            return None
        idents, keys = named.get(id(rows), (None, []))
        if idents is not None:
            is_unread = isinstance(rows, Columns) and rows.lies_by_column
            contents = repeat(UNREAD) if is_unread else contents_of(rows.source.name, rows.bodies)
            if not self._seen.add_new(target.memory, keys, contents, self.last_offset + 1, known_us):
                return None
        return self._write(txn, target, rows, idents, known_us, step)

    def _numbered_ones(
        self,
        txn: lmdb.Transaction[bytes],
        target: Target,
        rows: Columns,
        numbers: tuple[str, npt.NDArray[np.int64]],
        known_us: int,
        step: _Step,
    ) -> Sequence[Ack] | None:
        each = numbers[1]
        if not (each[1:] > each[:-1]).all() and len(np.unique(each)) < len(rows):
            return None
        repeated = self._numbered.add(txn, *numbers, known_us + target.memory.width_us)
        if not repeated.any():
            return self._write(txn, target, rows, None, known_us, step)
        step.tally(rows.source.name)[DUPLICATE] += int(repeated.sum())
        new = np.flatnonzero(~repeated)
        accepted = iter(self._write(txn, target, rows.part(new), None, known_us, step) if len(new) else ())
        return [Ack("duplicate") if again else next(accepted) for again in repeated.tolist()]

    def _write(
        self,
        txn: lmdb.Transaction[bytes],
        target: Target,
        rows: Batch | Columns,
        idents: Sequence[str] | None,
        known_us: int,
        step: _Step,
    ) -> Accepted:
        """Write rows all of which are new."""
        n, start = len(rows), self.last_offset + 1
        with txn.cursor(db=self._events) as cursor:
            cursor.putmulti(rows.records(target.number, start, known_us, step.now_us), append=True)
        self.last_offset += n
        self._last_known_us = known_us + n - 1
        if target.is_prediction:
            self._serve(rows.latest_us)
        step.tally(rows.source.name)[ACCEPTED] += n
        return Accepted(start, n, idents)

    def _serve(self, time_us: int) -> None:
        """A prediction was served for a moment."""
        if self.served_until_us is None or time_us > self.served_until_us:
            self.served_until_us = time_us

    def _one_by_one(  # noqa: C901, PLR0912  the loop that single events pass: a call costs more than a branch
        self, txn: lmdb.Transaction[bytes], groups: Sequence[Sequence[Draft | Reject]], step: _Step
    ) -> list[Sequence[Ack]]:
        acks: list[Ack] = []
        items: list[tuple[bytes, bytes]] = []
        now_us = step.now_us
        offset, last_us = self.last_offset, self._last_known_us
        for ready in self._ready(txn, [draft for group in groups for draft in group]):
            if isinstance(ready, Reject):
                acks.append(self._hold(txn, ready, step, None))
                continue
            target, draft, ident = ready.target, ready.draft, ready.ident
            row = draft.row
            time_us = row[target.time_at]
            known_us = row[target.known_at] if draft.history else max(now_us, last_us + 1)
            wrong = lies_ahead(target, time_us, known_us, now_us if draft.history else known_us)
            if wrong is None and ready.keys:
                earlier = self._earlier(txn, ready, offset + 1, known_us, now_us)
                if earlier is not None:
                    if earlier.is_same or draft.first_wins:
                        acks.append(Ack("duplicate", earlier.offset, None, ident))
                        if draft.resolves is None:
                            step.tally(target.source.name)[DUPLICATE] += 1
                        else:
                            self._holding.resolve(txn, draft.resolves, held.DUPLICATE, earlier.offset)
                        continue
                    wrong = says_otherwise(target, str(ident), earlier.offset)
            if wrong is not None:
                acks.append(self._hold(txn, rejected(draft, *wrong), step, ident))
                continue
            offset += 1
            flags = HISTORY if draft.history else 0
            if draft.resolves is None:
                step.tally(target.source.name)[ACCEPTED] += 1
            else:
                step.tally(target.source.name)[MENDED_COUNT] += 1
                flags |= MENDED
                self._holding.resolve(txn, draft.resolves, held.REPLAYED, offset)
            for name, at, default in target.deprecated:
                if row[at] != default and row[at] is not None:
                    step.sent[name] = step.sent.get(name, 0) + 1
            if not draft.history:
                last_us = known_us
            if target.is_prediction:
                self._serve(time_us)
            header = HEADER.pack(FORMAT, flags, target.number, 0, time_us, known_us, now_us)
            items.append((KEY(offset), header + ready.body))
            acks.append(Ack("accepted", offset, None, ident))
        if items:
            with txn.cursor(db=self._events) as cursor:
                cursor.putmulti(items, append=True)
        self.last_offset, self._last_known_us = offset, last_us
        if len(groups) == 1:
            return [acks]
        ends = list(accumulate(map(len, groups)))
        return [acks[end - len(group) : end] for end, group in zip(ends, groups, strict=True)]

    def _ready(self, txn: lmdb.Transaction[bytes], drafts: Sequence[Draft | Reject]) -> list[_Ready | Reject]:
        """Drafts as they would be written; what runs know of their ids is looked up for all at once."""
        out: list[_Ready | Reject] = []
        hashes: list[bytes] = []
        compared: list[bytes] = []
        targets: dict[int, Target] = {}
        for draft in drafts:
            if isinstance(draft, Reject):
                out.append(draft)
                continue
            target = targets.get(id(draft.source))
            if target is None:
                target = targets[id(draft.source)] = self._target(txn, draft.source)
            body = encode_row(draft.row)
            if target.id_at is None:
                out.append(_Ready(target, draft, body, None, (), b""))
                continue
            ident = str(draft.row[target.id_at])
            text, content = ident.encode(), content_of(draft.source.name, body)
            keys: tuple[bytes, ...] = (target.hasher.key(text),)
            if target.corrects_at is not None:
                keys = (*keys, target.hasher.key(text, content))
            hashes += keys
            if not draft.first_wins:
                compared += keys
            out.append(_Ready(target, draft, body, ident, keys, content))
        self._seen.expect(txn, hashes, compared)
        return out

    def _earlier(
        self, txn: lmdb.Transaction[bytes], ready: _Ready, offset: int, known_us: int, now_us: int
    ) -> Earlier | None:
        """The event that a draft repeats or is in conflict with; without one its id is remembered."""
        target, keys = ready.target, ready.keys
        if target.is_prediction:  # it may have come by column too, or come so again
            until_us = max(known_us, now_us) + target.memory.width_us
            if self._numbered.add_id(txn, str(ready.ident), until_us):
                return Earlier(None, is_same=True)
        if target.corrects_at is None:
            return self._seen.add(target.memory, keys[0], ready.content, offset, known_us, now_us)
        does, first_wins = ready.draft.row[target.corrects_at], ready.draft.first_wins
        return self._seen.correct(
            target.memory, (keys[0], keys[1]), ready.content, offset, known_us, now_us, does, first_wins=first_wins
        )

    def _target(self, txn: lmdb.Transaction[bytes], source: SourceDef) -> Target:
        target = self._targets.get(id(source))
        if target is None or target.source is not source:
            memory = self._seen.memory(txn, source) if source.id is not None else Memory.of(source)
            target = self._targets[id(source)] = Target(source, self._shapes.number(txn, source), memory)
        return target

    def _hold(self, txn: lmdb.Transaction[bytes], reject: Reject, step: _Step, ident: str | None) -> Ack:
        if reject.resolves is None:
            step.tally(reject.source)[QUARANTINED] += 1
        return self._holding.hold(txn, reject, step.now_us, ident)

    def _count(self, txn: lmdb.Transaction[bytes], tallies: Mapping[str, Sequence[int]]) -> None:
        for name, tally in tallies.items():
            if any(tally):
                key = name.encode()
                before = COUNTS.unpack(txn.get(key, bytes(COUNTS.size), db=self._counts))
                txn.put(key, COUNTS.pack(*(a + b for a, b in zip(tally, before, strict=True))), db=self._counts)

    def _cell(self, txn: lmdb.Transaction[bytes], key: bytes) -> int | None:
        raw = txn.get(key, db=self._meta)
        return None if raw is None else int(CELL.unpack(raw)[0])


def _is_batch(group: Sequence[Draft | Reject]) -> bool:
    return group.__class__ in _BATCHES and len(group) > 0  # isinstance of an abstract class costs a microsecond
