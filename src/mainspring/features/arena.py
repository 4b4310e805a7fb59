"""Keys laid out one after another, as ``kernels.read`` takes them: what lies behind each one's tail, then its tail."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from mainspring.features import kept
from mainspring.features import kernels as k
from mainspring.features.body import B_EVENTS, B_HOLLOW, B_LEAVES, B_PAST, PACKED, Body
from mainspring.features.compiled import compiled
from mainspring.features.layout import Layout
from mainspring.features.past import INTS, MOMENTS, Past
from mainspring.features.state import (
    D_KNOWN,
    D_OFFSET,
    D_SUMS,
    ENDS,
    HEAD,
)
from mainspring.features.tree import N_AFTER, N_BEGIN, N_LEAF, N_NEWEST, N_UNTIL, N_UP, NEVER, NODE, SUMMARY

_I, _I2, _I3 = "int64[::1]", "int64[:, ::1]", "int64[:, :, ::1]"
_F, _F2, _F3 = "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"


@compiled(f"void({_I}, int64, {_I}, int64, int64)", allocates=False)
def _copy(source: np.ndarray, at: np.ndarray, to: np.ndarray, place: int, n: int) -> None:
    """A few numbers: slices would be counted, and found not to overlap."""
    for i in range(n):
        to[np.uint64(place + i)] = source[np.uint64(at + i)]


@compiled(f"void({_F}, int64, {_F2}, int64, int64, int64)", allocates=False)
def _copy_floats(source: np.ndarray, at: np.ndarray, to: np.ndarray, column: int, place: int, n: int) -> None:
    for i in range(n):
        to[column, np.uint64(place + i)] = source[np.uint64(at + i)]


@compiled(
    f"Tuple(({_I}, {_I}, {_F2}, {_I2}, {_F3}, {_I2}))({_I}, {_I}, int64, int64, int64, {_I}, {_I})",
)
def assemble(
    words: np.ndarray, at: np.ndarray, columns: int, summed: int, by: int, packed: np.ndarray, behind: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lay out keys.

    Args:
        words: int64, their heads.
        at: int64[keys + 1], where each begins, and the end.
        columns: C.
        summed: S, columns that have summaries.
        by: The row of events that visibility is judged by: 1 known_at, 2 offset.
        packed: int64, what lies behind tails (``Body.packed``), one after another.
        behind: int64, the keys that these are of, rising.

    Returns:
        Times, stamps, values, nodes, sums and keys for ``kernels.read``; pasts are numbered in the order of keys.
    """
    keys = at.shape[0] - 1
    width = D_SUMS + summed * (SUMMARY + ENDS)
    n, leaves, place = 0, 0, 0
    for _ in range(behind.shape[0]):
        count, more = packed[place + B_EVENTS], packed[place + B_LEAVES]
        n += count
        leaves += more
        place += PACKED + (3 + columns) * count + (1 + width) * more
    for key in range(keys):
        count = words[at[key]] >> 32
        n += count
        leaves += 1 if count else 0
    times, stamps, values = np.empty(n, np.int64), np.empty(n, np.int64), np.empty((columns, n))
    nodes, sums = np.empty((leaves + 1, NODE), np.int64), np.empty((summed, leaves + 1, SUMMARY))
    ranges = np.empty((4, keys + 1), np.int64)
    ranges[k.KEY_PAST], ranges[k.KEY_HOLLOW] = -1, 0
    for i in range(leaves + 1):
        nodes[i, N_LEAF], nodes[i, N_AFTER], nodes[i, N_UP] = i, i + 1, -1
        nodes[i, N_NEWEST] = nodes[i, N_UNTIL] = NEVER
    floats, packed_floats = words.view(np.float64), packed.view(np.float64)
    stamp = D_KNOWN if by == 1 else D_OFFSET
    event, leaf, place, body, pasts = 0, 0, 0, 0, 0
    for key in range(keys):
        ranges[k.KEY_EVENT, key], ranges[k.KEY_LEAF, key] = event, leaf
        if body < behind.shape[0] and behind[body] == key:
            count, more = packed[place + B_EVENTS], packed[place + B_LEAVES]
            ranges[k.KEY_HOLLOW, key] = packed[place + B_HOLLOW]
            if packed[place + B_PAST]:
                ranges[k.KEY_PAST, key] = pasts
                pasts += 1
            place += PACKED
            times[event : event + count] = packed[place : place + count]
            stamps[event : event + count] = packed[place + by * count : place + (by + 1) * count]
            place += 3 * count
            for column in range(columns):
                values[column, event : event + count] = packed_floats[place : place + count]
                place += count
            node = place + more
            for i in range(more):
                nodes[leaf, N_BEGIN], nodes[leaf, N_NEWEST] = event + packed[place + i], packed[node + stamp]
                for column in range(summed):
                    own = node + D_SUMS + column * SUMMARY
                    sums[column, leaf] = packed_floats[own : own + SUMMARY]
                node += width
                leaf += 1
            place = node
            event += count
            body += 1
        count, base = words[at[key]] >> 32, at[key] + HEAD
        if count:
            nodes[leaf, N_BEGIN] = event
            leaf += 1
            _copy(words, base, times, event, count)
            _copy(words, base + by * count, stamps, event, count)
            for column in range(columns):
                _copy_floats(floats, base + (3 + column) * count, values, column, event, count)
            event += count
    nodes[leaf, N_BEGIN] = event
    ranges[k.KEY_EVENT, keys], ranges[k.KEY_LEAF, keys] = event, leaf
    return times, stamps, values, nodes, sums, ranges


_NO_STAMPS = np.empty(0, np.int64)


def arena_of(
    layout: Layout, words: np.ndarray, at: np.ndarray, by: int, bodies: Mapping[int, Body]
) -> tuple[np.ndarray, ...]:
    """Keys laid out: the first nine arguments of ``kernels.read``, then ``kept`` and its starts for ``scans.answer``.

    Args:
        layout: Of the view.
        words: int64, their heads one after another.
        at: int64[keys + 1], where each begins, and the end.
        by: The row of events that visibility is judged by: 1 known_at, 2 offset.
        bodies: What lies behind the tail, of those keys that have anything there, in their order.
    """
    laid_out, past, ints, pasts = _laid_out(layout, words, at, by, bodies)
    times, stamps, values, nodes, sums, keys = assemble(*laid_out)
    return times, stamps, _NO_STAMPS, values, nodes, sums, past, ints, keys, *kept.lay_out(layout, pasts)


def _laid_out(
    layout: Layout, words: np.ndarray, at: np.ndarray, by: int, bodies: Mapping[int, Body]
) -> tuple[tuple[Any, ...], np.ndarray, np.ndarray, list[Past]]:
    """The arguments of ``assemble``, then what keys have let go of, as ``kernels.read`` takes it and as it is."""
    summed = len(layout.needs)
    packed, behind = _NO_STAMPS, _NO_STAMPS
    past, ints = _no_past(summed)
    pasts: list[Past] = []
    if bodies:  # in the order of keys
        packed = np.frombuffer(bytearray().join([body.packed for body in bodies.values()]), np.int64)
        behind = np.array([*bodies], np.int64)
        pasts = [body.past for body in bodies.values() if body.past is not None]
    if pasts:
        past, ints = np.stack([one[MOMENTS] for one in pasts]), np.stack([one[INTS] for one in pasts])
    return (words, at, len(layout.columns), summed, by, packed, behind), past, ints, pasts


@cache
def _no_past(summed: int) -> tuple[np.ndarray, np.ndarray]:
    """A past of nobody."""
    return np.empty((0, summed, k.PAST)), np.empty((0, summed, k.PAST_INTS), np.int64)
