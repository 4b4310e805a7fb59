"""Feature reads for the gateway: consistent snapshots of the online store, and a cache of what has not changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from mainspring.definitions import ViewDef
from mainspring.features import kernels as k
from mainspring.features.addresses import Addresses
from mainspring.features.body import Asked, Body, lay_out
from mainspring.features.keys import encode_key
from mainspring.features.layout import GRACE_US, LONGEST_US, Layout, compile_view
from mainspring.features.panel import Panel
from mainspring.features.reading import BY_KNOWN_AT, BY_OFFSET, Reading, Source
from mainspring.features.state import LONG_AGO
from mainspring.features.store import ROOT, KeyParts, OnlineStore, Root, ViewState, head_keys, root_of
from mainspring.features.words import key_of

CACHE_BYTES = 268_435_456


class Reader:
    """Reads views from an online store. For one thread.

    Args:
        views: The views that will be read; others may be, at the price of compiling them then.
        store: Open in any way.
        cache_bytes: For what lies behind the tails of busy keys.
    """

    def __init__(self, views: Iterable[ViewDef], store: OnlineStore, cache_bytes: int = CACHE_BYTES) -> None:
        self.store = store
        self._cache: dict[bytes, Body] = {}
        self.cached = self._cache.get  # what lay behind the tail of the key at a place when it was last read
        self._cached_bytes = 0
        self._cache_bytes = cache_bytes
        self._addresses: dict[int, Addresses] = {}
        self._root = b"", Root()
        for view in views:
            compile_view(view)

    def use(self, store: OnlineStore) -> None:
        """Read another store from now on; nothing of the one before is remembered."""
        self.store = store
        self._cache.clear()
        self._cached_bytes = 0
        self._addresses.clear()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The store as of one log offset; keep it short, a read transaction holds pages back."""
        with self.store.env.begin(buffers=True) as txn:
            raw = bytes(txn.get(ROOT, b""))
            if raw != self._root[0]:
                self._root = raw, root_of(raw)
            yield Snapshot(self, txn, self._root[1])

    def within(self, txn: Any, root: Root) -> Snapshot:
        """The store as a write transaction sees it; what it reads is not remembered, for the transaction may fail."""
        return Snapshot(Reader((), self.store, 0), txn, root)

    def addresses(self, state: ViewState) -> Addresses:
        """Where the heads of a view are."""
        found = self._addresses.get(state.id)
        if found is None:
            found = self._addresses[state.id] = Addresses(state)
        return found

    def body(self, place: bytes, head: np.ndarray, parts: KeyParts, layout: Layout, asked: Asked) -> Body:
        """What lies behind the tail of a key, laid out anew and kept in the cache."""
        body = lay_out(head, parts, layout, asked)
        before = self._cache.pop(place, None)
        self._cached_bytes += body.bytes - (0 if before is None else before.bytes)
        self._cache[place] = body
        while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
            self._cached_bytes -= self._cache.pop(next(iter(self._cache))).bytes
        return body


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

    def read(
        self,
        view: ViewDef,
        keys: Sequence[tuple[Any, ...] | None],
        t_us: np.ndarray,
        limits: np.ndarray | None = None,
        by: Literal["offset", "known_at"] = "offset",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answer moments, one a key.

        Args:
            view: Whose features.
            keys: Entities, as tuples in the order of ``view.entity``; None, or a None within, names no entity.
            t_us: int64[n], microseconds since 1970 UTC.
            limits: int64[n], the greatest offset or known_at that each moment sees; None: all that was folded.
            by: Which of the two ``limits`` are.

        Returns:
            Values float64[n, S], NaN for null, and status uint8[n, S]: ``UNAVAILABLE`` for a view that is not caught
            up and for a moment more than the grace behind the folded clock.
        """
        encoded = [None if parts is None else encode_key(parts) for parts in keys]
        state = self._state_of(view)
        asked = [] if state is None else [(compile_view(view), head_keys(state, encoded))]
        found = self._answer(asked, t_us, limits, by)
        return found[0] if found else _unavailable(len(keys), compile_view(view))

    def read_views(
        self,
        asked: Sequence[tuple[ViewDef, Sequence[Sequence[Any]]]],
        t_us: np.ndarray,
        limits: np.ndarray | None = None,
        by: Literal["offset", "known_at"] = "offset",
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Answer the same moments from several views.

        Args:
            asked: Views, each with the columns that name its entities, n values each; a null names no entity.
            t_us: As for ``read``.
            limits: As for ``read``.
            by: As for ``read``.

        Returns:
            Of each view what ``read`` returns.
        """
        states = [self._state_of(view) for view, _ in asked]
        known = [
            (compile_view(view), self._reader.addresses(state).of(columns))
            for (view, columns), state in zip(asked, states, strict=True)
            if state is not None
        ]
        found = self._answer(known, t_us, limits, by)
        if len(known) == len(asked):
            return found
        rest = iter(found)
        return [
            _unavailable(len(t_us), compile_view(view)) if state is None else next(rest)
            for (view, _), state in zip(asked, states, strict=True)
        ]

    def read_known(
        self, layout: Layout, state: ViewState, keys: Sequence[bytes | None], t_us: np.ndarray, limits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answer moments from what a view holds, wherever it stands and however long ago they are.

        Args:
            layout: Of the view.
            state: Of the view.
            keys: Entities, encoded; None for no entity.
            t_us: int64[n], microseconds since 1970 UTC.
            limits: int64[n], the greatest known_at that each moment sees.

        Returns:
            Values float64[n, S], NaN for null, and status uint8[n, S].
        """
        return self._answer([(layout, head_keys(state, keys))], t_us, limits, "known_at", LONG_AGO)[0]

    def texts(self, words: np.ndarray) -> list[str | None]:
        """The texts of words, float64[n], as views answer them; None for NaN."""
        found: list[str | None] = []
        for word in words.tolist():
            raw = None if word != word else self._txn.get(key_of(word), db=self._reader.store.words)
            found.append(None if raw is None else str(raw, "utf-8"))
        return found

    def _state_of(self, view: ViewDef) -> ViewState | None:
        """Of a view that is caught up."""
        state = self._root.views.get(f"{view.name}@{view.version}")
        return state if state is not None and state.offset == self.offset else None

    def _answer(
        self,
        asked: Sequence[tuple[Layout, list[bytes]]],
        t_us: np.ndarray,
        limits: np.ndarray | None,
        by: Literal["offset", "known_at"],
        since_us: int | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Answer moments of views that are caught up, each with the places of its heads, n of them."""
        if not asked:
            return []
        t_us = np.array(t_us, np.int64)
        layouts, places = zip(*asked, strict=True)
        if not len(t_us):
            return [(np.empty((0, one.width)), np.empty((0, one.width), np.uint8)) for one in layouts]
        since_us = self.clock_us - GRACE_US if since_us is None else since_us
        limits = None if limits is None else np.array(np.broadcast_to(limits, t_us.shape), np.int64)
        panel, stamp = Panel.of(layouts), BY_OFFSET if by == "offset" else BY_KNOWN_AT
        source = Source(self._txn.get, self._reader.store.heads, self._reader.cached, self._lay_out)
        out, status, any_late = Reading(panel, places, t_us, limits, stamp, source).answer(since_us)
        if any_late:
            late = np.clip(t_us, -LONGEST_US, LONGEST_US) < since_us
            out[:, late], status[:, late] = np.nan, k.UNAVAILABLE
        values, codes = out.T, status.T
        return [(values[:, own], codes[:, own]) for own in panel.slots]

    def _lay_out(self, place: bytes, head: np.ndarray, layout: Layout, asked: Asked) -> Body:
        parts = KeyParts(self._reader.store, self._txn, place)
        return self._reader.body(place, head, parts, layout, asked)


def _unavailable(n: int, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    shape = n, layout.width
    return np.full(shape, np.nan), np.full(shape, k.UNAVAILABLE, np.uint8)
