"""The fold's compiled functions. Replay and the online store call the same ones on the same layout.

A key's events are columns in the order (time, known_at, offset): ``times`` int64[n], ``stamps`` int64[n] (what
visibility is judged by: offset or known_at) and ``values`` float64[C, n], NaN for null. Several keys lie one after
another. Events are cut into blocks; block ``b`` holds events ``starts[b]`` to ``starts[b + 1]``, and ``sums[b]`` is
its summary if ``newest[b]`` (its greatest stamp) is visible. What a key has let go of (``past``) is one more summary,
older than all its events.
"""

from __future__ import annotations

import math

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.exact import (
    DIGITS,
    accumulate,
    add,
    carry,
    certified,
    expansion,
    rounded,
    two_product,
    two_sum,
)
from mainspring.features.status import Status

# What a column's walk gathers: bits of a plan's `gather`.
COUNT, SUM, SQUARES, EXTREMES, LATEST = 1, 2, 4, 8, 16
# Aggregate functions, as a plan numbers them.
F_COUNT, F_SUM, F_MEAN, F_STD, F_MIN, F_MAX, F_LAST, F_AGE = range(8)
# Columns of a plan: value column, function, index of the window, ttl (−1: none), place in the answer, bits to gather.
P_COLUMN, P_FUNCTION, P_WINDOW, P_TTL, P_OUT, P_GATHER = range(6)
# Columns of a summary: count, sum as s + c ± r, sum of squares as double-double, min, max, index of the latest in the
# block.
S_N, S_S, S_C, S_R, S_Q, S_QC, S_MIN, S_MAX, S_LAST = range(9)
SUMMARY = 9
# A past: the summary's numbers, but the latest value in S_LAST; in int64, (time, known_at, offset) of the latest, then
# the accumulator's digits.
PAST_INTS = 3 + DIGITS

PRESENT, MISSING, EXPIRED, UNAVAILABLE = (
    int(s) for s in (Status.PRESENT, Status.MISSING, Status.EXPIRED, Status.UNAVAILABLE)
)
NEVER = np.iinfo(np.int64).max  # `newest` of a block without a summary; `stamps` of nothing
UNBOUNDED = -1  # a window since the beginning

_I, _F, _F2, _F3 = "int64[::1]", "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"


@compiled(f"int64({_I}, int64, int64, int64)")
def lower_bound(times: np.ndarray, low: int, high: int, t: int) -> int:
    """The first of the events ``low`` to ``high`` whose time is ``t`` or later."""
    while low < high:
        middle = (low + high) >> 1
        if times[middle] < t:
            low = middle + 1
        else:
            high = middle
    return low


@compiled(f"void({_F2}, int64, int64, {_F2})")
def summarise(values: np.ndarray, low: int, high: int, out: np.ndarray) -> None:
    """Summary of the events ``low`` to ``high``, for every column, into ``out`` float64[C, SUMMARY]."""
    for column in range(values.shape[0]):
        n, last = 0.0, -1.0
        s, c, r, q, qc = 0.0, 0.0, 0.0, 0.0, 0.0
        least, greatest = np.inf, -np.inf
        for i in range(low, high):
            x = values[column, i]
            if x != x:
                continue
            n += 1.0
            last = float(i - low)
            s, c, r = add(s, c, r, x)
            square, error = two_product(x, x)
            q, e = two_sum(q, square)
            q, qc = two_sum(q, qc + (e + error))
            least = min(least, x)
            greatest = max(greatest, x)
        out[column, S_N], out[column, S_LAST] = n, last
        out[column, S_S], out[column, S_C], out[column, S_R] = s, c, r
        out[column, S_Q], out[column, S_QC] = q, qc
        out[column, S_MIN], out[column, S_MAX] = least, greatest


@compiled(f"void({_F2}, {_I}, {_I}, int64, int64, {_I}, {_F3})")
def summarise_blocks(
    values: np.ndarray,
    stamps: np.ndarray,
    starts: np.ndarray,
    low: int,
    high: int,
    newest: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Summaries and greatest stamps of the blocks ``low`` to ``high``."""
    for b in range(low, high):
        summarise(values, starts[b], starts[b + 1], sums[b])
        stamp = stamps[starts[b]]
        for i in range(starts[b], starts[b + 1]):
            stamp = max(stamp, stamps[i])
        newest[b] = stamp


@compiled(f"void({_I}, {_I}, {_I}, {_F2}, {_F2}, int64[:, ::1])")
def absorb(
    times: np.ndarray, knowns: np.ndarray, offsets: np.ndarray, values: np.ndarray, past: np.ndarray, ints: np.ndarray
) -> None:
    """Let go of events: their columns (float64[C, n]) go into ``past`` and its ``ints``.

    ``past`` is float64[C, SUMMARY] and ``ints`` int64[C, PAST_INTS]; both are zero for a key that has let go of
    nothing.
    """
    for column in range(values.shape[0]):
        own, last, digits = past[column], ints[column, :3], ints[column, 3:]
        for i in range(times.shape[0]):
            x = values[column, i]
            if x != x:
                continue
            first = own[S_N] == 0.0
            later = times[i] > last[0]
            if times[i] == last[0]:
                later = knowns[i] > last[1] or (knowns[i] == last[1] and offsets[i] > last[2])
            if first or later:
                last[0], last[1], last[2] = times[i], knowns[i], offsets[i]
                own[S_LAST] = x
            own[S_N] += 1.0
            accumulate(digits, x)
            square, error = two_product(x, x)
            q, e = two_sum(own[S_Q], square)
            own[S_Q], own[S_QC] = two_sum(q, own[S_QC] + (e + error))
            own[S_MIN] = x if first else min(own[S_MIN], x)
            own[S_MAX] = x if first else max(own[S_MAX], x)
        carry(digits)
        own[S_S], own[S_C], own[S_R] = expansion(digits)


@compiled(f"float64({_I}, {_F}, int64, int64, int64, {_I})")
def exact_sum(stamps: np.ndarray, column: np.ndarray, low: int, high: int, limit: int, digits: np.ndarray) -> float:
    """The correctly rounded sum of the visible events ``low`` to ``high`` and of what ``digits`` already holds."""
    pending = 0
    for i in range(low, high):
        x = column[i]
        if x == x and stamps[i] <= limit:
            accumulate(digits, x)
            pending += 1
            if pending == 1 << 28:
                carry(digits)
                pending = 0
    return float(rounded(digits))


@compiled(f"float64({_I}, {_F}, int64, int64, int64, float64, float64)")
def two_pass_std(
    stamps: np.ndarray, column: np.ndarray, low: int, high: int, limit: int, n: float, mean: float
) -> float:
    """Standard deviation about a mean that is known to a rounding, scaled so that no square over- or underflows."""
    if abs(mean) == np.inf:
        return np.inf
    scale = 0.0
    for i in range(low, high):
        if column[i] == column[i] and stamps[i] <= limit:
            scale = max(scale, abs(column[i] * 0.5 - mean * 0.5))
    if scale == 0.0:
        return 0.0
    scale *= 2.0
    d, dc, q, qc = 0.0, 0.0, 0.0, 0.0
    for i in range(low, high):
        x = column[i]
        if x == x and stamps[i] <= limit:
            away, rest = two_sum(x, -mean)
            y, yc = away / scale, rest / scale
            if abs(away) == np.inf:
                y, yc = x / scale - mean / scale, 0.0
            square, error = two_product(y, y)
            q, e = two_sum(q, square)
            q, qc = two_sum(q, qc + (e + error + 2.0 * y * yc))
            d, e = two_sum(d, y)
            dc += e + yc
    d += dc
    return scale * math.sqrt(max(0.0, (q + (qc - d * d / n)) / (n - 1.0)))


@compiled(f"float64(float64, {_F}, int64)")
def moment_std(n: float, a: np.ndarray, forced: int) -> float:
    """Standard deviation from the moments in a summary, or −1.0 where they cancel too much to be within 1e-13.

    n·Σx² − (Σx)² in double-double; the error of the parts is bounded by n·2^-103·Σx² + 2·|Σx|·r/n.
    """
    s, c = two_sum(a[S_S], a[S_C])
    square, error = two_product(s, s)
    error += 2.0 * s * c
    mean_square = square / n
    back, back_error = two_product(mean_square, n)
    mean_error = ((square - back) - back_error + error) / n
    m, e = two_sum(a[S_Q], -mean_square)
    m += e + (a[S_QC] - mean_error)
    bound = n * 2.0**-103 * a[S_Q] + 2.0 * abs(s) * a[S_R] / n
    if forced:
        return math.sqrt(max(0.0, m) / (n - 1.0))
    if 1e-250 < a[S_Q] < 1e250 and bound < 1e-14 * m:
        return math.sqrt(m / (n - 1.0))
    return -1.0


@compiled(f"void({_F}, {_F})")
def merge(into: np.ndarray, other: np.ndarray) -> None:
    """Add another summary's moments and extremes; the latest value is the walk's business."""
    if other[S_N] == 0.0:
        return
    into[S_N] += other[S_N]
    into[S_S], into[S_C], into[S_R] = add(into[S_S], into[S_C], into[S_R], other[S_S])
    into[S_S], into[S_C], into[S_R] = add(into[S_S], into[S_C], into[S_R], other[S_C])
    into[S_R] += other[S_R]
    q, e = two_sum(into[S_Q], other[S_Q])
    into[S_Q], into[S_QC] = two_sum(q, e + (into[S_QC] + other[S_QC]))
    into[S_MIN] = min(into[S_MIN], other[S_MIN])
    into[S_MAX] = max(into[S_MAX], other[S_MAX])


@compiled(f"int64({_I}, {_F}, int64, int64, int64, int64, {_F})")
def walk(stamps: np.ndarray, column: np.ndarray, low: int, high: int, limit: int, gather: int, a: np.ndarray) -> int:
    """Add the visible events ``low`` to ``high`` one by one to ``a``; the latest one's index, or −1."""
    latest = -1
    n, s, c, r = a[S_N], a[S_S], a[S_C], a[S_R]
    if gather & (COUNT | SUM):
        for i in range(low, high):
            x = column[i]
            if x == x and stamps[i] <= limit:
                n += 1.0
                latest = i
                s, c, r = add(s, c, r, x)
        a[S_N], a[S_S], a[S_C], a[S_R] = n, s, c, r
    if gather & SQUARES:
        q, qc = a[S_Q], a[S_QC]
        for i in range(low, high):
            x = column[i]
            if x == x and stamps[i] <= limit:
                square, error = two_product(x, x)
                q, e = two_sum(q, square)
                q, qc = two_sum(q, qc + (e + error))
        a[S_Q], a[S_QC] = q, qc
    if gather & EXTREMES:
        least, greatest = a[S_MIN], a[S_MAX]
        for i in range(low, high):
            x = column[i]
            if x == x and stamps[i] <= limit:
                latest = i
                least = min(least, x)
                greatest = max(greatest, x)
        a[S_MIN], a[S_MAX] = least, greatest
    if gather == LATEST:
        for i in range(high - 1, low - 1, -1):
            if column[i] == column[i] and stamps[i] <= limit:
                return i
    return latest


@compiled(
    f"void({_I}, {_I}, {_F2}, {_I}, {_I}, {_F3}, {_F2}, int64[:, ::1], {_I}, {_I}, "
    f"{_I}, {_I}, {_I}, {_I}, int64, int64, int64[:, ::1], {_I}, {_F2}, uint8[:, ::1])"
)
def read(  # noqa: PLR0917  a kernel takes arrays, not objects
    times: np.ndarray,
    stamps: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    newest: np.ndarray,
    sums: np.ndarray,
    past: np.ndarray,
    past_ints: np.ndarray,
    key_events: np.ndarray,
    key_blocks: np.ndarray,
    moment_key: np.ndarray,
    moment_t: np.ndarray,
    moment_limit: np.ndarray,
    moment_row: np.ndarray,
    first: int,
    after: int,
    plan: np.ndarray,
    windows: np.ndarray,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer the moments ``first`` to ``after``: all of a view, at ``t``, of what is stamped ``limit`` or less.

    Args:
        times: int64[n], event times of all keys, rising within a key.
        stamps: int64[n], what visibility is judged by.
        values: float64[C, n], the view's columns.
        starts: int64[B + 1], first event of each block, and the end.
        newest: int64[B], greatest stamp of each block, ``NEVER`` for a block without a summary.
        sums: float64[B, C, SUMMARY], summaries.
        past: float64[C, SUMMARY], what the (only) key has let go of; zeros if nothing, as in a replay.
        past_ints: int64[C, PAST_INTS], the rest of it.
        key_events: int64[keys + 1], first event of each key, and the end.
        key_blocks: int64[keys + 1], first block of each key, and the end.
        moment_key: int64[m], key of each moment, −1 for a key without events.
        moment_t: int64[m], the time asked about.
        moment_limit: int64[m], the greatest stamp that is visible.
        moment_row: int64[m], where in ``out`` the answer goes.
        first: First moment to answer.
        after: First moment not to answer.
        plan: int64[F, 6], sorted by column, then by window, shortest first.
        windows: int64[W], in microseconds, shortest first, ``UNBOUNDED`` last.
        out: float64[rows, F], values; NaN for null.
        status: uint8[rows, F].
    """
    lefts = np.empty(windows.shape[0], np.int64)
    a = np.empty(SUMMARY, np.float64)
    digits = np.empty(DIGITS, np.int64)
    for moment in range(first, after):
        key, t, limit, row = moment_key[moment], moment_t[moment], moment_limit[moment], moment_row[moment]
        low, right0, block0 = 0, 0, 0
        if key >= 0:
            low = key_events[key]
            right0 = lower_bound(times, low, key_events[key + 1], t)
            b_low, b_high = key_blocks[key], key_blocks[key + 1]
            while b_low < b_high:  # the last block that begins before right0
                middle = (b_low + b_high) >> 1
                if starts[middle] < right0:
                    b_low = middle + 1
                else:
                    b_high = middle
            block0 = b_low - 1
        edge = right0
        for w in range(windows.shape[0]):
            edge = low if windows[w] == UNBOUNDED else lower_bound(times, low, edge, t - windows[w])
            lefts[w] = edge
        column, right, block, latest, past_added = -1, right0, block0, -1, False
        for f in range(plan.shape[0]):
            gather = plan[f, P_GATHER]
            if plan[f, P_COLUMN] != column:
                column, right, block, latest, past_added = plan[f, P_COLUMN], right0, block0, -1, False
                a[:] = 0.0
                a[S_MIN], a[S_MAX] = np.inf, -np.inf
            left = lefts[plan[f, P_WINDOW]]
            unbounded = windows[plan[f, P_WINDOW]] == UNBOUNDED
            while right > left:
                if gather == LATEST and latest >= 0:
                    break
                begin = starts[block]
                if right == starts[block + 1] and begin >= left and newest[block] <= limit:
                    if latest < 0 and sums[block, column, S_N] > 0.0:
                        latest = begin + np.int64(sums[block, column, S_LAST])
                    merge(a, sums[block, column])
                    right = begin
                else:
                    begin = max(begin, left)
                    found = walk(stamps, values[column], begin, right, limit, gather, a)
                    if latest < 0:
                        latest = found
                    right = begin
                if right == starts[block]:
                    block -= 1
            if unbounded and not past_added:
                past_added = True
                merge(a, past[column])
            function, place = plan[f, P_FUNCTION], plan[f, P_OUT]
            n = a[S_N]
            answer, code = np.nan, MISSING
            if function == F_COUNT:
                answer, code = n, PRESENT
            elif function in (F_LAST, F_AGE):
                seen = latest >= 0
                when, x = np.int64(0), 0.0
                if seen:
                    when, x = times[latest], values[column, latest]
                elif unbounded and past[column, S_N] > 0.0:
                    seen, when, x = True, past_ints[column, 0], past[column, S_LAST]
                if seen:
                    if plan[f, P_TTL] >= 0 and t - when > plan[f, P_TTL]:
                        code = EXPIRED
                    else:
                        code = PRESENT
                        answer = x if function == F_LAST else float(t - when) / 1e6
            elif function in (F_MIN, F_MAX):
                least = a[S_MIN] if function == F_MIN else a[S_MAX]
                if abs(least) != np.inf:
                    answer, code = least, PRESENT
            elif n > 0.0 and (function != F_STD or n > 1.0):
                code = PRESENT
                answer, sure = certified(a[S_S], a[S_C], a[S_R])
                if sure == 0.0:
                    if unbounded:
                        digits[:] = past_ints[column, 3:]
                    else:
                        digits[:] = 0
                    answer = exact_sum(stamps, values[column], left, right0, limit, digits)
                if function == F_MEAN:
                    answer /= n
                elif function == F_STD:
                    total = answer
                    answer = moment_std(n, a, 1 if unbounded and past[column, S_N] > 0.0 else 0)
                    if answer < 0.0:
                        answer = two_pass_std(stamps, values[column], left, right0, limit, n, total / n)
            out[row, place] = answer
            status[row, place] = code


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
