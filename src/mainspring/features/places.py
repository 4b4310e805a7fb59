"""Places in the order (time, known_at, offset): where events belong among others, and among nodes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from mainspring.features.state import D_FIRST, D_LAST, in_order, triple

Triple = tuple[int, int, int]


def joined(events: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Both in order."""
    both = np.concatenate((events, new), axis=1)
    n = events.shape[1]
    return both if not n or triple(events, n - 1) < triple(new, 0) else in_order(both)


def count_before(events: np.ndarray, at: Triple) -> int:
    """How many events come before (time, known_at, offset)."""
    if not events.shape[1] or triple(events, events.shape[1] - 1) < at:
        return int(events.shape[1])
    low = int(np.searchsorted(events[0], at[0]))
    while low < events.shape[1] and triple(events, low) < at:
        low += 1
    return low


def place_of(events: np.ndarray, at: Triple) -> int | None:
    """Index of the event that is at (time, known_at, offset)."""
    place = count_before(events, at)
    return place if place < events.shape[1] and triple(events, place) == at else None


def first_of(node: np.ndarray) -> Triple:
    """(time, known_at, offset) of a node's first event."""
    t, known, offset = node[D_FIRST : D_FIRST + 3].tolist()
    return (t, known, offset)


def last_of(node: np.ndarray) -> Triple:
    """(time, known_at, offset) of a node's last event."""
    t, known, offset = node[D_LAST : D_LAST + 3].tolist()
    return (t, known, offset)


def home_of(nodes: np.ndarray, at: Triple) -> int:
    """Index of the first node that does not end before (time, known_at, offset): where an event belongs."""
    lasts = nodes[:, D_LAST]
    low, high = int(np.searchsorted(lasts, at[0])), int(np.searchsorted(lasts, at[0], side="right"))
    return low + bisect_left([last_of(node) for node in nodes[low:high]], at)


def homes_of(nodes: np.ndarray, new: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Each node that some of ``new`` belong to, and the range of those; all come before the end of the last node."""
    a = 0
    while a < new.shape[1]:
        home = home_of(nodes, triple(new, a))
        b = a + count_before(new[:, a:], last_of(nodes[home]))
        yield home, a, b
        a = b


def cuts_of(n: int, size: int) -> list[int]:
    """Where to cut ``n`` things into pieces of ``size``, if there are twice as many; the last may be larger."""
    return [0, n] if n < 2 * size else [*range(0, n - size + 1, size), n]
