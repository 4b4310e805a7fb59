"""What became of what was sent, and what was predicted: values."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from mainspring.core.errors import UnavailableError

ACCEPTED, DUPLICATE, QUARANTINED, REFUSED = "accepted", "duplicate", "quarantined", "refused"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one event.

    Attributes:
        status: ``accepted``, ``duplicate``, ``quarantined`` (it broke its contract and waits there to be mended) or
            ``refused`` (the intake did not take it at all: no such source, too large).
        code: Of the reason, for the last two.
        path: Where in the event the reason lies.
    """

    status: str
    code: str = ""
    reason: str = ""
    path: str = ""

    @property
    def is_stored(self) -> bool:
        """Whether the event is in the log."""
        return self.status in (ACCEPTED, DUPLICATE)


class Totals(msgspec.Struct):
    """How many events had which outcome since the client began, those that an earlier process left in the spool too."""

    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    refused: int = 0


class Delivery:
    """The events of one ``send`` on their way."""

    __slots__ = ("_future", "_left", "_lock", "_outcomes")

    def __init__(self, n: int) -> None:
        self._outcomes: list[Outcome | None] = [None] * n
        self._left = n
        self._lock = threading.Lock()
        self._future: concurrent.futures.Future[list[Outcome]] = concurrent.futures.Future()

    @property
    def is_done(self) -> bool:
        """Whether every event has its outcome."""
        return self._future.done()

    def outcomes(self, timeout_s: float | None = None) -> list[Outcome]:
        """What became of each event, in the order sent; waits until it is known.

        Raises:
            UnavailableError: It is not known within ``timeout_s`` (MS-E502); the events are still on their way.
        """
        try:
            return self._future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            what = f"{self._left} events are not acknowledged after {timeout_s:g} s"
            raise UnavailableError("MS-E502", what, hint="they are sent as soon as the intake answers") from None
        except concurrent.futures.CancelledError:
            raise UnavailableError("MS-E503", f"the client was closed before {self._left} events were sent") from None

    def settle(self, start: int, outcomes: Sequence[Outcome]) -> None:
        """Of the sender: the outcomes of the events from ``start`` on."""
        with self._lock:
            self._outcomes[start : start + len(outcomes)] = outcomes
            self._left -= len(outcomes)
            is_done = self._left == 0
        if is_done:
            self._future.set_result([one for one in self._outcomes if one is not None])

    def give_up(self) -> None:
        """Of the sender: nobody will learn more."""
        self._future.cancel()

    def __await__(self) -> Any:
        """The same as ``outcomes``, for ``await``."""
        import asyncio

        return asyncio.wrap_future(self._future).__await__()


class Prediction(msgspec.Struct, frozen=True):
    """The answer for one row.

    Attributes:
        prediction: The probability of true, or the value; None when there is an ``error``.
        prediction_id: Names this answer: ``mainspring explain ID``.
        variant: ``champion``, ``challenger`` or ``fallback``.
        fallback: What was fallen back to.
        status: For each feature ``present``, ``missing`` …, when it was asked for.
        error: What is wrong with this row of a list; ``code`` and ``where`` say which and where.
    """

    prediction: Any = None
    prediction_id: str = ""
    model_version: str = ""
    variant: str = ""
    fallback: str | None = None
    status: dict[str, Any] | None = None
    error: str | None = None
    code: str | None = None
    where: str | None = None
