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
    FORMAT,
    H_KEPT,
    H_SERIAL,
    HAS_PAST,
    HEAD,
    unknown_format,
)
from mainspring.features.tree import N_AFTER, N_BEGIN, N_LEAF, N_NEWEST, N_UNTIL, N_UP, NEVER, NODE, SUMMARY

_I, _I2, _I3 = "int64[::1]", "int64[:, ::1]", "int64[:, :, ::1]"
_F, _F2, _F3 = "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"


@compiled(f"int64({_I}, int64, {_I}, {_I2})")
def _survey(words: np.ndarray, columns: int, at: np.ndarray, behind: np.ndarray) -> int:
    """Find where heads begin, and which keys have more than their tails: how many, or −1 − format of one that is other.

    Args:
        words: int64, heads one after another.
        columns: C.
        at: int64[keys + 1], to hold where each begins, and the end.
        behind: int64[keys, 2], to hold those that have more, each with its serial.
    """
    place, found = 0, 0
    for key in range(behind.shape[0]):
        at[key] = place
        word = words[place] if place + HEAD <= words.shape[0] else 0
        events = word >> 32
        if word & 0xFF != FORMAT or (word >> 16) & 0xFFFF != columns or events < 0:
            return -1 - (word & 0xFF)
        if words[place + H_KEPT] > 0 or word & (HAS_PAST << 8):
            behind[found, 0], behind[found, 1] = key, words[place + H_SERIAL]
            found += 1
        place += HEAD + (3 + columns) * events
    at[behind.shape[0]] = place
    return found if place == words.shape[0] else -1


def survey(layout: Layout, words: np.ndarray, keys: int) -> tuple[np.ndarray, list[list[int]]]:
    """Where each of some heads begins, int64[keys + 1] with the end; keys with more than tails, each with its serial.

    Args:
        layout: Of the view.
        words: int64, heads one after another.
        keys: How many.

    Raises:
        FormatError: A head is of a format that this release does not know (MS-F901).
    """
    at, behind = np.empty(keys + 1, np.int64), np.empty((keys, 2), np.int64)
    found = _survey(words, len(layout.columns), at, behind)
    if found < 0:
        raise unknown_format(-1 - found)
    return at, behind[:found].tolist()


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
            times[event : event + count] = words[base : base + count]
            stamps[event : event + count] = words[base + by * count : base + (by + 1) * count]
            for column in range(columns):
                source = base + (3 + column) * count
                values[column, event : event + count] = floats[source : source + count]
            event += count
    nodes[leaf, N_BEGIN] = event
    ranges[k.KEY_EVENT, keys], ranges[k.KEY_LEAF, keys] = event, leaf
    return times, stamps, values, nodes, sums, ranges


@compiled(
    f"void({_I}, {_I}, int64, int64, int64, {_I}, {_I}, {_F3}, {_I3}, "
    f"{_I2}, {_I2}, {_F}, {_I}, int64, {_F2}, uint8[:, ::1])"
)
def _answer(
    words: np.ndarray,
    at: np.ndarray,
    columns: int,
    summed: int,
    by: int,
    packed: np.ndarray,
    behind: np.ndarray,
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
    times, stamps, values, nodes, sums, keys = assemble(words, at, columns, summed, by, packed, behind)
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
