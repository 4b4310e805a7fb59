"""A window that slides over one key's events: what enters it and what leaves it from one moment to the next.

Answers are the same as if each window were read afresh, for what enters is added to whole numbers and what leaves is
taken from them. Moments of a key should rise in time and in what is known; where they do not, the window is read
afresh.
"""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.kernels import M_T, UNBOUNDED
from mainspring.features.tree import NEVER, seen
from mainspring.features.windows import left_edge, seek

# Functions of a scan plan.
F_LAST_K, F_FIRST, F_LAST, F_EWMA, F_TREND, F_DISTINCT, F_APPROX_DISTINCT, F_QUANTILE, F_TOP_K, F_LAST_TIME = range(
    16, 26
)
# Rows of a scratch: events of the key that are not null, their times, whether each is inside, those that may yet
# change, those that leave and those that enter at a moment, and two for the aggregate's own use.
EVENT, TIME, INSIDE, WATCH, LEAVES, ENTERS, PLACE, NUMBER = range(8)
SCRATCH = 8
# Where the window stands: its edges, what was known, how many are watched, whether it was read afresh.
LEFT, RIGHT, LIMIT, WATCHED, AFRESH = range(5)

_I, _I2, _F, _F2 = "int64[::1]", "int64[:, ::1]", "float64[::1]", "float64[:, ::1]"


@compiled(f"int64({_I}, {_F}, int64, int64, {_I2}, int64, int64, int64, int64, {_I2}, {_I})", allocates=False)
def begin(
    times: np.ndarray,
    column: np.ndarray,
    low: int,
    high: int,
    moments: np.ndarray,
    first: int,
    after: int,
    window: int,
    hop: int,
    scratch: np.ndarray,
    at: np.ndarray,
) -> int:
    """Lay out the non-null events ``low`` to ``high`` that some moment's window may hold; how many there are.

    ``moments`` from ``first`` to ``after`` are of one key; ``scratch`` int64[SCRATCH, high − low] is filled, ``at``
    int64[5] becomes a window that has not been read.
    """
    least, greatest = moments[M_T, first], moments[M_T, first]
    for moment in range(first, after):
        least, greatest = min(least, moments[M_T, moment]), max(greatest, moments[M_T, moment])
    high = seek(times, low, high, high, greatest)
    if window != UNBOUNDED:
        low = seek(times, low, high, high, left_edge(least, window, hop))
    n = 0
    for i in range(low, high):
        if column[i] == column[i]:
            scratch[EVENT, n], scratch[TIME, n], scratch[INSIDE, n] = i, times[i], 0
            n += 1
    at[LEFT], at[RIGHT], at[WATCHED] = 0, 0, 0
    at[LIMIT] = NEVER
    return n


@compiled(f"UniTuple(int64, 2)({_I2}, int64, {_I}, {_I}, int64, int64, int64, int64, {_I})", allocates=False)
def advance(
    scratch: np.ndarray,
    n: int,
    stamps: np.ndarray,
    untils: np.ndarray,
    t: int,
    limit: int,
    window: int,
    hop: int,
    at: np.ndarray,
) -> tuple[int, int]:
    """Move the window to a moment; how many events leave (row LEAVES) and enter (row ENTERS, in their order).

    After ``at[AFRESH]`` the aggregate begins with nothing, and only what enters counts.
    """
    right = seek(scratch[TIME], 0, n, at[RIGHT], t)
    left = 0 if window == UNBOUNDED else seek(scratch[TIME], 0, right, at[LEFT], left_edge(t, window, hop))
    leaves = enters = watched = 0
    begin = left
    at[AFRESH] = 1 if left < at[LEFT] or right < at[RIGHT] or limit < at[LIMIT] else 0
    if at[AFRESH]:
        for j in range(at[LEFT], at[RIGHT]):
            scratch[INSIDE, j] = 0
    else:
        for j in range(at[LEFT], min(left, at[RIGHT])):
            if scratch[INSIDE, j]:
                scratch[INSIDE, j] = 0
                scratch[LEAVES, leaves] = j
                leaves += 1
        for w in range(at[WATCHED]):
            j = scratch[WATCH, w]
            if j < left:
                continue
            i = scratch[EVENT, j]
            now = seen(stamps, untils, i, limit)
            if now and not scratch[INSIDE, j]:
                scratch[INSIDE, j] = 1
                scratch[ENTERS, enters] = j
                enters += 1
            elif scratch[INSIDE, j] and not now:
                scratch[INSIDE, j] = 0
                scratch[LEAVES, leaves] = j
                leaves += 1
            if stamps[i] > limit or (untils.shape[0] and limit < untils[i] != NEVER):
                scratch[WATCH, watched] = j
                watched += 1
        begin = max(left, at[RIGHT])
    for j in range(begin, right):
        i = scratch[EVENT, j]
        if seen(stamps, untils, i, limit):
            scratch[INSIDE, j] = 1
            scratch[ENTERS, enters] = j
            enters += 1
        if stamps[i] > limit or (untils.shape[0] and limit < untils[i] != NEVER):
            scratch[WATCH, watched] = j
            watched += 1
    at[LEFT], at[RIGHT], at[LIMIT], at[WATCHED] = left, right, limit, watched
    return leaves, enters
