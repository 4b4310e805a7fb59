"""Answers of keys that have hops, as far as a read of events and nodes does not give them.

Scans take hops as they take what was let go of: joined, for each place where windows begin. A sum that is not certain
from summaries, and a variance that cancels, are settled from everything in the window.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mainspring.features import kept, scans
from mainspring.features import kernels as k
from mainspring.features.arena import arena_of
from mainspring.features.body import Body
from mainspring.features.hops import Hop, answer_of, merge_moments
from mainspring.features.layout import Layout
from mainspring.features.past import INTS, MOMENTS
from mainspring.features.state import D_FIRST, LONG_AGO
from mainspring.features.windows import left_edge


def scan_with_hops(
    layout: Layout,
    words: np.ndarray,
    at: np.ndarray,
    by: int,
    bodies: Mapping[int, Body],
    moments: np.ndarray,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer the scans of a view; the arguments are those of ``arena_of`` and of ``scans.answer``."""
    if not layout.scans:
        return
    after = {key: body.without_hops(_after_hops(body)) for key, body in bodies.items()}
    times, stamps, untils, values, _, _, _, _, keys, _, _ = arena_of(layout, words, at, by, after)
    keys[k.KEY_PAST] = -1
    keys[k.KEY_PAST, list(bodies)] = np.arange(len(bodies))
    lefts = np.array([_lefts(layout, t) for t in moments[k.M_T].tolist()])
    begins, which = np.unique(lefts, axis=0, return_inverse=True)
    for place, own in enumerate(begins.tolist()):
        mine = np.ascontiguousarray(moments[:, which == place])
        joined = [_joined(layout, body, tuple(own)) for body in bodies.values()]
        kept_all = kept.in_a_row(joined, len(layout.scan_plan))
        scans.answer(
            times, stamps, untils, values, keys, mine, 0, mine.shape[1], *layout.scanned, *kept_all, out, status
        )


def _lefts(layout: Layout, t: int) -> list[int]:
    """Where the windows of scans begin."""
    return [LONG_AGO if w == k.UNBOUNDED else left_edge(t, w, layout.hop) for w in layout.scan_windows.tolist()]


def _after_hops(body: Body) -> int:
    """The leaf after the last hop."""
    return max(body.hops, default=-1) + 1


def _joined(layout: Layout, body: Body, lefts: tuple[int, ...]) -> list[np.ndarray | None]:
    """For each row of the scan plan the part of all that a key has up to its last hop, from where the window begins.

    Events between hops, which are few, are taken together here.
    """
    if lefts not in body.joined:
        body.joined.clear()  # windows begin elsewhere by now
        body.joined[lefts] = [
            _joined_row(layout, body, lefts[row[k.P_WINDOW]], row, parameter)
            for row, parameter in zip(layout.scan_plan, layout.scan_parameters.tolist(), strict=True)
        ]
    found: list[np.ndarray | None] = body.joined[lefts]
    return found


def _joined_row(layout: Layout, body: Body, left: int, row: np.ndarray, parameter: float) -> np.ndarray | None:
    parts = [hop.parts for leaf, hop in body.hops.items() if hop is not None and body.nodes[leaf, D_FIRST] >= left]
    last = _after_hops(body)
    if last:
        until = int(body.begins[last]) if last < len(body.begins) else body.events.shape[1]
        hollow = np.zeros(body.events.shape[1], np.bool_)
        ends = np.append(body.begins[1:], body.events.shape[1])
        for leaf in body.hops:
            hollow[body.begins[leaf] : ends[leaf]] = True
        between = np.flatnonzero(~hollow[:until] & (body.events[0, :until] >= left))
        if len(between):
            more: kept.Parts = {}
            kept.absorb(layout, more, body.events[:, between], every=True)
            parts.append(more)
    if left == LONG_AGO and body.past is not None:
        parts.append(body.past)
    found = [one for part in parts if (one := kept.body_of(row, parameter, part)) is not None]
    return kept.join(row, found) if found else None


def settle_with_hops(
    layout: Layout,
    words: np.ndarray,
    at: np.ndarray,
    by: int,
    bodies: Mapping[int, Body],
    moments: np.ndarray,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer what ``kernels.read`` has left partial: from the exact sums of hops and from the events beside them.

    The arguments are those of ``arena_of`` and of ``kernels.read``; no body is hollow but for its hops.
    """
    events = {key: body.without_hops() for key, body in bodies.items()}
    times, stamps, _, values, _, _, _, _, keys, _, _ = arena_of(layout, words, at, by, events)
    for t, limit, row, key in moments.T.tolist():
        low, high = keys[k.KEY_EVENT, key], keys[k.KEY_EVENT, key + 1]
        totals: dict[int, tuple[Hop, bool]] = {}
        for one in layout.plan:
            if status[one[k.P_OUT], row] != k.PARTIAL:
                continue
            window = int(layout.windows[one[k.P_WINDOW]])
            if window not in totals:
                left = LONG_AGO if window == k.UNBOUNDED else left_edge(t, window, layout.hop)
                seen = low + np.flatnonzero(
                    (times[low:high] >= left) & (times[low:high] < t) & (stamps[low:high] <= limit)
                )
                totals[window] = _total(layout, bodies.get(key), left, times[seen], values[:, seen])
            total, is_exact = totals[window]
            out[one[k.P_OUT], row] = answer_of(one, total, is_exact=is_exact)
            status[one[k.P_OUT], row] = k.PRESENT


def _total(layout: Layout, body: Body | None, left: int, times: np.ndarray, values: np.ndarray) -> tuple[Hop, bool]:
    """All that a window holds as one hop, and whether its sums of squares are exact."""
    total = Hop.nothing(layout)
    if len(times):
        stamps = np.zeros((2, len(times)), np.int64)
        total.absorb(layout, np.concatenate((times[None], stamps, values.view(np.int64))))
    if body is None:
        return total, True
    for leaf, hop in body.hops.items():
        if hop is not None and body.nodes[leaf, D_FIRST] >= left:
            total.merge(layout, hop)
    if left == LONG_AGO and body.past is not None:
        merge_moments(total.moments, total.ints, body.past[MOMENTS], body.past[INTS])
        return total, False
    return total, True
