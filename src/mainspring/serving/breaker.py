"""A circuit breaker: a model that lately failed or was slow is left alone for a while, then tried with one batch."""

from __future__ import annotations

from collections import deque
from typing import Literal

WINDOW_S = 30.0
MIN_RUNS = 5
BAD_SHARE = 0.5
OPEN_S = (5.0, 60.0)
"""How long it stays open the first time, and at most: the time doubles with each trial that fails."""
SLOW_US = 1_000_000
"""A run that takes longer is as bad as one that fails, where the definition declares no latency."""

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Of one version of a model. Times are seconds on any clock that only goes forward.

    It opens when half of what was asked in the last 30 s, over at least 5 runs, failed or came slowly.

    What is slow is a matter of one row, and so is a budget: a list, or a slice of one, is judged as one row that takes
    as long as its rows do on average. Or a single list, legal and answered in time, would open it for everybody.
    """

    def __init__(self, slow_us: int = SLOW_US) -> None:
        self.slow_us = slow_us
        self.state: State = "closed"
        self._runs: deque[tuple[float, int, int]] = deque()
        self._asked = self._bad = 0
        self._open_s = OPEN_S[0]
        self._until_s = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether the model may be asked; what is asked after ``open`` is the one trial."""
        if self.state == "closed":
            return True
        if now_s < self._until_s:
            return False
        self.state = "half_open"
        self._until_s = now_s + self._open_s  # a trial that is never heard of again does not keep it so for ever
        return True

    def record(self, now_s: float, rows: int, failed: int, took_us: int, requests: int) -> None:
        """Learn how a run went.

        Args:
            now_s: When it ended.
            rows: That were asked.
            failed: How many of them did by the model's own fault.
            took_us: How long the run took.
            requests: Of which the rows were.
        """
        asked = min(rows, requests)
        is_slow = took_us * asked > self.slow_us * rows
        bad = asked if is_slow else (2 * failed * asked + rows) // (2 * rows)  # to the nearest: of a list half its rows
        if self.state != "closed":
            if bad >= asked * BAD_SHARE:
                self._trip(now_s, min(self._open_s * 2, OPEN_S[1]))
            else:
                self.state = "closed"
                self._open_s = OPEN_S[0]
            return
        self._runs.append((now_s, asked, bad))
        self._asked += asked
        self._bad += bad
        while self._runs[0][0] < now_s - WINDOW_S:
            _, old_asked, old_bad = self._runs.popleft()
            self._asked -= old_asked
            self._bad -= old_bad
        if len(self._runs) >= MIN_RUNS and self._bad >= self._asked * BAD_SHARE:
            self._trip(now_s, OPEN_S[0])

    def _trip(self, now_s: float, open_s: float) -> None:
        self.state = "open"
        self._open_s = open_s
        self._until_s = now_s + open_s
        self._runs.clear()
        self._asked = self._bad = 0
