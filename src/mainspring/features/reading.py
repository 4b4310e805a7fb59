"""One read of the online store: heads of many entities of several views found, laid out and answered together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from mainspring.features import kernels as k
from mainspring.features import scans
from mainspring.features.arena import arena_of
from mainspring.features.body import Asked, Body
from mainspring.features.hopping import scan_with_hops, settle_with_hops
from mainspring.features.layout import LONGEST_US, Layout
from mainspring.features.panel import EVERYTHING, NOBODY, NOBODY_WORD, Panel
from mainspring.features.state import HEAD, LONG_AGO, NEVER

BY_KNOWN_AT, BY_OFFSET = 1, 2
"""The row of events that visibility is judged by."""
_DISTINCT = 0.75  # of a batch's keys: where fewer are distinct each is read once, else it is cheaper not to ask

Bodies = dict[int, Body]


class Source(NamedTuple):
    """Where heads, and what lies behind them, are read.

    Attributes:
        get: A head by its place, else the second argument; the third is ``heads``. LMDB's is fastest by position.
        heads: Their database.
        known: What lay behind the tail of the key at a place when it was last read, if anybody knows.
        lay_out: It laid out anew, by the head and for what moments need.
    """

    get: Callable[..., Any]
    heads: Any
    known: Callable[[bytes], Body | None]
    lay_out: Callable[[bytes, np.ndarray, Layout, Asked], Body]


class Reading:
    """Moments asked of several views, and the heads that answer them.

    Args:
        panel: The views.
        places: Where the heads are that moments are asked of: of each view, n.
        t_us: int64[n], microseconds since 1970 UTC.
        limits: int64[n], the greatest offset or known_at that each moment sees; None: all that was folded.
        by: ``BY_KNOWN_AT`` or ``BY_OFFSET``.
        source: Of the heads.
    """

    def __init__(
        self,
        panel: Panel,
        places: Sequence[list[bytes]],
        t_us: np.ndarray,
        limits: np.ndarray | None,
        by: int,
        source: Source,
    ) -> None:
        self._panel = panel
        self._t_us = t_us
        self._limits = limits
        self._by = by
        self._source = source
        self._places, self._ends, self._which = _numbered(places, len(t_us))
        self._firsts = np.array(self._ends)
        heads = map(source.get, self._places, repeat(NOBODY), repeat(source.heads))
        self._words = np.frombuffer(bytearray().join(heads), np.int64)
        self._at, self._behind = panel.survey(self._words, self._firsts)

    def answer(self, since_us: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """Values float64[S, n], NaN for null, and status uint8[S, n]; whether any moment is before ``since_us``."""
        panel, bodies, rest = self._panel, Bodies(), dict[int, Bodies | None]()
        behind = self._by_view(self._behind) if self._behind else {}
        for view, layout in enumerate(panel.layouts) if behind or panel.has_scans else ():
            if layout.scans:
                rest[view] = None
            elif view in behind:
                own = self._bodies(view, behind[view])
                bodies |= own
                if not _are_whole(own):
                    rest[view] = own
        read = self._words, self._at, self._by, self._firsts, self._which, self._t_us, self._limits
        out, status, late = panel.answer(*read, since_us, bodies)
        for view, found in rest.items():
            own_slots = panel.slots[view]
            self._finish(view, behind.get(view, []), found, out[own_slots], status[own_slots])
        return out, status, late

    def _finish(
        self, view: int, behind: list[list[int]], bodies: Bodies | None, out: np.ndarray, status: np.ndarray
    ) -> None:
        """Answer a view's scans, or what the panel has left partial, which has seen ``bodies``."""
        moments = self._moments(view)
        if not moments.shape[1]:
            return
        if bodies is None:
            bodies = self._bodies(view, behind, moments)
            self._run(view, bodies, moments, out, status)
        for is_last in (False, True):
            if _are_whole(bodies):
                return
            partial = (status[:, moments[k.M_ROW]] == k.PARTIAL).any(axis=0)
            if not partial.any():
                return
            moments = np.ascontiguousarray(moments[:, partial])
            if is_last:
                break
            still = set((moments[k.M_KEY] + self._ends[view]).tolist())
            behind = [one for one in behind if one[0] in still]
            bodies = self._bodies(view, behind, moments, whole=True)
            self._run(view, bodies, moments, out, status)
        settle_with_hops(*self._laid_out(view, bodies), moments, out, status)

    def _run(self, view: int, bodies: Bodies, moments: np.ndarray, out: np.ndarray, status: np.ndarray) -> None:
        """Answer by both plans of a view."""
        laid_out = self._laid_out(view, bodies)
        layout, which = laid_out[0], (moments, 0, moments.shape[1])
        *arena, kept, kept_starts = arena_of(*laid_out)
        k.read(*arena, *which, layout.plan, layout.parameters, layout.windows, layout.hop, out, status)
        if any(body.hops for body in bodies.values()):
            scan_with_hops(*laid_out, moments, out, status)
        elif layout.scans:
            times, stamps, untils, values, keys = *arena[:4], arena[-1]
            scans.answer(times, stamps, untils, values, keys, *which, *layout.scanned, kept, kept_starts, out, status)

    def _laid_out(self, view: int, bodies: Bodies) -> tuple[Layout, np.ndarray, np.ndarray, int, Bodies]:
        """The arguments of ``arena_of``."""
        first, after = self._ends[view : view + 2]
        own = {key - first: body for key, body in bodies.items()}
        return self._panel.layouts[view], self._words, self._at[first : after + 1], self._by, own

    def _by_view(self, some: list[list[int]]) -> dict[int, list[list[int]]]:
        """Keys with serials, which rise, by the view that they are of."""
        found: dict[int, list[list[int]]] = {}
        view = 0
        for one in some:
            while one[0] >= self._ends[view + 1]:
                view += 1
            found.setdefault(view, []).append(one)
        return found

    def _bodies(
        self, view: int, some: list[list[int]], moments: np.ndarray | None = None, *, whole: bool = False
    ) -> Bodies:
        """What lies behind the tails of the keys ``some`` of a view, each with its serial, in their order."""
        known, bodies = self._source.known, Bodies()
        asked: Asked | None = None  # only a body that is not all of what there is needs to know
        for key, serial in some:
            place = self._places[key]
            body = known(place)
            if body is None or body.serial != serial or not body.is_whole or body.since_us > LONG_AGO:
                asked = asked or self._asked(view, moments, whole=whole)
                if body is None or body.serial != serial or not body.serves(asked):
                    head = self._words[self._at[key] : self._at[key] + HEAD]
                    body = self._source.lay_out(place, head, self._panel.layouts[view], asked)
            bodies[key] = body
        return bodies

    def _moments(self, view: int) -> np.ndarray:
        """A view's moments as ``kernels.read`` takes them, without those of entities that have no head.

        Those of a key come together and rise, for scans.
        """
        t_us, which = self._t_us, self._which[view]
        first, after = self._ends[view : view + 2]
        moments = np.empty((4, len(t_us)), np.int64)
        np.clip(t_us, -LONGEST_US, LONGEST_US, out=moments[k.M_T])
        moments[k.M_LIMIT] = EVERYTHING if self._limits is None else self._limits
        moments[k.M_ROW] = np.arange(len(t_us))
        moments[k.M_KEY] = which - first
        known = np.flatnonzero(self._words[self._at[which]] != NOBODY_WORD)
        if after - first < len(t_us):
            known = known[np.lexsort((moments[k.M_T][known], moments[k.M_KEY][known]))]
        return np.take(moments, known, axis=1)

    def _asked(self, view: int, moments: np.ndarray | None, *, whole: bool) -> Asked:
        """What a view's moments need to see the events of; with ``whole``, all that their windows hold."""
        layout = self._panel.layouts[view]
        moments = self._moments(view) if moments is None else moments
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
        known, offset = (EVERYTHING, limit) if self._by == BY_OFFSET else (limit, EVERYTHING)
        return Asked(edges, since_us, fine_us, known, offset)


def _are_whole(bodies: Bodies) -> bool:
    return all(body.is_whole for body in bodies.values())


def _numbered(places: Sequence[list[bytes]], n: int) -> tuple[list[bytes], list[int], np.ndarray]:
    """Keys of views, the first of each with the end, and which of them are asked about, int64[V, n]."""
    keys: list[bytes] = []
    firsts = [0]
    again: dict[int, list[int]] = {}
    for view, own in enumerate(places):
        if n > 1 and len(set(own)) < n * _DISTINCT:
            distinct = dict.fromkeys(own)
            numbers = dict(zip(distinct, range(len(keys), len(keys) + len(distinct)), strict=True))
            again[view] = list(map(numbers.__getitem__, own))
            keys += distinct
        else:
            keys += own
        firsts.append(len(keys))
    if not again:
        return keys, firsts, np.arange(len(keys)).reshape(-1, n)
    which = np.array(firsts[:-1])[:, None] + np.arange(n)
    for view, row in again.items():
        which[view] = row
    return keys, firsts, which
