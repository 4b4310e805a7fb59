"""Wakes an event loop at an instant to some ten microseconds; its own timers count whole milliseconds.

By the kernel's ``timerfd`` where there is one (Linux), else by the loop's own timer.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_MONOTONIC, _NONBLOCK, _ABSOLUTE = 1, 0o4000, 1


class _Spec(ctypes.Structure):
    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Timer:
    """One timer of a loop.

    Args:
        loop: Whose.
        due: Called when the instant has come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[], None]) -> None:
        self._loop = loop
        self._due = due
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._file = -1
        if self._libc is not None:
            self._file = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK)
        if self._file >= 0:
            loop.add_reader(self._file, self._rung)

    def at(self, when_s: float) -> None:
        """Wake at an instant of ``time.monotonic``, at once if it has passed."""
        if self._libc is None or self._file < 0:
            self._loop.call_later(max(0.0, when_s - time.monotonic()), self._due)
            return
        seconds = int(when_s)
        spec = _Spec(0, 0, seconds, max(1, int((when_s - seconds) * 1e9)))
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(spec), None)

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _rung(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # set anew since
            return
        self._due()
