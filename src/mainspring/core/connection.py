"""One client's connection: requests are parsed as they come, answers leave in the order of their requests."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from mainspring.core.descriptors import unread_bytes
from mainspring.core.errors import MainspringError, UnavailableError
from mainspring.core.heads import ONCE, check_head, lower_name, refusal_of, target_of, too_long, without_upgrade
from mainspring.core.messages import (
    Deferred,
    RefusalError,
    Request,
    Sink,
    encode,
    error_response,
    guarded,
    internal_error,
)

if TYPE_CHECKING:
    from mainspring.core.http import Server

_PIPELINE = 64  # answers that one connection may wait for before we stop reading from it
_LINGER_S = 1.0  # how long a client may go on sending after its last answer
_PROGRESS_BYTES = 65_536  # a body that goes elsewhere brings at least so much in the time a request has to arrive
_STRANGER_BYTES = 16_384  # of a body, before its sender has shown a key to a door that asks for one
_OVERHEAD = 8  # bytes of chunk sizes and extensions that come with a byte of a body: one in chunks of one byte needs 6


class Connection(asyncio.Protocol):
    """One client. Answers wait in ``_queue`` in the order of their requests."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._limits = server.limits
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Deferred] = deque()
        self._peer = ""
        self._is_feeding = False
        self._is_paused = False  # we do not read: too many answers are waiting, or the client takes none
        self._is_last = False  # no further request is read from this connection
        self._since_s = loop.time()  # of what the connection is doing now
        self._stuck_since_s = 0.0  # since when the client takes no answers; 0 while it does
        self._is_refused = False
        self._linger_until_s = 0.0
        self._overhead = 0  # bytes that brought no part of a request: a head without an end, chunk extensions
        self._waits = False  # the client sends its body once it is told to
        self._start = b""  # bytes that the request being parsed is the first of
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._is_inside = False
        self._is_known = False
        self._has_headers = False
        self._is_again = False  # the head will be read again, without its wish for another protocol
        self._sink: Sink | None = None

    # --- asyncio --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._since_s = self._loop.time()  # its handshake is over
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        if not self._server.enter(self):
            self._refuse(UnavailableError("MS-S007", "too many connections"))
        elif self._server.draining:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; whoever computes its answers may stop."""
        self._transport = None
        self._drop_sink()
        for slot in self._queue:
            slot.cancelled = True
        self._queue.clear()
        self._server.gone(self)

    def eof_received(self) -> bool:
        """The client sends no more; it may still read."""
        self._is_last = True
        self._drop_sink()
        return bool(self._queue)  # True keeps our half open until the answers are out

    def pause_writing(self) -> None:
        """The client takes no answers: stop reading its requests."""
        self._stuck_since_s = self._loop.time()
        self._balance()

    def resume_writing(self) -> None:
        """The client takes answers again."""
        self._stuck_since_s = 0.0
        self._balance()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self._is_last:
            return  # after Connection: close or a refusal: read and thrown away
        if not self._is_inside:
            self._since_s = self._loop.time()
        self._is_feeding = True
        try:
            if not self._is_inside:
                self._start = data = self._answer_known(data)
            if data:
                self._overhead += len(data)
                self._parse(data)
        except httptools.HttpParserError as error:
            refusal = refusal_of(error)
            if not self._is_last:
                self._refuse(refusal)
        finally:
            self._is_feeding = False
        if self._overhead > self._limits.max_header_bytes and not self._is_last:
            self._refuse(too_long(self._limits.max_header_bytes))
        self.flush()

    def _answer_known(self, data: bytes) -> bytes:
        """Hand over the requests at the start of ``data`` whose heads are known; the rest is for the parser."""
        server = self._server
        while data and not server.draining and (found := server.known.find(data)) is not None:
            method, path, query, headers, start, stop = found
            self._overhead = 0
            self._hand_over(Request(method, path, query, headers.copy(), data[start:stop], self._peer), keeps=True)
            data = data[stop:]
        return data

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                method, version = self._parser.get_method(), self._parser.get_http_version()
                self._parser = httptools.HttpRequestParser(self)
                data = without_upgrade(method, self._url, version, self._headers) + data[upgrade.args[0] :]

    # --- httptools ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request starts."""
        if self._is_last:
            raise RefusalError(400, "MS-S003", "data after the last request")
        self._reset()
        self._is_inside = True

    def on_url(self, part: bytes) -> None:
        """A piece of the request's target."""
        self._url += part
        self._header_bytes += len(part)
        if self._header_bytes > self._limits.max_header_bytes:
            raise too_long(self._limits.max_header_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer of a chunked body, which counts and is ignored."""
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self._limits.max_header_bytes:
            raise too_long(self._limits.max_header_bytes)
        if self._has_headers:
            return
        key = lower_name(name)
        text = value.decode("latin-1").rstrip(" \t")  # RFC 9110 §5.5: no part of the value
        known = self._headers.get(key)
        if known is not None:
            if key in ONCE:
                raise RefusalError(400, "MS-S003", f"header {key!r} is there twice")
            text = f"{known}, {text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        """The head is whole: refuse early what need not be read."""
        self._has_headers = True
        self._overhead = 0
        parser, headers = self._parser, self._headers
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise RefusalError(400, "MS-S003", "no other protocol is spoken here")
            self._is_again = True
            return
        self._waits = check_head(parser.get_http_version(), headers, self._server.is_wide)
        length = int(headers.get("content-length", 0))
        if length > _STRANGER_BYTES and not self._is_known:
            self._know()
        if length > self._limits.max_body_bytes:
            self._open_sink()

    def on_body(self, part: bytes) -> None:
        """A piece of the body."""
        self._waits = False
        overhead = self._overhead - _OVERHEAD * len(part)
        self._overhead = overhead if overhead > 0 else 0  # noqa: FURB136  a call of max costs more
        self._body_bytes += len(part)
        if self._body_bytes > _STRANGER_BYTES and not self._is_known:
            self._know()
        if self._sink is None and self._body_bytes > self._limits.max_body_bytes:
            self._open_sink()
        if self._sink is None:
            self._body.append(part)
        else:
            self._feed(self._sink, part)

    def on_message_complete(self) -> None:
        """A whole request: hand it to the handler."""
        if self._is_again:
            return
        self._is_inside = self._waits = False
        self._overhead = 0
        self._since_s = self._loop.time()
        keeps = self._parser.should_keep_alive() and not self._server.draining
        if "connection" in self._headers and self._parser.get_http_version() == "1.0":
            keeps = False  # 1.0 keeps connections only by an agreement that we do not enter
        if not keeps:
            self._is_last = True
        if self._sink is not None:
            self._sink.deferred.keeps = keeps
            sink, self._sink = self._sink, None
            guarded(sink, sink.end)
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = self._request(body)
        if keeps and self._start:
            self._server.known.keep(self._start, request)
        self._start = b""
        self._hand_over(request, keeps=keeps)

    def _hand_over(self, request: Request, *, keeps: bool) -> None:
        slot = self._server.answer(request)
        slot.keeps, slot.is_head = keeps, request.method == "HEAD"
        slot.connection = self
        self._queue.append(slot)

    # --- answers --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send every answer whose turn it is, in one write."""
        queue, transport = self._queue, self._transport
        if self._is_feeding or transport is None:
            return
        if queue and queue[0].response is None and not (self._waits or self._is_last):  # nothing to send, as most times
            if self._is_paused or self._sink is not None or len(queue) >= _PIPELINE:
                self._balance()
            return
        out: list[bytes] = []
        ends = False
        while queue and (response := queue[0].response) is not None:
            slot = queue.popleft()
            if self._sink is not None and slot is self._sink.deferred:
                self._sink, self._is_last, self._is_inside, self._is_refused = None, True, False, True
            keeps = slot.keeps and not self._server.draining
            try:
                out.append(encode(response, self._server.date, keeps, slot.is_head))
            except ValueError as error:
                out.append(encode(internal_error(error), self._server.date, keeps, False))
            if not keeps:
                ends = True
                break
        if out:
            self._since_s = self._loop.time()
            transport.write(out[0] if len(out) == 1 else b"".join(out))
        if self._waits and not ends and (not queue or (self._sink is not None and queue[0] is self._sink.deferred)):
            self._waits = False
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if ends or (self._is_last and not queue):
            self._finish(transport)
        elif self._is_paused or self._sink is not None or len(queue) >= _PIPELINE:
            self._balance()

    def close_when_idle(self) -> None:
        """Close now if no request is under way, else after its answer."""
        if self._transport is not None and not self._queue and not self._is_inside:
            self._transport.close()

    def idle_since(self) -> float | None:
        """Since when nothing is asked, answered or waiting to be read on it; None while something is."""
        transport = self._transport
        if transport is None or self._queue or self._is_inside or self._is_last or transport.is_closing():
            return None
        is_busy = transport.get_write_buffer_size() or unread_bytes(transport.get_extra_info("socket").fileno())
        return None if is_busy else self._since_s

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def check_time(self, now_s: float) -> None:
        """Drop a client that is idle, sends too slowly or takes no answers."""
        limits = self._limits
        if self._transport is None:
            return
        if self._linger_until_s:
            if now_s >= self._linger_until_s:
                self._transport.abort()
        elif self._transport.is_closing():
            if now_s - self._since_s > limits.slow_s:
                self._transport.abort()  # never took its last answer
        elif self._stuck_since_s and now_s - self._stuck_since_s > limits.slow_s:
            self._transport.abort()
        elif self._sink is not None and self._sink.full:
            self._since_s = now_s  # it waits for us
        elif self._is_inside:
            if now_s - self._since_s > limits.slow_s:
                self._refuse(RefusalError(408, "MS-S005", f"the request did not arrive within {limits.slow_s:g} s"))
                self.flush()
        elif not self._queue and now_s - self._since_s > limits.idle_s:
            self._transport.close()

    def _know(self) -> None:
        """Ask for the key before a body is kept; whether it is the right one is asked of the whole request."""
        self._server.knows(self._headers.get("authorization", ""))
        self._is_known = True

    def _request(self, body: bytes) -> Request:
        path, query = target_of(self._url, any_host=self._server.is_wide)
        return Request(self._parser.get_method().decode("ascii"), path, query, self._headers, body, self._peer)

    def _open_sink(self) -> None:
        """From here on the body goes elsewhere, piece by piece: first what was kept of it.

        Raises:
            MainspringError: There is nothing that takes it.
        """
        opener = self._server.opener
        sink = None if opener is None else opener(self._request(b""))
        if sink is None:
            raise RefusalError(413, "MS-S004", f"a body has at most {self._limits.max_body_bytes} bytes here")
        self._sink = sink
        sink.wake = self._balance
        sink.deferred.connection = self
        sink.deferred.keeps = False  # until the body is whole
        self._queue.append(sink.deferred)
        kept, self._body, self._body_bytes = self._body, [], 0
        for part in kept:
            self._feed(sink, part)

    def _feed(self, sink: Sink, part: bytes) -> None:
        guarded(sink, lambda: sink.feed(part))
        if self._body_bytes > _PROGRESS_BYTES:  # it is not slow, it is large
            self._since_s, self._body_bytes = self._loop.time(), 0

    def _drop_sink(self) -> None:
        """There will be no end of the body."""
        if self._sink is not None:
            sink, self._sink = self._sink, None
            if sink.deferred in self._queue:
                self._queue.remove(sink.deferred)
            sink.deferred.cancelled = True
            sink.abort()

    def _refuse(self, refusal: MainspringError) -> None:
        """Answer in turn, then close; what the client still sends is thrown away."""
        self._drop_sink()
        self._server.refused(refusal.http_status)
        is_head = self._is_inside and self._has_headers and self._parser.get_method() == b"HEAD"
        self._is_last, self._is_inside, self._waits = True, False, False
        slot = Deferred()
        slot.is_head = is_head  # whatever goes wrong, an answer to HEAD has no body
        slot.response = error_response(refusal)
        slot.keeps = False
        slot.connection = self
        self._queue.append(slot)
        self._is_refused = True
        self.flush()

    def _finish(self, transport: asyncio.Transport) -> None:
        """Close once the client has: over bytes that nobody read a close resets it, and its answer (RFC 9112, 9.6)."""
        if not self._is_refused and (self._server.draining or not transport.can_write_eof()):
            transport.close()
        elif not self._linger_until_s:
            self._linger_until_s = self._loop.time() + _LINGER_S
            if transport.can_write_eof():  # TLS has no half of a connection
                transport.write_eof()
            if self._is_paused:
                transport.resume_reading()

    def _balance(self) -> None:
        """Read only while the client takes its answers and does not run too far ahead of them."""
        is_full = self._sink is not None and self._sink.full
        should_pause = is_full or bool(self._stuck_since_s) or len(self._queue) >= _PIPELINE
        if should_pause != self._is_paused and self._transport is not None and not self._transport.is_closing():
            self._is_paused = should_pause
            if should_pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
