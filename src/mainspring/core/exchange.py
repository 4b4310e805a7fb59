"""One kept connection of a client: requests and answers, one after another, by the standard library."""

from __future__ import annotations

import http.client
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mainspring.core.errors import (
    BackPressureError,
    ContractError,
    DeadlineError,
    MainspringError,
    NotFoundError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)

KINDS: Mapping[int, type[MainspringError]] = {
    400: ContractError,
    401: RefusedError,
    403: RefusedError,
    404: NotFoundError,
    405: RefusedError,
    413: TooLargeError,
    415: ContractError,
    422: ContractError,
    429: BackPressureError,
    504: DeadlineError,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's JSON; an empty mapping where it holds none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}

    def error(self, kinds: Mapping[int, type[MainspringError]] = KINDS) -> MainspringError:
        """The error that the answer says, of the class of its status."""
        said = self.json()
        said = said if isinstance(said, dict) else {}
        parts = {key: str(said.get(key, "")) for key in ("where", "why", "hint")}
        kind = kinds.get(self.status, UnavailableError)
        return kind(str(said.get("code", "MS-E300")), str(said.get("error", f"status {self.status}")), **parts)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is."""

    host: str
    port: int
    is_tls: bool
    prefix: str

    @classmethod
    def of(cls, url: str) -> Place:
        """From its URL; a path in it is put before every request's."""
        parts = urllib.parse.urlsplit(url if "//" in url else f"//{url}", "http")
        is_tls = parts.scheme == "https"
        return cls(parts.hostname or "127.0.0.1", parts.port or (443 if is_tls else 80), is_tls, parts.path.rstrip("/"))


class Exchange:
    """A connection to ``url``, opened when it is first needed. Not for use by two threads at once.

    Attributes:
        was_sent: Whether anything of the last request went out: where ``ask`` failed, it may have been carried out.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url
        self._place = Place.of(url)
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self.was_sent = False

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request and read its answer.

        It is sent again, once, when the connection that was kept turns out to be closed.

        Raises:
            OSError: The server cannot be reached, or did not answer to the end; ``was_sent`` tells them apart.
        """
        self.was_sent = False
        is_kept = self._connection is not None
        try:
            return self._once(method, path, body, headers)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            if not is_kept or isinstance(error, TimeoutError):
                raise _plain(error) from None
        try:
            return self._once(method, path, body, headers)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise _plain(error) from None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        place = self._place
        if self._connection is None:
            if place.is_tls:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(
                    place.host, place.port, timeout=self._timeout_s, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(place.host, place.port, timeout=self._timeout_s)
            self._connection.connect()
        self.was_sent = True
        self._connection.request(method, place.prefix + path, body or None, dict(headers))
        response = self._connection.getresponse()
        raw = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            self.close()
        return Answer(response.status, found, raw)


def _plain(error: Exception) -> OSError:
    return error if isinstance(error, OSError) else ConnectionError(str(error) or type(error).__name__)
