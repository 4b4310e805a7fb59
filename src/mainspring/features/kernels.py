"""The fold's compiled functions. Replay and the online store call the same ones on the same layout.

A key's events are columns in the order (time, known_at, offset): ``times`` int64[n], ``stamps`` int64[n] (what
visibility is judged by: offset or known_at), ``untils`` int64[n] (the stamp of what corrected the event, NEVER if
nothing did; of length 0 if nothing at all is corrected) and ``values`` float64[C, n], NaN for null. Several keys lie
one after another. Summaries of their events form a tree (``tree``). What a key has let go of (``past``) is one more
summary, older than all its events.
"""

from __future__ import annotations

import math

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.exact import DIGITS, accumulate, carry, certified, expansion, rounded, two_sum
from mainspring.features.spread import moment_var, two_pass_var
from mainspring.features.status import Status
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
    seen,
)
from mainspring.features.windows import cut, earliest_of, gather, latest_of, leaf_before, left_edge, seek

__all__ = [
    "COUNT",
    "EXTREMES",
    "FIRST",
    "LATEST",
    "NEVER",
    "NODE",
    "SCAN",
    "SQUARES",
    "SUM",
    "SUMMARY",
    "absorb",
    "group",
    "read",
]

# Aggregate functions, as a plan numbers them; from F_SCAN on they are the scans' own.
F_COUNT, F_SUM, F_MEAN, F_STD, F_MIN, F_MAX, F_LAST, F_AGE, F_VAR, F_FIRST, F_RATE = range(11)
F_SCAN = 16
# Columns of a plan: value column, function, index of the window, ttl (−1: none), place of the first answer, bits to
# gather, how many answers.
P_COLUMN, P_FUNCTION, P_WINDOW, P_TTL, P_OUT, P_GATHER, P_SLOTS = range(7)
PLAN = 7
# A past: a summary, then the latest and the earliest value; in int64, (time, known_at, offset) of the latest, of the
# earliest, then the accumulator's digits.
P_LAST, P_FIRST = SUMMARY, SUMMARY + 1
PAST = SUMMARY + 2
PAST_DIGITS = 6
PAST_INTS = PAST_DIGITS + DIGITS
# Rows of the keys: first event and first leaf of each, and the end; its place in the past (−1: none); whether its
# leaves hold only their outermost events.
KEY_EVENT, KEY_LEAF, KEY_PAST, KEY_HOLLOW = range(4)
# Rows of the moments: time asked about, greatest visible stamp, place of the answer, key (−1: without events).
M_T, M_LIMIT, M_ROW, M_KEY = range(4)

PRESENT, MISSING, EXPIRED, UNAVAILABLE = (
    int(s) for s in (Status.PRESENT, Status.MISSING, Status.EXPIRED, Status.UNAVAILABLE)
)
PARTIAL = 255  # a hollow key's answer that needs all of its events
UNBOUNDED = -1  # a window since the beginning
_MOMENTS = COUNT | SUM | SQUARES | EXTREMES

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


@compiled(f"float64({_F2}, {_I}, {_I}, int64, int64, int64, int64, {_I})")
def exact_sum(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    column: int,
    low: int,
    high: int,
    limit: int,
    digits: np.ndarray,
) -> float:
    """The correctly rounded sum of the visible events ``low`` to ``high`` and of what ``digits`` already holds."""
    pending = 0
    for i in range(low, high):
        x = values[column, i]
        if x == x and seen(stamps, untils, i, limit):
            accumulate(digits, x)
            pending += 1
            if pending == 1 << 28:
                carry(digits)
                pending = 0
    return float(rounded(digits))


@compiled(
    f"void({_I}, {_I}, {_I}, {_F2}, {_I2}, {_F3}, {_F3}, {_I3}, {_I2}, "
    f"{_I2}, int64, int64, {_I2}, {_F}, {_I}, int64, {_F2}, uint8[:, ::1], {_I2}, {_I2}, {_F}, {_I})",
    allocates=False,
)
def _answer(
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
    edges: np.ndarray,
    pieces: np.ndarray,
    a: np.ndarray,
    digits: np.ndarray,
) -> None:
    """As ``read``, with room to work in: int64[2, W], int64[…, 3], float64[SUMMARY], int64[DIGITS]."""
    lefts, ends = edges[0], edges[1]
    before, right, leaf = -1, 0, 0
    for moment in range(first, after):
        key, t, limit, row = (
            moments[M_KEY, moment],
            moments[M_T, moment],
            moments[M_LIMIT, moment],
            moments[M_ROW, moment],
        )
        low, low_leaf, own, hollow = 0, 0, -1, False
        if key >= 0:
            low, low_leaf, own = keys[KEY_EVENT, key], keys[KEY_LEAF, key], keys[KEY_PAST, key]
            high_leaf, hollow = keys[KEY_LEAF, key + 1], keys[KEY_HOLLOW, key] != 0
            if key != before:
                right, leaf = low, low_leaf
                lefts[:] = low
            right = seek(times, low, keys[KEY_EVENT, key + 1], right, t)
            leaf = leaf_before(nodes, low_leaf, high_leaf, leaf, right)
        else:
            right, leaf = 0, -1
            lefts[:] = 0
        before = key
        edge, at, corner = right, 0, leaf
        for w in range(windows.shape[0]):
            edge = low if windows[w] == UNBOUNDED else seek(times, low, edge, lefts[w], left_edge(t, windows[w], hop))
            at, corner = cut(nodes, corner, edge, right if w == 0 else lefts[w - 1], limit, pieces, at)
            lefts[w], ends[w] = edge, at
        column, done, known = -1, 0, False
        latest, search_leaf, search_right = -1, leaf, right
        past_added, total, sure = False, 0.0, 0.0
        for f in range(plan.shape[0]):
            function, window, place, wanted = plan[f, P_FUNCTION], plan[f, P_WINDOW], plan[f, P_OUT], plan[f, P_GATHER]
            left, unbounded = lefts[window], windows[window] == UNBOUNDED
            if plan[f, P_COLUMN] != column:
                column, done, known = plan[f, P_COLUMN], 0, False
                latest, search_leaf, search_right = -1, leaf, right
                past_added = False
                a[:] = 0.0
                a[S_MIN], a[S_MAX] = np.inf, -np.inf
            has_past = unbounded and own >= 0 and past[own, column, S_N] > 0.0
            if done < ends[window]:
                if wanted & _MOMENTS:
                    gather(values, stamps, untils, sums, column, limit, pieces, done, ends[window], wanted, a)
                done, known = ends[window], False
            if has_past and not past_added:
                past_added, known = True, False
                merge(a, past[own, column])
            n = a[S_N]
            answer, code = np.nan, MISSING
            if function == F_COUNT:
                answer, code = n, PRESENT
            elif function == F_RATE:
                answer, code = n * parameters[f] / float(windows[window]), PRESENT
            elif function in (F_MIN, F_MAX):
                least = a[S_MIN] if function == F_MIN else a[S_MAX]
                if abs(least) != np.inf:
                    answer, code = least, PRESENT
            elif function in (F_LAST, F_AGE, F_FIRST):
                found = -1
                if function == F_FIRST:
                    if not has_past and right > left:
                        corner = leaf_before(nodes, low_leaf, leaf + 1, low_leaf, left + 1)
                        found = earliest_of(values, stamps, untils, nodes, sums, column, corner, left, right, limit)
                else:
                    if latest < 0 and search_right > left:
                        latest, search_leaf, search_right = latest_of(
                            values, stamps, untils, nodes, sums, column, search_leaf, left, search_right, limit
                        )
                    found = latest
                when, there = np.int64(0), found >= 0
                if there:
                    when = times[found]
                elif has_past:
                    there = True
                    when = past_ints[own, column, 3 if function == F_FIRST else 0]
                code = PRESENT if there else MISSING
                if there and plan[f, P_TTL] >= 0 and t - when > plan[f, P_TTL]:
                    code, there = EXPIRED, False
                for slot in range(plan[f, P_SLOTS]):
                    answer = np.nan
                    if there:
                        if function == F_AGE:
                            answer = float(t - when) / 1e6
                        elif found >= 0:
                            answer = values[column + slot, found]
                        else:
                            answer = past[own, column + slot, P_FIRST if function == F_FIRST else P_LAST]
                    out[place + slot, row], status[place + slot, row] = answer, code
                continue
            elif n > 0.0 and (n > 1.0 or function not in (F_STD, F_VAR)):
                code = PRESENT
                if not known:
                    total, sure = certified(a[S_S], a[S_C], a[S_R])
                    known = True
                    if sure == 0.0 and not hollow:
                        for i in range(DIGITS):
                            digits[i] = past_ints[own, column, PAST_DIGITS + i] if has_past else 0
                        total, sure = exact_sum(values, stamps, untils, column, left, right, limit, digits), 1.0
                answer = total
                if sure == 0.0:
                    answer, code = np.nan, PARTIAL
                elif function == F_MEAN:
                    answer = total / n
                elif function != F_SUM:
                    answer = moment_var(n, a, has_past)
                    scale = 1.0
                    if answer < 0.0:
                        if hollow:
                            answer, code = np.nan, PARTIAL
                        else:
                            answer, scale = two_pass_var(
                                values, stamps, untils, column, left, right, limit, n, total / n
                            )
                    answer = answer * scale * scale if function == F_VAR else scale * math.sqrt(answer)
            out[place, row] = answer
            status[place, row] = code


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
    most = 0
    for moment in range(first, after):
        key = moments[M_KEY, moment]
        if key >= 0:
            most = max(most, keys[KEY_LEAF, key + 1] - keys[KEY_LEAF, key])
    w = windows.shape[0]
    edges = np.zeros((2, w), np.int64)
    pieces = np.empty((2 * (most + w + 1), 3), np.int64)
    _answer(
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
        first,
        after,
        plan,
        parameters,
        windows,
        hop,
        out,
        status,
        edges,
        pieces,
        np.zeros(SUMMARY, np.float64),
        np.zeros(DIGITS, np.int64),
    )


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
