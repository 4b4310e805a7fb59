"""Group commit: everything that arrived while the last commit ran is one transaction of the next, in one thread.

The event loop hands over checked rows and gets its answers back; the thread alone touches the log. LMDB releases the
interpreter's lock while it writes and syncs, so the loop goes on reading meanwhile.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from mainspring.core.clock import Clock
from mainspring.core.errors import BackPressureError, MainspringError, UnavailableError
from mainspring.core.http import Deferred, Response, error_response, json_response
from mainspring.events.held import Reject
from mainspring.events.log import Ack, Draft, Log
from mainspring.events.wake import Bell

T = TypeVar("T")
Group = Sequence[Draft | Reject]
Finish = Callable[[Sequence[Ack], int], Response]
FinishAll = Callable[[Sequence[Sequence[Ack]], int], Response]

_Done = tuple[list[Sequence[Ack]], int, float]

_MAX_QUEUED_ROWS = 50_000
_MAX_COMMIT_ROWS = 20_000
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


@dataclass(slots=True)
class _Post:
    """One request's rows on their way to the disk, in groups."""

    groups: Sequence[Group]
    rows: int
    size_bytes: int
    finish: FinishAll
    answer: Callable[[Response], None]


class Committer:
    """The queue before the log, and the thread behind it. Lives on one event loop.

    Args:
        max_queued_bytes: Bodies that may wait; more is answered with back-pressure.
    """

    def __init__(self, log: Log, clock: Clock, bell: Bell, max_queued_bytes: int) -> None:
        self._log = log
        self._clock = clock
        self._bell = bell
        self._max_queued_bytes = max_queued_bytes
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="appender")
        self._queue: deque[_Post] = deque()
        self._queued_bytes = 0
        self._is_busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.queued_rows = 0
        self.last_offset = log.last_offset()
        self._commits = [0] * (len(_BUCKETS_S) + 1)
        self._commit_s = 0.0
        self._refused = 0
        self.is_failing = False

    def check_room(self, size_bytes: int) -> None:
        """Refuse what the queue cannot take, before any work is spent on it.

        Raises:
            BackPressureError: The queue is full (MS-E306).
        """
        full = self.queued_rows >= _MAX_QUEUED_ROWS
        if full or (self._queue and self._queued_bytes + size_bytes > self._max_queued_bytes):
            self._refused += 1
            raise BackPressureError(
                "MS-E306",
                "the queue is full; nothing of this was taken",
                where=f"{self.queued_rows} rows, {self._queued_bytes} bytes waiting",
                hint="send it again after Retry-After seconds",
            )

    def submit(self, entries: Group, size_bytes: int, finish: Finish) -> Deferred:
        """Queue rows; the answer that ``finish`` makes comes once they are on the disk."""
        return self.submit_all((entries,), size_bytes, lambda acks, last: finish(acks[0], last))

    def submit_all(self, groups: Sequence[Group], size_bytes: int, finish: FinishAll) -> Deferred:
        """As ``submit``, of several groups in one transaction."""
        deferred = Deferred()
        self.hand_over(groups, size_bytes, finish, deferred.answer)
        return deferred

    def hand_over(
        self, groups: Sequence[Group], size_bytes: int, finish: FinishAll, answer: Callable[[Response], None]
    ) -> None:
        """As ``submit_all``, for those who have an own place for the answer."""
        self._enqueue(_Post(groups, sum(map(len, groups)), size_bytes, finish, answer))

    async def submitted(self, entries: Group, size_bytes: int, finish: Finish) -> Response:
        """As ``submit``, for those who wait."""
        done: asyncio.Future[Response] = self._loop.create_future()

        def answer(response: Response) -> None:
            if not done.done():
                done.set_result(response)

        self.hand_over((entries,), size_bytes, lambda acks, last: finish(acks[0], last), answer)
        return await done

    async def run(self, work: Callable[[Log], T]) -> T:
        """Do something with the log in its own thread, between two commits."""
        return await self._loop.run_in_executor(self._thread, work, self._log)

    async def change(self, work: Callable[[Log], T]) -> T:
        """As ``run``, for what appends: those who wait for the log are woken."""
        out, self.last_offset = await self.run(lambda log: (work(log), log.last_offset()))
        self._bell.ring()
        return out

    async def close(self) -> None:
        """Write what is queued, then close the log."""
        await self._idle.wait()
        await self._loop.run_in_executor(self._thread, self._log.close)
        self._thread.shutdown()
        self._bell.close()

    def health(self) -> Response:
        """How it is: 503 when the last commit failed for another reason than a lack of room."""
        status = "failing" if self.is_failing else "ok"
        shown = {"status": status, "last_offset": self.last_offset, "queued_rows": self.queued_rows}
        return json_response(503 if self.is_failing else 200, shown)

    def metrics(self) -> list[str]:
        """Queue and commits as lines of Prometheus text."""
        name = "mainspring_intake_commit_seconds"
        lines = [f"# TYPE {name} histogram"]
        total = 0
        for bound, n in zip((*_BUCKETS_S, "+Inf"), self._commits, strict=True):
            total += n
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        lines += [f"{name}_sum {self._commit_s:.6f}", f"{name}_count {total}"]
        lines += ["# TYPE mainspring_intake_queued_rows gauge", f"mainspring_intake_queued_rows {self.queued_rows}"]
        lines += ["# TYPE mainspring_log_last_offset gauge", f"mainspring_log_last_offset {self.last_offset}"]
        lines += ["# TYPE mainspring_intake_back_pressure_total counter"]
        lines += [f"mainspring_intake_back_pressure_total {self._refused}"]
        return lines

    def _enqueue(self, post: _Post) -> None:
        if not post.rows:
            post.answer(post.finish([[] for _ in post.groups], self.last_offset))
            return
        self._queue.append(post)
        self.queued_rows += post.rows
        self._queued_bytes += post.size_bytes
        self._idle.clear()
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._start)  # after what else came in this tick

    def _start(self) -> None:
        posts: list[_Post] = []
        rows = 0
        while self._queue and (not posts or rows + self._queue[0].rows <= _MAX_COMMIT_ROWS):
            post = self._queue.popleft()
            rows += post.rows
            posts.append(post)
        future = self._thread.submit(self._commit, posts)  # asyncio's own way costs as much as the rest of a commit
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._finished, posts, rows, done))

    def _commit(self, posts: Sequence[_Post]) -> _Done:
        """In the thread."""
        started = time.perf_counter()
        acks = self._log.append_all([group for post in posts for group in post.groups], self._clock)
        self._bell.ring()
        return acks, self._log.last_offset(), time.perf_counter() - started

    def _finished(self, posts: Sequence[_Post], rows: int, done: Future[_Done]) -> None:
        self.queued_rows -= rows
        self._queued_bytes -= sum(post.size_bytes for post in posts)
        error = done.exception()
        self.is_failing = error is not None and not isinstance(error, MainspringError)
        if error is None:
            acks, self.last_offset, taken_s = done.result()
            self._commit_s += taken_s
            self._commits[sum(taken_s > bound for bound in _BUCKETS_S)] += 1
            at = 0
            for post in posts:
                mine = acks[at : at + len(post.groups)]
                at += len(post.groups)
                post.answer(_finish(post, mine, self.last_offset))
        else:
            if not isinstance(error, MainspringError):  # LMDB says what: a broken disk, a file somebody touched
                traceback.print_exception(error)
                error = UnavailableError("MS-E307", "the log could not be written", hint="see the intake's own log")
            self._refused += isinstance(error, BackPressureError)
            for post in posts:
                post.answer(error_response(error))
        if self._queue:
            self._start()
        else:
            self._is_busy = False
            self._idle.set()


def _finish(post: _Post, acks: Sequence[Sequence[Ack]], last_offset: int) -> Response:
    """A mistake in making one answer must not stop the queue: its client is told, the traceback is for the operator."""
    try:
        return post.finish(acks, last_offset)
    except Exception as error:  # noqa: BLE001
        traceback.print_exception(error)
        return error_response(MainspringError("MS-E308", "the events are stored; the answer could not be made"))
