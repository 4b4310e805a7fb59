"""Heads of requests that came before, byte for byte: what they say is known, and they need not be parsed again.

Clients write nearly the same head with every request: only the length of the body changes, and takes few values. What
is kept was parsed and checked once as the first of a connection's bytes, with nothing in it that changes how the
connection goes on: its body's length is said in digits, it is kept open, and no line ends in anything but CR LF.
"""

from __future__ import annotations

from typing import NamedTuple

from mainspring.core.messages import Request

_END = b"\r\n\r\n"
_MAX_BYTES = 2_048
_MAX_HEADS = 256
_NOT = ("transfer-encoding", "expect", "upgrade", "connection")


class Head(NamedTuple):
    """What a head says, and where in the bytes that start with it its body starts and stops."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    start: int
    stop: int


class KnownHeads:
    """The heads that one door has seen."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}

    def find(self, data: bytes) -> Head | None:
        """The head that ``data`` starts with, if it is known and its body is whole."""
        head = self._heads.get(data[: data.find(_END, 0, _MAX_BYTES) + 4])
        return None if head is None or head.stop > len(data) else head

    def keep(self, data: bytes, request: Request) -> None:
        """Keep the head of a request that the parser found at the start of ``data``."""
        start = data.find(_END, 0, _MAX_BYTES) + 4
        raw, headers = data[:start], request.headers
        stop = start + len(request.body)
        if start < len(_END) or not raw[:1].isalpha() or raw.count(b"\n") != raw.count(b"\r\n"):
            return
        if any(name in headers for name in _NOT) or data[start:stop] != request.body:
            return
        if headers.get("content-length", "0") != str(len(request.body)):
            return
        if len(self._heads) >= _MAX_HEADS:  # some clients never write one twice: others are soon known again
            self._heads.clear()
        self._heads[raw] = Head(request.method, request.path, request.query, headers.copy(), start, stop)
