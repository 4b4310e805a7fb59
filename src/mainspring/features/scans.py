"""Aggregates whose answers come from the events of a window, not from sums over them.

``answer`` is called after ``kernels.read``, over the same arrays, for the rows of ``Layout.scan_plan``. The moments of
one key in a row share their work: each aggregate is an algebra of whole numbers (nothing, add, take away, result) over
a window that slides (``slides``), so a busy key costs its events once, not once a moment. What a key has let go of, or
taken together into hops (``kept``), counts besides.
"""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.decay import answer_decays
from mainspring.features.kernels import (
    KEY_EVENT,
    KEY_PAST,
    M_KEY,
    P_COLUMN,
    P_FUNCTION,
    P_OUT,
    P_SLOTS,
    P_TTL,
    P_WINDOW,
)
from mainspring.features.latest import answer_latest
from mainspring.features.line import answer_lines
from mainspring.features.slides import F_EWMA, F_FIRST, F_LAST, F_LAST_K, F_LAST_TIME, F_TREND, SCRATCH, begin
from mainspring.features.tallies import answer_tallies

_I, _I2, _F, _F2 = "int64[::1]", "int64[:, ::1]", "float64[::1]", "float64[:, ::1]"


@compiled(
    f"void({_I}, {_I}, {_I}, {_F2}, {_I2}, {_I2}, int64, int64, {_I2}, {_F}, {_I}, int64, {_I}, {_I2}, {_F2}, "
    "uint8[:, ::1])"
)
def answer(
    times: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    values: np.ndarray,
    keys: np.ndarray,
    moments: np.ndarray,
    first: int,
    after: int,
    plan: np.ndarray,
    parameters: np.ndarray,
    windows: np.ndarray,
    hop: int,
    kept: np.ndarray,
    kept_starts: np.ndarray,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer the moments ``first`` to ``after``.

    Args:
        times: int64[n], event times of all keys, rising within a key; a key has all its events in reach, none is left
            out.
        stamps: int64[n], what visibility is judged by.
        untils: int64[n] or [0], stamp of the correction that supersedes the event.
        values: float64[C, n], NaN for null.
        keys: int64[4, K + 1], as ``kernels.read`` takes them.
        moments: int64[4, m], as ``kernels.read`` takes them. Those of a key should lie together and rise.
        first: First moment to answer.
        after: First moment not to answer.
        plan: int64[R, 7], as ``kernels.read`` takes it, of the functions ``slides.F_…``.
        parameters: float64[R]: q of a quantile, half-life or unit of time in microseconds.
        windows: int64[W], in microseconds.
        hop: In microseconds; 1 is exact.
        kept: What keys have let go of, one part after another; of a row with a window, what is in all of the windows.
        kept_starts: int64[P, R + 1], where the parts of each past begin and end; P may be 0.
        out: float64[S, rows], values; NaN for null.
        status: uint8[S, rows].
    """
    most = 0
    for moment in range(first, after):
        key = moments[M_KEY, moment]
        if key >= 0:
            most = max(most, keys[KEY_EVENT, key + 1] - keys[KEY_EVENT, key])
    scratch = np.empty((SCRATCH, most), np.int64)
    at = np.empty(5, np.int64)
    bits = values.view(np.int64)
    nothing = kept[:0]
    begins = first
    while begins < after:
        key = moments[M_KEY, begins]
        ends = begins + 1
        while ends < after and moments[M_KEY, ends] == key:
            ends += 1
        if key >= 0:
            low, high, past = keys[KEY_EVENT, key], keys[KEY_EVENT, key + 1], keys[KEY_PAST, key]
            for r in range(plan.shape[0]):
                column, window = plan[r, P_COLUMN], windows[plan[r, P_WINDOW]]
                function, place, slots = plan[r, P_FUNCTION], plan[r, P_OUT], plan[r, P_SLOTS]
                own = nothing
                if past >= 0:
                    own = kept[kept_starts[past, r] : kept_starts[past, r + 1]]
                n = begin(times, values[column], low, high, moments, begins, ends, window, hop, scratch, at)
                if function in (F_LAST_K, F_FIRST, F_LAST, F_LAST_TIME):
                    answer_latest(
                        function,
                        scratch,
                        n,
                        stamps,
                        untils,
                        values,
                        column,
                        moments,
                        begins,
                        ends,
                        window,
                        hop,
                        plan[r, P_TTL],
                        own,
                        slots,
                        place,
                        out,
                        status,
                    )
                elif function == F_EWMA:
                    answer_decays(
                        scratch,
                        n,
                        stamps,
                        untils,
                        values[column],
                        moments,
                        begins,
                        ends,
                        window,
                        hop,
                        at,
                        own,
                        parameters[r],
                        place,
                        out,
                        status,
                    )
                elif function == F_TREND:
                    answer_lines(
                        scratch,
                        n,
                        stamps,
                        untils,
                        values[column],
                        moments,
                        begins,
                        ends,
                        window,
                        hop,
                        at,
                        own,
                        parameters[r],
                        place,
                        out,
                        status,
                    )
                else:
                    answer_tallies(
                        function,
                        scratch,
                        n,
                        stamps,
                        untils,
                        bits[column],
                        moments,
                        begins,
                        ends,
                        window,
                        hop,
                        at,
                        own,
                        parameters[r],
                        slots,
                        place,
                        out,
                        status,
                    )
        begins = ends
