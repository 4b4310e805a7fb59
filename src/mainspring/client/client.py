"""``mainspring.Client``: events and predictions from any Python program."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import overload

from mainspring.client.endpoint import Endpoint, Event
from mainspring.client.outcomes import Delivery, Prediction
from mainspring.client.refused import RefusedEvent
from mainspring.core.closing import Closing
from mainspring.core.exchange import Exchange


class Client(Closing, Endpoint):
    """Sends events to the intake and asks the gateway for predictions. One object for a whole program and its threads.

    Events are queued and sent in batches by a thread, again and again until the intake has answered; an event with an
    id is stored once, however often it is sent. With ``spool`` they are in a file before ``send`` returns, and survive
    this process: the next client with the same folder sends them.

    Args:
        url: Where both doors are, or the gateway if ``intake`` is given; None: see ``project``.
        intake: Where the intake is, when it has a URL of its own.
        key: Sent as ``Authorization: Bearer KEY``.
        project: Folder with the ``mainspring.toml`` of a project that runs on this machine, when no URL is given.
        spool: Folder for events that wait, shared by all clients of this machine; None keeps them in memory.
        spool_bytes: Most that may wait; beyond it ``send`` waits, and then raises.
        batch_rows: Most events in one request.
        batch_s: How long the oldest event waits for others.
        timeout_s: How long a request, a ``send`` that finds no room, or ``close`` may take.

    Example:
        >>> import mainspring as ms
        >>> with ms.Client("http://127.0.0.1:7071") as client:  # doctest: +SKIP
        ...     sent = client.send("payment", {"payment_id": "p1", "amount": 9.5, "paid_at": "2026-01-01T12:00:00Z"})
        ...     print(sent.outcomes())
        [Outcome(status='accepted', code='', reason='', path='')]
    """

    # --- events ---------------------------------------------------------------------------------------------------

    def send(self, source: str, events: Event | Sequence[Event]) -> Delivery:
        """Queue an event of a source, or a list of them; returns before they are sent.

        Values are what JSON can say, ``datetime``, and NumPy's scalars; NaN becomes null, infinity is refused.

        Returns:
            What ``outcomes()`` can be asked of; it may be thrown away.

        Raises:
            ContractError: An event is no mapping or cannot be sent (MS-E505); ``source`` is no name (MS-E507).
            BackPressureError: There is no room within ``timeout_s`` (MS-E501).
            RefusedError: The client is closed (MS-E504).
        """
        return self._send(source, events, self._timeout_s)

    def flush(self, timeout_s: float | None = None) -> None:
        """Send what waits now and wait until the intake has answered for all of it.

        Raises:
            UnavailableError: It has not within ``timeout_s`` (MS-E502); why not is in the error.
        """
        self._flush(timeout_s)

    def refused(self) -> list[RefusedEvent]:
        """Events that the intake did not take at all (no such source, too large), kept in the folder ``spool``."""
        return self._refused.all()

    def send_refused(self) -> int:
        """Send them again, after the reason is gone; returns how many there were."""
        return self._send_refused()

    # --- predictions ----------------------------------------------------------------------------------------------

    @overload
    def predict(
        self, model: str, rows: Event, *, with_status: bool = ..., timeout_s: float | None = ...
    ) -> Prediction: ...
    @overload
    def predict(
        self, model: str, rows: Sequence[Event], *, with_status: bool = ..., timeout_s: float | None = ...
    ) -> list[Prediction]: ...
    def predict(
        self, model: str, rows: Event | Sequence[Event], *, with_status: bool = False, timeout_s: float | None = None
    ) -> Prediction | list[Prediction]:
        """The model's answer for a row, or for each of a list; asked again while the gateway is full or away.

        Args:
            model: Its name.
            rows: Fields of the model's request source by name; its time may be left out.
            with_status: Say for each feature whether it was there.
            timeout_s: How long the answer may take; the client's own if None. The gateway is told and honours it.

        Raises:
            ContractError: The row breaks its contract (MS-E1xx); a row of a list has it as its ``error`` instead.
            NotFoundError: No such model is served (MS-S109).
            DeadlineError: There was no answer in time (MS-S104, MS-E508).
            UnavailableError: The gateway cannot be reached (MS-E509), or no model could answer.
            MainspringError: It refuses the request.
        """
        asking = self._asking(model, rows, timeout_s, with_status=with_status)
        while True:
            left_s = asking.left_s()
            exchange = self._connection()
            try:
                answer = exchange.ask("POST", asking.path, asking.body, asking.headers(left_s))
            except OSError as error:
                exchange.close()
                asking.failed(error)
            else:
                self._connections.append(exchange)
                if asking.is_answer(answer):
                    return asking.read(answer)
            time.sleep(asking.pause_s())

    def close(self, timeout_s: float | None = None) -> None:
        """Send what waits and let go of everything. What a spool holds then waits for the next client.

        Raises:
            UnavailableError: Events in memory were not sent within ``timeout_s`` and are lost (MS-E502).
        """
        while self._connections:
            self._connections.pop().close()
        self._close(timeout_s)

    def _connection(self) -> Exchange:
        try:
            kept: Exchange = self._connections.pop()
        except IndexError:
            return Exchange(self._gateway(), self._timeout_s)
        return kept
