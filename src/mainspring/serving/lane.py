"""One model's lane through the gateway: queue, batch, score, choose, answer, log.

In ramp both models of a pair are scored before the answer; in shadow the challenger is scored in a later tick, so it
can neither delay nor fail an answer, and the log's record waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from mainspring.core.clock import Clock
from mainspring.core.errors import DeadlineError, MainspringError, UnavailableError
from mainspring.core.ids import prediction_id
from mainspring.events.system import OTHERWISE
from mainspring.features.reader import Reader
from mainspring.features.status import Status
from mainspring.serving.answers import Batch, answers_of
from mainspring.serving.batcher import Batcher, Job, Slice
from mainspring.serving.inference import (
    DEADLINE,
    SHED,
    VALUE,
    Choice,
    Scored,
    Scorer,
    choose,
    gather,
    run,
)
from mainspring.serving.layout import Gathered, Row
from mainspring.serving.metrics import ModelMetrics
from mainspring.serving.prediction_log import PredictionLog
from mainspring.serving.reply import Reply
from mainspring.serving.request import RequestReader
from mainspring.serving.router import assign
from mainspring.serving.snapshot import Served

_REASONS = {
    "MS-S101": "malformed",
    "MS-S102": "too_large",
    "MS-S103": "moment",
    "MS-S115": "malformed",
    "MS-S140": "malformed",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LaneLimits:
    """What one model's lane holds at most.

    Attributes:
        batch_rows: Rows scored at once.
        queued_rows: Rows that may wait; beyond it requests are shed.
        shadow_rows: Rows that may wait for a shadow; beyond it they are logged without one.
        deadline_s: How long a request may wait when its client does not say.
    """

    batch_rows: int = 1_024
    queued_rows: int = 20_000
    shadow_rows: int = 20_000
    deadline_s: float = 5.0


class Numbers:
    """Prediction ids of one start of a gateway: epoch and sequence, so that a gap is seen."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._next = 0

    def take(self) -> str:
        """The next id."""
        self._next += 1
        return prediction_id(self.epoch, self._next)


@dataclass(frozen=True, eq=False)
class Shared:
    """What the lanes of a gateway share.

    Attributes:
        clock: Where moments come from.
        reader: Of the online store, for the event loop's thread.
        log: Where answers are logged.
        numbers: Prediction ids.
        max_rows: Rows in one request.
        limits: Of each lane's queue and batch.
        trouble: Told when the online store cannot be read.
    """

    clock: Clock
    reader: Reader
    log: PredictionLog
    numbers: Numbers
    max_rows: int
    limits: LaneLimits
    trouble: Callable[[Exception], None]


class Lane:
    """Everything the gateway has for one model. Its ``served`` is replaced when routes change.

    Args:
        served: Who answers now.
        shared: What all lanes share.
        metrics: What is counted.
    """

    def __init__(self, served: Served, shared: Shared, metrics: ModelMetrics) -> None:
        limits = shared.limits
        self.served = served
        self.limits = limits
        self.metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._reader = shared.reader
        self._log = shared.log
        self._numbers = shared.numbers
        self._trouble = shared.trouble
        self.requests = RequestReader(served.model.request, shared.clock, shared.max_rows)
        self._batcher = Batcher(
            self._execute, self._expire, self._loop, max_rows=limits.batch_rows, max_queued_rows=limits.queued_rows
        )
        self._shadows: deque[Batch] = deque()
        self._shadow_rows = 0

    @property
    def queued_rows(self) -> int:
        """Rows that wait for an answer."""
        return self._batcher.queued_rows

    def finish(self) -> None:
        """Answer, score and log all that waits, now."""
        self._batcher.finish()
        while self._shadows:
            self._shadow()

    def submit(
        self, rows: list[Row], times_us: list[int], reply: Reply, received_s: float, deadline_s: float | None
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
        job = Job(rows, times_us, reply, received_s, received_s + wait_s)
        try:
            self._batcher.submit(job)
        except MainspringError:
            self.metrics.reject(SHED, len(job.rows))
            if not self._answer_without(job, SHED):
                raise

    def refuse(self, error: MainspringError) -> None:
        """Count a row, or a whole request, that is not worth a place in the queue."""
        self.metrics.reject(_reason(error))

    # --- one batch ------------------------------------------------------------------------------------------------

    def _execute(self, slices: list[Slice]) -> None:
        try:
            self._score(slices)
        except Exception:  # noqa: BLE001  a bug must not leave its clients waiting: they are told, and so are we
            _log.exception("a batch of %s could not be scored", self.metrics.model)
            for one in slices:
                self._break(one.job, one.stop - one.start)

    def _score(self, slices: list[Slice]) -> None:
        served, now_s = self.served, perf_counter
        rows: list[Row] = []
        times_us: list[int] = []
        started_s = now_s()
        for one in slices:
            rows += one.job.rows[one.start : one.stop]
            times_us += one.job.times_us[one.start : one.stop]
            self.metrics.latency["queue"].observe(started_s - one.job.received_s, one.stop - one.start)
        gathered, error = gather(rows, times_us, served.views, served.expressions, self._reader)
        if error is not None:
            self._trouble(error)
        read_s = now_s()
        units = [_text(row[served.unit]) for row in rows]
        champion = self._run("champion", served.champion, gathered)
        challenger = None if served.is_shadow else self._run("challenger", served.challenger, gathered)
        assigned = [assign(served.route.salt, unit, served.weight) for unit in units]
        pair = {"champion": champion, "challenger": challenger}
        spare: list[tuple[str, Scored | None]] = []
        values: Sequence[float | None] = ()
        if champion is None or champion[1].failed:
            spare = self._spare(served, pair, gathered)
            values = served.value.of(rows, times_us) if served.value is not None else ()
        choices = [choose(to, i, pair, spare, values[i] if values else None) for i, (to, _) in enumerate(assigned)]
        scored_s = now_s()
        self.metrics.latency["features"].observe(read_s - started_s, len(rows))
        self.metrics.latency["model"].observe(scored_s - read_s, len(rows))
        self._count_features(served, gathered)
        ids = [self._numbers.take() for _ in rows]
        latencies = self._answer(slices, choices, ids)
        before = [int((read_s - s.job.received_s) * 1e6) for s in slices for _ in range(s.start, s.stop)]
        batch = Batch(served, gathered, times_us, ids, choices, [p for _, p in assigned], units, before, latencies)
        if served.is_shadow:
            self._queue_shadow(batch)
        else:
            self._write(batch, None)

    def _spare(
        self, served: Served, pair: Mapping[str, Scored | None], gathered: Gathered
    ) -> list[tuple[str, Scored | None]]:
        """What is asked after the champion, in order, as the definition declares it."""
        chain = served.otherwise
        spare: list[tuple[str, Scored | None]] = []
        if chain.last_good:
            spare.append(("last_good", self._run("fallback", served.last_good, gathered)))
        if chain.shadow:
            scored = pair["challenger"]
            if scored is None:
                scored = self._run("fallback", served.challenger, gathered)
            spare.append(("challenger", scored))
        return spare

    def _run(self, variant: str, scorer: Scorer | None, gathered: Gathered) -> Scored | None:
        if scorer is None:
            return None
        outputs = run(scorer, gathered, blind=self.served.otherwise.blind)
        metrics = self.metrics.variants[variant]
        metrics.executions += 1
        metrics.inferences += len(outputs.values)
        for reason, _ in outputs.failed.values():
            metrics.failed(reason)
        return scorer, outputs

    # --- answers --------------------------------------------------------------------------------------------------

    def _answer(self, slices: list[Slice], choices: list[Choice], ids: list[str]) -> list[int]:
        """Answer every job that is complete; returns each row's latency in microseconds."""
        at = 0
        latencies: list[int] = []
        finished: list[Job] = []
        for one in slices:
            job = one.job
            put = job.reply.row
            for i in range(one.start, one.stop):
                choice = choices[at]
                put(i, choice, ids[at], at)
                if choice.output is not None:
                    self.metrics.variants[choice.variant].requests += 1
                    if choice.fallback is not None:
                        self.metrics.fall_back(choice.fallback, choice.error or "")
                at += 1
            job.left -= one.stop - one.start
            if not job.left:
                finished.append(job)
            taken_us = int((perf_counter() - job.received_s) * 1e6)
            latencies += [taken_us] * (one.stop - one.start)
        for job in finished:
            self.metrics.latency["total"].observe(perf_counter() - job.received_s, len(job.rows))
            self.metrics.answers += 1
            try:
                job.reply.finish()
            except Exception:  # noqa: BLE001  one answer that cannot be written is no harm to its neighbours
                _log.exception("an answer of %s could not be written", self.metrics.model)
                self._break(job, len(job.rows))
        return latencies

    def _break(self, job: Job, rows: int) -> None:
        """A bug of ours: its client is told."""
        self.metrics.reject("internal", rows)
        job.reply.fail(UnavailableError("MS-S111", "the batch could not be scored"))

    def _answer_without(self, job: Job, reason: str) -> bool:
        """Answer the rows of a job that are not in a batch yet with the declared value; whether it could be."""
        served, start = self.served, job.taken
        rows, times_us = job.rows[start:], job.times_us[start:]
        try:
            values = served.value.of(rows, times_us) if served.value is not None else []
        except Exception:  # noqa: BLE001  a rule's bug leaves what would be without a rule: the request is told no
            _log.exception("what %s declares as otherwise= could not be computed", self.metrics.model)
            return False
        if all(value is None for value in values):
            return False
        units = [_text(row[served.unit]) for row in rows]
        assigned = [assign(served.route.salt, unit, served.weight) for unit in units]
        choices = [
            Choice("fallback", OTHERWISE, None, value, fallback=VALUE, error=reason, drawn=to)
            for (to, _), value in zip(assigned, values, strict=True)
        ]
        ids = [self._numbers.take() for _ in rows]
        job.taken = len(job.rows)
        job.left = len(rows)
        latencies = self._answer([Slice(job, start, len(job.rows))], choices, ids)
        nothing = Gathered(rows, (), {}, (), (), {}, 0)
        probabilities = [p for _, p in assigned]
        self._write(Batch(served, nothing, times_us, ids, choices, probabilities, units, latencies, latencies), None)
        return True

    def _expire(self, job: Job) -> None:
        self.metrics.reject(DEADLINE, len(job.rows) - job.taken)
        if self._answer_without(job, DEADLINE):
            return
        hint = "send less, or wait longer"
        job.reply.fail(DeadlineError("MS-S104", "the deadline passed before the request's turn", hint=hint))

    # --- the log --------------------------------------------------------------------------------------------------

    def _queue_shadow(self, batch: Batch) -> None:
        rows = len(batch.ids)
        if self._shadow_rows + rows > self.limits.shadow_rows:
            self.metrics.shadow_skipped += rows
            self._write(batch, None)
            return
        self._shadow_rows += rows
        self._shadows.append(batch)
        self._loop.call_soon(self._shadow)

    def _shadow(self) -> None:
        if not self._shadows:
            return  # ``finish`` came first
        batch = self._shadows.popleft()
        self._shadow_rows -= len(batch.ids)
        pair: Scored | None = None
        try:
            pair = self._run("challenger", batch.served.challenger, batch.gathered)
        except Exception:  # noqa: BLE001  a shadow's bug is seen, and its batch is logged without it
            _log.exception("a shadow of %s could not be scored", self.metrics.model)
            self.metrics.variants["challenger"].failed("internal", len(batch.ids))
        self._write(batch, pair)

    def _write(self, batch: Batch, shadow: Scored | None) -> None:
        self._log.put(answers_of(batch, self.requests.contract, shadow))

    def _count_features(self, served: Served, gathered: Gathered) -> None:
        for (view, _), (_, status) in zip(served.views, gathered.blocks, strict=True):
            self.metrics.count_features(view.name, np.bincount(status.ravel(), minlength=len(Status)).tolist())


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _reason(error: MainspringError) -> str:
    return _REASONS.get(error.code, "contract")
