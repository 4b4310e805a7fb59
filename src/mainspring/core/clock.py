"""The clock is passed in and never read from the wall by anything that decides.

Three clocks: the wall's, a test's, and one that several processes share through a small mapped file. The last is how
the demo and the backtest drive real processes through a year in minutes.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Protocol

_BYTES = 16


class Clock(Protocol):
    """Where the time comes from."""

    @property
    def is_test(self) -> bool:
        """Whether somebody else moves this clock (demo, backtest, tests)."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""


class WallClock:
    """The machine's own clock."""

    is_test = False

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that moves when told: for tests and for a backtest inside one process."""

    is_test = True

    def __init__(self, now_us: int = 0) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return self._now_us

    def set(self, now_us: int) -> None:
        """Move to ``now_us``."""
        self._now_us = now_us


class SharedClock:
    """A clock that one process drives and others read: two int64 cells in a mapped file.

    The first cell is the time. The second is *settled*: up to where the worker has done all that was due. The driver
    waits for it, so that pipelines hold the clock.
    """

    is_test = True

    def __init__(self, path: Path) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size < _BYTES:
                os.ftruncate(handle, _BYTES)
            # A view of whole numbers, because each of them is then written and read at once: `struct.pack_into` clears
            # the bytes first, and a reader in another process would now and then see 1970.
            self._cells = memoryview(mmap.mmap(handle, _BYTES)).cast("q")
        finally:
            os.close(handle)

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return self._cells[0]

    def set(self, now_us: int) -> None:
        """Move to ``now_us``: the driver only."""
        self._cells[0] = now_us

    def settled_us(self) -> int:
        """Up to where everything due has been done."""
        return self._cells[1]

    def settle(self, now_us: int) -> None:
        """Say that everything due up to ``now_us`` has been done: the worker only."""
        self._cells[1] = now_us
