"""Feature reads for the gateway: consistent snapshots of the online store, and a cache of what has not changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from mainspring.definitions import ViewDef
from mainspring.features import kernels as k
from mainspring.features import scans
from mainspring.features.arena import answer, arena_of, survey
from mainspring.features.body import Asked, Body, lay_out
from mainspring.features.hopping import scan_with_hops, settle_with_hops
from mainspring.features.keys import encode_key
from mainspring.features.layout import GRACE_US, LONGEST_US, Layout, compile_view
from mainspring.features.state import HEAD, LONG_AGO, NEVER
from mainspring.features.store import KeyParts, OnlineStore, Root, ViewState, head_keys
from mainspring.features.words import key_of

CACHE_BYTES = 268_435_456
EVERYTHING = k.NEVER - 1  # a limit that hides nothing
_DISTINCT = 0.75  # of a batch's keys: where fewer are distinct each is read once, else it is cheaper not to ask


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
        for view in views:
            compile_view(view)

    def use(self, store: OnlineStore) -> None:
        """Read another store from now on; nothing of the one before is remembered."""
        self.store = store
        self._cache.clear()
        self._cached_bytes = 0

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The store as of one log offset; keep it short, a read transaction holds pages back."""
        with self.store.env.begin(buffers=True) as txn:
            yield Snapshot(self, txn, self.store.root(txn))

    def within(self, txn: Any, root: Root) -> Snapshot:
        """The store as a write transaction sees it; what it reads is not remembered, for the transaction may fail."""
        return Snapshot(Reader((), self.store, 0), txn, root)

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
        return self.read_views([(view, encoded)], t_us, limits, by)[0]

    def read_views(
        self,
        asked: Sequence[tuple[ViewDef, Sequence[bytes | None]]],
        t_us: np.ndarray,
        limits: np.ndarray | None = None,
        by: Literal["offset", "known_at"] = "offset",
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Answer the same moments from several views.

        Args:
            asked: Views, each with its keys, encoded (``keys.encode_keys``); None names no entity.
            t_us: As for ``read``.
            limits: As for ``read``.
            by: As for ``read``.

        Returns:
            Of each view what ``read`` returns.
        """
        moments = _moments(np.asarray(t_us, np.int64), limits)
        late = moments[k.M_T] < self.clock_us - GRACE_US
        any_late = bool(late.any())
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for view, keys in asked:
            layout = compile_view(view)
            state = self._root.views.get(f"{view.name}@{view.version}")
            if state is None or state.offset != self.offset:
                shape = len(keys), layout.width
                found.append((np.full(shape, np.nan), np.full(shape, k.UNAVAILABLE, np.uint8)))
                continue
            out, status = self._read(layout, state, keys, moments, by)
            if any_late:
                out[:, late], status[:, late] = np.nan, k.UNAVAILABLE
            found.append((out.T, status.T))
        return found

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
        out, status = self._read(layout, state, keys, _moments(t_us, limits), "known_at")
        return out.T, status.T

    def texts(self, words: np.ndarray) -> list[str | None]:
        """The texts of words, float64[n], as views answer them; None for NaN."""
        found: list[str | None] = []
        for word in words.tolist():
            raw = None if word != word else self._txn.get(key_of(word), db=self._reader.store.words)
            found.append(None if raw is None else str(raw, "utf-8"))
        return found

    def _read(
        self, layout: Layout, state: ViewState, keys: Sequence[bytes | None], moments: np.ndarray, by: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answer ``moments``, whose keys are filled in here."""
        n = len(keys)
        out, status = np.empty((layout.width, n)), np.empty((layout.width, n), np.uint8)
        out[:], status[:] = layout.null[:, None], layout.null_status[:, None]
        get, heads, places = self._txn.get, self._reader.store.heads, head_keys(state, keys)
        distinct = dict.fromkeys(places)
        if len(distinct) < n * _DISTINCT:
            raws = {place: raw for place in distinct if (raw := get(place, None, heads)) is not None}
            if raws:
                numbers = {place: number for number, place in enumerate(raws)}
                moments[k.M_KEY] = [numbers.get(place, -1) for place in places]
                known = np.flatnonzero(moments[k.M_KEY] >= 0)
                order = known[np.lexsort((moments[k.M_T][known], moments[k.M_KEY][known]))]
                self._answer(layout, [*raws], [*raws.values()], np.take(moments, order, axis=1), by, out, status)
            return out, status
        found = [get(place, None, heads) for place in places]  # by position: by name it takes a fifth longer
        if not all(found):  # no head is empty
            there = [i for i, raw in enumerate(found) if raw]
            places, found = [places[i] for i in there], [found[i] for i in there]
            moments = np.take(moments, there, axis=1)
        if found:
            moments[k.M_KEY] = np.arange(len(found))
            self._answer(layout, places, found, moments, by, out, status)
        return out, status

    def _answer(
        self,
        layout: Layout,
        places: list[bytes],
        raws: list[Any],
        moments: np.ndarray,
        by: str,
        out: np.ndarray,
        status: np.ndarray,
    ) -> None:
        words = np.frombuffer(bytearray().join(raws), np.int64)
        at, some = survey(layout, words, len(raws))
        row = 2 if by == "offset" else 1
        bodies: dict[int, Body] = {}
        for whole in (False, True):
            if some:
                bodies = self._bodies(layout, places, words, at, some, moments, by, whole=whole)
            are_whole = all(body.is_whole for body in bodies.values())
            have_hops = not are_whole and any(body.hops for body in bodies.values())
            if layout.scans and not have_hops:
                self._run(layout, arena_of(layout, words, at, row, bodies), moments, out, status)
            else:
                answer(layout, words, at, row, bodies, moments, out, status)
            if have_hops:
                scan_with_hops(layout, words, at, row, bodies, moments, out, status)
            if are_whole:
                return
            partial = (status[:, moments[k.M_ROW]] == k.PARTIAL).any(axis=0)
            if not partial.any():
                return
            moments = np.ascontiguousarray(moments[:, partial])
            still = set(moments[k.M_KEY].tolist())
            some = [one for one in some if one[0] in still]
        settle_with_hops(layout, words, at, row, bodies, moments, out, status)

    def _bodies(
        self,
        layout: Layout,
        places: list[bytes],
        words: np.ndarray,
        at: np.ndarray,
        some: list[list[int]],
        moments: np.ndarray,
        by: str,
        *,
        whole: bool,
    ) -> dict[int, Body]:
        """What lies behind the tails of the keys ``some``, each with its serial, in their order."""
        cached, bodies = self._reader.cached, dict[int, Body]()
        asked: Asked | None = None  # only a body that is not all of what there is needs to know
        for i, serial in some:
            place = places[i]
            body = cached(place)
            if body is None or body.serial != serial or not body.is_whole or body.since_us > LONG_AGO:
                asked = asked or _asked(layout, moments, by, whole=whole)
                if body is None or body.serial != serial or not body.serves(asked):
                    parts = KeyParts(self._reader.store, self._txn, place)
                    body = self._reader.body(place, words[at[i] : at[i] + HEAD], parts, layout, asked)
            bodies[i] = body
        return bodies

    @staticmethod
    def _run(
        layout: Layout, arena: tuple[np.ndarray, ...], moments: np.ndarray, out: np.ndarray, status: np.ndarray
    ) -> None:
        """Answer by both plans of a view."""
        *laid_out, kept, kept_starts = arena
        which = moments, 0, moments.shape[1]
        k.read(*laid_out, *which, layout.plan, layout.parameters, layout.windows, layout.hop, out, status)
        times, stamps, untils, values, keys = *laid_out[:4], laid_out[-1]
        scans.answer(times, stamps, untils, values, keys, *which, *layout.scanned, kept, kept_starts, out, status)


def _moments(t_us: np.ndarray, limits: np.ndarray | None) -> np.ndarray:
    """Moments as ``kernels.read`` takes them, one a row, their keys not filled in."""
    moments = np.empty((4, len(t_us)), np.int64)
    np.minimum(np.maximum(t_us, -LONGEST_US), LONGEST_US, out=moments[k.M_T])
    moments[k.M_LIMIT] = EVERYTHING if limits is None else limits
    moments[k.M_ROW] = np.arange(len(t_us))
    return moments


def _asked(layout: Layout, moments: np.ndarray, by: str, *, whole: bool) -> Asked:
    """What moments need to see the events of; with ``whole``, all that their windows hold."""
    t, limit = moments[k.M_T], int(moments[k.M_LIMIT].min())
    lefts = (t[:, None] - layout.bounded_windows) // layout.hop * layout.hop
    edges = np.concatenate((t, lefts.ravel()))
    edges.sort()
    first = int(t.min())
    since_us = LONG_AGO if layout.reach_us == k.UNBOUNDED else first - layout.reach_us
    fine_us = NEVER
    if whole:
        fine_us = since_us
    elif layout.scans:
        fine_us = LONG_AGO if layout.scan_reach_us == k.UNBOUNDED else first - layout.scan_reach_us
    known, offset = (EVERYTHING, limit) if by == "offset" else (limit, EVERYTHING)
    return Asked(edges, since_us, fine_us, known, offset)
