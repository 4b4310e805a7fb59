"""Every answer becomes an event, off the hot path: a bounded buffer, a thread that posts to the intake, a spool.

The event loop only appends answered batches to the buffer. The thread takes what has gathered, at most 50 ms later,
makes rows of it, and posts the requests' own events first and the predictions after them. While the intake is away it
keeps them in a spool file and tries again. What a killed gateway had not posted is a gap in its sequence of prediction
ids, which a join sees.
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
from mainspring.events.client import IntakeClient
from mainspring.events.internal import Block, CheckedRows, RowShape
from mainspring.serving.logged import Logged, rows_of

_RETRY_S = (0.05, 2.0)
_INTAKE_TIMEOUT_S = 5.0
_ENCODE = msgspec.msgpack.Encoder().encode
_FRAME = msgspec.msgpack.Decoder(tuple[int, CheckedRows])
_OLD_FRAME = msgspec.msgpack.Decoder(tuple[int, list[tuple[str, dict[str, Any]]]])
_log = logging.getLogger(__name__)


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
        self._buffer: deque[Logged] = deque()
        self._put = self._taken = 0  # answers; the loop counts the first, the thread the second
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
        return self._put - self._taken

    @property
    def spooled_bytes(self) -> int:
        """Size of what waits on disk."""
        return self._spool.size_bytes

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, answered: Sequence[Logged]) -> None:
        """Take answered batches; never blocks."""
        answers = sum(map(len, answered))
        if self.buffered + answers > self._max_buffered:
            self.dropped += answers
        elif answers:
            self._put += answers
            self._buffer.extend(answered)
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
            if self.buffered < self._max_batch:
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

    def _take(self) -> list[Logged]:
        """Batches of so many answers as are posted together, at least one."""
        buffer, room = self._buffer, self._max_batch
        taken: list[Logged] = []
        while buffer and (not taken or len(buffer[0]) <= room):
            taken.append(buffer.popleft())
            room -= len(taken[-1])
        return taken

    def _deliver(self, answered: list[Logged]) -> None:
        answers = sum(map(len, answered))
        self._taken += answers
        found = rows_of(answered)
        if not self._spool and self._post(found, answers):
            return
        try:
            kept = self._spool.append(_ENCODE((answers, found)))
        except OSError as error:
            _log.error("predictions cannot be spooled: %s", error)
            kept = False
        if not kept:
            self.dropped += answers

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
            halves = found.halves()
            if halves is not None:
                return self._post(halves[0], 0) and self._post(halves[1], answers)
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
    blocks = [Block.of(i, 1, [[value] for value in fields.values()]) for i, (_, fields) in enumerate(events)]
    return count, CheckedRows(shapes, blocks)
