"""Memory that replays work in, kept from one to the next: fresh pages cost more than what is written to them.

The system has to find and clear every new page, which took a third of a replay's time on a virtual machine. What is
kept is marked as free: the system takes it back whenever it wants memory, and what it has not taken is simply there.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 1 << 30
"""What is kept; a replay that needs more gets more, and all of it is given back."""
_LINE = 64
_CAN_KEEP = hasattr(mmap, "MADV_FREE") and hasattr(mmap, "MAP_PRIVATE")

_lock = threading.Lock()
_kept: list[mmap.mmap] = []  # one at most


class Scratch:
    """Arrays one after the other in a piece of memory; none of them may be used once it is given back."""

    def __init__(self, memory: npt.NDArray[np.uint8]) -> None:
        self._memory = memory
        self._used = 0

    def empty(self, n: int, dtype: Any) -> npt.NDArray[Any]:
        """An array of ``n`` numbers, whatever they are."""
        size = n * np.dtype(dtype).itemsize
        found: npt.NDArray[Any] = self._memory[self._used : self._used + size].view(dtype)
        self._used += bytes_of(n, dtype)
        return found


def bytes_of(n: int, dtype: Any) -> int:
    """What ``Scratch.empty`` takes for so many."""
    size: int = n * np.dtype(dtype).itemsize
    return -(-size // _LINE) * _LINE


@contextmanager
def scratch(size: int) -> Iterator[Scratch]:
    """Room for ``size`` bytes, for as long as the block lasts; of several at a time, one is kept.

    None is kept of a block that fails: threads may still be at work in it.
    """
    if not _CAN_KEEP or not 0 < size <= MOST_BYTES:
        yield Scratch(np.empty(size, np.uint8))
        return
    with _lock:
        block = _kept.pop() if _kept and len(_kept[0]) >= size else None
    if block is None:
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)
    yield Scratch(np.frombuffer(block, np.uint8))
    block.madvise(mmap.MADV_FREE)
    with _lock:
        if not _kept or len(_kept[0]) < len(block):
            _kept[:] = [block]


def let_go() -> None:
    """Keep nothing."""
    with _lock:
        _kept.clear()
