"""Every answer becomes an event, off the hot path: a bounded buffer, a thread that posts to the intake, a spool.

The event loop only appends to the buffer. The thread takes what has gathered, at most 50 ms later, and posts the
request's own event first and the prediction after it. While the intake is away it keeps them in a spool file and tries
again. What a killed gateway had not posted is a gap in its sequence of prediction ids, which a join sees.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mainspring.core.errors import ContractError, MainspringError, TooLargeError, UnavailableError
from mainspring.core.run import internal_token, read_door
from mainspring.core.spool import Spool
from mainspring.events.client import IntakeClient
from mainspring.events.contract import Contract
from mainspring.serving.layout import Inputs, Row

Event = tuple[str, dict[str, Any]]
SOURCE = "_prediction"
_RETRY_S = (0.05, 2.0)
_INTAKE_TIMEOUT_S = 5.0
_FRAME = msgspec.msgpack.Decoder(tuple[int, list[Event]])
_log = logging.getLogger(__name__)


class Answered(msgspec.Struct, frozen=True, gc=False):
    """One answer, as it is logged.

    Attributes:
        version: Of the model that answered.
        probability: Of the assignment to champion or challenger.
        unit: The label's key as text.
        folded: Offset of the log folded into the state that was read; 0 when the state could not be read.
        inputs: What the model that answered saw; this row is ``row`` of it. None where no model answered.
        rollout: Id of the rollout that was running.
        other_latency_us: What the other model of the pair would have made the latency.
        other_error: Why the other model has no output.
        drawn: What was assigned, where a fallback answered.
        answered: What output rules made of the output, where they acted, and ``rules`` which.
        request: Contract and row of the request, when it has an id and so is an event itself.
    """

    prediction_id: str
    predicted_at_us: int
    model: str
    version: str
    variant: str
    probability: float
    unit: str
    request_id: str | None
    folded: int
    output: float | None
    other_version: str | None
    other_output: float | None
    inputs: Inputs | None
    row: int
    latency_us: int
    fallback: str | None
    error: str | None
    rollout: str | None
    other_latency_us: int | None
    other_error: str | None
    drawn: str | None
    answered: float | None
    rules: str | None
    request: tuple[Contract, Row] | None


class Intake(Protocol):
    """What predictions are posted to."""

    def post_internal(self, events: list[Event], *, first_wins: bool = False) -> dict[str, Any]:
        """Append events to the log; raises a MainspringError when that cannot be now."""

    def close(self) -> None:
        """Close the connection."""


class PredictionLog:
    """Carries answers from the event loop to the intake.

    Args:
        connect: Gives a client of the intake as it is now; raises UnavailableError while there is none.
        spool: Where answers wait while the intake is away.
        max_buffered: Answers kept in memory; beyond it they are dropped and counted.
        every_s: How long an answer may wait in memory.
        max_batch: Answers in one post.

    Attributes:
        sent: Answers that the intake has acknowledged.
        quarantined: Of their events, those that went to quarantine.
        dropped: Answers lost because buffer or spool were full, or the intake refused them.
        is_away: Whether the last post failed.
    """

    def __init__(
        self,
        connect: Callable[[], Intake],
        spool: Spool,
        *,
        max_buffered: int = 200_000,
        every_s: float = 0.05,
        max_batch: int = 1_000,
    ) -> None:
        self._connect = connect
        self._spool = spool
        self._max_buffered = max_buffered
        self._every_s = every_s
        self._max_batch = max_batch
        self._buffer: deque[Answered] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._intake: Intake | None = None
        self._retry_at_s = 0.0
        self._retry_s = _RETRY_S[0]
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self.sent = 0
        self.quarantined = 0
        self.dropped = 0
        self.is_away = False

    @property
    def is_running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def buffered(self) -> int:
        """Answers that wait in memory."""
        return len(self._buffer)

    @property
    def spooled_bytes(self) -> int:
        """Size of what waits on disk."""
        return self._spool.size_bytes

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, answers: Sequence[Answered]) -> None:
        """Take answers; never blocks."""
        if len(self._buffer) + len(answers) > self._max_buffered:
            self.dropped += len(answers)
            return
        self._buffer.extend(answers)
        if not self._wake.is_set():
            self._wake.set()

    def stop(self, timeout_s: float) -> bool:
        """Send or spool everything, then end.

        Returns:
            Whether the thread ended in time.
        """
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        self._spool.close()
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._until_retry_s() if self._spool else None)
            self._wake.clear()
            if len(self._buffer) < self._max_batch:
                self._stop.wait(self._every_s)
            self._cycle()
        self._retry_at_s = 0.0  # a last try, without waiting for its turn
        self._cycle()
        self._forget_intake()

    def _cycle(self) -> None:
        try:
            self._drain_spool()
            while self._buffer:
                self._deliver(self._take())
        except Exception:  # noqa: BLE001  the thread must outlive a bug in one batch: it is logged and counted
            self.dropped += 1
            _log.exception("predictions could not be logged")

    def _take(self) -> list[Answered]:
        buffer = self._buffer
        return [buffer.popleft() for _ in range(min(self._max_batch, len(buffer)))]

    def _deliver(self, answers: list[Answered]) -> None:
        events = [event for answer in answers for event in events_of(answer)]
        if not self._spool and self._post(events, len(answers)):
            return
        try:
            kept = self._spool.append(msgspec.msgpack.encode((len(answers), events)))
        except OSError as error:
            _log.error("predictions cannot be spooled: %s", error)
            kept = False
        if not kept:
            self.dropped += len(answers)

    def _drain_spool(self) -> None:
        while self._spool:
            frames = self._spool.peek()
            if not frames:
                _log.error("a segment of the spool cannot be read: %d bytes are set aside", self._spool.set_aside())
                self.dropped += 1
                return
            try:
                count, events = _FRAME.decode(frames[0])
            except msgspec.DecodeError as error:
                self._refused(1, f"a frame of the spool cannot be read: {error}")
            else:
                if not self._post(events, count):
                    return
            self._spool.drop(frames)

    def _post(self, events: list[Event], answers: int) -> bool:
        """Whether the intake has taken the events, or never will."""
        if time.monotonic() < self._retry_at_s:
            return False
        try:
            if self._intake is None:
                self._intake = self._connect()
            answer = self._intake.post_internal(events, first_wins=True)
        except TooLargeError:
            if len(events) > 1:
                middle = len(events) // 2
                return self._post(events[:middle], 0) and self._post(events[middle:], answers)
            self._refused(answers, "one prediction is larger than the intake takes")
        except ContractError as error:
            self._refused(answers, str(error))
        except MainspringError as error:
            if not self.is_away:
                _log.warning("predictions wait in the spool: %s", error)
            self._forget_intake()
            self.is_away = True
            self._retry_at_s = time.monotonic() + self._retry_s
            self._retry_s = min(self._retry_s * 2, _RETRY_S[1])
            return False
        else:
            self.sent += answers
            self.quarantined += list(answer.get("statuses", ())).count("quarantined")
        self.is_away = False
        self._retry_at_s, self._retry_s = 0.0, _RETRY_S[0]
        return True

    def _forget_intake(self) -> None:
        if self._intake is not None:
            self._intake.close()
            self._intake = None

    def _refused(self, answers: int, why: str) -> None:
        self.dropped += answers
        _log.error("the intake refused %d predictions: %s", answers, why)

    def _until_retry_s(self) -> float:
        return max(0.0, self._retry_at_s - time.monotonic())


def connect(run: Path) -> Intake:
    """A client of the intake as it runs now.

    Raises:
        UnavailableError: None runs (MS-S113).
    """
    url = read_door(run, "intake")
    if url is None:
        raise UnavailableError("MS-S113", "no intake is running", where=str(run), hint="mainspring up")
    return IntakeClient(url, internal_token(run), _INTAKE_TIMEOUT_S)


def events_of(answer: Answered) -> Iterator[Event]:
    """The events of one answer: the request's own, if it has an id, then the prediction."""
    if answer.request is not None:
        contract, row = answer.request
        yield contract.source.name, contract.to_dict(row)
    features, status = answer.inputs.logged(answer.row) if answer.inputs is not None else ("[]", "")
    yield (
        SOURCE,
        {
            "prediction_id": answer.prediction_id,
            "predicted_at": answer.predicted_at_us,
            "model": answer.model,
            "version": answer.version,
            "variant": answer.variant,
            "probability": answer.probability,
            "unit": answer.unit,
            "request_id": answer.request_id,
            "folded": answer.folded,
            "output": answer.output,
            "other_version": answer.other_version,
            "other_output": answer.other_output,
            "features": features,
            "status": status,
            "latency_us": answer.latency_us,
            "fallback": answer.fallback,
            "error": answer.error,
            "rollout": answer.rollout,
            "other_latency_us": answer.other_latency_us,
            "other_error": answer.other_error,
            "drawn": answer.drawn,
            "answered": answer.answered,
            "rules": answer.rules,
        },
    )
