"""One request to a neighbouring process, on the event loop: a loopback door, plain HTTP, a connection of its own."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httptools

from mainspring.core.errors import UnavailableError


class _Answer:
    """Collects what httptools reads."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.is_whole = False

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)

    def on_message_complete(self) -> None:
        self.is_whole = True


async def ask(url: str, method: str, path: str, token: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of the answer to a request without a body.

    Args:
        url: Of the neighbour's door, as ``core.run`` knows it.
        method: GET or POST.
        path: With its query.
        token: The project's internal token.
        timeout_s: For all of it.

    Raises:
        UnavailableError: It cannot be reached, or does not answer in time (MS-S011).
    """
    parts = urlsplit(url)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(head.encode())
                raw = await reader.read()
            finally:
                writer.close()
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        parser.feed_data(raw)
        status = parser.get_status_code()
    except (OSError, TimeoutError, httptools.HttpParserError) as error:
        raise UnavailableError("MS-S011", f"a neighbour does not answer: {error!r}", where=url) from None
    if not answer.is_whole:
        raise UnavailableError("MS-S011", "a neighbour's answer ends early", where=url)
    return status, b"".join(answer.parts)
