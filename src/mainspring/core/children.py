"""Processes that are looked after: started, started again when they die, and gone when their parent is.

Each child holds the reading end of a pipe as its standard input and stops when that ends, so that a parent that is
killed takes its children with it. Children run in sessions of their own: Ctrl-C reaches the parent, which stops them
in its order.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BACK_OFF_S = (0.2, 30.0)
HEALTHY_S = 60.0
STOP_TIMEOUT_S = 20.0
LOG_BYTES = 10_000_000


@dataclass(frozen=True)
class Exit:
    """A process that ended without being told to.

    Attributes:
        code: Exit code; negative for a signal.
        again_in_s: After how long it is started again.
        was_healthy: Whether it had run for a minute.
    """

    name: str
    pid: int
    code: int
    again_in_s: float
    was_healthy: bool = False


class Child:
    """One process that is kept running.

    Args:
        name: What it is called in messages.
        log: File that its output is appended to; it goes where the parent's goes if None.
    """

    def __init__(self, name: str, log: Path | None = None) -> None:
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self._started_s = self._due_s = 0.0
        self._back_off_s = BACK_OFF_S[0]

    @property
    def pid(self) -> int | None:
        """Pid of the process while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def code(self) -> int | None:
        """Exit code of a process that has ended and has not been polled yet."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_healthy(self) -> bool:
        """Whether it has been running for a minute."""
        return self.pid is not None and time.monotonic() - self._started_s >= HEALTHY_S

    @property
    def is_due(self) -> bool:
        """Whether it has ended and its back-off is over."""
        return self._process is None and self._due_s > 0.0 and time.monotonic() >= self._due_s

    def start(self, argv: Sequence[str]) -> None:
        """Start the program ``argv``."""
        output = None
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
            output = self.log.open("ab")
        theirs, ours = os.pipe()  # neither end is inherited by the other children
        try:
            self._process = subprocess.Popen(argv, stdin=theirs, stdout=output, stderr=output, start_new_session=True)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
            if output is not None:
                output.close()
        self._lifeline = ours
        self._started_s, self._due_s = time.monotonic(), 0.0

    def poll(self) -> Exit | None:
        """Whether it has ended since the last look. The back-off doubles while it keeps ending."""
        code = self.code
        if self._process is None or code is None:
            return None
        now_s = time.monotonic()
        was_healthy = now_s - self._started_s >= HEALTHY_S
        if was_healthy:
            self._back_off_s = BACK_OFF_S[0]
        ended = Exit(self.name, self._process.pid, code, self._back_off_s, was_healthy)
        self._due_s = now_s + self._back_off_s
        self._back_off_s = min(self._back_off_s * 2, BACK_OFF_S[1])
        self._forget()
        return ended

    def tell_to_stop(self) -> None:
        """Ask it to end, and never start it again by itself; ``stop`` waits."""
        self._due_s = 0.0
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """End it: what does not obey in time is killed."""
        self.tell_to_stop()
        if self._process is None:
            return
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        self._process = None
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
