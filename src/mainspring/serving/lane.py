"""One model's lane through the gateway: queue, batch, score, choose, answer, log.

In ramp both models of a pair are scored before the answer; in shadow the challenger is scored in a later tick, so it
can neither delay nor fail an answer, and the log's record waits for it. A batch that would take long is scored in a
thread of the lane, one at a time: other models' lanes go on, and this one's requests are told when their time is up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import Future, wait
from math import inf
from time import perf_counter

from msgspec.structs import replace

from mainspring.core.errors import DeadlineError, MainspringError, UnavailableError
from mainspring.core.ids import PredictionIds
from mainspring.serving.answers import Batch, batch_of
from mainspring.serving.batcher import Batcher, Job, Slice, by_row, rows_of
from mainspring.serving.beside import Beside
from mainspring.serving.bodies import Bodies
from mainspring.serving.cache import Cache
from mainspring.serving.composed import Composed
from mainspring.serving.council import Hearing, expects_us
from mainspring.serving.inference import DEADLINE, SHED, Choice, Scored, gather
from mainspring.serving.layout import Gathered, units_of
from mainspring.serving.log_rows import Logged
from mainspring.serving.metrics import ModelMetrics, reason_of
from mainspring.serving.pace import SLOW_US
from mainspring.serving.panel import Panel, Verdict
from mainspring.serving.refiner import Refiner
from mainspring.serving.reply import Reply
from mainspring.serving.request import RequestReader
from mainspring.serving.rules import ruled
from mainspring.serving.served import Served
from mainspring.serving.shadows import Shadows
from mainspring.serving.shared import Shared
from mainspring.serving.table import Row
from mainspring.serving.work import Work, requests_of

_log = logging.getLogger(__name__)


class Lane:
    """Everything the gateway has for one model. Its ``served`` is replaced when routes change.

    Args:
        served: Who answers now.
        shared: What all lanes share.
        metrics: What is counted.
    """

    def __init__(self, served: Served | Composed, shared: Shared, metrics: ModelMetrics) -> None:
        limits = shared.limits
        self.served = served
        self.limits = limits
        self.metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._reader = shared.reader
        self._log = shared.log
        self._numbers = shared.numbers
        self._clock = shared.clock
        self._cache: Cache | None = None
        self._trouble = shared.trouble
        self._traces = shared.traces
        self.requests = RequestReader(served.model.request, shared.clock, shared.max_rows)
        self._bodies = Bodies(self.requests, self.refuse)
        self._batcher = Batcher(
            self._execute, self._expire, self._loop, max_rows=limits.batch_rows, max_queued_rows=limits.queued_rows
        )
        self._panel = Panel(metrics)
        self._beside = Beside(self._loop, f"model-{metrics.model}")
        self._shadows = Shadows(self._panel, self._beside, metrics, limits.shadow_rows, self._write)
        self._refiner = Refiner(self._loop, self._beside, self._hear, self._answer_batch, self._break_all)
        self._aside: tuple[Work, Future[Verdict]] | None = None
        self._is_finishing = False

    @property
    def breakers(self) -> dict[str, str]:
        """The state of each model's breaker, by role."""
        return self._panel.states(self.served.roles)

    @property
    def queued_rows(self) -> int:
        """Rows that wait for an answer."""
        return self._batcher.queued_rows

    def finish(self) -> None:
        """Answer, score and log all that waits, now."""
        self._is_finishing = True
        if self._aside is not None:
            work, found = self._aside
            wait([found])
            self._back(work)
        self._batcher.finish()
        self._refiner.finish()
        self._shadows.finish()
        self._beside.close()

    def submit(
        self, rows: Sequence[Row], times_us: Sequence[int], reply: Reply, received_s: float, deadline_s: float | None
    ) -> None:
        """Queue the good rows of a request; its answer goes to ``reply``.

        Args:
            rows: Checked rows, at least one.
            times_us: Moment of each.
            reply: What is told of the outcome.
            received_s: When the request was whole, on ``time.perf_counter``.
            deadline_s: How long after that the answer is wanted; the lane's own limit when None.

        Raises:
            BackPressureError: Too many rows wait (MS-S105).
        """
        wait_s = self.limits.deadline_s if deadline_s is None else deadline_s
        self._queue(Job(rows, times_us, reply, received_s, received_s + wait_s, len(rows)))

    def submit_body(self, body: bytes, reply: Reply, received_s: float, deadline_s: float | None) -> bool:
        """As ``submit``, for the body of a request of one row; what is wrong with it is told to ``reply``.

        Returns:
            Whether it was taken. Not while a batch is scored aside: what is wrong would be told only after that.
        """
        if self._batcher.is_held:
            return False
        wait_s = self.limits.deadline_s if deadline_s is None else deadline_s
        self._queue(Job((), (), reply, received_s, received_s + wait_s, 1, body))
        return True

    def _queue(self, job: Job) -> None:
        if self._traces is not None:
            job.trace = self._traces.current
        try:
            self._batcher.submit(job)
        except MainspringError:
            self.metrics.reject(SHED, job.size)
            if not self._answer_without(job, SHED):
                raise
            return
        if self._batcher.is_held:
            self._watch(job)

    def refuse(self, error: MainspringError) -> None:
        """Count a row, or a whole request, that is not worth a place in the queue."""
        self.metrics.reject(reason_of(error))

    # --- one batch ------------------------------------------------------------------------------------------------

    def _execute(self, slices: Sequence[Slice]) -> None:
        try:
            self._score(slices)
        except Exception:  # noqa: BLE001  a bug must not leave its clients waiting: they are told, and so are we
            self._break_all(slices)

    def _score(self, slices: Sequence[Slice]) -> None:
        served = self.served
        started_s = perf_counter()
        cache = self._cache_of(served)
        if cache is not None:
            slices = self._answer_known(cache, self._bodies.opened(slices))
        read = self._bodies.read(slices)
        if read is None:
            return
        slices, rows, times_us = read
        waited_s = by_row(slices, [started_s - one.job.received_s for one in slices], len(times_us))
        self.metrics.latency["queue"].observe_all(waited_s)
        gathered, error = gather(rows, times_us, served.views, served.expressions, self._reader)
        if error is not None:
            self._trouble(error)
        work = Work(served, slices, gathered, times_us, started_s, perf_counter())
        if self._is_finishing or self._expects_us(work) <= SLOW_US:
            if isinstance(served, Composed):
                self._hear_members(work, self._hearing(served, work))
            else:
                self._answer_batch(work, self._panel.ask(served, gathered, times_us, work.read_s))
            return
        # Neighbours go on while a thread scores it. What arrives meanwhile waits, and is told when its time is up.
        self._batcher.hold()
        for job in (*(one.job for one in slices), *self._batcher.waiting):
            self._watch(job)
        self._aside = work, self._beside.run(lambda: self._ask(work), lambda: self._back(work))

    def _expects_us(self, work: Work) -> float:
        served, rows = work.served, len(work.times_us)
        if not isinstance(served, Composed):
            return self._panel.expects_us(served, rows)
        return expects_us(self._panel, served, rows)

    def _ask(self, work: Work) -> Verdict:
        """Who answers each row; in a thread."""
        if not isinstance(work.served, Composed):
            return self._panel.ask(work.served, work.gathered, work.times_us, work.read_s)
        hearing = self._hearing(work.served, work)
        hearing.advance()
        return hearing.verdict()

    def _hearing(self, composed: Composed, work: Work) -> Hearing:
        jobs = [one.job for one in work.slices for _ in range(one.start, one.stop)]
        until_s = [composed.until_s(job.received_s, job.deadline_s) for job in jobs]
        return Hearing(self._panel, composed, work.gathered, work.times_us, until_s)

    def _hear_members(self, work: Work, hearing: Hearing) -> None:
        """Answer what is sure, or has no time to be; the rest is refined beside the event loop."""
        most_us = inf if self._is_finishing else SLOW_US
        waiting, takes_us = hearing.advance(most_us, self._refiner.free_s)
        if not waiting:
            self._answer_batch(work, hearing.verdict())
            return
        rows = set(waiting)
        is_done = {one: rows.isdisjoint(work.places((one,))) for one in work.slices}
        later = [one for one in work.slices if not is_done[one]]
        done = [one for one in work.slices if is_done[one]]
        self._hear(hearing.asked, work.requests)
        refined, rest = work.part(later), hearing.part(work.places(later))
        if done:
            self._answer_batch(work.part(done), hearing.verdict().part(work.places(done)))
        self._refiner.put(refined, rest, takes_us)

    def _back(self, work: Work) -> None:
        """A batch that was scored in a thread is there."""
        if self._aside is None or self._aside[0] is not work:
            return  # ``finish`` came first
        (_, found), self._aside = self._aside, None
        try:
            self._answer_batch(work, found.result())
        except Exception:  # noqa: BLE001  as in ``_execute``
            self._break_all(work.slices)
        self._batcher.release()

    def _answer_batch(self, work: Work, verdict: Verdict) -> None:
        scored_s, rows = perf_counter(), len(work.times_us)
        self._hear(verdict.asked, work.requests)
        self.metrics.latency["features"].observe(work.read_s - work.started_s, rows)
        self.metrics.latency["model"].observe(scored_s - work.read_s, rows)
        self.metrics.count_views(work.served.views, work.gathered.blocks)
        live = [one for one in work.slices if not one.job.is_over]
        if len(live) < len(work.slices):  # who has been told something else is given no id: a gap would say it was lost
            if not live:
                return
            work, verdict = work.part(live), verdict.part(work.places(live))
        served, gathered, slices = work.served, work.gathered, work.slices
        ids = self._numbers.take(len(work.times_us))
        choices = ruled(served.rules, verdict.choices, gathered.rows, work.times_us)
        if self._traces is not None:
            work.tell(scored_s)
        told, latencies = self._answer(slices, choices, ids)
        if self._cache is not None and self._cache.is_of(served):
            for i, choice in enumerate(told):
                if choice is not None:
                    self._cache.keep(gathered.rows[i], work.times_us[i], verdict.choices[i], ids[i], i, gathered.folded)
            self.metrics.cache_bytes = self._cache.size_bytes
        before = by_row(slices, [int((work.read_s - one.job.received_s) * 1e6) for one in slices], len(ids))
        shares, times_us, requests = [p for _, p in verdict.assigned], work.times_us, work.requests
        batch = Batch(served, gathered, times_us, ids, told, shares, verdict.units, before, latencies, requests)
        self._record(batch)
        for part in verdict.parts:
            self._record(batch_of(part, self._numbers.take(len(part.places)), batch))

    def _hear(self, asked: Sequence[tuple[str, Scored]], requests: int) -> None:
        now_s = perf_counter()
        for variant, scored in asked:
            self._panel.heard(variant, scored, now_s, requests)

    def _watch(self, job: Job) -> None:
        if job.timer is None and not job.is_over:
            job.timer = self._loop.call_later(max(0.0, job.deadline_s - perf_counter()), self._overdue, job)

    def _overdue(self, job: Job) -> None:
        """The deadline of a job has come while it waits for a model that is slow."""
        if not job.is_over and not job.reply.cancelled:
            self._expire(job)

    def _cache_of(self, served: Served | Composed) -> Cache | None:
        """The answers of who serves now; another one's are let go."""
        if self._cache is not None and not self._cache.is_of(served):
            self._cache, self.metrics.cache_bytes = None, 0
        if self._cache is None and isinstance(served, Served) and served.keeps is not None:
            self._cache = Cache(served, served.keeps, self._clock)
        return self._cache

    def _answer_known(self, cache: Cache, slices: Sequence[Slice]) -> Sequence[Slice]:
        """Answer the rows that the cache knows; the others are returned."""
        known, choices, other = cache.split(slices)
        self.metrics.cache_hits += len(choices)
        self.metrics.cache_misses += sum(one.stop - one.start for one in other)
        if known:
            self._answer_unasked(known, choices)
        return other

    # --- answers --------------------------------------------------------------------------------------------------

    def _answer(
        self, slices: Sequence[Slice], choices: Sequence[Choice], ids: PredictionIds
    ) -> tuple[Sequence[Choice | None], list[int]]:
        """Answer every job that is complete.

        Returns:
            The choices that were told, None for a row whose client has been told something else meanwhile; and each
            row's latency in microseconds.
        """
        at = 0
        latencies: list[int] = []
        told: Sequence[Choice | None] = choices
        for one in slices:
            job, start, stop = one.job, one.start, one.stop
            n = stop - start
            is_told, took_us = not job.is_over, 0
            if is_told:
                try:
                    job.reply.rows(start, choices, ids, range(at, at + n))
                    is_whole = job.mark(start, stop)
                    if is_whole:
                        job.close()
                        job.reply.finish()
                except Exception:  # noqa: BLE001  one answer that cannot be written is no harm to its neighbours
                    _log.exception("an answer of %s could not be written", self.metrics.model)
                    self._break(job, n)
                    is_told = False
                else:
                    took_s = perf_counter() - job.received_s
                    took_us = int(took_s * 1e6)
                    if is_whole:
                        self.metrics.answers += 1
                        self.metrics.latency["total"].observe(took_s, job.size)
            if not is_told:
                told = [*told[:at], *[None] * n, *told[at + n :]]
            latencies += (took_us,) * n
            at += n
        self.metrics.told(told)
        return told, latencies

    def _break_all(self, slices: Collection[Slice]) -> None:
        _log.exception("a batch of %s could not be scored", self.metrics.model)
        for one in slices:
            if not one.job.is_over:
                self._break(one.job, one.stop - one.start)

    def _break(self, job: Job, rows: int) -> None:
        """A bug of ours: its client is told."""
        self.metrics.reject("internal", rows)
        job.close()
        job.reply.fail(UnavailableError("MS-S111", "the batch could not be scored"))

    def _answer_without(self, job: Job, reason: str) -> bool:
        """Answer the rows of a job that have no outcome yet with the declared value; whether it could be."""
        served = self.served
        slices = self._bodies.opened(job.unanswered())
        if not slices:
            return True
        rows, times_us = rows_of(slices)
        try:
            choices = served.value.choices(rows, times_us, reason) if served.value is not None else []
        except Exception:  # noqa: BLE001  a rule's bug leaves what would be without a rule: the request is told no
            _log.exception("what %s declares as otherwise= could not be computed", self.metrics.model)
            return False
        if all(choice.output is None for choice in choices):
            return False
        self._answer_unasked(slices, choices)
        return True

    def _answer_unasked(self, slices: Sequence[Slice], chosen: Sequence[Choice]) -> None:
        """Answer rows that no model was asked about, and log them."""
        served = self.served
        rows, times_us = rows_of(slices)
        units = units_of(rows, served.unit)
        assigned = served.drawn(units)
        drawn = [
            replace(choice, drawn=to) if choice.fallback is not None else choice
            for choice, (to, _) in zip(chosen, assigned, strict=True)
        ]
        ids = self._numbers.take(len(rows))
        told, latencies = self._answer(slices, ruled(served.rules, drawn, rows, times_us), ids)
        nothing = Gathered(rows, (), {}, (), (), {}, 0)
        probabilities = [p for _, p in assigned]
        count = requests_of(slices)
        whole = Batch(served, nothing, times_us, ids, told, probabilities, units, latencies, latencies, count)
        self._write(whole, None)

    def _expire(self, job: Job) -> None:
        self.metrics.reject(DEADLINE, sum(one.stop - one.start for one in job.unanswered()))
        if self._answer_without(job, DEADLINE):
            return
        job.close()
        hint = "send less, or wait longer"
        job.reply.fail(DeadlineError("MS-S104", "the deadline passed before the request's turn", hint=hint))

    # --- the log --------------------------------------------------------------------------------------------------

    def _record(self, batch: Batch) -> None:
        """Log a batch, once its shadow has been asked."""
        if batch.served.is_shadow:
            self._shadows.put(batch)
        else:
            self._write(batch, None)

    def _write(self, batch: Batch, shadow: Scored | None) -> None:
        self._log.put([Logged(batch, shadow)])
