"""Ids that were seen, as sorted runs that never change: a new id reads no page of them, and writes none out of order.

A run holds the ids of a stretch of the log, sorted by the first eight bytes of their hash (a little-endian number), in
pages of 85 entries of 48 bytes: hash (16) · content (8) · offset i64 · known_at i64 · until i64. In memory are the
first hash of each page and a sieve (``sieve.py``), which mostly says that an id is new. Four runs of about one size
become one, a slice with each commit, and what is out of its time is left out; a run all of which is goes whole. So an
id is written about five times, always beside its neighbours, and never is a page somewhere written anew for it.

What happens within a transaction counts once ``committed`` is called, or is forgotten by ``undo``. A merge that was
under way when the process died begins again: pages of a run that the catalogue does not name are deleted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import lmdb

from mainspring.events.sieve import Probe, Sieve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENTRY = struct.Struct("<16s8sqqq")
Entry = tuple[bytes, int, int, int]
"""Content, offset (negative for a delete), known_at and until when it is remembered, in microseconds."""

RUN_ENTRIES = 16_384  # of a new run
_PAGE_ENTRIES = 85
_PAGE_BYTES = _PAGE_ENTRIES * ENTRY.size  # with its header just a page of LMDB
_FANOUT = 4
_TOP = 4  # the size class from which on runs are not merged: 4 million entries
_STEP = 8_192  # entries merged in one transaction
_WORK = 8  # entries merged for each that is new, where there is something to merge
_DROPPED = 128  # pages deleted in one transaction at least
_KEY = struct.Struct(">QBI").pack
_NUMBER = struct.Struct(">Q")
_CARD = struct.Struct("<QqII")
_OF_ENTRIES, _OF_INDEX = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What is kept in memory of a run.

    Attributes:
        until_us: When the last of its entries may be forgotten.
        fences: First half of the first hash of each page, rising, uint64[pages].
    """

    number: int
    entries: int
    until_us: int
    fences: NDArray[np.uint64]
    sieve: Sieve

    @property
    def size_class(self) -> int:
        """0 up to four times a new run, and one more with each factor of four."""
        return max(0, (self.entries // RUN_ENTRIES).bit_length() - 1) // 2


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """Runs on their way to become one, a range of hashes after another.

    Attributes:
        done: How many of ``steps`` equal ranges are.
        pages: How many of the new run are written, and ``fences`` their first hashes, an array a step.
        rest: What does not fill a page yet.
    """

    runs: tuple[Run, ...]
    number: int
    steps: int
    sieve: Sieve
    rest: NDArray[Any]
    done: int = 0
    entries: int = 0
    until_us: int = 0
    pages: int = 0
    fences: tuple[NDArray[np.uint64], ...] = ()

    @property
    def step(self) -> int:
        """How many entries a range has, about."""
        return sum(run.entries for run in self.runs) // self.steps


class _State(NamedTuple):
    runs: tuple[Run, ...] = ()
    merge: Merge | None = None
    garbage: tuple[int, ...] = ()
    next_number: int = 1


class Runs:
    """All runs, in two databases of the log's environment: pages, and the catalogue of runs."""

    def __init__(self, pages: lmdb._Database, catalogue: lmdb._Database) -> None:
        self._pages = pages
        self._catalogue = catalogue
        self._state = self._next = _State()
        self._debt = 0

    @staticmethod
    def is_enough(entries: int) -> bool:
        """Whether so many entries are worth a run."""
        return entries >= RUN_ENTRIES

    def load(self, txn: lmdb.Transaction[bytes]) -> None:
        """Read what there is."""
        import numpy  # noqa: F401, ICN001  now, and not a quarter of a second in the middle of an append

        with txn.cursor(db=self._catalogue) as cursor:
            runs = tuple(self._read(txn, _NUMBER.unpack(key)[0], raw) for key, raw in cursor)
        known, garbage, last = {run.number for run in runs}, [], 0
        with txn.cursor(db=self._pages) as cursor:
            while cursor.set_range(_NUMBER.pack(last + 1)):
                last = _NUMBER.unpack_from(cursor.key())[0]
                if last not in known:
                    garbage.append(last)
        self._state = self._next = _State(runs, None, tuple(garbage), last + 1)

    def committed(self) -> None:
        """What was done since the last time is on the disk."""
        self._state = self._next

    def undo(self) -> None:
        """What was done since the last time is not."""
        self._next = self._state

    def find(self, txn: lmdb.Transaction[bytes], hashes: Sequence[bytes]) -> dict[bytes, list[Entry]]:
        """The entries of each hash of 16 bytes that has any; none of them may be there twice."""
        out: dict[bytes, list[Entry]] = {}
        runs = self._state.runs
        if not runs or not hashes:
            return out
        import numpy as np

        words = np.frombuffer(b"".join(hashes), "<u8").reshape(-1, 2)
        probe = Probe.of(words[:, 1])
        for run in runs:
            places = run.sieve.passes(probe)
            firsts, stops = (run.fences.searchsorted(words[places, 0], side) for side in ("left", "right"))
            for place, first, stop in zip(places.tolist(), firsts.tolist(), stops.tolist(), strict=True):
                key = hashes[place]
                if found := self._entries(txn, run, key, range(max(first - 1, 0), stop)):
                    out.setdefault(key, []).extend(found)
        return out

    def seal(self, txn: lmdb.Transaction[bytes], entries: bytes) -> None:
        """Make a run of entries, in whatever order they are."""
        import numpy as np

        state = self._next
        found = np.frombuffer(entries, _dtype())
        found = found.take(np.argsort(found["high"], kind="stable"))  # an index copies field by field
        sieve = Sieve.empty(len(found))
        sieve.add(found["low"])
        fences = self._write(txn, state.next_number, 0, found)
        run = Run(state.next_number, len(found), int(found["until"].max()), fences, sieve)
        self._enter(txn, run)
        self._next = state._replace(runs=(*state.runs, run), next_number=state.next_number + 1)

    def tend(self, txn: lmdb.Transaction[bytes], now_us: int, added: int) -> None:
        """Merge and drop some of what there is to merge and to drop, in measure with the ``added`` new entries."""
        self._let_go(txn, now_us)
        self._delete(txn, _DROPPED + added // 8)
        self._debt = min(self._debt, _STEP) + _WORK * added
        while (merge := self._next.merge or self._begun()) is not None and merge.step <= self._debt:
            self._debt -= merge.step
            self._merge(txn, merge, now_us)

    # --- pages ------------------------------------------------------------------------------------------------------

    def _read(self, txn: lmdb.Transaction[bytes], number: int, card: bytes) -> Run:
        import numpy as np

        entries, until_us, pages, index = _CARD.unpack(card)
        raw = b"".join(txn.get(_KEY(number, _OF_INDEX, i), b"", db=self._pages) for i in range(index))
        words = np.frombuffer(raw, "<u8").astype(np.uint64)
        return Run(number, entries, until_us, words[:pages], Sieve(words[pages:]))

    def _enter(self, txn: lmdb.Transaction[bytes], run: Run) -> None:
        raw = run.fences.astype("<u8").tobytes() + run.sieve.words.astype("<u8").tobytes()
        parts = [raw[i : i + _PAGE_BYTES] for i in range(0, len(raw), _PAGE_BYTES)]
        for i, part in enumerate(parts):
            txn.put(_KEY(run.number, _OF_INDEX, i), part, db=self._pages)
        card = _CARD.pack(run.entries, run.until_us, len(run.fences), len(parts))
        txn.put(_NUMBER.pack(run.number), card, db=self._catalogue)

    def _write(
        self, txn: lmdb.Transaction[bytes], number: int, first: int, entries: NDArray[Any]
    ) -> NDArray[np.uint64]:
        """Write pages from number ``first`` on; their fences."""
        import numpy as np

        raw = entries.tobytes()
        for i in range(0, len(raw), _PAGE_BYTES):
            key = _KEY(number, _OF_ENTRIES, first + i // _PAGE_BYTES)
            txn.put(key, raw[i : i + _PAGE_BYTES], db=self._pages)
        return entries["high"][::_PAGE_ENTRIES].astype(np.uint64)

    def _entries(self, txn: lmdb.Transaction[bytes], run: Run, key: bytes, pages: range) -> list[Entry]:
        """Those of a hash on some pages of a run."""
        out: list[Entry] = []
        for number in pages:
            page = txn.get(_KEY(run.number, _OF_ENTRIES, number), b"", db=self._pages)
            at = page.find(key)
            while at >= 0:
                if at % ENTRY.size == 0:
                    out.append(ENTRY.unpack_from(page, at)[1:])
                at = page.find(key, at + 1)
        return out

    # --- merging and dropping ---------------------------------------------------------------------------------------

    def _let_go(self, txn: lmdb.Transaction[bytes], now_us: int) -> None:
        """Runs that are out of their time leave the catalogue; their pages are garbage."""
        state = self._next
        busy = state.merge.runs if state.merge is not None else ()
        gone = tuple(run for run in state.runs if run.until_us < now_us and run not in busy)
        if gone:
            self._leave(txn, gone)

    def _leave(self, txn: lmdb.Transaction[bytes], gone: Sequence[Run]) -> None:
        state = self._next
        for run in gone:
            txn.delete(_NUMBER.pack(run.number), db=self._catalogue)
        left = tuple(run for run in state.runs if run not in gone)
        self._next = state._replace(runs=left, garbage=(*state.garbage, *(run.number for run in gone)))

    def _delete(self, txn: lmdb.Transaction[bytes], limit: int) -> None:
        while self._next.garbage and limit > 0:
            number, *others = self._next.garbage
            with txn.cursor(db=self._pages) as cursor:
                found = cursor.set_range(_NUMBER.pack(number))
                while found and limit > 0 and _NUMBER.unpack_from(cursor.key())[0] == number:
                    found = cursor.delete() and bool(cursor.key())
                    limit -= 1
                is_gone = not found or _NUMBER.unpack_from(cursor.key())[0] != number
            if is_gone:
                self._next = self._next._replace(garbage=tuple(others))

    def _begun(self) -> Merge | None:
        """A merge of the smallest runs of a size of which there are enough."""
        import numpy as np

        state = self._next
        for size_class in range(_TOP):
            same = [run for run in state.runs if run.size_class == size_class]
            if len(same) >= _FANOUT:
                runs = tuple(sorted(same, key=lambda run: run.entries)[:_FANOUT])
                total = sum(run.entries for run in runs)
                merge = Merge(runs, state.next_number, -(-total // _STEP), Sieve.empty(total), np.empty(0, _dtype()))
                self._next = state._replace(merge=merge, next_number=state.next_number + 1)
                return merge
        return None

    def _merge(self, txn: lmdb.Transaction[bytes], merge: Merge, now_us: int) -> None:
        """The next range of hashes; after the last one the new run takes the place of the old ones."""
        import numpy as np

        low, high = (1 << 64) * merge.done // merge.steps, (1 << 64) * (merge.done + 1) // merge.steps
        found = _together([self._between(txn, run, low, high) for run in merge.runs])
        left = np.flatnonzero(found["until"] >= now_us)
        found = found.take(left[np.argsort(found["high"][left], kind="stable")])
        merge.sieve.add(found["low"])
        ready = _together([merge.rest, found])
        is_last = merge.done + 1 == merge.steps
        whole = len(ready) if is_last else len(ready) // _PAGE_ENTRIES * _PAGE_ENTRIES
        fences = self._write(txn, merge.number, merge.pages, ready[:whole])
        merge = replace(
            merge,
            rest=ready[whole:],
            done=merge.done + 1,
            entries=merge.entries + len(found),
            until_us=max(merge.until_us, int(found["until"].max(initial=0))),
            pages=merge.pages + len(fences),
            fences=(*merge.fences, fences),
        )
        self._next = self._next._replace(merge=None if is_last else merge)
        if is_last:
            self._leave(txn, merge.runs)
            if merge.entries:
                fences = np.concatenate(merge.fences)
                run = Run(merge.number, merge.entries, merge.until_us, fences, merge.sieve)
                self._enter(txn, run)
                self._next = self._next._replace(runs=(*self._next.runs, run))

    def _between(self, txn: lmdb.Transaction[bytes], run: Run, low: int, high: int) -> NDArray[Any]:
        """Entries whose hashes begin with ``low`` or more, and less than ``high``."""
        import numpy as np

        first = max(int(run.fences.searchsorted(np.uint64(low))) - 1, 0)
        last = len(run.fences) if high >> 64 else int(run.fences.searchsorted(np.uint64(high)))
        pages = (txn.get(_KEY(run.number, _OF_ENTRIES, i), b"", db=self._pages) for i in range(first, last))
        found = np.frombuffer(b"".join(pages), _dtype())
        highs = found["high"]
        stop = len(found) if high >> 64 else int(highs.searchsorted(np.uint64(high)))
        return found[int(highs.searchsorted(np.uint64(low))) : stop]


def _together(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Entries one after the other: as plain bytes a tenth of what it takes field by field."""
    import numpy as np

    return np.concatenate([part.view(f"V{ENTRY.size}") for part in parts]).view(_dtype())


def _dtype() -> np.dtype[Any]:
    import numpy as np

    return np.dtype(
        [("high", "<u8"), ("low", "<u8"), ("content", "<u8"), ("offset", "<i8"), ("known", "<i8"), ("until", "<i8")]
    )
