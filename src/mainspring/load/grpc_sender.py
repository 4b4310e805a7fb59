"""The same open loop over gRPC: calls of ModelInfer, many on a connection, each timed from when it was meant to go."""

from __future__ import annotations

import re
from itertools import cycle
from typing import Any

import grpc
from grpc import aio

from mainspring.load.sender import ANSWERED, MONOTONE, NO_TLS, ROW_ERRORS, TIMEOUT, UNTRUSTED, Job, Sender, Sent
from mainspring.serving.grpc_messages import SERVICE

_CHANNELS = 4
"""Connections that the calls share; HTTP/2 carries many on each."""
_CODE = re.compile(r"\[(MS-[A-Z]\d+)\]$")
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)")
_ERROR_OUTPUT = b"\x0a\x05error"  # field 1 of a tensor of that name
_FALLBACK_OUTPUT = b"\x0a\x08fallback"


class GrpcSender(Sender):
    """Sends a job's calls, at most ``connections`` of them under way."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._under_way = 0
        self._calls: Any = None

    async def run(self) -> Sent:
        """Send all, and wait until each is answered or has failed."""
        job, options = self.job, (("grpc.use_local_subchannel_pool", 1),)
        where = f"{job.host}:{job.port}"
        pem = None if job.authority is None else job.authority.encode()
        trusted = grpc.ssl_channel_credentials(pem) if job.tls else None
        channels = [
            aio.insecure_channel(where, options) if trusted is None else aio.secure_channel(where, trusted, options)
            for _ in range(min(_CHANNELS, job.connections))
        ]
        self._calls = cycle([one.unary_unary(f"/{SERVICE}/ModelInfer") for one in channels])
        try:
            return await super().run()
        finally:
            for one in channels:
                await one.close()

    def _submit(self, i: int) -> None:
        if self._under_way < self.job.connections:
            self._start(i)
        else:
            self._waiting.append(i)

    def _start(self, i: int) -> None:
        self._under_way += 1
        task = self._loop.create_task(self._call(i))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, i: int) -> None:
        pool = self.job.pool
        left_s = self._due[i] + self.job.timeout_s - MONOTONE()
        try:
            body = await next(self._calls)(
                pool.request(self.job.first + i), timeout=max(left_s, 0.0), metadata=pool.metadata
            )
        except aio.AioRpcError as error:
            kind = self._failure(i, error)
        else:
            kind = ROW_ERRORS if _ERROR_OUTPUT in body else ANSWERED
            self.fallbacks += _FALLBACK_OUTPUT in body
        self.ended(i, kind, MONOTONE())
        self._under_way -= 1
        if self._waiting:
            self._start(self._waiting.popleft())

    def _failure(self, i: int, error: aio.AioRpcError) -> str:
        code, name = _CODE.search(error.details() or ""), error.code().name
        if code is not None:
            return f"{name} {code.group(1)}"
        is_ours = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and MONOTONE() >= self._due[i] + self.job.timeout_s
        return TIMEOUT if is_ours else _distrust(error.details() or "") or name


def _distrust(details: str) -> str | None:
    """Why TLS was refused, if that is what gRPC says; it has no other place for it than its words."""
    if (found := _UNTRUSTED.search(details)) is not None:
        return f"{UNTRUSTED}: {found.group(1)}"
    if "Hostname Verification" in details:
        return f"{UNTRUSTED}: Hostname mismatch"
    return NO_TLS if "andshake failed" in details else None
