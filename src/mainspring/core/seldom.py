"""Warnings that would come again and again: each at most once in a while, with how many there were meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_S = 60.0
_MOST_KINDS = 100


class Seldom(logging.Filter):
    """Lets a kind of record through once in ``every_s`` seconds; a kind is a level and a text before it is filled in.

    >>> hourly, seen = Seldom(3_600.0), []
    >>> for _ in range(3):
    ...     record = logging.makeLogRecord({"msg": "gone", "levelno": logging.WARNING})
    ...     if hourly.filter(record):
    ...         seen.append(record.getMessage())
    >>> seen
    ['gone']
    """

    def __init__(self, every_s: float = EVERY_S, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._now_s = now_s
        self._kinds: dict[tuple[int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        kind, now_s = (record.levelno, str(record.msg)), self._now_s()
        told_s, left_out = self._kinds.get(kind, (-self._every_s, 0))
        if now_s - told_s < self._every_s:
            self._kinds[kind] = told_s, left_out + 1
            return False
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        self._kinds[kind] = now_s, 0
        if left_out:
            record.msg = f"{record.msg} ({left_out} more like it were left out)"
        return True
