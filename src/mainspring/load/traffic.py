"""Runs of one kind of traffic against one server, by one process or several."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from mainspring.core.errors import UnavailableError
from mainspring.load.measure import Level, levels
from mainspring.load.pool import Pool
from mainspring.load.sender import ANSWERED, CLOSED, NO_TLS, NOT_SENT, TIMEOUT, UNTRUSTED, Job, Sent, send
from mainspring.load.shape import Stage, arrivals

LEAD_S = 0.5
"""Before each run, at its first rate and not counted: connections open, and the server gets warm."""
_START_S = 0.5


@dataclass(frozen=True)
class Server:
    """Where requests go; ``authority`` as in `Job`."""

    host: str
    port: int
    tls: bool = False
    authority: str | None = None


class Traffic:
    """What sends.

    Args:
        server: Where to.
        pool: What.
        processes: How many send; one is this process.
        connections: Kept alive at most, of all together.
        timeout_s: After so long a request has failed.
        seed: Of the arrivals.
    """

    def __init__(
        self,
        server: Server,
        pool: Pool,
        *,
        processes: int = 1,
        connections: int = 256,
        timeout_s: float = 5.0,
        seed: int,
    ) -> None:
        self._server = server
        self._pool = pool
        self._processes = processes
        self._connections = max(1, connections // processes)
        self._timeout_s = timeout_s
        self._seed = seed
        self._sent = 0
        self._executors: list[ProcessPoolExecutor] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the other processes, if there are to be any."""
        spawn = multiprocessing.get_context("spawn")
        if self._processes > 1:
            for _ in range(self._processes):
                self._executors.append(self._stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)))
            for started in [executor.submit(time.monotonic) for executor in self._executors]:
                started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them."""
        self._stack.close()

    def probe(self) -> None:
        """Send one request.

        Raises:
            UnavailableError: It was not answered (MS-C104).
        """
        (job,) = self._jobs(np.zeros(1), 1)
        sent = send(job)
        kind = sent.kinds[int(sent.kind[0])]
        if kind != ANSWERED:
            where = f"{self._server.host}:{self._server.port}"
            raise UnavailableError("MS-C104", f"a first request failed: {kind}", where=where, hint=_way_out(kind))

    def run(self, stages: Sequence[Stage]) -> list[Level]:
        """Send what the stages say; what became of each."""
        lead = Stage("lead", stages[0].low, stages[0].low, LEAD_S)
        self._seed += 1
        times_s, numbers = arrivals((lead, *stages), self._seed)
        jobs = self._jobs(times_s, self._processes)
        if self._executors:
            running = [executor.submit(send, job) for executor, job in zip(self._executors, jobs, strict=True)]
            sent = _joined([one.result() for one in running], len(times_s))
        else:
            sent = send(jobs[0])
        return levels(stages, (numbers - 1).astype(np.int16), sent)

    def _jobs(self, times_s: np.ndarray, count: int) -> list[Job]:
        begins_s = time.monotonic() + _START_S if count > 1 else None
        jobs = []
        for which in range(count):
            own = times_s[which::count]
            jobs.append(
                Job(
                    self._server.host,
                    self._server.port,
                    self._server.tls,
                    self._pool,
                    own,
                    self._sent,
                    begins_s,
                    self._connections,
                    self._timeout_s,
                    self._server.authority,
                )
            )
            self._sent += len(own)
        return jobs


_WAYS_OUT = (
    (("401", "UNAUTHENTICATED"), "the server asks for a key: --key-file FILE, one for predict:MODEL"),
    (("403", "PERMISSION_DENIED"), "the key is not for this model: mainspring keys create NAME --scope predict:MODEL"),
    (("404", "NOT_FOUND"), "nothing of that name serves there: mainspring train MODEL --release makes it serve"),
    (("400", "422", "INVALID_ARGUMENT"), "what was made up breaks a rule: --value NAME=VALUE, or --requests recorded"),
    (("413",), "fewer --rows"),
    ((f"{UNTRUSTED}: Hostname", f"{UNTRUSTED}: IP address"), "--url with a name that its certificate is for"),
    ((f"{UNTRUSTED}: certificate",), "it is not valid at this time: the server needs another, or this machine a clock"),
    ((UNTRUSTED,), "--ca-file FILE, the certificate (PEM) of the authority that has signed it"),
    (
        (NO_TLS,),
        "https:// and grpcs:// are for doors that speak TLS ([tls] in mainspring.toml): http:// and grpc:// here",
    ),
    ((CLOSED,), "a door that speaks TLS is https://; one with [tls] client_ca is not for load; else its log says more"),
    (("no connection", "UNAVAILABLE"), "nobody takes requests there: mainspring status says what is up, and where"),
    (("503",), "it is up and cannot predict: its /health says why"),
    ((TIMEOUT, NOT_SENT), "it takes requests and does not answer them: its /health, or a longer --timeout"),
)


def _way_out(kind: str) -> str:
    """What to do about a first request that failed."""
    return next((way for kinds, way in _WAYS_OUT if kind.startswith(kinds)), "its log says more")


def _joined(parts: Sequence[Sent], n: int) -> Sent:
    """What several processes sent in turns, in the order of its arrivals."""
    kinds = list(dict.fromkeys(kind for part in parts for kind in part.kinds))
    latency_s, late_s, kind = np.empty(n), np.empty(n), np.empty(n, np.int16)
    for which, part in enumerate(parts):
        own = slice(which, None, len(parts))
        latency_s[own], late_s[own] = part.latency_s, part.late_s
        kind[own] = np.array([kinds.index(one) for one in part.kinds], np.int16)[part.kind]
    return Sent(latency_s, kind, tuple(kinds), late_s, sum(part.fallbacks for part in parts))
