"""Threads that share out rows: kernels hold no lock, so each runs on a core of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

T = TypeVar("T")
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORTH_A_THREAD = 1 << 12  # rows


@dataclass(frozen=True, eq=False)
class Crew:
    """Some threads; one is the caller's own."""

    threads: int
    pool: ThreadPoolExecutor | None = None

    def share(self, bounds: Sequence[int], work: Callable[[int, int], T]) -> list[T]:
        """Do ``work(first, after)`` between each two neighbours of ``bounds``; what each returned, in order."""
        pairs = [(a, b) for a, b in pairwise(bounds) if a < b]
        if self.pool is None or len(pairs) < 2:
            return [work(a, b) for a, b in pairs]
        return [done.result() for done in [self.pool.submit(work, a, b) for a, b in pairs]]

    def each(self, items: Sequence[int], work: Callable[[int], T]) -> Iterator[T]:
        """Do ``work(item)`` for each, the first ones first; what each returned, in order, as it is there."""
        if self.pool is None:
            yield from map(work, items)
            return
        for done in [self.pool.submit(work, item) for item in items]:
            yield done.result()

    def even(self, n: int, pieces: int = 4) -> list[int]:
        """Bounds of equal pieces of ``n`` rows, ``pieces`` a thread, fewer if they would be too small."""
        parts = max(1, min(pieces * self.threads, n // WORTH_A_THREAD)) if self.pool else 1
        return [n * i // parts for i in range(parts + 1)]

    def balanced(self, ends: np.ndarray, pieces: int = 8) -> list[int]:
        """Bounds of runs of items with about as many rows each: item i holds the rows ends[i] to ends[i + 1]."""
        parts = max(1, min(pieces * self.threads, int(ends[-1]) // WORTH_A_THREAD)) if self.pool else 1
        cuts = np.searchsorted(ends, np.linspace(0, ends[-1], parts + 1)[1:-1])
        return [0, *np.unique(cuts).tolist(), len(ends) - 1]


ALONE = Crew(1)


@contextmanager
def crew(threads: int) -> Iterator[Crew]:
    """A crew for as long as the block lasts."""
    if threads <= 1:
        yield ALONE
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="mainspring-fold") as pool:
        yield Crew(threads, pool)
