"""Feature reads for the gateway: consistent snapshots of the online store, and a cache of what has not changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mainspring.definitions import ViewDef
from mainspring.features import kernels as k
from mainspring.features.keys import encode_key
from mainspring.features.layout import GRACE_US, LONGEST_US, Layout, compile_view
from mainspring.features.state import D_N, D_NUMBER, STAMP_BYTES, KeyState
from mainspring.features.store import KeyBlocks, OnlineStore, Root, head_key

CACHE_BYTES = 268_435_456


@dataclass(slots=True)
class _Entry:
    """A key's state laid out for ``kernels.read``: everything in it is visible, so all stamps are 0."""

    stamp: bytes
    sealed: np.ndarray
    bytes: int
    laid_out: tuple[np.ndarray, ...]


class Reader:
    """Reads views from an online store. For one thread.

    Args:
        views: The views that will be read; others may be, at the price of compiling them then.
        store: Open in any way.
    """

    def __init__(self, views: Iterable[ViewDef], store: OnlineStore, cache_bytes: int = CACHE_BYTES) -> None:
        self.store = store
        self._cache: dict[bytes, _Entry] = {}
        self._cached_bytes = 0
        self._cache_bytes = cache_bytes
        for view in views:
            compile_view(view)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The store as of one log offset; keep it short, a read transaction holds pages back."""
        with self.store.env.begin(buffers=True) as txn:
            yield Snapshot(self, txn, self.store.root(txn))

    def entry(self, txn: Any, place: bytes, layout: Layout) -> _Entry | None:
        """A key's state laid out, from the cache if its head is unchanged; None for a key without any."""
        raw = txn.get(place, db=self.store.heads)
        if raw is None:
            return None
        found = self._cache.get(place)
        if found is not None and found.stamp == raw[:STAMP_BYTES]:
            return found
        head = KeyState.unpack(raw, copy=False)
        entry = _lay_out(head, bytes(raw[:STAMP_BYTES]), KeyBlocks(self.store, txn, place), layout, found)
        self._keep(place, entry, found)
        return entry

    def _keep(self, place: bytes, entry: _Entry, before: _Entry | None) -> None:
        self._cached_bytes += entry.bytes - (before.bytes if before is not None else 0)
        self._cache[place] = entry
        while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
            oldest = next(iter(self._cache))
            self._cached_bytes -= self._cache.pop(oldest).bytes


class Snapshot:
    """Feature values as of one folded offset.

    Attributes:
        offset: The ``k`` of every moment read here: all of the log up to it counts, nothing after.
        clock_us: Greatest ``known_at`` folded.
    """

    def __init__(self, reader: Reader, txn: Any, root: Root) -> None:
        self._reader = reader
        self._txn = txn
        self._root = root
        self.offset = root.offset
        self.clock_us = root.clock_us

    def serves(self, view: ViewDef) -> bool:
        """Whether the view's state stands at this snapshot's offset."""
        state = self._root.views.get(f"{view.name}@{view.version}")
        return state is not None and state.offset == self.offset

    def read(
        self, view: ViewDef, keys: Sequence[tuple[Any, ...] | None], t_us: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answer moments, one a key.

        Args:
            view: Whose features.
            keys: Entities, as tuples in the order of ``view.entity``; None, or a None within, names no entity.
            t_us: int64[n], microseconds since 1970 UTC.

        Returns:
            Values float64[n, F], NaN for null, and status uint8[n, F]: ``UNAVAILABLE`` for a view that is not caught
            up and for a moment more than the grace behind the folded clock.
        """
        layout = compile_view(view)
        n = len(keys)
        t = np.clip(np.array(t_us, np.int64), -LONGEST_US, LONGEST_US)
        if not self.serves(view):
            return np.full((n, layout.width), np.nan), np.full((n, layout.width), k.UNAVAILABLE, np.uint8)
        out = np.empty((n, layout.width))
        status = np.empty((n, layout.width), np.uint8)
        out[:], status[:] = layout.null, layout.null_status
        prefix = self._root.views[f"{view.name}@{view.version}"].id
        by_key: dict[bytes, list[int]] = {}
        for row, parts in enumerate(keys):
            key = None if parts is None else encode_key(parts)
            if key is not None:
                by_key.setdefault(key, []).append(row)
        rows = np.array([row for which in by_key.values() for row in which], np.int64)
        zeros = np.zeros(len(rows), np.int64)
        moments = zeros, t[rows], zeros, rows
        first = 0
        for key, which in by_key.items():
            entry = self._reader.entry(self._txn, head_key(prefix, key), layout)
            if entry is not None:
                k.read(*entry.laid_out, *moments, first, first + len(which), layout.plan, layout.windows, out, status)
            first += len(which)
        late = t < self.clock_us - GRACE_US
        if late.any():
            out[late], status[late] = np.nan, k.UNAVAILABLE
        return out, status


def _lay_out(head: KeyState, stamp: bytes, blocks: KeyBlocks, layout: Layout, before: _Entry | None) -> _Entry:
    """A head and its sealed blocks as arrays; what ``before`` holds of the sealed blocks is not copied again."""
    columns = len(layout.columns)
    sealed = head.sealed
    ends = np.cumsum(sealed[:, D_N]).tolist()
    n = (ends[-1] if ends else 0) + head.open.shape[1]
    b = len(sealed) + (1 if head.open.shape[1] else 0)
    done = 0
    if before is not None and len(before.laid_out[0]) >= n and len(before.laid_out[4]) >= b:
        times, stamps, values, starts, newest, sums, *_ = before.laid_out
        same = len(before.sealed)
        done = same if np.array_equal(before.sealed, sealed[:same]) else 0
    else:
        room, room_blocks = n + n // 2 + 32, b + b // 2 + 2
        times, stamps, values = np.empty(room, np.int64), np.zeros(room, np.int64), np.empty((columns, room))
        starts, newest = np.empty(room_blocks + 1, np.int64), np.empty(room_blocks, np.int64)
        sums = np.empty((room_blocks, columns, k.SUMMARY))
    at = ends[done - 1] if done else 0
    for i in range(done, len(sealed)):
        sums[i], events = blocks.read(int(sealed[i, D_NUMBER]))
        starts[i], newest[i] = at, 0
        times[at : ends[i]] = events[0]
        values[:, at : ends[i]] = events[3:].view(np.float64)
        at = ends[i]
    if head.open.shape[1]:
        starts[len(sealed)], newest[len(sealed)] = at, k.NEVER  # no summary: the open block is walked
        times[at:n] = head.open[0]
        values[:, at:n] = head.open[3:].view(np.float64)
    starts[b] = n
    past = np.zeros((columns, k.SUMMARY)) if head.past is None else head.past
    ints = np.zeros((columns, k.PAST_INTS), np.int64) if head.ints is None else head.ints
    key_events, key_blocks = np.array([0, n], np.int64), np.array([0, b], np.int64)
    laid_out = times, stamps, values, starts, newest, sums, past, ints, key_events, key_blocks
    return _Entry(stamp, sealed, sum(a.nbytes for a in laid_out), laid_out)
