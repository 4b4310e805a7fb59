"""The thread that carries events from the outbox to the intake, and tries again for as long as it takes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mainspring.client.outbox import Outbox, Parcel
from mainspring.client.outcomes import ACCEPTED, DUPLICATE, QUARANTINED, REFUSED, Delivery, Outcome, Totals
from mainspring.client.refused import RefusedEvents
from mainspring.core.backoff import Backoff, retry_after_s
from mainspring.core.errors import MainspringError, UnavailableError
from mainspring.core.exchange import Answer

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_KEYS = frozenset({401, 403})  # a key that is mended lets in what waits
_MOST_WAIT_S = 30.0
_log = logging.getLogger("mainspring.client")


class Asks(Protocol):
    """A connection: ``core.exchange.Exchange``, or a test's."""

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request and read its answer; raises OSError."""

    def close(self) -> None:
        """Close it."""


class Sender:
    """Sends what the outbox holds, in order for each source.

    Args:
        connect: Gives a connection to the intake as it is now; raises UnavailableError while there is none.
        refused: Where events go that the intake does not take.

    Attributes:
        trouble: Why the last request was not answered as it should; None once one is.
    """

    def __init__(
        self, outbox: Outbox, connect: Callable[[], Asks], headers: Mapping[str, str], refused: RefusedEvents
    ) -> None:
        self._outbox = outbox
        self._connect = connect
        self._headers = {"Content-Type": "application/json", **headers}
        self._refused = refused
        self._exchange: Asks | None = None
        self._backoff = Backoff(0.05, _MOST_WAIT_S)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mainspring-client", daemon=True)
        self.totals = Totals()
        self.trouble: MainspringError | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send what waits, for at most ``timeout_s``, and end; what is left stays in the outbox."""
        self._outbox.end()
        self._thread.join(timeout_s)
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set() and self._outbox.wait():
            batch = self._outbox.batch()
            by_source: dict[str, list[Parcel]] = {}
            for _, parcel in batch:
                if parcel is None:
                    _log.error("a parcel of the spool cannot be read and is lost")
                else:
                    by_source.setdefault(parcel.source, []).append(parcel)
            if all(self._deliver(source, parcels) for source, parcels in by_source.items()):
                self._outbox.done(batch)
        if self._exchange is not None:
            self._exchange.close()

    def _deliver(self, source: str, parcels: Sequence[Parcel]) -> bool:
        """Whether every event has its outcome; False when told to stop before."""
        events = [event for parcel in parcels for event in parcel.events]
        outcomes = self._outcomes(source, events)
        if outcomes is None:
            return False
        at = 0
        for parcel in parcels:
            mine = outcomes[at : at + len(parcel.events)]
            at += len(mine)
            delivery: Delivery | None = self._outbox.delivery(parcel)
            if delivery is not None:
                delivery.settle(parcel.start, mine)
        return True

    def _outcomes(self, source: str, events: Sequence[bytes]) -> list[Outcome] | None:
        answer = self._post(source, events)
        if answer is None:
            return None
        said = answer.json()
        if isinstance(said, dict) and "accepted" in said:
            found = _outcomes_of(said, len(events))
        elif answer.status == 413 and len(events) > 1:
            middle = len(events) // 2
            first = self._outcomes(source, events[:middle])
            rest = None if first is None else self._outcomes(source, events[middle:])
            return None if first is None or rest is None else first + rest
        else:
            error = answer.error()
            found = [Outcome(REFUSED, error.code, error.what, "$")] * len(events)
            _log.error("%d events of %s are refused: %s", len(events), source, error)
            self._refused.keep(source, events, error)
        for outcome in found:
            setattr(self.totals, outcome.status, getattr(self.totals, outcome.status) + 1)
        held = sum(outcome.status == QUARANTINED for outcome in found)
        if held:
            first_held = next(outcome for outcome in found if outcome.status == QUARANTINED)
            _log.warning("%d events of %s went to quarantine: %s", held, source, first_held.reason)
        return found

    def _post(self, source: str, events: Sequence[bytes]) -> Answer | None:
        """The intake's answer that is not "later"; None when told to stop before there is one."""
        body = events[0] if len(events) == 1 else b"[" + b",".join(events) + b"]"
        while True:
            asked_s = 0.0
            try:
                if self._exchange is None:
                    self._exchange = self._connect()
                answer = self._exchange.ask("POST", f"/events/{source}", body, self._headers)
            except (OSError, MainspringError) as error:
                self._forget()
                self._troubled(error if isinstance(error, MainspringError) else _unreachable(error))
            else:
                if answer.status not in _AGAIN and answer.status not in _KEYS:
                    self._backoff.reset()
                    self.trouble = None
                    return answer
                asked_s = retry_after_s(answer.headers)
                self._troubled(answer.error())
            self._outbox.sync()
            if self._stop.wait(self._backoff.wait_s(asked_s)):
                return None

    def _troubled(self, error: MainspringError) -> None:
        if self.trouble is None or self.trouble.code != error.code:
            _log.warning("events wait to be sent: %s", error)
        self.trouble = error

    def _forget(self) -> None:
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None


def _unreachable(error: OSError) -> UnavailableError:
    return UnavailableError("MS-E300", "the intake cannot be reached", why=str(error) or type(error).__name__)


def _outcomes_of(said: Mapping[str, Any], n: int) -> list[Outcome]:
    """An outcome for each of ``n`` events, from the intake's answer."""
    out = [Outcome(ACCEPTED)] * n
    for place in said.get("duplicates", ()):
        out[place] = Outcome(DUPLICATE)
    for one in said.get("errors", ()):
        out[one["index"]] = Outcome(QUARANTINED, one["code"] or "", one["reason"] or "", one["path"] or "")
    return out
