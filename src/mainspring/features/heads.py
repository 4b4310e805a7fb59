"""The fold's fast way: a micro-batch's events go into the tails of all the heads that they belong to, in one call."""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.state import (
    FIRST_NUMBER,
    FORMAT,
    H_CHANGED,
    H_FLOOR,
    H_FORMAT,
    H_NUMBER,
    H_OLDEST,
    HEAD,
    LONG_AGO,
    NEVER,
)

_I, _I2 = "int64[::1]", "int64[:, ::1]"


@compiled(f"boolean({_I2}, int64, int64, int64, int64)")
def _precedes(events: np.ndarray, i: int, time: int, known: int, offset: int) -> bool:
    """Whether an event comes before (time, known_at, offset)."""
    if events[0, i] != time:
        return bool(events[0, i] < time)
    if events[1, i] != known:
        return bool(events[1, i] < known)
    return bool(events[2, i] < offset)


@compiled(f"int64({_I}, {_I}, {_I2}, {_I}, {_I}, int64, int64, int64, int64, {_I}, {_I}, {_I})")
def append(
    old: np.ndarray,
    old_at: np.ndarray,
    events: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    tail: int,
    horizon_us: int,
    trims: int,
    offset: int,
    new: np.ndarray,
    new_at: np.ndarray,
    slow: np.ndarray,
) -> int:
    """Append to heads what needs their tails only; say which keys need more.

    Those are keys whose tail would hold too much, that get an event older than what lies behind the tail or than the
    horizon, or that have a part to be let go of: ``tiers`` folds them.

    Args:
        old: int64, heads one after another.
        old_at: int64[keys + 1], where each begins, and the end; a key that was never seen has none.
        events: int64[3 + C, n], in the order (time, known_at, offset).
        order: Events of the first key, in order, then of the second, and so on.
        starts: int64[keys + 1], first place in ``order`` of each key, and the end.
        tail: How many events a head may hold.
        horizon_us: Events before it are outside every window that may still be asked about.
        trims: Whether those may go without a trace (1), or go on to count in windows without a beginning (0).
        offset: Of the fold.
        new: To hold the new heads: ``HEAD + (3 + C) · tail`` words for each key are enough.
        new_at: int64[keys + 1], to hold where each begins, and the end; a key that needs more has none.
        slow: To hold the keys that need more.

    Returns:
        How many need more.
    """
    rows = events.shape[0]
    word = np.int64(FORMAT) | np.int64(rows - 3) << np.int64(16)
    more, at = 0, 0
    for key in range(starts.shape[0] - 1):
        new_at[key] = at
        head = old_at[key]
        is_known = old_at[key + 1] > head
        a, b = starts[key], starts[key + 1]
        n = old[head + H_FORMAT] >> 32 if is_known else 0
        begin = 0
        first = order[a]
        if trims == 1:
            while begin < n and old[head + HEAD + begin] < horizon_us:
                begin += 1
        total = n - begin + b - a
        fits = total <= tail and events[0, first] >= horizon_us
        if fits and is_known:
            floor = head + H_FLOOR
            fits = (
                old[head + H_FORMAT] & 0xFF == FORMAT
                and old[head + H_OLDEST] >= horizon_us
                and not _precedes(events, first, old[floor], old[floor + 1], old[floor + 2])
            )
        if not fits:
            slow[more] = key
            more += 1
            continue
        if is_known:
            new[at : at + HEAD] = old[head : head + HEAD]
            new[at + H_FORMAT] = (old[head + H_FORMAT] & np.int64(0xFFFFFFFF)) | np.int64(total) << np.int64(32)
        else:
            new[at : at + HEAD] = 0
            new[at + H_FORMAT] = word | np.int64(total) << np.int64(32)
            new[at + H_NUMBER] = FIRST_NUMBER
            new[at + H_FLOOR : at + H_FLOOR + 3] = LONG_AGO
            new[at + H_OLDEST] = NEVER
        new[at + H_CHANGED] = offset
        base, source = at + HEAD, head + HEAD
        i, j = begin, a
        for place in range(total):
            takes_old = j >= b
            if not takes_old and i < n:
                takes_old = not _precedes(
                    events, order[j], old[source + i], old[source + n + i], old[source + 2 * n + i]
                )
            if takes_old:
                for row in range(rows):
                    new[base + row * total + place] = old[source + row * n + i]
                i += 1
            else:
                for row in range(rows):
                    new[base + row * total + place] = events[row, order[j]]
                j += 1
        at = base + rows * total
    new_at[starts.shape[0] - 1] = at
    return more
