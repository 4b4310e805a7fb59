"""Micro-batches by tick of the event loop: whatever arrived in this tick is scored together.

No timer and no polling: the first request of a tick asks the loop to call back once what has arrived is read. Batches
count rows, not requests, and split at the limit; a long request is scored over several ticks, with its neighbours
between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from time import perf_counter
from typing import TypeVar

import msgspec

from mainspring.core.errors import BackPressureError
from mainspring.core.traces import Trace
from mainspring.serving.reply import Reply
from mainspring.serving.table import Row, joined

T = TypeVar("T")


class Job(msgspec.Struct, eq=False):
    """One request's good rows on their way through the queue.

    Attributes:
        rows: Checked rows; none while ``body`` has not been read.
        times_us: Moment of each row.
        reply: What is told of the outcome.
        received_s: When the request was whole, on ``time.perf_counter``: a loop's own clock stands still within a tick.
        deadline_s: When the client no longer wants the answer, on the same clock.
        size: How many rows there are.
        body: Of a request of one row that is read with its neighbours.
        taken: Rows that are in a batch already.
        answered: Which rows have an outcome, one byte each; None while none has.
        timer: Rings at the deadline, where the event loop is free to hear it.
        is_over: Whether the client has been told; what is found out later is too late.
        trace: The request's span, where there is one.
    """

    rows: Sequence[Row]
    times_us: Sequence[int]
    reply: Reply
    received_s: float
    deadline_s: float
    size: int
    body: bytes = b""
    taken: int = 0
    answered: bytearray | None = None
    timer: asyncio.TimerHandle | None = None
    is_over: bool = False
    trace: Trace | None = None

    def unanswered(self) -> list[Slice]:
        """The rows without an outcome."""
        if self.answered is None:
            return [Slice(self, 0, self.size)]
        return runs(self, [not answered for answered in self.answered])

    def mark(self, start: int, stop: int) -> bool:
        """Rows ``start`` to ``stop`` have an outcome.

        Returns:
            Whether every row has.
        """
        if stop - start == self.size:
            return True
        if self.answered is None:
            self.answered = bytearray(self.size)
        self.answered[start:stop] = b"\1" * (stop - start)
        return not self.answered.count(0)

    def close(self) -> None:
        """The client has been told."""
        self.is_over = True
        if self.timer is not None:
            self.timer.cancel()


class Slice(msgspec.Struct, frozen=True, gc=False):
    """Rows ``start`` to ``stop`` of a job, in this batch."""

    job: Job
    start: int
    stop: int


def runs(job: Job, wanted: Sequence[bool], start: int = 0) -> list[Slice]:
    """The rows of a job that are wanted, from ``start`` on, as slices."""
    found: list[Slice] = []
    for is_wanted, run in groupby(range(len(wanted)), key=wanted.__getitem__):
        if is_wanted:
            places = list(run)
            found.append(Slice(job, start + places[0], start + places[-1] + 1))
    return found


def rows_of(slices: Sequence[Slice]) -> tuple[Sequence[Row], Sequence[int]]:
    """The rows of slices, and the moment of each."""
    parts: list[Sequence[Row]] = []
    times_us: list[int] = []
    for one in slices:
        job, start, stop = one.job, one.start, one.stop
        if stop - start == job.size:
            parts.append(job.rows)
            times_us += job.times_us
        else:
            parts.append(job.rows[start:stop])
            times_us += job.times_us[start:stop]
    return joined(parts), times_us


def by_row(slices: Sequence[Slice], values: list[T], rows: int) -> list[T]:
    """What holds for each slice, for each of its rows, of which all slices have so many."""
    if rows == len(slices):
        return values
    return [value for one, value in zip(slices, values, strict=True) for _ in range(one.start, one.stop)]


class Batcher:
    """The bounded queue of one model.

    Args:
        execute: Scores one batch and answers the jobs that are complete, or holds the batcher until it has; it raises
            nothing.
        expire: Answers a job whose deadline has passed.
        loop: Calls back at the end of the tick.
        max_rows: Rows in one batch.
        max_queued_rows: Rows that may wait; beyond it requests are shed at once rather than answered late.
    """

    def __init__(
        self,
        execute: Callable[[list[Slice]], None],
        expire: Callable[[Job], None],
        loop: asyncio.AbstractEventLoop,
        *,
        max_rows: int,
        max_queued_rows: int,
    ) -> None:
        self._execute = execute
        self._expire = expire
        self._loop = loop
        self._max_rows = max_rows
        self._max_queued_rows = max_queued_rows
        self._jobs: deque[Job] = deque()
        self._is_due = False
        self.is_held = False
        self.queued_rows = 0

    def submit(self, job: Job) -> None:
        """Queue a job for this tick.

        Raises:
            BackPressureError: Too many rows wait (MS-S105).
        """
        rows = job.size
        if self.queued_rows and self.queued_rows + rows > self._max_queued_rows:
            why = f"{self.queued_rows} rows wait for this model"
            raise BackPressureError("MS-S105", "busy", why=why, hint="try again after Retry-After seconds")
        self.queued_rows += rows
        self._jobs.append(job)
        self._wake()

    @property
    def waiting(self) -> Iterable[Job]:
        """Jobs with rows that are in no batch yet."""
        return tuple(self._jobs)

    def hold(self) -> None:
        """Make no batch until ``release``: what arrives meanwhile will be one."""
        self.is_held = True

    def release(self) -> None:
        """Go on."""
        self.is_held = False
        if self._jobs:
            self._wake()

    def finish(self) -> None:
        """Score all that waits, now."""
        while self._jobs and not self.is_held:
            self._run()

    def _wake(self) -> None:
        if not self._is_due and not self.is_held:
            self._is_due = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_due = False
        if self.is_held:
            return
        batch = self._take()
        if self._jobs:
            self._wake()
        if batch:
            self._execute(batch)

    def _take(self) -> list[Slice]:
        """The next batch. A job whose client has gone or whose deadline has passed is left out, and nobody else is."""
        batch: list[Slice] = []
        room = self._max_rows
        now_s = perf_counter()
        jobs = self._jobs
        while jobs and room:
            job = jobs[0]
            start = job.taken
            waiting = job.size - start
            if job.is_over or job.reply.cancelled or now_s > job.deadline_s:
                jobs.popleft()
                self.queued_rows -= waiting
                if not job.is_over and not job.reply.cancelled:
                    self._expire(job)
                continue
            count = waiting if waiting <= room else room  # noqa: FURB136  a call of min costs more
            job.taken = start + count
            batch.append(Slice(job, start, job.taken))
            room -= count
            self.queued_rows -= count
            if count == waiting:
                jobs.popleft()
        return batch
