"""State of one key in one view, as values of the online store.

A **head** holds what every fold of the key rewrites: descriptors of its sealed blocks, what it has let go of, and the
open block. A **sealed block** of about 256 events is a value of its own and never changes: a late event puts a new
block, with a number of its own, in the place of the one it belongs to. Events are int64[3 + C, n]: time, known_at,
offset, then the bits of the columns.

Layouts, little-endian, every part a multiple of 8 bytes:
head   format u8 · flags u8 · C u16 · sealed u32 · open u32 · 0 u32 · next number i64 · changed at offset i64 ·
rewrites i64,
       descriptors int64[sealed, 8], if flags & 1: past float64[C, 9] and int64[C, 71], open events;
block  format u8 · 0 u8 · C u16 · n u32, sums float64[C, 9], events.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from mainspring.core.errors import FormatError
from mainspring.features import kernels as k

FORMAT = 1
BLOCK = 256
SPLIT = 512  # late events make a sealed block grow; from here on it is cut in two
_HEAD = struct.Struct("<BBHIIIqqq")
_BLOCK = struct.Struct("<BBHI")
STAMP_BYTES = _HEAD.size  # a head whose first bytes are unchanged is unchanged
_PAST = 1
REBUILD = "stop the worker, delete the state folder and start it again: it is rebuilt from the lake and the log"
"""The hint of an error about a state that cannot be folded on."""
# Columns of a descriptor: number, events, then (time, known_at, offset) of the first and of the last.
D_NUMBER, D_N, D_FIRST, D_LAST = 0, 1, 2, 5
DESCRIPTOR = 8


class Blocks(Protocol):
    """Where a key's sealed blocks are."""

    def load(self, number: int) -> np.ndarray:
        """Events of a block."""

    def save(self, number: int, raw: bytes) -> None:
        """Store a block."""

    def drop(self, number: int) -> None:
        """Forget a block."""


@dataclass(slots=True)
class KeyState:
    """A head, unpacked.

    Attributes:
        next_number: Of the next sealed block.
        changed: Log offset of the fold that wrote it.
        rewrites: How often it was written.
        sealed: int64[B, 8], descriptors of the sealed blocks in the order of their events.
        open: int64[3 + C, n], the newest events.
        past: float64[C, 9] and ``ints`` int64[C, 71]; None when nothing was let go of.
    """

    next_number: int
    changed: int
    rewrites: int
    sealed: np.ndarray
    open: np.ndarray
    past: np.ndarray | None = None
    ints: np.ndarray | None = None

    @classmethod
    def empty(cls, columns: int) -> KeyState:
        """State of a key that was never seen."""
        return cls(0, 0, 0, np.empty((0, DESCRIPTOR), np.int64), np.empty((3 + columns, 0), np.int64))

    def pack(self) -> bytes:
        """The head's bytes."""
        columns = self.open.shape[0] - 3
        flags = 0 if self.past is None else _PAST
        parts = [
            _HEAD.pack(
                FORMAT,
                flags,
                columns,
                len(self.sealed),
                self.open.shape[1],
                0,
                self.next_number,
                self.changed,
                self.rewrites,
            ),
            self.sealed.tobytes(),
        ]
        if self.past is not None and self.ints is not None:
            parts += [self.past.tobytes(), self.ints.tobytes()]
        parts.append(self.open.tobytes())
        return b"".join(parts)

    @classmethod
    def unpack(cls, raw: Any, *, copy: bool = True) -> KeyState:
        """Read a head's bytes.

        Args:
            raw: From the store.
            copy: Whether the open block is copied, or only to be read while ``raw`` lasts. All else is copied.

        Raises:
            FormatError: A format that this release does not know (MS-F901).
        """
        form, flags, columns, blocks, n, _, number, changed, rewrites = _HEAD.unpack_from(raw)
        if form != FORMAT:
            raise unknown_format(form)
        at = _HEAD.size
        sealed = np.frombuffer(raw, np.int64, blocks * DESCRIPTOR, at).reshape(blocks, DESCRIPTOR).copy()
        at += blocks * DESCRIPTOR * 8
        past = ints = None
        if flags & _PAST:
            past = np.frombuffer(raw, np.float64, columns * k.SUMMARY, at).reshape(columns, k.SUMMARY).copy()
            at += columns * k.SUMMARY * 8
            ints = np.frombuffer(raw, np.int64, columns * k.PAST_INTS, at).reshape(columns, k.PAST_INTS).copy()
            at += columns * k.PAST_INTS * 8
        events = np.frombuffer(raw, np.int64, (3 + columns) * n, at).reshape(3 + columns, n)
        if copy:
            events = events.copy()
        return cls(number, changed, rewrites, sealed, events, past, ints)

    def insert(self, new: np.ndarray, horizon_us: int, *, keeps_past: bool, blocks: Blocks) -> int:
        """Fold events of the key, late or not, and let go of whole blocks behind the horizon.

        Args:
            new: int64[3 + C, m], in the order (time, known_at, offset).
            horizon_us: Events before it are outside every window that may still be asked about.
            keeps_past: Whether what is let go of goes on to count in windows without a beginning.
            blocks: The key's sealed blocks.

        Returns:
            How many events were too old and count nowhere.
        """
        old = self._before_everything_kept(new, horizon_us)
        if old:
            if keeps_past:
                self._let_go(new[:, :old])
            new = new[:, old:]
        if new.shape[1]:
            late = self._late(new, blocks)
            if late:
                new = np.ascontiguousarray(new[:, late:])
        if new.shape[1]:
            tail = self.open.shape[1]
            joined = np.concatenate((self.open, new), axis=1)
            follows = not tail or self.open[0, -1] < new[0, 0] or _triple(self.open, tail - 1) < _triple(new, 0)
            self.open = joined if follows else in_order(joined)
            full = self.open.shape[1] // BLOCK * BLOCK
            if full:
                sealed = [self._seal(self.open[:, i : i + BLOCK], blocks) for i in range(0, full, BLOCK)]
                self.sealed = np.concatenate((self.sealed, *sealed))
                self.open = np.ascontiguousarray(self.open[:, full:])
        while len(self.sealed) and self.sealed[0, D_LAST] < horizon_us:
            number = int(self.sealed[0, D_NUMBER])
            if keeps_past:
                self._let_go(blocks.load(number))
            blocks.drop(number)
            self.sealed = self.sealed[1:]
        return 0 if keeps_past else old

    def _before_everything_kept(self, new: np.ndarray, horizon_us: int) -> int:
        """How many of ``new`` lie behind the horizon and before all that is kept: what is let go of stays oldest."""
        if new[0, 0] >= horizon_us:
            return 0
        old = int(np.searchsorted(new[0], horizon_us))
        if len(self.sealed):
            first = tuple(self.sealed[0, D_FIRST : D_FIRST + 3].tolist())
        elif self.open.shape[1]:
            first = _triple(self.open, 0)
        else:
            return old
        while old and _triple(new, old - 1) > first:
            old -= 1
        return old

    def _late(self, new: np.ndarray, blocks: Blocks) -> int:
        """Put those of ``new`` that come before the end of the sealed blocks where they belong; how many they were."""
        if not len(self.sealed) or self.sealed[-1, D_LAST] < new[0, 0]:
            return 0
        newest = tuple(self.sealed[-1, D_LAST:].tolist())
        if _triple(new, 0) > newest:
            return 0
        lasts = [tuple(row) for row in self.sealed[:, D_LAST:].tolist()]
        homes: dict[int, list[int]] = {}
        late = 0
        while late < new.shape[1] and _triple(new, late) < newest:
            homes.setdefault(bisect_left(lasts, _triple(new, late)), []).append(late)
            late += 1
        rows = [self.sealed[i : i + 1] for i in range(len(self.sealed))]
        for home, which in homes.items():
            number = int(self.sealed[home, D_NUMBER])
            events = in_order(np.concatenate((blocks.load(number), new[:, which]), axis=1))
            blocks.drop(number)
            n = events.shape[1]
            cuts = [0, n] if n < SPLIT else [*range(0, n - BLOCK + 1, BLOCK), n]
            sealed = [self._seal(events[:, a:b], blocks) for a, b in pairwise(cuts)]
            rows[home] = np.concatenate(sealed)
        self.sealed = np.concatenate(rows)
        return late

    def _seal(self, events: np.ndarray, blocks: Blocks) -> np.ndarray:
        """Store events as a sealed block; its descriptor, int64[1, 8]."""
        number = self.next_number
        self.next_number += 1
        blocks.save(number, pack_block(np.ascontiguousarray(events)))
        return np.array(
            [[number, events.shape[1], *_triple(events, 0), *_triple(events, events.shape[1] - 1)]], np.int64
        )

    def _let_go(self, events: np.ndarray) -> None:
        columns = events.shape[0] - 3
        if self.past is None or self.ints is None:
            self.past = np.zeros((columns, k.SUMMARY))
            self.ints = np.zeros((columns, k.PAST_INTS), np.int64)
        events = np.ascontiguousarray(events)
        k.absorb(events[0], events[1], events[2], events[3:].view(np.float64), self.past, self.ints)


def pack_block(events: np.ndarray) -> bytes:
    """A sealed block's bytes: a summary for each column, then the events."""
    columns, n = events.shape[0] - 3, events.shape[1]
    sums = np.empty((columns, k.SUMMARY))
    k.summarise(events[3:].view(np.float64), 0, n, sums)
    return _BLOCK.pack(FORMAT, 0, columns, n) + sums.tobytes() + events.tobytes()


def unpack_block(raw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Summaries float64[C, 9] and events int64[3 + C, n] of a sealed block, as copies.

    Raises:
        FormatError: A format that this release does not know (MS-F901).
    """
    form, _, columns, n = _BLOCK.unpack_from(raw)
    if form != FORMAT:
        raise unknown_format(form)
    at = _BLOCK.size
    sums = np.frombuffer(raw, np.float64, columns * k.SUMMARY, at).reshape(columns, k.SUMMARY).copy()
    at += columns * k.SUMMARY * 8
    return sums, np.frombuffer(raw, np.int64, (3 + columns) * n, at).reshape(3 + columns, n).copy()


def in_order(events: np.ndarray) -> np.ndarray:
    """The same events in the order (time, known_at, offset)."""
    return np.ascontiguousarray(events[:, np.lexsort((events[2], events[1], events[0]))])


def unknown_format(form: int) -> FormatError:
    """The error for bytes of another release."""
    return FormatError(
        "MS-F901",
        f"the online store holds format {form}, this release reads {FORMAT}",
        hint=f"use the release that wrote it, or {REBUILD}",
    )


def _triple(events: np.ndarray, i: int) -> tuple[int, ...]:
    return (int(events[0, i]), int(events[1, i]), int(events[2, i]))
