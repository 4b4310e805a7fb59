"""``mainspring.AsyncClient``: the same client for programs that run on an event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

import httptools

from mainspring.client.endpoint import Endpoint, Event
from mainspring.client.outcomes import Delivery, Prediction
from mainspring.client.refused import RefusedEvent
from mainspring.core.errors import BackPressureError
from mainspring.core.exchange import Answer, Place

_READ_BYTES = 65_536


class AsyncClient(Endpoint):
    """As ``Client``, to be awaited; arguments, outcomes and errors are the same.

    Events are carried by a thread of their own here too, so that a busy loop does not hold them up. As many predictions
    are asked for at once as are awaited, each on a kept connection.

    Example:
        >>> async def main():
        ...     async with ms.AsyncClient("http://127.0.0.1:7070", intake="http://127.0.0.1:7071") as client:
        ...         answer = await client.predict("late_flight", {"flight_id": "UA1", "carrier": "UA"})
        ...         outcomes = await (await client.send("arrived", [{"flight_id": "UA1", "arr_delay_min": 3.0}]))
    """

    async def send(self, source: str, events: Event | Sequence[Event]) -> Delivery:
        """See ``Client.send``; waits only while there is no room. Await what it returns for the outcomes."""
        try:
            return self._send(source, events, 0.0)
        except BackPressureError:
            return await asyncio.to_thread(self._send, source, events, self._timeout_s)

    async def flush(self, timeout_s: float | None = None) -> None:
        """See ``Client.flush``."""
        await asyncio.to_thread(self._flush, timeout_s)

    async def refused(self) -> list[RefusedEvent]:
        """See ``Client.refused``."""
        return await asyncio.to_thread(self._refused.all)

    async def send_refused(self) -> int:
        """See ``Client.send_refused``."""
        return await asyncio.to_thread(self._send_refused)

    @overload
    async def predict(
        self, model: str, rows: Event, *, with_status: bool = ..., timeout_s: float | None = ...
    ) -> Prediction: ...
    @overload
    async def predict(
        self, model: str, rows: Sequence[Event], *, with_status: bool = ..., timeout_s: float | None = ...
    ) -> list[Prediction]: ...
    async def predict(
        self, model: str, rows: Event | Sequence[Event], *, with_status: bool = False, timeout_s: float | None = None
    ) -> Prediction | list[Prediction]:
        """See ``Client.predict``."""
        asking = self._asking(model, rows, timeout_s, with_status=with_status)
        while True:
            left_s = asking.left_s()
            try:
                async with asyncio.timeout(left_s):
                    answer = await self._ask("POST", asking.path, asking.body, asking.headers(left_s))
            except OSError as error:
                asking.failed(error)
            else:
                if asking.is_answer(answer):
                    return asking.read(answer)
            await asyncio.sleep(asking.pause_s())

    async def close(self, timeout_s: float | None = None) -> None:
        """See ``Client.close``."""
        while self._connections:
            self._connections.pop().close()
        await asyncio.to_thread(self._close, timeout_s)

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """On a kept connection, and once more on a new one if that has been closed."""
        if self._connections:
            connection = self._connections.pop()
            try:
                return await self._on(connection, method, path, body, headers)
            except TimeoutError:
                raise
            except OSError:
                pass
        connection = await _Connection.opened(self._gateway())
        return await self._on(connection, method, path, body, headers)

    async def _on(
        self, connection: _Connection, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        try:
            answer = await connection.ask(method, path, body, headers)
        except BaseException:  # a cancelled question too: its answer would be taken for the next one's
            connection.close()
            raise
        if connection.is_kept:
            self._connections.append(connection)
        else:
            connection.close()
        return answer


class _Connection:
    """One connection on the event loop; httptools parses what comes."""

    def __init__(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._place = place
        self._reader = reader
        self._writer = writer
        self.is_kept = True

    @classmethod
    async def opened(cls, url: str) -> Self:
        """A new one."""
        place = Place.of(url)
        context = ssl.create_default_context() if place.is_tls else None
        return cls(place, *await asyncio.open_connection(place.host, place.port, ssl=context))

    async def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request and read its answer.

        Raises:
            OSError: It did not come, or is no HTTP.
        """
        place = self._place
        head = [f"{method} {place.prefix}{path} HTTP/1.1", f"Host: {place.host}:{place.port}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        head += [f"Content-Length: {len(body)}", "", ""]
        self._writer.write("\r\n".join(head).encode("latin-1") + body)
        read = _Reading()
        parser = httptools.HttpResponseParser(read)
        while not read.is_whole:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise ConnectionError("the connection was closed before the answer was whole")
            try:
                parser.feed_data(data)
            except httptools.HttpParserError as error:
                raise ConnectionError(f"this is no HTTP: {error}") from None
        self.is_kept = bool(parser.should_keep_alive())
        return Answer(parser.get_status_code(), read.headers, b"".join(read.parts))

    def close(self) -> None:
        """Close it."""
        self._writer.close()


class _Reading:
    """What httptools calls while an answer comes in."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, part: Any) -> None:
        """A piece of the body."""
        self.parts.append(bytes(part))

    def on_message_complete(self) -> None:
        """The end."""
        self.is_whole = True
