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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mainspring.core.errors import ContractError, MainspringError, TooLargeError, UnavailableError
from mainspring.core.run import internal_token, read_door
from mainspring.core.spool import Spool
from mainspring.definitions import SourceDef
from mainspring.events.client import IntakeClient
from mainspring.events.internal import CheckedRows, RowShape
from mainspring.events.system import PREDICTION
from mainspring.serving.composed import Composition
from mainspring.serving.layout import Inputs, Row

_RETRY_S = (0.05, 2.0)
_INTAKE_TIMEOUT_S = 5.0
_ENCODE = msgspec.msgpack.Encoder().encode
_FRAME = msgspec.msgpack.Decoder(tuple[int, CheckedRows])
_OLD_FRAME = msgspec.msgpack.Decoder(tuple[int, list[tuple[str, dict[str, Any]]]])
_SHAPE = RowShape(PREDICTION.name, PREDICTION.version, tuple(PREDICTION.columns))
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
        request: Source and row of the request, when it has an id and so is an event itself; the composite's for a part.
        composition: What a composite's answer is made of.
        part_of: The composite's prediction that this member's answer is a part of.
        is_selected: Of a part: whether an earlier member was not sure of the row.
        cached: The prediction whose answer was given again.
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
    request: tuple[SourceDef, Row] | None
    composition: Composition | None = None
    part_of: str | None = None
    is_selected: bool | None = None
    cached: str | None = None


class Intake(Protocol):
    """What predictions are posted to."""

    def post_rows(self, found: CheckedRows) -> dict[str, Any]:
        """Append rows to the log; raises a MainspringError when that cannot be now."""

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
        found = rows_of(answers)
        if not self._spool and self._post(found, len(answers)):
            return
        try:
            kept = self._spool.append(_ENCODE((len(answers), found)))
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
                count, found = read_frame(frames[0])
            except msgspec.DecodeError as error:
                self._refused(1, f"a frame of the spool cannot be read: {error}")
            else:
                if not self._post(found, count):
                    return
            self._spool.drop(frames)

    def _post(self, found: CheckedRows, answers: int) -> bool:
        """Whether the intake has taken the rows, or never will."""
        if time.monotonic() < self._retry_at_s:
            return False
        try:
            if self._intake is None:
                self._intake = self._connect()
            answer = self._intake.post_rows(found)
        except TooLargeError:
            if len(found.rows) > 1:
                middle = len(found.rows) // 2
                first, second = (CheckedRows(found.shapes, part) for part in (found.rows[:middle], found.rows[middle:]))
                return self._post(first, 0) and self._post(second, answers)
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
            self.quarantined += int(answer.get("quarantined", 0))
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


def rows_of(answers: Sequence[Answered]) -> CheckedRows:
    """The events of answers: of each the request's own, if it has an id, then the prediction."""
    shapes: list[RowShape] = [_SHAPE]
    numbers: dict[int, int] = {}
    rows: list[tuple[int, tuple[Any, ...]]] = []
    for answer in answers:
        if answer.request is not None:
            source, row = answer.request
            number = numbers.get(id(source))
            if number is None:
                number = numbers[id(source)] = len(shapes)
                shapes.append(RowShape(source.name, source.version, tuple(source.columns)))
            rows.append((number, row))
        rows.append((0, _prediction(answer)))
    return CheckedRows(tuple(shapes), rows)


def _prediction(answer: Answered) -> tuple[Any, ...]:
    """The row of the ``_prediction`` source, in the order of its columns."""
    features, status = answer.inputs.logged(answer.row) if answer.inputs is not None else ("[]", "")
    whole = answer.composition
    return (
        answer.prediction_id,
        answer.predicted_at_us,
        answer.model,
        answer.version,
        answer.variant,
        answer.probability,
        answer.unit,
        answer.request_id,
        answer.folded,
        answer.output,
        answer.other_version,
        answer.other_output,
        features,
        status,
        answer.latency_us,
        answer.fallback,
        answer.error,
        answer.rollout,
        answer.other_latency_us,
        answer.other_error,
        answer.drawn,
        answer.answered,
        answer.rules,
        whole.member if whole is not None else None,
        _members(whole) if whole is not None else None,
        whole.spread if whole is not None else None,
        answer.part_of,
        answer.is_selected,
        answer.cached,
    )


def _members(whole: Composition) -> str:
    """What each member said, as a JSON array."""
    said = [(name, choice.version, choice.variant, choice.output) for name, choice in whole.said]
    return msgspec.json.encode(said).decode()


def read_frame(frame: bytes) -> tuple[int, CheckedRows]:
    """How many answers a frame of the spool holds, and their rows; those of the first format are told by name.

    Raises:
        msgspec.DecodeError: It is none.
    """
    try:
        return _FRAME.decode(frame)
    except msgspec.ValidationError:
        count, events = _OLD_FRAME.decode(frame)
    shapes = tuple(RowShape(source, "", tuple(fields)) for source, fields in events)
    return count, CheckedRows(shapes, [(i, tuple(fields.values())) for i, (_, fields) in enumerate(events)])
