"""Sends requests at the instants that were fixed before, and times each from its instant: no coordinated omission.

A sender that waits for an answer before it asks again (a closed loop) asks less while the server is slow, and so never
sees most of the slowness: a stall of a second is one bad answer there, and a second's worth of them here. A request for
which no connection is free waits here, and its waiting counts.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

import httptools
import msgspec
import numpy as np
import numpy.typing as npt
import uvloop

from mainspring.load.pool import Pool
from mainspring.load.timer import Timer

ANSWERED = "answered"
TIMEOUT = "no answer in time"
NOT_SENT = "no connection was free in time"
ROW_ERRORS = "some rows failed"
CLOSED = "the connection was closed"
UNTRUSTED = "its certificate is not trusted"
NO_TLS = "TLS was not agreed on"
LEAD_S = 0.1
LOOK_S = 0.05
MONOTONE = time.monotonic


@dataclass(frozen=True, eq=False)
class Job:
    """What one process sends.

    Attributes:
        host: Of the server.
        tls: Whether it speaks TLS.
        pool: The requests.
        times_s: When each is meant to be sent, seconds from the beginning, rising.
        first: Number of the first one: no two processes send the same id.
        begins_s: When that is, on the monotonic clock; None: soon.
        connections: Kept alive at most.
        timeout_s: After so long a request has failed.
        authority: Certificates (PEM), one of which is to have signed the server's; None: those that the machine knows.
    """

    host: str
    port: int
    tls: bool
    pool: Pool
    times_s: npt.NDArray[np.float64]
    first: int = 0
    begins_s: float | None = None
    connections: int = 256
    timeout_s: float = 5.0
    authority: str | None = None


@dataclass(frozen=True, eq=False)
class Sent:
    """What became of each request.

    Attributes:
        latency_s: From the instant at which it was meant to be sent to its answer; to its failure if there was none.
        kind: int16[n], places in ``kinds``.
        kinds: What there was: ``answered`` first, then the errors.
        late_s: How much later than meant the sender came to it: of its own doing, not the server's.
        fallbacks: How many answers came from a fallback.
    """

    latency_s: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int16]
    kinds: tuple[str, ...]
    late_s: npt.NDArray[np.float64]
    fallbacks: int = 0


def send(job: Job) -> Sent:
    """Send all requests of a job, and wait until each is answered or has failed."""
    if job.pool.is_grpc:
        from mainspring.load.grpc_sender import GrpcSender  # what it needs is an extra

        return uvloop.run(GrpcSender(job).run())
    return uvloop.run(Sender(job).run())


class _Error(msgspec.Struct):
    """What an error's body may say of itself."""

    code: str = ""
    error: str = ""


class Sender:
    """Sends a job's requests over HTTP, one at a time on each connection."""

    def __init__(self, job: Job) -> None:
        self.job = job
        n = len(job.times_s)
        self.latency_s = [0.0] * n
        self.late_s = [0.0] * n
        self.kind = [-1] * n
        self.kinds: dict[str, int] = {ANSWERED: 0}
        self.fallbacks = 0
        self._due: list[float] = []
        self._next = 0
        self._left = n
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening = 0
        self._waiting: deque[int] = deque()
        self._tls = ssl.create_default_context(cadata=job.authority) if job.tls else None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Sent:
        """Send all, and wait until each is answered or has failed."""
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        timer = Timer(self._loop, self._dispatch)
        self._timer = timer
        begins_s = self.job.begins_s or MONOTONE() + LEAD_S
        self._due = (self.job.times_s + begins_s).tolist()
        if not self._due:
            self._done.set_result(None)
        else:
            timer.at(self._due[0])
        looking = self._loop.call_later(LOOK_S, self._look)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection of the sender's would be taken for the server's slowness
        try:
            await self._done
        finally:
            gc.enable()
            gc.unfreeze()
            looking.cancel()
            timer.close()
            for connection in self._all:
                connection.abort()  # a farewell of TLS would outlast the loop
            for task in self._tasks:
                task.cancel()
        return Sent(
            np.array(self.latency_s),
            np.array(self.kind, np.int16),
            tuple(self.kinds),
            np.array(self.late_s),
            self.fallbacks,
        )

    # --- when -----------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Send what is due, all of it, and wake for the next."""
        now_s, due, i = MONOTONE(), self._due, self._next
        while i < len(due) and due[i] <= now_s:
            self.late_s[i] = now_s - due[i]
            self._submit(i)
            i += 1
        self._next = i
        if i < len(due):
            self._timer.at(due[i])

    def _submit(self, i: int) -> None:
        if self._free:
            self._free.pop().send(i, self.job.pool.request(self.job.first + i))
            return
        self._waiting.append(i)
        if len(self._all) + self._opening < self.job.connections:
            self._open()

    def _look(self) -> None:
        """Give up what has waited too long."""
        now_s = MONOTONE()
        before_s = now_s - self.job.timeout_s
        while self._waiting and self._due[self._waiting[0]] < before_s:
            self.ended(self._waiting.popleft(), NOT_SENT, now_s)
        for connection in list(self._all):
            i = connection.request
            if i >= 0 and self._due[i] < before_s:
                connection.request = -1
                self.ended(i, TIMEOUT, now_s)
                connection.abort()
        if not self._done.done():
            self._loop.call_later(LOOK_S, self._look)

    # --- connections ----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._opening += 1
        task = self._loop.create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self.job.timeout_s):
                await self._loop.create_connection(
                    lambda: _Connection(self), self.job.host, self.job.port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            if self._waiting:  # one attempt, one failure: a server that is gone fails what it is asked
                self.ended(self._waiting.popleft(), _refusal(error), MONOTONE())
            self._opening -= 1
            self._more()
        else:
            self._opening -= 1

    def opened(self, connection: _Connection) -> None:
        """A connection is there."""
        self._all.add(connection)
        self.idle(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        self._more()

    def idle(self, connection: _Connection) -> None:
        """A connection that may take the next request."""
        if self._waiting:
            i = self._waiting.popleft()
            connection.send(i, self.job.pool.request(self.job.first + i))
        else:
            self._free.append(connection)

    def _more(self) -> None:
        """As many connections as what waits can use."""
        room = self.job.connections - len(self._all) - self._opening
        for _ in range(min(len(self._waiting) - self._opening, room)):
            self._open()

    # --- what became of it ----------------------------------------------------------------------------------------

    def ended(self, i: int, kind: str, now_s: float) -> None:
        """What became of a request."""
        self.latency_s[i] = now_s - self._due[i]
        self.kind[i] = self.kinds.setdefault(kind, len(self.kinds))
        self._left -= 1
        if self._left == 0 and not self._done.done():
            self._done.set_result(None)


def _refusal(error: OSError) -> str:
    """Why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{UNTRUSTED}: {error.verify_message.rstrip('.')}"
    return NO_TLS if isinstance(error, ssl.SSLError) else f"no connection: {type(error).__name__}"


class _Connection(asyncio.Protocol):
    """One connection that is kept alive; one request at a time."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.request = -1
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def send(self, i: int, raw: bytes) -> None:
        self.request = i
        if self._transport is not None:
            self._transport.write(raw)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sender.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.request >= 0:
            kind = CLOSED if exc is None else f"the connection broke: {type(exc).__name__}"
            i, self.request = self.request, -1
            self._sender.ended(i, kind, MONOTONE())
        self._sender.lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self.request >= 0:
                i, self.request = self.request, -1
                self._sender.ended(i, "the answer is no HTTP", MONOTONE())
            self.abort()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        i, self.request = self.request, -1
        if i < 0:  # it was given up
            return
        sender = self._sender
        sender.ended(i, self._kind(body), MONOTONE())
        if not self._parser.should_keep_alive():
            self.close()
        else:
            sender.idle(self)

    def _kind(self, body: bytes) -> str:
        status = self._parser.get_status_code()
        if status == 200:
            if b'"fallback"' in body:
                self._sender.fallbacks += 1
            return ROW_ERRORS if b'"error"' in body else ANSWERED
        try:
            said = msgspec.json.decode(body, type=_Error)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return str(status)
        return " ".join(filter(None, (str(status), said.code or said.error[:60])))
