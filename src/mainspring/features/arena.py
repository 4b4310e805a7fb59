"""Keys laid out one after another, as ``kernels.read`` takes them: what lies behind each one's tail, then its tail."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from mainspring.features import kept
from mainspring.features import kernels as k
from mainspring.features.body import Body
from mainspring.features.compiled import compiled
from mainspring.features.layout import Layout
from mainspring.features.past import INTS, MOMENTS, Past
from mainspring.features.state import D_KNOWN, D_OFFSET, FORMAT, H_KEPT, HAS_PAST, HEAD, no_events, unknown_format
from mainspring.features.tree import N_AFTER, N_BEGIN, N_LEAF, N_NEWEST, N_UNTIL, N_UP, NEVER, NODE, SUMMARY

_I, _I2, _I3 = "int64[::1]", "int64[:, ::1]", "int64[:, :, ::1]"
_F, _F2, _F3 = "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"


@compiled(f"int64({_I}, int64, {_I}, {_I})")
def _survey(words: np.ndarray, columns: int, at: np.ndarray, behind: np.ndarray) -> int:
    """Find where heads begin, and which keys have more than their tails: how many, or −1 − format of one that is other.

    Args:
        words: int64, heads one after another.
        columns: C.
        at: int64[keys + 1], to hold where each begins, and the end.
        behind: int64[keys], to hold those that have more.
    """
    place, found = 0, 0
    for key in range(behind.shape[0]):
        at[key] = place
        word = words[place] if place + HEAD <= words.shape[0] else 0
        events = word >> 32
        if word & 0xFF != FORMAT or (word >> 16) & 0xFFFF != columns or events < 0:
            return -1 - (word & 0xFF)
        if words[place + H_KEPT] > 0 or word & (HAS_PAST << 8):
            behind[found] = key
            found += 1
        place += HEAD + (3 + columns) * events
    at[behind.shape[0]] = place
    return found if place == words.shape[0] else -1


def survey(layout: Layout, words: np.ndarray, keys: int) -> tuple[np.ndarray, list[int]]:
    """Where each of some heads begins, int64[keys + 1] with the end, and which keys have more than their tails.

    Args:
        layout: Of the view.
        words: int64, heads one after another.
        keys: How many.

    Raises:
        FormatError: A head is of a format that this release does not know (MS-F901).
    """
    at, behind = np.empty(keys + 1, np.int64), np.empty(keys, np.int64)
    found = _survey(words, len(layout.columns), at, behind)
    if found < 0:
        raise unknown_format(-1 - found)
    return at, behind[:found].tolist()


@compiled(
    f"Tuple(({_I}, {_I}, {_F2}, {_I2}, {_F3}, {_I2}))"
    f"({_I}, {_I}, int64, int64, {_I2}, {_I}, {_I}, {_I}, {_I}, {_F3}, {_I2})"
)
def assemble(
    words: np.ndarray,
    at: np.ndarray,
    columns: int,
    by: int,
    events: np.ndarray,
    event_at: np.ndarray,
    leaf_at: np.ndarray,
    begins: np.ndarray,
    newest: np.ndarray,
    leaf_sums: np.ndarray,
    marks: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lay out keys.

    Args:
        words: int64, their heads.
        at: int64[keys + 1], where each begins, and the end.
        columns: C.
        by: The row of events that visibility is judged by: 1 known_at, 2 offset.
        events: int64[3 + C, m], what lies behind the tails.
        event_at: int64[keys + 1], where each key's begins, and the end.
        leaf_at: int64[keys + 1], first leaf of each, and the end.
        begins: int64[L], first event of each leaf, counted from the key's first.
        newest: int64[L], greatest stamp of each.
        leaf_sums: float64[L, S, SUMMARY], of the columns that have summaries.
        marks: int64[2, keys + 1], the last two rows of the keys for ``kernels.read``.

    Returns:
        Times, stamps, values, nodes, sums and keys for ``kernels.read``.
    """
    keys = at.shape[0] - 1
    n, leaves = events.shape[1], begins.shape[0]
    for key in range(keys):
        count = words[at[key]] >> 32
        n += count
        leaves += 1 if count else 0
    times, stamps, values = np.empty(n, np.int64), np.empty(n, np.int64), np.empty((columns, n))
    summed = leaf_sums.shape[1]
    nodes, sums = np.empty((leaves + 1, NODE), np.int64), np.empty((summed, leaves + 1, SUMMARY))
    ranges = np.empty((4, keys + 1), np.int64)
    ranges[2:] = marks
    for i in range(leaves + 1):
        nodes[i, N_LEAF], nodes[i, N_AFTER], nodes[i, N_UP] = i, i + 1, -1
        nodes[i, N_NEWEST] = nodes[i, N_UNTIL] = NEVER
    values_of, floats = events[3:].view(np.float64), words.view(np.float64)
    event, leaf = 0, 0
    for key in range(keys):
        ranges[k.KEY_EVENT, key], ranges[k.KEY_LEAF, key] = event, leaf
        a, b = event_at[key], event_at[key + 1]
        for i in range(leaf_at[key], leaf_at[key + 1]):
            nodes[leaf, N_BEGIN], nodes[leaf, N_NEWEST] = event + begins[i], newest[i]
            for column in range(summed):
                sums[column, leaf] = leaf_sums[i, column]
            leaf += 1
        times[event : event + b - a] = events[0, a:b]
        stamps[event : event + b - a] = events[by, a:b]
        for column in range(columns):
            values[column, event : event + b - a] = values_of[column, a:b]
        event += b - a
        count, base = words[at[key]] >> 32, at[key] + HEAD
        if count:
            nodes[leaf, N_BEGIN] = event
            leaf += 1
            times[event : event + count] = words[base : base + count]
            stamps[event : event + count] = words[base + by * count : base + (by + 1) * count]
            for column in range(columns):
                place = base + (3 + column) * count
                values[column, event : event + count] = floats[place : place + count]
            event += count
    nodes[leaf, N_BEGIN] = event
    ranges[k.KEY_EVENT, keys], ranges[k.KEY_LEAF, keys] = event, leaf
    return times, stamps, values, nodes, sums, ranges


@compiled(
    f"void({_I}, {_I}, int64, int64, {_I2}, {_I}, {_I}, {_I}, {_I}, {_F3}, {_I2}, {_F3}, {_I3}, "
    f"{_I2}, {_I2}, {_F}, {_I}, int64, {_F2}, uint8[:, ::1])"
)
def _answer(
    words: np.ndarray,
    at: np.ndarray,
    columns: int,
    by: int,
    events: np.ndarray,
    event_at: np.ndarray,
    leaf_at: np.ndarray,
    begins: np.ndarray,
    newest: np.ndarray,
    leaf_sums: np.ndarray,
    marks: np.ndarray,
    past: np.ndarray,
    past_ints: np.ndarray,
    moments: np.ndarray,
    plan: np.ndarray,
    parameters: np.ndarray,
    windows: np.ndarray,
    hop: int,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """``assemble``, then ``kernels.read``: arrays that Python never sees cost it nothing."""
    times, stamps, values, nodes, sums, keys = assemble(
        words, at, columns, by, events, event_at, leaf_at, begins, newest, leaf_sums, marks
    )
    which = moments.shape[1]
    untils = np.empty(0, np.int64)
    k.read(
        times,
        stamps,
        untils,
        values,
        nodes,
        sums,
        past,
        past_ints,
        keys,
        moments,
        0,
        which,
        plan,
        parameters,
        windows,
        hop,
        out,
        status,
    )


_NO_STAMPS = np.empty(0, np.int64)


def answer(
    layout: Layout,
    words: np.ndarray,
    at: np.ndarray,
    by: int,
    bodies: Mapping[int, Body],
    moments: np.ndarray,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer moments by the first plan of a view; the arguments are those of ``arena_of`` and of ``kernels.read``."""
    laid_out, past, ints, _ = _laid_out(layout, words, at, by, bodies)
    given = moments, layout.plan, layout.parameters, layout.windows, layout.hop
    _answer(*laid_out, past, ints, *given, out, status)


def arena_of(
    layout: Layout, words: np.ndarray, at: np.ndarray, by: int, bodies: Mapping[int, Body]
) -> tuple[np.ndarray, ...]:
    """Keys laid out: the first nine arguments of ``kernels.read``, then ``kept`` and its starts for ``scans.answer``.

    Args:
        layout: Of the view.
        words: int64, their heads one after another.
        at: int64[keys + 1], where each begins, and the end.
        by: The row of events that visibility is judged by: 1 known_at, 2 offset.
        bodies: What lies behind the tail, of those keys that have anything there.
    """
    laid_out, past, ints, pasts = _laid_out(layout, words, at, by, bodies)
    times, stamps, values, nodes, sums, keys = assemble(*laid_out)
    return times, stamps, _NO_STAMPS, values, nodes, sums, past, ints, keys, *kept.lay_out(layout, pasts)


def _laid_out(
    layout: Layout, words: np.ndarray, at: np.ndarray, by: int, bodies: Mapping[int, Body]
) -> tuple[tuple[Any, ...], np.ndarray, np.ndarray, list[Past]]:
    """The arguments of ``assemble``, then what keys have let go of, as ``kernels.read`` takes it and as it is."""
    columns, keys = len(layout.columns), len(at) - 1
    events, begins, newest, sums, past, ints = _nothing(columns, len(layout.needs))
    offsets, marks = np.zeros((2, keys + 1), np.int64), np.zeros((2, keys + 1), np.int64)
    marks[0] = -1
    pasts: list[Past] = []
    if bodies:
        parts, places = list(bodies.values()), np.fromiter(bodies, np.int64, len(bodies))
        offsets[0, places + 1] = [body.events.shape[1] for body in parts]
        offsets[1, places + 1] = [body.begins.shape[0] for body in parts]
        np.cumsum(offsets, axis=1, out=offsets)
        marks[1, places] = [not body.is_whole for body in parts]
        for key, body in bodies.items():
            if body.past is not None:
                marks[0, key] = len(pasts)
                pasts.append(body.past)
        events = np.concatenate([body.events for body in parts], axis=1)
        begins = np.concatenate([body.begins for body in parts])
        newest = np.concatenate([body.nodes[:, D_KNOWN if by == 1 else D_OFFSET] for body in parts])
        sums = np.concatenate([body.sums for body in parts])
    if pasts:
        past, ints = np.stack([one[MOMENTS] for one in pasts]), np.stack([one[INTS] for one in pasts])
    return (words, at, columns, by, events, *offsets, begins, newest, sums, marks), past, ints, pasts


@cache
def _nothing(columns: int, summed: int) -> tuple[np.ndarray, ...]:
    """Events, begins, newest stamps and summaries of no bodies, and a past of nobody."""
    return (
        no_events(columns),
        np.empty(0, np.int64),
        np.empty(0, np.int64),
        np.empty((0, summed, SUMMARY)),
        np.empty((0, summed, k.PAST)),
        np.empty((0, summed, k.PAST_INTS), np.int64),
    )
