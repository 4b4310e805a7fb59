"""One question to the gateway, until it is answered or its time is up: what both clients do in the same way."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from mainspring.client.doors import path_part
from mainspring.client.outbox import json_of
from mainspring.client.outcomes import Prediction
from mainspring.core.backoff import Backoff, retry_after_s
from mainspring.core.errors import DeadlineError, MainspringError, UnavailableError
from mainspring.core.exchange import Answer

_LATER = frozenset({429, 503})
_one = msgspec.json.Decoder(Prediction).decode
_many = msgspec.json.Decoder(list[Prediction]).decode


class Asking:
    """A row, or a list of them, for a model; ``timeout_s`` from now its time is up."""

    def __init__(
        self, model: str, rows: Any, headers: Mapping[str, str], timeout_s: float, *, with_status: bool
    ) -> None:
        self._is_many = isinstance(rows, (list, tuple))
        self.path = f"/predict/{path_part(model, 'model')}" + ("?status=1" if with_status else "")
        self.body = json_of(rows)
        self._headers = {"Content-Type": "application/json", **headers}
        self._timeout_s = timeout_s
        self._ends_s = time.monotonic() + self._timeout_s
        self._backoff = Backoff(0.02, 2.0)
        self._asked_s = 0.0
        self._trouble: MainspringError | None = None

    def left_s(self) -> float:
        """Seconds that are left.

        Raises:
            MainspringError: None are: what was in the way.
        """
        left_s = self._ends_s - time.monotonic()
        if left_s > 0:
            return left_s
        if self._trouble is not None:
            raise self._trouble
        raise DeadlineError("MS-E508", f"no answer within {self._timeout_s:g} s")

    def headers(self, left_s: float) -> dict[str, str]:
        """That go with the next try."""
        return {**self._headers, "X-Deadline-Ms": str(max(1, int(left_s * 1_000)))}

    def failed(self, error: Exception) -> None:
        """The gateway could not be asked.

        Raises:
            DeadlineError: It took the time that there was (MS-E508).
        """
        if isinstance(error, TimeoutError):
            raise DeadlineError("MS-E508", f"no answer within {self._timeout_s:g} s") from None
        why = str(error) or type(error).__name__
        self._trouble = UnavailableError("MS-E509", "the gateway cannot be reached", why=why, hint="mainspring up")

    def is_answer(self, answer: Answer) -> bool:
        """Whether this is the answer; what says "later" is not."""
        if answer.status not in _LATER:
            return True
        self._trouble = answer.error()
        self._asked_s = retry_after_s(answer.headers)
        return False

    def pause_s(self) -> float:
        """How long to wait before the next try.

        Raises:
            MainspringError: Longer than there is time for.
        """
        pause_s = self._backoff.wait_s(self._asked_s)
        if time.monotonic() + pause_s >= self._ends_s and self._trouble is not None:
            raise self._trouble
        return pause_s

    def read(self, answer: Answer) -> Prediction | list[Prediction]:
        """What the answer says.

        Raises:
            MainspringError: It is an error.
        """
        is_list = answer.body.startswith(b"[")
        if (answer.status == http.client.OK or is_list) and is_list == self._is_many:
            return _many(answer.body) if is_list else _one(answer.body)
        raise answer.error()
