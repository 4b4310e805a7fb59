"""Values taken as they are: ``last_k``, and ``first`` and ``last`` of a vector (for ``nearest``, also its time)."""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.kernels import EXPIRED, M_LIMIT, M_ROW, M_T, MISSING, PRESENT, UNBOUNDED
from mainspring.features.slides import EVENT, F_FIRST, F_LAST_K, F_LAST_TIME, TIME
from mainspring.features.tree import seen
from mainspring.features.windows import left_edge, seek

KEPT_TRIPLE = 3  # (time, known_at, offset) of a value that was let go of, before its bits


@compiled("void(float64[::1], int64, int64, int64, int64, int64, float64[:, ::1], uint8[:, ::1])", allocates=False)
def put(
    value: np.ndarray, when: int, t: int, ttl: int, row: int, place: int, out: np.ndarray, status: np.ndarray
) -> None:
    """Answer with a value of the time ``when``, unless it has expired."""
    expired = ttl >= 0 and t - when > ttl
    for part in range(value.shape[0]):
        out[place + part, row] = np.nan if expired else value[part]
        status[place + part, row] = EXPIRED if expired else PRESENT


@compiled(
    "void(int64, int64[:, ::1], int64, int64[::1], int64[::1], float64[:, ::1], int64, int64[:, ::1], int64, int64, "
    "int64, int64, int64, int64[::1], int64, int64, float64[:, ::1], uint8[:, ::1])"
)
def answer_latest(
    function: int,
    scratch: np.ndarray,
    n: int,
    stamps: np.ndarray,
    untils: np.ndarray,
    values: np.ndarray,
    column: int,
    moments: np.ndarray,
    first: int,
    after: int,
    window: int,
    hop: int,
    ttl: int,
    kept: np.ndarray,
    slots: int,
    place: int,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer ``last_k``, or ``first`` or ``last`` of a vector, at the moments ``first`` to ``after``.

    ``scratch`` holds the ``n`` events as ``slides.begin`` lays them out and is not changed. A vector's parts follow its
    ``column``. ``ttl`` is −1 for none; older values are expired. ``kept`` are values let go of, each as (time,
    known_at, offset) and bits, in the order of the answer.
    """
    parts = 1 if function == F_LAST_K else slots
    wanted = slots // parts
    size = KEPT_TRIPLE + parts
    kept_as_float = kept.view(np.float64)
    value = np.empty(parts, np.float64)
    right = left = 0
    for moment in range(first, after):
        t, limit, row = moments[M_T, moment], moments[M_LIMIT, moment], moments[M_ROW, moment]
        right = seek(scratch[TIME], 0, n, right, t)
        left = 0 if window == UNBOUNDED else seek(scratch[TIME], 0, right, left, left_edge(t, window, hop))
        found = 0
        if function == F_FIRST and kept.shape[0]:
            put(kept_as_float[KEPT_TRIPLE:size], kept[0], t, ttl, row, place, out, status)
            found = 1
        step = 1 if function == F_FIRST else -1
        j = left if function == F_FIRST else right - 1
        while left <= j < right and found < wanted:
            i = scratch[EVENT, j]
            if seen(stamps, untils, i, limit):
                for part in range(parts):
                    value[part] = values[column + part, i] if function != F_LAST_TIME else float(scratch[TIME, j])
                put(value, scratch[TIME, j], t, ttl, row, place + found * parts, out, status)
                found += 1
            j += step
        for slot in range(kept.shape[0] // size if function != F_FIRST else 0):
            if found < wanted:
                at = slot * size
                one = kept_as_float[at + KEPT_TRIPLE : at + size]
                put(one, kept[at], t, ttl, row, place + found * parts, out, status)
                found += 1
        for slot in range(found * parts, slots):
            out[place + slot, row], status[place + slot, row] = np.nan, MISSING
