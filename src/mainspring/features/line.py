"""``trend``: the slope of the least-squares line over time, from exact sums.

slope = (n·Σtx − Σt·Σx) / (n·Σt² − (Σt)²). Times are whole microseconds and values whole multiples of 2^-1074, so all
sums are whole numbers (``wide``): nothing cancels, order does not matter, and the answer is within one unit in the last
place of the exact one.
"""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.kernels import M_LIMIT, M_ROW, M_T, MISSING, PRESENT
from mainspring.features.slides import AFRESH, ENTERS, EVENT, LEAVES, TIME, advance
from mainspring.features.wide import UNIT, add_long_product, add_product, add_whole, make_positive, quotient, settle

# A line: n, then the digits of Σt, Σt², Σx and Σtx.
N_T, N_TT, N_X, N_TX = 5, 8, 74, 76
T, TT, X, TX = 1, 1 + N_T, 1 + N_T + N_TT, 1 + N_T + N_TT + N_X
LINE = TX + N_TX
_I = "int64[::1]"


@compiled(f"void({_I}, int64, float64, boolean)", allocates=False)
def change_line(line: np.ndarray, t: int, x: float, negative: bool) -> None:  # noqa: FBT001
    """Add an event to a line, or take it away."""
    line[0] += -1 if negative else 1
    add_whole(line[T:TT], t, 1, 0, negative)
    add_whole(line[TT:X], t, t, 0, negative)
    add_product(line[X:TX], x, 1, 0, negative)
    add_product(line[TX:LINE], x, t, 0, negative)


@compiled(f"void({_I})", allocates=False)
def settle_line(line: np.ndarray) -> None:
    """Carry all sums."""
    settle(line[T:TT])
    settle(line[TT:X])
    settle(line[X:TX])
    settle(line[TX:LINE])


@compiled(f"float64({_I}, float64)")
def slope(line: np.ndarray, per_us: float) -> float:
    """Slope of a settled line per ``per_us``; NaN below two events and at one instant only."""
    n = np.zeros(2, np.int64)
    n[0], n[1] = line[0] & 0xFFFFFFFF, line[0] >> 32
    t, tt, x, tx = line[T:TT].copy(), line[TT:X].copy(), line[X:TX].copy(), line[TX:LINE].copy()
    t_negative, x_negative, tx_negative = make_positive(t), make_positive(x), make_positive(tx)
    make_positive(tt)
    below = np.zeros(N_TT + N_T + 2, np.int64)
    add_long_product(below, tt, n, False)
    add_long_product(below, t, t, True)
    settle(below)
    if line[0] < 2 or not below.any():
        return np.nan
    above = np.zeros(N_TX + N_T + 2, np.int64)
    add_long_product(above, tx, n, tx_negative)
    add_long_product(above, x, t, not (t_negative ^ x_negative))
    negative = make_positive(above)
    answer = quotient(above, below, per_us, -UNIT)
    return float(-answer if negative else answer) + 0.0


@compiled(
    "void(int64[:, ::1], int64, int64[::1], int64[::1], float64[::1], int64[:, ::1], int64, int64, int64, int64, "
    "int64[::1], int64[::1], float64, int64, float64[:, ::1], uint8[:, ::1])"
)
def answer_lines(
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
    per_us: float,
    place: int,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer ``trend`` at the moments ``first`` to ``after``; ``kept`` is a line or empty."""
    line = np.zeros(LINE, np.int64)
    for moment in range(first, after):
        t, limit = moments[M_T, moment], moments[M_LIMIT, moment]
        leave, enter = advance(scratch, n, stamps, untils, t, limit, window, hop, at)
        if at[AFRESH]:
            line[:] = 0
            line[: kept.shape[0]] = kept
        for j in range(leave):
            event = scratch[LEAVES, j]
            change_line(line, scratch[TIME, event], column[scratch[EVENT, event]], True)
        for j in range(enter):
            event = scratch[ENTERS, j]
            change_line(line, scratch[TIME, event], column[scratch[EVENT, event]], False)
        settle_line(line)
        answer = slope(line, per_us)
        row = moments[M_ROW, moment]
        out[place, row] = answer
        status[place, row] = PRESENT if answer == answer else MISSING
