"""A sender as busy services have them: a few kept-alive connections with requests pipelined on each."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mainspring.core.errors import UnavailableError


@dataclass(frozen=True)
class Answer:
    """One response and how long it took from the first byte written to the last byte read, in milliseconds."""

    status: int
    body: bytes
    latency_ms: float


class Sender:
    """Pipelined HTTP/1.1 over a few connections, for servers that answer with Content-Length."""

    def __init__(self, url: str, connections: int = 4, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._timeout_s = timeout_s
        self._sockets: list[socket.socket | None] = [None] * connections

    def send(self, requests: Sequence[tuple[str, str, bytes]]) -> list[Answer]:
        """Send ``(path, content type, body)`` requests, spread over the connections; answers in the order of requests.

        Raises:
            UnavailableError: The server went away before it had answered (MS-L101).
        """
        n = len(self._sockets)
        shares = [requests[i::n] for i in range(n)]
        answers: list[Answer | None] = [None] * len(requests)
        try:
            started = time.perf_counter()
            for i, share in enumerate(shares):
                if share:
                    self._socket(i).sendall(b"".join(_encode(*request) for request in share))
            for i, share in enumerate(shares):
                buffer = bytearray()
                for j in range(len(share)):
                    status, body = _read_answer(self._socket(i), buffer)
                    answers[i + j * n] = Answer(status, body, (time.perf_counter() - started) * 1e3)
        except OSError as error:
            self.close()
            raise UnavailableError("MS-L101", f"{self._address[0]}:{self._address[1]} went away: {error}") from error
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        """Close the connections."""
        for i, one in enumerate(self._sockets):
            if one is not None:
                one.close()
                self._sockets[i] = None

    def _socket(self, i: int) -> socket.socket:
        one = self._sockets[i]
        if one is None:
            one = socket.create_connection(self._address, self._timeout_s)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[i] = one
        return one


def _encode(path: str, content_type: str, body: bytes) -> bytes:
    fields = ("Host: localhost", f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
    return "\r\n".join((f"POST {path} HTTP/1.1", *fields, "", "")).encode() + body


def _read_answer(one: socket.socket, buffer: bytearray) -> tuple[int, bytes]:
    """The next response in ``buffer``, read on from the socket as needed; what follows it stays in ``buffer``."""
    while (head_end := buffer.find(b"\r\n\r\n")) < 0:
        _receive(one, buffer)
    head = bytes(buffer[:head_end]).decode("latin-1").lower().split("\r\n")
    length = next(int(line.split(":", 1)[1]) for line in head[1:] if line.startswith("content-length:"))
    end = head_end + 4 + length
    while len(buffer) < end:
        _receive(one, buffer)
    body = bytes(buffer[head_end + 4 : end])
    del buffer[:end]
    return int(head[0].split()[1]), body


def _receive(one: socket.socket, buffer: bytearray) -> None:
    chunk = one.recv(262_144)
    if not chunk:
        raise ConnectionResetError("closed in the middle of an answer")
    buffer += chunk
