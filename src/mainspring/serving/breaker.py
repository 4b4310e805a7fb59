"""A circuit breaker: a model that lately failed or was slow is left alone for a while, then tried with one batch."""

from __future__ import annotations

from collections import deque
from typing import Literal

from mainspring.serving.pace import Pace

WINDOW_S = 30.0
MIN_RUNS = 5
BAD_SHARE = 0.5
OPEN_S = (5.0, 60.0)
"""How long it stays open the first time, and at most: the time doubles with each trial that fails."""
SLOW_US = 1_000_000
"""A run that takes longer is as bad as one that fails, where the definition declares no latency."""

LATE_US = 5_000_000
"""A list that takes longer than who names no deadline waits, and ``HANGING`` times what one of its length has taken so
far, does not need that time: the model hangs."""
HANGING = 10

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Of one version of a model. Times are seconds on any clock that only goes forward.

    It opens when half of what was asked in the last 30 s, over at least 5 runs, failed or came slowly; where a run
    takes so long that no 5 have room in them, in the time of ten such runs.

    What is slow is a matter of one row, and so is a budget: a list, or a slice of one, is judged as one row that takes
    as long as its rows do on average. Or a single list, legal and answered in time, would open it for everybody. Only
    one that takes many times what lists of its length have taken before, and longer than clients wait, is slow as such.

    A trial that is a list, of a model that was slow, says nothing of what one row takes: there is another at once, and
    after 5 of them it is believed.
    """

    def __init__(self, slow_us: int = SLOW_US) -> None:
        self.slow_us = slow_us
        self.state: State = "closed"
        self._runs: deque[tuple[float, int, int]] = deque()
        self._asked = self._bad = 0
        self._usual = Pace()
        self._was_slow = False
        self._lists_tried = 0
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
        is_list = asked < rows
        is_slow = took_us * asked > self.slow_us * rows or (is_list and self._hangs(rows, took_us))
        bad = asked if is_slow else (2 * failed * asked + rows) // (2 * rows)  # to the nearest: of a list half its rows
        self._was_slow = self._was_slow or is_slow
        if self.state != "closed":
            if bad >= asked * BAD_SHARE:
                self._trip(now_s, min(self._open_s * 2, OPEN_S[1]))
            elif self._says_little(is_list=is_list, took_us=took_us):
                self._until_s = now_s
            else:
                self.state = "closed"
                self._open_s = OPEN_S[0]
                self._was_slow = False
            return
        self._runs.append((now_s, asked, bad))
        self._asked += asked
        self._bad += bad
        window_s = max(WINDOW_S, 2 * MIN_RUNS * took_us * 1e-6)
        while self._runs[0][0] < now_s - window_s:
            _, old_asked, old_bad = self._runs.popleft()
            self._asked -= old_asked
            self._bad -= old_bad
        if len(self._runs) >= MIN_RUNS and self._bad >= self._asked * BAD_SHARE:
            self._trip(now_s, OPEN_S[0])

    def _hangs(self, rows: int, took_us: int) -> bool:
        """Whether the run of a list took what none of its length should; of others it is learnt what they take."""
        if self._usual.knows(rows) and took_us > HANGING * self._usual.expects_us(rows):
            return took_us > LATE_US
        self._usual.observe(rows, took_us)
        return False

    def _says_little(self, *, is_list: bool, took_us: int) -> bool:
        """Whether a trial that went well may have done so only because its rows shared what it took."""
        if not (is_list and self._was_slow and self.state == "half_open" and took_us > self.slow_us):
            return False
        self._lists_tried += 1
        return self._lists_tried < MIN_RUNS

    def _trip(self, now_s: float, open_s: float) -> None:
        self.state = "open"
        self._open_s = open_s
        self._until_s = now_s + open_s
        self._runs.clear()
        self._asked = self._bad = self._lists_tried = 0
