"""Requests and answers of our own doors, and how they look on the wire."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from mainspring.core.errors import MainspringError, RefusedError, UnavailableError

JSON = "application/json"


class Request(msgspec.Struct, eq=False):
    """A whole request.

    Attributes:
        path: Percent-decoded, without the query.
        query: What follows ``?``, as sent.
        headers: Lower-case names; values of a repeated header are joined by a comma.
        peer: Address of whoever asks.
        key: Name of the key that let it in; empty where the door asks for none, and for the project's own token.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    peer: str = ""
    key: str = ""


class Response(msgspec.Struct):
    """An answer; the length, date and connection headers are the server's."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Limits:
    """What one client may ask of the server.

    Attributes:
        idle_s: How long a connection may do nothing between requests.
        slow_s: How long a request may take to arrive, and an answer to be taken.
        spare_s: How long a connection may do nothing when others find no room.
    """

    max_body_bytes: int
    max_header_bytes: int = 16_384
    max_connections: int = 1_024
    idle_s: float = 75.0
    slow_s: float = 20.0
    spare_s: float = 1.0


class Flushes(Protocol):
    """What sends answers once they are there."""

    def flush(self) -> None:
        """Send every answer whose turn it is."""


class Deferred(msgspec.Struct, eq=False):
    """An answer that comes later, on the same event loop.

    Attributes:
        cancelled: The client has gone; an answer would be thrown away.
        response: The answer, once it is there.
        connection: Where it goes; the server's, as are the next two.
        keeps: Whether the connection stays open after it.
        is_head: Whether only its head is sent.
        last: Has the last word on the answer; None where nobody wants it.
    """

    connection: Flushes | None = None
    response: Response | None = None
    keeps: bool = True
    is_head: bool = False
    cancelled: bool = False
    last: Callable[[Response], Response] | None = None

    @property
    def answered(self) -> bool:
        """Whether ``answer`` has been called."""
        return self.response is not None

    def answer(self, response: Response) -> None:
        """Give the answer; it is sent as soon as those before it on the connection are."""
        if self.response is None:
            self.response = response if self.last is None else self.last(response)
            if self.connection is not None:
                self.connection.flush()


class Sink(Protocol):
    """What takes a body piece by piece, because it is larger than is kept; its answer is given to a ``Deferred``.

    A sink that has answered is given no more. While it says that it is ``full`` nothing is read from its client; it
    calls ``wake`` when it no longer is.
    """

    deferred: Deferred
    wake: Callable[[], None]

    @property
    def full(self) -> bool:
        """Whether it takes no more for now."""

    def feed(self, part: bytes) -> None:
        """The next piece."""

    def end(self) -> None:
        """The body is whole."""

    def abort(self) -> None:
        """The client is gone, or its request is refused; there will be no end."""


def guarded(sink: Sink, call: Callable[[], None]) -> None:
    """Call something of a sink that has not answered; what it raises is its answer."""
    try:
        if not sink.deferred.answered:
            call()
    except MainspringError as error:
        sink.deferred.answer(error_response(error))
    except Exception:  # noqa: BLE001  as of a handler
        sink.deferred.answer(internal_error())


Opener = Callable[[Request], "Sink | None"]
Handler = Callable[[Request], "Response | Deferred | Awaitable[Response]"]


def json_response(status: int, obj: Any, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A JSON answer."""
    return Response(status, msgspec.json.encode(obj), JSON, headers)


def error_response(error: MainspringError) -> Response:
    """The answer that says what went wrong; what may be over soon says when to try again."""
    return json_response(error.http_status, error.to_dict(), error_headers(error))


def error_headers(error: MainspringError) -> tuple[tuple[str, str], ...]:
    """The headers that go with an error, however its body says it."""
    if isinstance(error, WrongMethodError):
        return (("Allow", error.allowed),)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        return (("WWW-Authenticate", "Bearer"),)
    return (("Retry-After", str(error.retry_after_s)),) if isinstance(error, UnavailableError) else ()


class WrongMethodError(RefusedError):
    """A method that is not answered at this path.

    Attributes:
        allowed: The methods that are, as the Allow header lists them.
    """

    http_status = 405

    def __init__(self, code: str, what: str, *, allowed: str) -> None:
        super().__init__(code, what)
        self.allowed = allowed


class RefusalError(MainspringError):
    """A request that the server itself refuses; the connection closes after the answer."""

    def __init__(self, status: int, code: str, what: str) -> None:
        super().__init__(code, what)
        self.http_status = status


@lru_cache(maxsize=256)
def is_here(host: str) -> bool:
    """Whether a Host header names this machine, so that a name somebody points at 127.0.0.1 does not."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _head(status: int, content_type: str) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {content_type}\r\nContent-Length: ".encode("ascii")


def encode(response: Response, date: bytes, keeps: bool, is_head: bool) -> bytes:  # noqa: FBT001  of the hot path
    """The bytes of an answer.

    Raises:
        ValueError: A header holds a line break.
    """
    body = response.body
    head = _head(response.status, response.content_type)
    more = _lines(response.headers) if response.headers else b""
    if not keeps:
        more += b"\r\nConnection: close"
    return b"%b%d%b%b\r\n\r\n%b" % (head, len(body), date, more, b"" if is_head else body)


def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    for name, value in headers:
        if "\r" in name or "\n" in name or "\r" in value or "\n" in value:
            raise ValueError(f"a header cannot hold a line break: {name!r}: {value!r}")
    return "".join(f"\r\n{name}: {value}" for name, value in headers).encode("latin-1")


def internal_error(error: BaseException | None = None) -> Response:
    """An opaque answer for the client, the traceback for the operator."""
    if error is None:
        traceback.print_exc(file=sys.stderr)
    else:
        traceback.print_exception(error, file=sys.stderr)
    return json_response(500, {"code": "MS-S008", "error": "internal error", "hint": "see the log of this process"})


def answer_of(task: asyncio.Future[Response]) -> Deferred:
    """The answer that a task will give, whatever becomes of it."""
    slot = Deferred()

    def done(task: asyncio.Future[Response]) -> None:
        if task.cancelled():
            slot.answer(error_response(UnavailableError("MS-S009", "stopped before the answer was there")))
            return
        error = task.exception()
        if error is None:
            slot.answer(task.result())
        else:
            slot.answer(error_response(error) if isinstance(error, MainspringError) else internal_error(error))

    task.add_done_callback(done)
    return slot
