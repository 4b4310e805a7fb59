"""A small, strict HTTP/1.1 server for our own doors: one ``asyncio.Protocol`` over httptools, no framework.

A handler is given a whole request. It answers at once with a ``Response``, later through a ``Deferred`` (the cheap way:
whoever holds it calls ``answer``), or with any awaitable. Answers leave in the order of the requests. A body too large
to be kept goes piece by piece to a ``Sink``, where there is one for it.

Strict means: conflicting lengths and other ways of smuggling are refused, a body or header over its limit is refused
before it is kept, a slow client is told so and dropped, a request that names another host (DNS rebinding) or comes from
another site's page is refused. Nothing a client sends makes the server hang.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

from mainspring.core.access import Access, is_loopback
from mainspring.core.connection import Connection
from mainspring.core.descriptors import connections_that_fit
from mainspring.core.errors import MainspringError, RefusedError
from mainspring.core.hosts import cannot_listen
from mainspring.core.known import KnownHeads
from mainspring.core.listener import Listener
from mainspring.core.messages import (
    Deferred,
    Handler,
    Limits,
    Opener,
    Request,
    Response,
    Sink,
    WrongMethodError,
    answer_of,
    error_headers,
    error_response,
    internal_error,
    json_response,
)
from mainspring.core.room import Room

__all__ = [
    "Access",
    "Deferred",
    "Handler",
    "Limits",
    "Opener",
    "Request",
    "Response",
    "Server",
    "Sink",
    "WrongMethodError",
    "error_headers",
    "error_response",
    "hold_port",
    "json_response",
    "serve",
    "url_of",
]


def _anybody(_authorization: str) -> None:
    """Where nobody needs a key."""


class Server:
    """A listening door. Made by ``serve``."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        access: Access,
        opener: Opener | None = None,
        knows: Callable[[str], object] | None = None,
    ) -> None:
        self.handler = handler
        self.opener = opener
        self.knows = knows or _anybody
        self.limits = limits
        self.host = "127.0.0.1" if access.host == "localhost" else access.host
        self.is_wide = access.is_wide
        self._tls = access.tls
        self.port = 0
        self.date = b""
        self.draining = False
        self.known = KnownHeads()
        self.refusals: dict[int, int] = {}
        self.room = Room(limits.max_connections)
        self.tasks: set[asyncio.Future[Response]] = set()
        self._loop = asyncio.get_running_loop()
        self._listener = Listener(lambda: Connection(self, self._loop), self._tls, limits.slow_s, self._has_room)
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    @property
    def url(self) -> str:
        """Where the door is."""
        return url_of(self.host, self.port, "http" if self._tls is None else "https")

    @property
    def connections(self) -> set[Connection]:
        """Those that are served."""
        return self.room.inside

    async def start(self, port: int, *, reuse_port: bool) -> None:
        """Listen.

        Raises:
            UnavailableError: The port is taken, or the host is not this machine (MS-S002).
        """
        try:
            self.port = await self._listener.listen(self.host, port, reuse_port=reuse_port)
        except OSError as error:
            raise cannot_listen(self.host, port, error) from None
        self._sweep()

    async def drain(self, timeout_s: float) -> bool:
        """Stop accepting, answer what has been received, close.

        Returns:
            Whether everything was answered in time; what was not is cut off.
        """
        self.draining = True
        self._listener.close()
        for connection in self.room.everybody():
            connection.close_when_idle()
        self._check_empty()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
            finished = True
        except TimeoutError:
            finished = False
        for connection in self.room.everybody():
            connection.abort()
        for task in tuple(self.tasks):
            task.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
        return finished

    def answer(self, request: Request) -> Deferred:
        """What the handler says, now or later."""
        try:
            answer = self.handler(request)
        except MainspringError as error:
            answer = error_response(error)
        except Exception:  # noqa: BLE001  whatever a handler raises, the client gets an answer
            answer = internal_error()
        if isinstance(answer, Deferred):
            return answer
        if isinstance(answer, Response):
            slot = Deferred()
            slot.response = answer
            return slot
        task = asyncio.ensure_future(answer)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return answer_of(task)

    def refused(self, status: int) -> None:
        """Count a request that never reached the handler."""
        self.refusals[status] = self.refusals.get(status, 0) + 1

    def enter(self, connection: Connection) -> bool:
        """A connection is made; returns whether there is room to serve it."""
        self._listener.arrived(connection)
        return self.room.enter(connection)

    def gone(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.room.leave(connection)
        self._check_empty()

    def _check_empty(self) -> None:
        if self.draining and not self.room.everybody():
            self._empty.set()

    def _has_room(self) -> bool:
        """Whether one more may arrive: to be served or, where no handshake comes first, to be told why it is not.

        Where all places are taken who does nothing goes, or a thousand silent connections would lock everybody out:
        first of those that shake hands, then of those that are idle, whoever has for longest.
        """
        room, listener = self.room, self._listener
        if room.has_place(listener.arriving):
            return True
        spared_s = self._loop.time() - self.limits.spare_s
        if listener.hang_up(spared_s) or room.free_place(spared_s):
            return True
        if self._tls is None and room.may_tell(listener.arriving):
            return True
        self.refused(503)
        return False

    def _sweep(self) -> None:
        """One timer for the whole server, instead of one a connection or a request."""
        self.date = b"\r\nDate: " + formatdate(usegmt=True).encode()
        now = self._loop.time()
        for connection in self.room.everybody():
            connection.check_time(now)
        self.room.forget()
        every_s = min(1.0, self.limits.slow_s / 4, self.limits.idle_s / 4)
        self._sweeper = self._loop.call_later(every_s, self._sweep)


async def serve(
    handler: Handler,
    access: Access,
    port: int,
    limits: Limits,
    *,
    reuse_port: bool = False,
    opener: Opener | None = None,
    knows: Callable[[str], object] | None = None,
) -> Server:
    """Open a door on the running event loop.

    Args:
        handler: What answers requests.
        access: Who may come.
        port: 0 takes a free one; see ``Server.port``.
        limits: What one client may ask. Fewer connections are taken where the process may not open so many files.
        reuse_port: Let several processes share the port (SO_REUSEPORT).
        opener: Gives what takes the body of a request piece by piece, when it is larger than ``limits`` say; None
            where there is nothing: the request is refused. What it raises is the answer.
        knows: Raises, given the header ``Authorization``, for a stranger: no body of theirs over 16 KiB is kept. None
            where nobody needs a key.

    Raises:
        RefusedError: Others would reach it and need no key (MS-S001).
        UnavailableError: The port is taken, or the host is not this machine (MS-S002).
    """
    _check_guarded(access)
    limits = replace(limits, max_connections=connections_that_fit(limits.max_connections))
    server = Server(handler, limits, access, opener, knows)
    await server.start(port, reuse_port=reuse_port)
    return server


def hold_port(host: str, port: int) -> socket.socket:
    """A port that several processes may listen on (SO_REUSEPORT), kept until the socket is closed; 0 takes a free one.

    Raises:
        UnavailableError: Somebody else has the port (MS-S002).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:  # without SO_REUSEPORT: whoever else shares the port is a stranger
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))  # not listening: no connection comes here
    except OSError as error:
        raise cannot_listen(host, port, error) from None
    return held


def url_of(host: str, port: int, scheme: str = "http") -> str:
    """URL of a door."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _check_guarded(access: Access) -> None:
    if is_loopback(access.host) or access.needs_keys:
        return
    raise RefusedError(
        "MS-S001",
        f"refusing to listen on {access.host!r}",
        why="anybody who reaches it could read and write everything: this door asks for no keys",
        hint='host = "127.0.0.1" in mainspring.toml, and a reverse proxy that checks who asks',
    )
