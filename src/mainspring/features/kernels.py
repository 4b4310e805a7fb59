"""The fold's compiled functions. Replay and the online store call the same ones on the same layout.

A key's events are columns in the order (time, known_at, offset): ``times`` int64[n], ``stamps`` int64[n] (what
visibility is judged by: offset or known_at), ``untils`` int64[n] (the stamp of what corrected the event, NEVER if
nothing did; of length 0 if nothing at all is corrected) and ``values`` float64[C, n], NaN for null. Several keys lie
one after another. Summaries of their events form a tree (``tree``). What a key has let go of (``past``) is one more
summary, older than all its events.
"""

from __future__ import annotations

import numpy as np

from mainspring.features.answers import conclude
from mainspring.features.compiled import compiled
from mainspring.features.exact import DIGITS, accumulate, carry, expansion, two_sum
from mainspring.features.plan import (
    EXPIRED,
    F_AGE,
    F_COUNT,
    F_FIRST,
    F_LAST,
    F_MAX,
    F_MEAN,
    F_MIN,
    F_RATE,
    F_SCAN,
    F_STD,
    F_SUM,
    F_VAR,
    KEY_EVENT,
    KEY_HOLLOW,
    KEY_LEAF,
    KEY_PAST,
    M_KEY,
    M_LIMIT,
    M_ROW,
    M_T,
    MISSING,
    MOMENTS,
    P_COLUMN,
    P_FIRST,
    P_FUNCTION,
    P_GATHER,
    P_LAST,
    P_OUT,
    P_SLOTS,
    P_TTL,
    P_WINDOW,
    PARTIAL,
    PAST,
    PAST_DIGITS,
    PAST_INTS,
    PLAN,
    PRESENT,
    UNAVAILABLE,
    UNBOUNDED,
)
from mainspring.features.tree import (
    COUNT,
    EXTREMES,
    FIRST,
    LATEST,
    NEVER,
    NODE,
    S_C,
    S_MAX,
    S_MIN,
    S_N,
    S_Q,
    S_QC,
    S_R,
    S_S,
    SCAN,
    SQUARES,
    SUM,
    SUMMARY,
    add_square,
    merge,
)
from mainspring.features.windows import cut, gather, leaf_before, left_edge, seek

__all__ = [
    "COUNT",
    "EXPIRED",
    "EXTREMES",
    "FIRST",
    "F_AGE",
    "F_COUNT",
    "F_FIRST",
    "F_LAST",
    "F_MAX",
    "F_MEAN",
    "F_MIN",
    "F_RATE",
    "F_SCAN",
    "F_STD",
    "F_SUM",
    "F_VAR",
    "KEY_EVENT",
    "KEY_HOLLOW",
    "KEY_LEAF",
    "KEY_PAST",
    "LATEST",
    "MISSING",
    "M_KEY",
    "M_LIMIT",
    "M_ROW",
    "M_T",
    "NEVER",
    "NODE",
    "PARTIAL",
    "PAST",
    "PAST_DIGITS",
    "PAST_INTS",
    "PLAN",
    "PRESENT",
    "P_COLUMN",
    "P_FIRST",
    "P_FUNCTION",
    "P_GATHER",
    "P_LAST",
    "P_OUT",
    "P_SLOTS",
    "P_TTL",
    "P_WINDOW",
    "SCAN",
    "SQUARES",
    "SUM",
    "SUMMARY",
    "UNAVAILABLE",
    "UNBOUNDED",
    "absorb",
    "group",
    "read",
]

CHUNK = 64  # moments that are answered together

_I, _I2, _I3 = "int64[::1]", "int64[:, ::1]", "int64[:, :, ::1]"
_F, _F2, _F3 = "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"


@compiled(f"void({_I}, {_I}, {_I}, {_F2}, {_F2}, {_I2})")
def absorb(
    times: np.ndarray, knowns: np.ndarray, offsets: np.ndarray, values: np.ndarray, past: np.ndarray, ints: np.ndarray
) -> None:
    """Let go of events of one key, in any order: their columns (float64[C, n]) go into ``past`` and its ``ints``.

    ``past`` is float64[C, PAST] and ``ints`` int64[C, PAST_INTS]; both are zero for a key that has let go of nothing.
    """
    for column in range(past.shape[0]):
        own, digits = past[column], ints[column, PAST_DIGITS:]
        for i in range(times.shape[0]):
            x = values[column, i]
            if x != x:
                continue
            t, known, offset = times[i], knowns[i], offsets[i]
            none = own[S_N] == 0.0
            for at, place, sign in ((0, P_LAST, 1), (3, P_FIRST, -1)):
                order = np.sign(t - ints[column, at])
                if order == 0:
                    order = np.sign(known - ints[column, at + 1])
                if order == 0:
                    order = np.sign(offset - ints[column, at + 2])
                if none or order == sign:
                    ints[column, at], ints[column, at + 1], ints[column, at + 2] = t, known, offset
                    own[place] = x
            own[S_N] += 1.0
            accumulate(digits, x)
            q, qc = add_square(own[S_Q], own[S_QC], x)
            own[S_Q], own[S_QC] = two_sum(q, qc)
            own[S_MIN] = x if none else min(own[S_MIN], x)
            own[S_MAX] = x if none else max(own[S_MAX], x)
        carry(digits)
        own[S_S], own[S_C], own[S_R] = expansion(digits)


@compiled(
    f"int64({_I}, {_I2}, {_I2}, {_I2}, int64, int64, {_I}, int64, int64, {_I}, {_I2}, {_I2}, {_I2}, {_I2})",
    allocates=False,
)
def _locate(
    times: np.ndarray,
    nodes: np.ndarray,
    keys: np.ndarray,
    moments: np.ndarray,
    begin: int,
    after: int,
    windows: np.ndarray,
    hop: int,
    most: int,
    hints: np.ndarray,
    lefts: np.ndarray,
    ends: np.ndarray,
    rights: np.ndarray,
    pieces: np.ndarray,
) -> int:
    """Cut the windows of the moments from ``begin`` on into pieces, as many as there is room for; how many.

    Args:
        times: As ``read`` takes it, and so all down to ``moments``.
        nodes: The tree.
        keys: The keys.
        moments: The moments.
        begin: First moment.
        after: The moment not to go to.
        windows: Shortest first.
        hop: Of their left edges.
        most: Leaves of the largest key, which bound the pieces of a moment.
        hints: int64[3 + W], carried from call to call: the last moment's key, right edge, leaf and left edges.
        lefts: int64[W, m], to hold the first event of each window.
        ends: int64[W, m], to hold the piece after the last of each window.
        rights: int64[2, m], to hold the event after the last, and the leaf of the one before it.
        pieces: int64[…, 3], to hold the pieces, moment after moment.
    """
    count, at, m = windows.shape[0], 0, 0
    while m < lefts.shape[1] and begin + m < after and at + 2 * (most + count + 1) <= pieces.shape[0]:
        moment = begin + m
        key, t, limit = moments[M_KEY, moment], moments[M_T, moment], moments[M_LIMIT, moment]
        low, right, leaf = 0, 0, -1
        if key >= 0:
            low, low_leaf = keys[KEY_EVENT, key], keys[KEY_LEAF, key]
            if key != hints[0]:
                hints[:] = low
                hints[0], hints[2] = key, low_leaf
            right = seek(times, low, keys[KEY_EVENT, key + 1], hints[1], t)
            leaf = leaf_before(nodes, low_leaf, keys[KEY_LEAF, key + 1], hints[2], right)
            hints[1], hints[2] = right, leaf
        rights[0, m], rights[1, m] = right, leaf
        for w in range(count):
            left = low
            if windows[w] != UNBOUNDED and right > low:
                left = seek(times, low, right, hints[3 + w], left_edge(t, windows[w], hop))
            at, leaf = cut(nodes, leaf, left, right, limit, pieces, at)
            hints[3 + w] = lefts[w, m] = right = left
            ends[w, m] = at
        m += 1
    return m


@compiled(
    f"void({_F2}, {_I}, {_I}, {_F3}, {_F3}, {_I2}, {_I2}, int64, int64, int64, {_I}, {_I}, {_I2}, {_I2}, {_F3}, {_F})",
    allocates=False,
)
def _sum_up(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    sums: np.ndarray,
    past: np.ndarray,
    keys: np.ndarray,
    moments: np.ndarray,
    begin: int,
    m: int,
    column: int,
    wanted: np.ndarray,
    windows: np.ndarray,
    ends: np.ndarray,
    pieces: np.ndarray,
    found: np.ndarray,
    a: np.ndarray,
) -> None:
    """Summaries of one column, for ``m`` moments from ``begin`` on, into ``found`` float64[W, SUMMARY, m].

    ``wanted`` int64[W] are the bits to gather, 0 for a window that nobody asks about; ``a`` float64[SUMMARY] is room.
    """
    count, done = windows.shape[0], 0
    for j in range(m):
        key, limit = moments[M_KEY, begin + j], moments[M_LIMIT, begin + j]
        own = keys[KEY_PAST, key] if key >= 0 else -1
        a[:] = 0.0
        a[S_MIN], a[S_MAX] = np.inf, -np.inf
        for w in range(count):
            if wanted[w] & MOMENTS == 0:
                continue
            if done < ends[w, j]:
                gather(values, stamps, untils, sums, column, limit, pieces, done, ends[w, j], wanted[w], a)
                done = ends[w, j]
            if windows[w] == UNBOUNDED and own >= 0 and past[own, column, S_N] > 0.0:
                merge(a, past[own, column])
            for i in range(SUMMARY):
                found[w, i, j] = a[i]
        done = ends[count - 1, j]


@compiled(
    f"void({_I}, {_I}, {_I}, {_F2}, {_I2}, {_F3}, {_F3}, {_I3}, {_I2}, "
    f"{_I2}, int64, int64, {_I2}, {_F}, {_I}, int64, {_F2}, uint8[:, ::1])"
)
def read(
    times: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    values: np.ndarray,
    nodes: np.ndarray,
    sums: np.ndarray,
    past: np.ndarray,
    past_ints: np.ndarray,
    keys: np.ndarray,
    moments: np.ndarray,
    first: int,
    after: int,
    plan: np.ndarray,
    parameters: np.ndarray,
    windows: np.ndarray,
    hop: int,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer the moments ``first`` to ``after``: all of a view, at ``t``, of what is visible at ``limit``.

    Args:
        times: int64[n], event times of all keys, rising within a key.
        stamps: int64[n], what visibility is judged by.
        untils: int64[n], what ends it; or int64[0].
        values: float64[C, n], the view's columns.
        nodes: int64[NODE, N], the tree over the events of all keys.
        sums: float64[C, N, SUMMARY], its summaries.
        past: float64[P, C, PAST], what keys have let go of.
        past_ints: int64[P, C, PAST_INTS], the rest of it.
        keys: int64[4, keys + 1], rows ``KEY_…``.
        moments: int64[4, m], rows ``M_…``, in any order; fastest if those of a key are together and rise in time.
        first: First moment to answer.
        after: First moment not to answer.
        plan: int64[F, PLAN], sorted by column, then by window, shortest first.
        parameters: float64[F], what a function takes besides: q, half-life or unit of time.
        windows: int64[W], in microseconds, shortest first, ``UNBOUNDED`` last.
        hop: What a window's left edge is a multiple of, in microseconds.
        out: float64[S, rows], values; NaN for null.
        status: uint8[S, rows].
    """
    count = windows.shape[0]
    most = 0
    for moment in range(first, after):
        key = moments[M_KEY, moment]
        if key >= 0:
            most = max(most, keys[KEY_LEAF, key + 1] - keys[KEY_LEAF, key])
    room = min(CHUNK, after - first)
    hints = np.full(3 + count, -1, np.int64)
    lefts, ends = np.empty((count, room), np.int64), np.empty((count, room), np.int64)
    rights, latest = np.empty((2, room), np.int64), np.empty(room, np.int64)
    pieces = np.empty((2 * (most + count + 1) + 16 * room, 3), np.int64)
    found, a = np.empty((count, SUMMARY, room), np.float64), np.empty(SUMMARY, np.float64)
    work, codes = np.empty((3, room), np.float64), np.empty(room, np.uint8)
    digits, wanted = np.empty(DIGITS, np.int64), np.empty(count, np.int64)
    begin = first
    while begin < after and plan.shape[0]:
        m = _locate(times, nodes, keys, moments, begin, after, windows, hop, most, hints, lefts, ends, rights, pieces)
        low = 0
        while low < plan.shape[0]:
            column, high = plan[low, P_COLUMN], low
            wanted[:] = 0
            while high < plan.shape[0] and plan[high, P_COLUMN] == column:
                wanted[plan[high, P_WINDOW]] |= plan[high, P_GATHER]
                high += 1
            _sum_up(
                values,
                stamps,
                untils,
                sums,
                past,
                keys,
                moments,
                begin,
                m,
                column,
                wanted,
                windows,
                ends,
                pieces,
                found,
                a,
            )
            conclude(
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
                begin,
                m,
                plan,
                parameters,
                windows,
                low,
                high,
                lefts,
                rights,
                found,
                latest,
                work,
                codes,
                digits,
                out,
                status,
            )
            low = high
        begin += m


@compiled(f"void({_I}, int64, {_I}, {_I})")
def group(codes: np.ndarray, keys: int, starts: np.ndarray, order: np.ndarray) -> None:
    """Stable counting sort of rows by key.

    Args:
        codes: int64[n], key of each row; rows with −1 are left out.
        keys: How many there are.
        starts: int64[keys + 1], to hold the first place of each key, and the end.
        order: To hold the other rows' numbers.
    """
    starts[:] = 0
    for code in codes:
        if code >= 0:
            starts[code + 1] += 1
    for key in range(keys):
        starts[key + 1] += starts[key]
    place = starts.copy()
    for i in range(codes.shape[0]):
        code = codes[i]
        if code >= 0:
            order[place[code]] = i
            place[code] += 1
