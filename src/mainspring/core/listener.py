"""Who comes is let in at once: all connections that wait are accepted in the turn of the event loop that sees them.

libuv accepts one connection a turn. A turn in which a batch is scored takes tens of milliseconds, so that of a hundred
clients who came together the last was heard after seconds, while those who were in went round and round.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

_BACKLOG = 1_024
_MOST = 256  # accepted in one turn
_PAUSE_S = 0.5  # for as long as the process has no file left, who waits is left waiting
_TELL_EVERY_S = 10.0
_log = logging.getLogger(__name__)


class Listener:
    """Listening sockets of one address.

    Args:
        make: A protocol for a new connection.
        tls: How it is encrypted; None for not.
        handshake_s: How long a client may take for the encryption's handshake.
        has_room: Whether one more, who has just come, may arrive; None where all may. Who may not is hung up on.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None = None,
        handshake_s: float = 10.0,
        has_room: Callable[[], bool] | None = None,
    ) -> None:
        self._make = make
        self._tls = tls
        self._handshake_s = handshake_s if tls is not None else None
        self._has_room = has_room
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._arriving: dict[asyncio.Protocol, tuple[float, asyncio.Task[None]]] = {}  # who came first is first
        self._pause: asyncio.TimerHandle | None = None
        self._tell_at_s = 0.0

    @property
    def arriving(self) -> int:
        """How many were accepted and have not ``arrived``: those that shake hands, above all."""
        return len(self._arriving)

    def arrived(self, protocol: asyncio.Protocol) -> None:
        """Its connection is made: it no longer counts as arriving."""
        self._arriving.pop(protocol, None)

    def hang_up(self, before_s: float) -> bool:
        """Let go who has been shaking hands for longest, if since before then; returns whether there was anybody."""
        protocol = next(iter(self._arriving), None)
        if self._tls is None or protocol is None or self._arriving[protocol][0] >= before_s:
            return False
        _, task = self._arriving.pop(protocol)
        task.cancel()
        return True

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen on every address of a host.

        Args:
            host: A name or an address; empty for all of this machine.
            port: 0 takes a free one.
            reuse_port: Let several processes share the port (SO_REUSEPORT).

        Returns:
            The port.

        Raises:
            OSError: The host is unknown, or the port is taken.
        """
        found = await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                listener = socket.socket(family, socket.SOCK_STREAM)
                self._sockets.append(listener)
                listener.setblocking(False)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if reuse_port:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((address[0], port, *address[2:]))
                listener.listen(_BACKLOG)
                port = listener.getsockname()[1]
        except OSError:
            self.close()
            raise
        self._look()
        return port

    def close(self) -> None:
        """Stop listening; connections that were accepted go on."""
        if self._pause is not None:
            self._pause.cancel()
        for listener in self._sockets:
            self._loop.remove_reader(listener)
            listener.close()
        self._sockets.clear()

    def _look(self) -> None:
        self._pause = None
        for listener in self._sockets:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_MOST):
            try:
                client, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(error)
                return
            if self._has_room is not None and not self._has_room():
                client.close()
                continue
            client.setblocking(False)
            protocol = self._make()
            task = self._loop.create_task(self._admit(client, protocol))
            self._arriving[protocol] = self._loop.time(), task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _wait(self, error: OSError) -> None:
        """The process or the machine has no room for a connection: look again later, and not in every turn."""
        now_s = self._loop.time()
        if now_s >= self._tell_at_s:  # and not each time while it goes on
            self._tell_at_s = now_s + _TELL_EVERY_S
            _log.warning("no connection can be accepted, who comes has to wait: %s", error)
        for listener in self._sockets:
            self._loop.remove_reader(listener)
        if self._pause is None:
            self._pause = self._loop.call_later(_PAUSE_S, self._look)

    async def _admit(self, client: socket.socket, protocol: asyncio.Protocol) -> None:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
            )
        except OSError as error:  # gone already, or its handshake failed (SSLError is one)
            _log.debug("a connection was not made: %s", error)
            client.close()
        finally:
            self._arriving.pop(protocol, None)
