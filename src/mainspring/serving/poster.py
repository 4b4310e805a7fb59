"""A thread that posts rows to the intake, one post at a time: how slow the intake is holds up nobody else."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mainspring.core.errors import ContractError, MainspringError, TooLargeError, UnavailableError
from mainspring.core.run import internal_token, read_door
from mainspring.events.client import IntakeClient
from mainspring.events.internal import CheckedRows
from mainspring.events.system import PREDICTION

_INTAKE_TIMEOUT_S = 5.0
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(CheckedRows).decode
_log = logging.getLogger(__name__)


class Intake(Protocol):
    """What predictions are posted to."""

    def post_rows(self, found: bytes) -> dict[str, Any]:
        """Append ``CheckedRows`` in msgpack to the log; raises a MainspringError when that cannot be now."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a post.

    Attributes:
        sent: Answers that the intake has acknowledged.
        quarantined: Of their events, those that went to quarantine.
        refused: Answers that it will never take, and ``why``.
        away: Why the intake could not be asked: all of the post is to be sent again.
    """

    sent: int = 0
    quarantined: int = 0
    refused: int = 0
    why: str = ""
    away: MainspringError | None = None

    def then(self, other: Outcome) -> Outcome:
        """What became of this post and the one after it."""
        why = "; ".join(one for one in (self.why, other.why) if one)
        sent, quarantined = self.sent + other.sent, self.quarantined + other.quarantined
        return Outcome(sent, quarantined, self.refused + other.refused, why, other.away)


class Poster:
    """Does one thing after another in a thread of its own.

    Args:
        connect: Gives a client of the intake as it is now; raises UnavailableError while there is none.
        done: Called in the thread when something is done; ``collect`` then gives its outcome.
    """

    def __init__(self, connect: Callable[[], Intake], done: Callable[[], None]) -> None:
        self._connect = connect
        self._done = done
        self._intake: Intake | None = None
        self._jobs: queue.SimpleQueue[Callable[[], Outcome] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="prediction-post", daemon=True)
        self.is_busy = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, found: bytes, answers: int) -> None:
        """Post the rows of so many answers, ``CheckedRows`` in msgpack."""
        self.do(lambda: self._post(found, answers))

    def do(self, job: Callable[[], Outcome]) -> None:
        """Do anything else that may take long."""
        self.is_busy = True
        self._jobs.put(job)

    def collect(self) -> Outcome | None:
        """The outcome of what was asked for last, once it is done."""
        try:
            outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self.is_busy = False
        return outcome

    def stop(self) -> None:
        """End the thread, once it has done what it was asked for."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                outcome = job()
            except Exception as error:  # noqa: BLE001  the thread must outlive a bug in one post: it is logged
                _log.exception("predictions could not be posted")
                outcome = Outcome(refused=1, why=repr(error))
            self._outcomes.put(outcome)
            self._done()
        self._forget_intake()

    def _post(self, found: bytes, answers: int) -> Outcome:
        try:
            if self._intake is None:
                self._intake = self._connect()
            said = self._intake.post_rows(found)
        except TooLargeError:
            halves = _DECODE(found).halves()
            if halves is not None:
                first, second = halves
                of_first = _predictions_in(first)
                outcome = self._post(_ENCODE(first), of_first)
                if outcome.away is not None:
                    return outcome
                return outcome.then(self._post(_ENCODE(second), answers - of_first))
            return Outcome(refused=answers, why="one prediction is larger than the intake takes")
        except ContractError as error:
            return Outcome(refused=answers, why=str(error))
        except MainspringError as error:
            self._forget_intake()
            return Outcome(away=error)
        return Outcome(answers, int(said.get("quarantined", 0)))

    def _forget_intake(self) -> None:
        if self._intake is not None:
            self._intake.close()
            self._intake = None


def _predictions_in(found: CheckedRows) -> int:
    """How many answers rows hold; those of requests are no answers."""
    sizes = [(one.shape, len(one.bodies)) for one in found.blocks] + [(one.shape, one.size) for one in found.batches]
    return sum(n for shape, n in sizes if found.shapes[shape].source == PREDICTION.name)


def connect(run: Path) -> Intake:
    """A client of the intake as it runs now.

    Raises:
        UnavailableError: None runs (MS-S113).
    """
    url = read_door(run, "intake")
    if url is None:
        raise UnavailableError("MS-S113", "no intake is running", where=str(run), hint="mainspring up")
    return IntakeClient(url, internal_token(run), _INTAKE_TIMEOUT_S)
