"""``ewma``: a mean in which an event weighs half as much for each half-life of its age, from exact sums.

Only the ratio of weights matters, so an event weighs 2^(time / half-life) at every moment: 2^q · m, where q counts
whole half-lives since 1970 and m is 2^(the rest), rounded to 53 bits (forward decay: Cormode, Shkapenyuk, Srivastava,
Xu, ICDE 2009). The sums of weights and of weighted values are whole numbers (``wide``), so order does not matter; what
is rounded is each weight and the answer, together less than 3 units in the last place of Σw|x| / Σw. An event more than
``CUT`` half-lives older than the newest one (a weight below 2^-1024) no longer counts.
"""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.kernels import M_LIMIT, M_ROW, M_T, MISSING, PRESENT
from mainspring.features.slides import AFRESH, ENTERS, EVENT, INSIDE, LEAVES, LEFT, NUMBER, PLACE, RIGHT, TIME, advance
from mainspring.features.wide import UNIT, add_product, add_whole, make_positive, quotient, settle

CUT = 1024
# A decay: whether it holds anything, the half-life that has the sums' unit, that of the newest event, then the digits
# of the weighted values and of the weights.
ANY, BASE, NEWEST, VALUES, WEIGHTS, DECAY = 0, 1, 2, 3, 107, 145
_I = "int64[::1]"


@compiled("int64(int64, int64, int64)", allocates=False)
def weight_of(t: int, half_life: int, q: int) -> int:
    """2^52 · 2^(what is left of ``t`` after ``q`` half-lives), a whole number of 53 bits."""
    return int(np.int64(np.exp2(float(t - q * half_life) / float(half_life)) * 4503599627370496.0))


@compiled(f"void({_I})", allocates=False)
def settle_decay(decay: np.ndarray) -> None:
    """Carry both sums."""
    settle(decay[VALUES:WEIGHTS])
    settle(decay[WEIGHTS:DECAY])


@compiled(f"void({_I}, int64)", allocates=False)
def move_to(decay: np.ndarray, q: int) -> None:
    """Make ``q`` the newest half-life, if it is newer; what is too old by then must have been taken away before."""
    if not decay[ANY]:
        decay[ANY], decay[BASE], decay[NEWEST] = 1, q - CUT, q
        return
    if q <= decay[NEWEST]:
        return
    decay[NEWEST] = q
    steps = (q - CUT - decay[BASE]) >> 5
    if steps > 0:
        settle_decay(decay)
        for first, after in ((VALUES, WEIGHTS), (WEIGHTS, DECAY)):
            for i in range(first, after):
                decay[i] = decay[i + steps] if i + steps < after else 0
        decay[BASE] += steps << 5


@compiled(f"void({_I}, int64, int64, float64, boolean)", allocates=False)
def change_decay(decay: np.ndarray, q: int, weight: int, x: float, negative: bool) -> None:  # noqa: FBT001
    """Add an event that is not too old to sums that have been moved to it, or take it away."""
    add_product(decay[VALUES:WEIGHTS], x, weight, q - decay[BASE], negative)
    add_whole(decay[WEIGHTS:DECAY], weight, 1, q - decay[BASE], negative)


@compiled(f"void({_I}, int64[:, ::1], float64[::1], int64, int64, boolean)", allocates=False)
def count(decay: np.ndarray, scratch: np.ndarray, column: np.ndarray, j: int, half_life: int, negative: bool) -> None:  # noqa: FBT001
    """Add one of the events that ``slides.begin`` laid out, or take it away."""
    q = scratch[NUMBER, j]
    change_decay(decay, q, weight_of(scratch[TIME, j], half_life, q), column[scratch[EVENT, j]], negative)


@compiled(f"float64({_I})")
def decayed_mean(decay: np.ndarray) -> float:
    """The weighted mean; NaN of nothing."""
    weights, values = decay[WEIGHTS:DECAY], decay[VALUES:WEIGHTS].copy()
    settle(weights)
    if not weights.any():
        return np.nan
    negative = make_positive(values)
    answer = quotient(values, weights, 1.0, -UNIT)
    return float(-answer if negative else answer) + 0.0


@compiled(
    "void(int64[:, ::1], int64, int64[::1], int64[::1], float64[::1], int64[:, ::1], int64, int64, int64, int64, "
    "int64[::1], int64[::1], float64, int64, float64[:, ::1], uint8[:, ::1])"
)
def answer_decays(
    scratch: np.ndarray,
    n: int,
    stamps: np.ndarray,
    untils: np.ndarray,
    column: np.ndarray,
    moments: np.ndarray,
    first: int,
    after: int,
    window: int,
    hop: int,
    at: np.ndarray,
    kept: np.ndarray,
    half_life_us: float,
    place: int,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer ``ewma`` at the moments ``first`` to ``after``; ``kept`` is a decay or empty."""
    half_life = np.int64(half_life_us)
    for j in range(n):
        scratch[NUMBER, j] = scratch[TIME, j] // half_life
    decay = np.zeros(DECAY, np.int64)
    oldest = 0  # events before it do not count
    for moment in range(first, after):
        t, limit = moments[M_T, moment], moments[M_LIMIT, moment]
        leave, enter = advance(scratch, n, stamps, untils, t, limit, window, hop, at)
        newest = at[RIGHT] - 1
        while newest >= at[LEFT] and not scratch[INSIDE, newest]:
            newest -= 1
        again = at[AFRESH] == 1 or newest < at[LEFT] or scratch[NUMBER, newest] < decay[NEWEST]
        if again:
            decay[:] = 0
            decay[: kept.shape[0]] = kept
            oldest = at[LEFT]
            for j in range(n):
                scratch[PLACE, j] = 0  # whether it counts
        if newest >= at[LEFT]:
            q = scratch[NUMBER, newest]
            for j in range(0 if again else leave):
                leaving = scratch[LEAVES, j]
                if scratch[PLACE, leaving]:
                    scratch[PLACE, leaving] = 0
                    count(decay, scratch, column, leaving, half_life, True)
            while oldest < newest and scratch[NUMBER, oldest] < q - CUT:
                if scratch[PLACE, oldest]:
                    scratch[PLACE, oldest] = 0
                    count(decay, scratch, column, oldest, half_life, True)
                oldest += 1
            move_to(decay, q)
            if again:
                for j in range(oldest, newest + 1):
                    if scratch[INSIDE, j]:
                        scratch[PLACE, j] = 1
                        count(decay, scratch, column, j, half_life, False)
            else:
                for j in range(enter):
                    entering = scratch[ENTERS, j]
                    if entering >= oldest:
                        scratch[PLACE, entering] = 1
                        count(decay, scratch, column, entering, half_life, False)
        answer = decayed_mean(decay)
        row = moments[M_ROW, moment]
        out[place, row] = answer
        status[place, row] = PRESENT if answer == answer else MISSING
