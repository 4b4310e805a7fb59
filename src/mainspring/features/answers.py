"""From the summaries of windows to answers: a row of a plan at a time, for a chunk of moments.

One function of one window over many moments is a short loop over arrays, which costs a fraction of what many functions
for one moment do.
"""

from __future__ import annotations

import math

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.exact import DIGITS, accumulate, carry, rounded
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
    F_SUM,
    F_VAR,
    KEY_HOLLOW,
    KEY_LEAF,
    KEY_PAST,
    M_KEY,
    M_LIMIT,
    M_ROW,
    M_T,
    MISSING,
    P_COLUMN,
    P_FIRST,
    P_FUNCTION,
    P_LAST,
    P_OUT,
    P_TTL,
    P_WINDOW,
    PARTIAL,
    PAST_DIGITS,
    PRESENT,
    UNBOUNDED,
)
from mainspring.features.spread import moment_var, two_pass_var
from mainspring.features.tree import S_C, S_MAX, S_MIN, S_N, S_Q, S_QC, S_R, S_S, seen
from mainspring.features.windows import earliest_of, latest_of, leaf_before

_I, _I2, _I3 = "int64[::1]", "int64[:, ::1]", "int64[:, :, ::1]"
_F, _F2, _F3, _B = "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]", "uint8[::1]"


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


@compiled(f"void({_F2}, int64, {_F}, {_F})", allocates=False)
def certify(a: np.ndarray, m: int, totals: np.ndarray, sure: np.ndarray) -> None:
    """As ``exact.certified`` for each of ``m`` summaries: sums and whether they are sure, 1.0 or 0.0.

    Instead of the neighbours of c ± 2r it takes what lies beyond them for certain: 2^-51 of both parts is more than a
    rounding or two, 2^-1072 is more than one among the smallest numbers.
    """
    for j in range(m):
        s, c, r = a[S_S, j], a[S_C, j], a[S_R, j]
        within = 2.0 * r + (2.0**-51 * (abs(c) + 2.0 * r) + 2.0**-1072)
        low, high = s + (c - within), s + (c + within)
        plain = s + c
        if r == 0.0:
            low = high = plain
        bounded = abs(s) < 1e308 and abs(c) < 1e308 and r < 1e308
        totals[j] = low + 0.0
        sure[j] = 1.0 if low == high and bounded else 0.0


@compiled(f"void({_F}, int64, {_F}, {_B})", allocates=False)
def put_extremes(extremes: np.ndarray, m: int, answers: np.ndarray, codes: np.ndarray) -> None:
    """Least or greatest values; infinite where there is none."""
    for j in range(m):
        some = abs(extremes[j]) != np.inf
        answers[j] = extremes[j] if some else np.nan
        codes[j] = PRESENT if some else MISSING


@compiled(f"void({_F}, {_F}, {_F}, int64, {_F}, {_B})", allocates=False)
def put_quotients(
    n: np.ndarray, totals: np.ndarray, sure: np.ndarray, m: int, answers: np.ndarray, codes: np.ndarray
) -> None:
    """Means: sums over their numbers."""
    for j in range(m):
        some, known = n[j] > 0.0, sure[j] != 0.0
        answers[j] = totals[j] / n[j] if some and known else np.nan
        codes[j] = (PRESENT if known else PARTIAL) if some else MISSING


@compiled(f"void({_F}, {_F}, {_F}, int64, {_F}, {_B})", allocates=False)
def put_sums(
    n: np.ndarray, totals: np.ndarray, sure: np.ndarray, m: int, answers: np.ndarray, codes: np.ndarray
) -> None:
    """Sums, of at least one number."""
    for j in range(m):
        some, known = n[j] > 0.0, sure[j] != 0.0
        answers[j] = totals[j] if some and known else np.nan
        codes[j] = (PRESENT if known else PARTIAL) if some else MISSING


@compiled(
    f"void({_I}, {_I}, {_I}, {_F2}, {_I2}, {_F3}, {_F3}, {_I3}, {_I2}, {_I2}, int64, int64, {_I2}, {_F}, {_I}, int64, "
    f"int64, {_I2}, {_I2}, {_F3}, {_I}, {_F2}, {_B}, {_I}, {_F2}, uint8[:, ::1])",
    allocates=False,
)
def conclude(
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
    begin: int,
    m: int,
    plan: np.ndarray,
    parameters: np.ndarray,
    windows: np.ndarray,
    first_row: int,
    after_row: int,
    lefts: np.ndarray,
    rights: np.ndarray,
    found: np.ndarray,
    latest: np.ndarray,
    work: np.ndarray,
    codes: np.ndarray,
    digits: np.ndarray,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer the rows ``first_row`` to ``after_row`` of the plan, all of one column, for ``m`` moments from ``begin``.

    Args:
        times: As ``kernels.read`` takes it, and so all down to ``windows``.
        stamps: What visibility is judged by.
        untils: What ends it.
        values: The columns.
        nodes: The tree.
        sums: Its summaries.
        past: What keys have let go of.
        past_ints: The rest of it.
        keys: The keys.
        moments: The moments.
        begin: First moment.
        m: How many.
        plan: The plan.
        parameters: Of its rows.
        windows: Shortest first.
        first_row: First row.
        after_row: The row after the last.
        lefts: int64[W, m], first event of each window.
        rights: int64[2, m], the event after the last, and the leaf of the one before it.
        found: float64[W, SUMMARY, m], summaries of the windows that the rows ask about.
        latest: int64[m], room; and so ``work`` float64[3, m], ``codes`` uint8[m] and ``digits`` int64[DIGITS].
        work: Room.
        codes: Room.
        digits: Room.
        out: To hold the values.
        status: To hold their status.
    """
    column = plan[first_row, P_COLUMN]
    answers, totals, sure = work[0], work[1], work[2]
    summed, searched = -1, False
    for f in range(first_row, after_row):
        function, w, place, ttl = plan[f, P_FUNCTION], plan[f, P_WINDOW], plan[f, P_OUT], plan[f, P_TTL]
        a, unbounded = found[w], windows[w] == UNBOUNDED
        if function == F_COUNT:
            for j in range(m):
                answers[j], codes[j] = a[S_N, j], PRESENT
        elif function == F_RATE:
            for j in range(m):
                answers[j], codes[j] = a[S_N, j] * parameters[f] / float(windows[w]), PRESENT
        elif function == F_MIN:
            put_extremes(a[S_MIN], m, answers, codes)
        elif function == F_MAX:
            put_extremes(a[S_MAX], m, answers, codes)
        elif function in (F_LAST, F_AGE, F_FIRST):
            if function != F_FIRST and not searched:
                searched = True
                widest = w
                for g in range(f, after_row):
                    widest = plan[g, P_WINDOW] if plan[g, P_FUNCTION] in (F_LAST, F_AGE) else widest
                for j in range(m):
                    left, right, limit = lefts[widest, j], rights[0, j], moments[M_LIMIT, begin + j]
                    latest[j] = latest_of(values, stamps, untils, nodes, sums, column, rights[1, j], left, right, limit)
            for j in range(m):
                key, t, limit = moments[M_KEY, begin + j], moments[M_T, begin + j], moments[M_LIMIT, begin + j]
                own = keys[KEY_PAST, key] if unbounded and key >= 0 else -1
                has_past = own >= 0 and past[own, column, S_N] > 0.0
                left, right, event = lefts[w, j], rights[0, j], -1
                if function != F_FIRST:
                    event = latest[j] if latest[j] >= left else -1
                elif not has_past and right > left:
                    leaf = keys[KEY_LEAF, key]
                    leaf = leaf_before(nodes, leaf, rights[1, j] + 1, leaf, left + 1)
                    event = earliest_of(values, stamps, untils, nodes, sums, column, leaf, left, right, limit)
                when, there = np.int64(0), event >= 0
                if there:
                    when = times[event]
                elif has_past:
                    there = True
                    when = past_ints[own, column, 3 if function == F_FIRST else 0]
                answer, code = np.nan, PRESENT if there else MISSING
                if there and ttl >= 0 and t - when > ttl:
                    code = EXPIRED
                elif there and function == F_AGE:
                    answer = float(t - when) / 1e6
                elif event >= 0:
                    answer = values[column, event]
                elif there:
                    answer = past[own, column, P_FIRST if function == F_FIRST else P_LAST]
                answers[j], codes[j] = answer, code
        else:
            if summed != w:
                summed = w
                certify(a, m, totals, sure)
                for j in range(m):
                    key = moments[M_KEY, begin + j]
                    if sure[j] != 0.0 or a[S_N, j] == 0.0 or keys[KEY_HOLLOW, key] != 0:
                        continue
                    own = keys[KEY_PAST, key] if unbounded else -1
                    has_past = own >= 0 and past[own, column, S_N] > 0.0
                    for i in range(DIGITS):
                        digits[i] = past_ints[own, column, PAST_DIGITS + i] if has_past else 0
                    left, right, limit = lefts[w, j], rights[0, j], moments[M_LIMIT, begin + j]
                    totals[j] = exact_sum(values, stamps, untils, column, left, right, limit, digits)
                    sure[j] = 1.0
            if function == F_SUM:
                put_sums(a[S_N], totals, sure, m, answers, codes)
            elif function == F_MEAN:
                put_quotients(a[S_N], totals, sure, m, answers, codes)
            else:
                for j in range(m):
                    key, n = moments[M_KEY, begin + j], a[S_N, j]
                    answers[j], codes[j] = np.nan, MISSING
                    if n <= 1.0:
                        continue
                    own = keys[KEY_PAST, key] if unbounded else -1
                    has_past = own >= 0 and past[own, column, S_N] > 0.0
                    answer = moment_var(n, a[S_S, j], a[S_C, j], a[S_R, j], a[S_Q, j], a[S_QC, j], has_past)
                    scale = 1.0
                    if sure[j] == 0.0 or (answer < 0.0 and keys[KEY_HOLLOW, key] != 0):
                        codes[j] = PARTIAL
                        continue
                    if answer < 0.0:
                        left, right, limit = lefts[w, j], rights[0, j], moments[M_LIMIT, begin + j]
                        answer, scale = two_pass_var(
                            values, stamps, untils, column, left, right, limit, n, totals[j] / n
                        )
                    answers[j] = answer * scale * scale if function == F_VAR else scale * math.sqrt(answer)
                    codes[j] = PRESENT
        for j in range(m):
            row = moments[M_ROW, begin + j]
            out[place, row], status[place, row] = answers[j], codes[j]
