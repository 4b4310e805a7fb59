"""Every answer becomes an event, off the hot path: a bounded buffer, a thread that looks after it, a spool.

The event loop only appends answered batches to the buffer. A thread takes what has gathered, makes rows of it and has
them posted to the intake, the requests' own events first and the predictions after them. What the intake has not
acknowledged 30 ms after it was answered, because it is slow or away, is written to a spool file, and goes from there.
So a gateway that is killed loses at most what it answered within its last 50 ms; that is a gap in its sequence of
prediction ids, which a join sees.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from mainspring.core.spool import Spool
from mainspring.serving.log_rows import Logged, read_frame, rows_of
from mainspring.serving.poster import Intake, Outcome, Poster

_RETRY_S = (0.05, 2.0)
_TELL_EVERY_S = 10.0
_ENCODE = msgspec.msgpack.Encoder().encode
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Batch:
    """Answers on their way, as rows.

    Attributes:
        found: ``CheckedRows`` in msgpack, as they are posted.
        since_s: When the oldest of them was given.
        frame: The same as it lies in the spool; None while it is in memory alone.
    """

    answers: int
    found: bytes
    since_s: float
    frame: bytes | None = None


class PredictionLog:
    """Carries answers from the event loop to the intake.

    What is posted is older than what the spool holds, and that is older than what waits in memory.

    Args:
        connect: Gives a client of the intake as it is now; raises UnavailableError while there is none.
        spool: Where answers wait that the intake has not taken in time.
        max_buffered: Answers kept in memory; beyond it they are dropped and counted.
        gather_s: How long answers gather before they are posted.
        hold_s: How long an answer may be in memory alone; it is written to the spool then, or has been acknowledged.
        max_batch: Answers in one post.

    Attributes:
        sent: Answers that the intake has acknowledged.
        quarantined: Of their events, those that went to quarantine.
        is_away: Whether the last post failed.
    """

    def __init__(
        self,
        connect: Callable[[], Intake],
        spool: Spool,
        *,
        max_buffered: int = 200_000,
        gather_s: float = 0.02,
        hold_s: float = 0.03,
        max_batch: int = 1_000,
    ) -> None:
        self._poster = Poster(connect, self._stirred)
        self._spool = spool
        self._max_buffered = max_buffered
        self._gather_s, self._hold_s = gather_s, hold_s
        self._max_batch = max_batch
        self._buffer: deque[Logged] = deque()
        self._put = self._taken = 0  # answers: the event loop counts the first, the thread the second
        self._since_s = 0.0  # the first in the buffer came then, or later
        self._wake, self._stir = threading.Event(), threading.Event()
        self._waiting: deque[_Batch] = deque()
        self._posting: _Batch | None = None
        self._in_memory = 0
        self._retry_at_s = self._keep_at_s = 0.0
        self._retry_s = _RETRY_S[0]
        self._tell_at_s = 0.0
        self._is_last = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._overflowed = self._lost = 0
        self.sent = 0
        self.quarantined = 0
        self.is_away = False

    @property
    def is_running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def buffered(self) -> int:
        """Answers that are in memory alone: neither acknowledged nor on disk."""
        return self._put - self._taken + self._in_memory

    @property
    def spooled_bytes(self) -> int:
        """Size of what waits on disk."""
        return self._spool.size_bytes

    @property
    def dropped(self) -> int:
        """Answers lost because memory or spool were full, or the intake refused them."""
        return self._overflowed + self._lost

    @property
    def counts(self) -> dict[str, int]:
        """What of it is counted, by name."""
        names = ("sent", "buffered", "spooled_bytes", "dropped", "quarantined")
        return {name: getattr(self, name) for name in names}

    def start(self) -> None:
        """Start the threads."""
        self._poster.start()
        self._thread.start()

    def put(self, answered: Sequence[Logged]) -> None:
        """Take answered batches; never blocks."""
        answers = sum(map(len, answered))
        if self.buffered + answers > self._max_buffered:
            self._overflowed += answers
            return
        if not answers:
            return
        if not self._buffer:
            self._since_s = time.monotonic()
        self._put += answers
        self._buffer.extend(answered)
        if not self._wake.is_set():
            self._wake.set()

    def stop(self, timeout_s: float) -> bool:
        """Send or spool everything, then end.

        Returns:
            Whether the thread ended in time.
        """
        self._is_last = True
        self._stirred()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        self._spool.close()
        return True

    # --- the thread: it decides and writes, and waits for nobody ------------------------------------------------------

    def _run(self) -> None:
        while not self._is_last:
            self._rest()
            self._safely(self._turn)
        self._retry_at_s = 0.0  # a last try, without waiting for its turn
        while self._has_work() and not (self.is_away and self._retry_at_s) and self._safely(self._turn):
            if self._poster.is_busy:
                self._rest()
        self._safely(self._keep)
        self._lose(self._in_memory, "neither the intake nor the spool takes them")
        self._poster.stop()
        self._sync()

    def _safely(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except Exception:  # noqa: BLE001  the thread must outlive a bug in one batch: it is logged and counted
            self._lost += 1
            _log.exception("predictions could not be logged")
            self._retry_at_s = self._keep_at_s = time.monotonic() + _RETRY_S[1]
            return False
        return True

    def _stirred(self) -> None:
        self._stir.set()
        self._wake.set()

    def _rest(self) -> None:
        """Wait until something is to be done. While answers gather, a further one wakes nobody."""
        bell = self._stir if self._buffer else self._wake  # asked first: what comes from now on rings the second one
        now_s = time.monotonic()
        due_s = self._due_s(now_s)
        bell.wait(None if due_s is None else max(0.0, due_s - now_s))
        self._wake.clear()
        self._stir.clear()

    def _due_s(self, now_s: float) -> float | None:
        """When something is to be done by itself; None for never."""
        due = []
        if self._buffer:
            gathered_s = self._since_s + self._gather_s
            due.append(gathered_s if now_s < gathered_s else self._take_at_s())
        keep_s = self._keep_due_s()
        if keep_s is not None:
            due.append(keep_s)
        if not self._poster.is_busy and (self._spool or self._waiting):
            due.append(self._retry_at_s)
        return min(due) if due else None

    def _turn(self) -> None:
        now_s = time.monotonic()
        self._settle(now_s)
        if self._buffer and (self._is_last or now_s >= self._take_at_s()):
            self._take(now_s)
        if not self._poster.is_busy and now_s >= self._retry_at_s:
            self._post_next()  # before it is kept: what is posted from memory need not be read back
        keep_s = self._keep_due_s()
        if keep_s is not None and now_s >= keep_s:
            self._keep()
        if not self._poster.is_busy and self._spool.is_dirty:
            self._poster.do(self._sync)

    def _has_work(self) -> bool:
        return bool(self._buffer or self._waiting or self._spool or self._posting)

    def _take_at_s(self) -> float:
        """When the buffer has gathered long enough: until it can be posted, is a whole batch, or is to be kept."""
        is_next = not (self._poster.is_busy or self._waiting or self._spool)
        is_enough = is_next or self._put - self._taken >= self._max_batch
        return self._since_s + (self._gather_s if is_enough else self._hold_s)

    def _keep_due_s(self) -> float | None:
        """When the oldest that is in memory alone is to be written; None if there is none."""
        oldest = self._oldest()
        return None if oldest is None else max(oldest.since_s + self._hold_s, self._keep_at_s)

    def _oldest(self) -> _Batch | None:
        """The oldest batch that is in memory alone."""
        if self._posting is not None and self._posting.frame is None:
            return self._posting
        return self._waiting[0] if self._waiting else None

    def _take(self, now_s: float) -> None:
        """The buffer as batches that wait."""
        buffer, since_s = self._buffer, self._since_s
        left = len(buffer)
        self._since_s = now_s
        while left:
            some = [buffer.popleft()]
            answers = len(some[0])
            while len(some) < left and answers + len(buffer[0]) <= self._max_batch:
                some.append(buffer.popleft())
                answers += len(some[-1])
            left -= len(some)
            self._taken += answers
            self._waiting.append(_Batch(answers, _ENCODE(rows_of(some)), since_s))
            self._in_memory += answers

    def _keep(self) -> None:
        """Write to the spool what is in memory alone, the oldest first."""
        self._keep_at_s = 0.0
        while (batch := self._oldest()) is not None:
            if not self._write(batch):
                self._keep_at_s = time.monotonic() + self._hold_s
                return
            if batch is not self._posting:
                self._waiting.popleft()

    def _write(self, batch: _Batch) -> bool:
        """Whether a batch is in the spool now. If it cannot be, it stays in memory while the intake may take it."""
        frame = _ENCODE((batch.answers, batch.found))
        try:
            is_kept, why = self._spool.append(frame, is_durable=False), "the spool is full"
        except OSError as error:
            is_kept, why = False, str(error)
        if is_kept:
            batch.frame = frame
            self._in_memory -= batch.answers
        elif self.is_away and batch is not self._posting:
            self._lose(batch.answers, f"they cannot be spooled: {why}")
            return True
        return is_kept

    def _post_next(self) -> None:
        """Post what is oldest."""
        while self._spool:
            frames = self._spool.peek()
            if not frames:
                _log.error("a segment of the spool cannot be read: %d bytes are set aside", self._spool.set_aside())
                self._lost += 1
                continue
            try:
                answers, found = read_frame(frames[0])
            except msgspec.DecodeError as error:
                self._refused(1, f"a frame of the spool cannot be read: {error}")
                self._spool.drop(frames)
            else:
                self._posting = _Batch(answers, found, 0.0, frames[0])
                break
        else:
            self._posting = self._waiting.popleft() if self._waiting else None
        if self._posting is not None:
            self._poster.post(self._posting.found, self._posting.answers)

    def _settle(self, now_s: float) -> None:
        """What became of the post, if it is done."""
        outcome = self._poster.collect()
        batch = self._posting
        if outcome is None or batch is None:
            return
        self._posting = None
        if outcome.away is not None:
            if not self.is_away:
                _log.warning("predictions wait in the spool: %s", outcome.away)
            self.is_away = True
            self._retry_at_s = now_s + self._retry_s
            self._retry_s = min(self._retry_s * 2, _RETRY_S[1])
            if batch.frame is None:
                self._waiting.appendleft(batch)
                self._keep()
            return
        if batch.frame is None:
            self._in_memory -= batch.answers
        else:
            self._spool.drop([batch.frame])
        self.sent += outcome.sent
        self.quarantined += outcome.quarantined
        if outcome.why:
            self._refused(outcome.refused, outcome.why)
        self.is_away = False
        self._retry_at_s, self._retry_s = 0.0, _RETRY_S[0]

    def _sync(self) -> Outcome:
        """In the poster's thread: what was written is on the disk, and survives more than the end of this process."""
        try:
            self._spool.sync()
        except OSError as error:
            _log.error("the spool cannot be written through to the disk: %s", error)
        return Outcome()

    def _lose(self, answers: int, why: str) -> None:
        self._in_memory -= answers
        self._lost += answers
        self._tell_lost(answers, why)

    def _refused(self, answers: int, why: str) -> None:
        self._lost += answers
        self._tell_lost(answers, f"the intake refused them: {why}")

    def _tell_lost(self, answers: int, why: str) -> None:
        """Say so, but not for every batch while it goes on; ``dropped`` counts them all."""
        now_s = time.monotonic()
        if answers and now_s >= self._tell_at_s:
            self._tell_at_s = now_s + _TELL_EVERY_S
            _log.error("%d predictions are lost: %s", answers, why)
