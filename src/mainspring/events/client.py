"""The intake as the project's own processes speak to it. Other programs have ``mainspring.Client``."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from mainspring.core.closing import Closing
from mainspring.core.errors import UnavailableError
from mainspring.core.exchange import KINDS, Exchange
from mainspring.events.packing import packed
from mainspring.events.progress import MovedError

_KINDS = {**KINDS, 409: MovedError}


class IntakeClient(Closing):
    """Sends events to an intake. Not for use by two threads at once.

    A request is sent again, once, when the connection that was kept turns out to be closed: events with ids are counted
    once however often they come.

    Args:
        token: The project's internal token (``core.run.internal_token``), for ``post_internal``.
    """

    def __init__(self, url: str, token: str = "", timeout_s: float = 30.0) -> None:
        self.url = url
        self._token = token
        self._exchange = Exchange(url, timeout_s)

    def post_events(self, source: str, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Send events of one source; datetimes may be ``datetime`` values or ISO 8601 texts.

        Returns:
            ``{"accepted", "duplicate", "quarantined", "last_offset", "errors"}``, an error being ``{"index", "code",
            "reason", "path"}``; also when every one of them went to quarantine.

        Raises:
            BackPressureError: The intake is full for now; nothing was taken.
            UnavailableError: It cannot be reached (MS-E300), or did not answer and may have taken them (MS-E315).
            MainspringError: It refuses the request: unknown source, too large.
        """
        return self._post(f"/events/{source}", msgspec.json.encode(events), "application/json")

    def post_internal(
        self,
        events: Sequence[Any],
        *,
        history: bool = False,
        backfill: bool = False,
        sender: str = "",
        first_wins: bool = False,
    ) -> dict[str, Any]:
        """Send rows of any sources, the system's included; datetimes may be int64 microseconds.

        Args:
            events: ``(source, {field: value})``, or anything that is read as an ``events.internal.InternalRow``.
            history: Keep the ``known_at`` that the sources declare.
            backfill: Allow history from before a prediction that has been served.
            sender: What the rows came from, for quarantine.
            first_wins: An id that came before is a duplicate whatever else the row says: requests that are asked again.

        Returns:
            ``{"last_offset", "statuses": [...], "errors": [...]}`` with a status a row.

        Raises:
            MainspringError: As ``post_events``.
        """
        query = {"history": "1"} if history else {}
        query |= {"backfill": "1"} if backfill else {}
        query |= {"sender": sender} if sender else {}
        query |= {"first_wins": "1"} if first_wins else {}
        path = "/internal/events" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        return self._post(path, packed(events), "application/msgpack")

    def post_rows(self, found: bytes) -> dict[str, Any]:
        """Send rows that this process has checked by their contracts; of an id that came before the first one stays.

        Args:
            found: ``events.internal.CheckedRows`` in msgpack.

        Returns:
            ``{"last_offset", "quarantined"}``.

        Raises:
            MainspringError: As ``post_events``.
        """
        return self._post("/internal/rows", found, "application/msgpack")

    def advance(
        self, connector: str, before: int, cursor: Any, rows: Sequence[Any], *, history: bool, backfill: bool
    ) -> dict[str, Any]:
        """Send a connector's rows and its step from ``before`` to ``cursor``, to be written in one transaction.

        Returns:
            As ``post_internal``.

        Raises:
            MovedError: The connector is at another step (MS-E430); nothing was written.
            MainspringError: As ``post_events``.
        """
        query = ({"history": "1"} if history else {}) | ({"backfill": "1"} if backfill else {})
        path = f"/internal/connectors/{connector}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        body = packed({"before": before, "cursor": cursor, "rows": rows})
        return self._post(path, body, "application/msgpack")

    def post_json(self, path: str, obj: Any) -> dict[str, Any]:
        """Send any other request of the intake: ``/internal/trim``, ``/quarantine/{source}/replay``."""
        return self._post(path, msgspec.json.encode(obj), "application/json")

    def get(self, path: str) -> Any:
        """The JSON that ``path`` answers with."""
        return self._ask("GET", path, b"", "")

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._exchange.close()

    def _post(self, path: str, body: bytes, content_type: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("POST", path, body, content_type)
        return answer

    def _ask(self, method: str, path: str, body: bytes, content_type: str) -> Any:
        headers = {"Content-Type": content_type} if content_type else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            answer = self._exchange.ask(method, path, body, headers)
        except OSError as error:
            raise self._unavailable(method, error) from None
        said = answer.json()
        if answer.status == HTTPStatus.OK or (isinstance(said, dict) and "accepted" in said):
            return said
        raise answer.error(_KINDS)

    def _unavailable(self, method: str, error: OSError) -> UnavailableError:
        why = str(error) or type(error).__name__
        if not self._exchange.was_sent:
            hint = "mainspring up"
            return UnavailableError("MS-E300", "the intake cannot be reached", where=self.url, why=why, hint=hint)
        if method != "GET":
            why += "; what it was asked for may have been carried out, or may be yet"
        hint = "mainspring status, or keys list for a key, shows whether it was: look before you ask again"
        what = "the intake was asked and did not answer"
        return UnavailableError("MS-E315", what, where=self.url, why=why, hint=hint)
