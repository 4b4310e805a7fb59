"""Starts a project's processes, starts a dead one again, and leaves none behind.

Each child holds the other end of a pipe and stops when it closes, so that a supervisor that is killed takes its
processes with it. Children run in sessions of their own: Ctrl-C reaches the supervisor, which stops them in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import urlsplit

from mainspring.core.clock import Clock, WallClock
from mainspring.core.config import Config
from mainspring.core.errors import NotFoundError, UnavailableError
from mainspring.core.run import Lease, read_door, remove_door, write_door
from mainspring.loop.deaths import SUPERVISOR, Death, write_deaths

COMMANDS = {"intake": ("intake",), "gateway": ("serve",), "worker": ("worker",), "connect": ("connect", "run")}
# What is stopped first must not miss what is stopped last: the gateway hands its last predictions to the intake.
STOP_ORDER = ("connect", "gateway", "worker", "intake")
PORTS = ("intake", "gateway")
BACK_OFF_S = (0.2, 30.0)
HEALTHY_S = 60.0
STOP_TIMEOUT_S = 20.0
LAST_WORDS = 5
LOG_BYTES = 10_000_000
_TURN_S = 0.05


@dataclass(frozen=True)
class Exit:
    """A process that ended without being told to.

    Attributes:
        code: Exit code; negative for a signal.
        again_in_s: After how long it is started again.
    """

    name: str
    pid: int
    code: int
    again_in_s: float


@dataclass
class _Child:
    name: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    started_s: float = 0.0
    due_s: float = 0.0
    back_off_s: float = BACK_OFF_S[0]
    starts: int = field(default=0)
    port: int = 0
    death: Death | None = None


class Supervisor:
    """The processes of one project on this machine.

    Args:
        config: The project's settings.
        names: Which processes: ``intake``, ``gateway``, ``worker``, ``connect``; None for all that the project needs,
            the last one only if it declares connectors.
        clock_file: A clock that somebody else drives, for all of them.
        free_ports: Let each listen on a free port, whatever ``mainspring.toml`` says.
        clock: Tells when a process has ended; the wall's.
    """

    def __init__(
        self,
        config: Config,
        names: Sequence[str] | None = None,
        clock_file: Path | None = None,
        *,
        free_ports: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if names is None:
            names = [name for name in STOP_ORDER if name != "connect" or config.connect]
        unknown = [name for name in names if name not in COMMANDS]
        if unknown:
            raise NotFoundError("MS-L140", f"no process is called {unknown[0]!r}", hint=", ".join(COMMANDS))
        self._config = config
        self._clock_file = clock_file
        self._free_ports = free_ports
        self._clock = clock or WallClock()
        self._children = {name: _Child(name, self.log_path(name)) for name in names}
        self._lease = Lease(config.run / "supervisor.lock")

    def log_path(self, name: str) -> Path:
        """Where a process's output goes."""
        return self._config.run / "logs" / f"{name}.log"

    def start(self, timeout_s: float = 90.0) -> None:
        """Start every process and wait until each is ready: it answers, or has folded what had come before it.

        Raises:
            UnavailableError: Another supervisor runs this project (MS-C010), or one of the processes runs already
                (MS-L143), ends at once (MS-L141) or does not answer in time (MS-L142). Nothing is left running.
        """
        self._lease.require("this project")
        try:
            self._refuse_strangers()
            for child in self._children.values():
                self._spawn(child)
            self._await_doors(timeout_s)
            write_deaths(self._config.run, [])
            write_door(self._config.run, SUPERVISOR, "")
        except BaseException:
            self.stop()
            raise

    def poll(self) -> list[Exit]:
        """Start again what has ended, after a back-off that doubles while it keeps ending.

        Returns:
            What has ended since the last look.
        """
        ended, now_s = [], time.monotonic()
        told = [child.death for child in self._children.values()]
        for child in self._children.values():
            if child.process is None:
                if child.starts and now_s >= child.due_s:
                    self._spawn(child)
                continue
            code = child.process.poll()
            if now_s - child.started_s >= HEALTHY_S:
                child.back_off_s = BACK_OFF_S[0]
                child.death = None
            if code is None:
                continue
            child.death = self._death(child, code)
            ended.append(Exit(child.name, child.process.pid, code, child.back_off_s))
            child.due_s = now_s + child.back_off_s
            child.back_off_s = min(child.back_off_s * 2, BACK_OFF_S[1])
            self._forget(child)
        deaths = [child.death for child in self._children.values()]
        if deaths != told:
            write_deaths(self._config.run, [death for death in deaths if death is not None])
        return ended

    def watch(self, on_exit: Callable[[Exit], None] | None = None) -> None:
        """Look after the processes until Ctrl-C; ``on_exit`` hears of each that ended."""
        while True:
            for one in self.poll():
                if on_exit is not None:
                    on_exit(one)
            time.sleep(_TURN_S)

    def pids(self) -> dict[str, int]:
        """Pid of each process that runs."""
        return {
            n: c.process.pid for n, c in self._children.items() if c.process is not None and c.process.poll() is None
        }

    def kill(self, name: str, how: int = signal.SIGKILL) -> None:
        """Send a signal to one process.

        Raises:
            NotFoundError: It does not run (MS-L144).
        """
        pid = self.pids().get(name)
        if pid is None:
            raise NotFoundError("MS-L144", f"no {name} runs under this supervisor")
        os.kill(pid, how)

    def urls(self) -> dict[str, str]:
        """URL of each process that answers on one."""
        doors = {name: read_door(self._config.run, name) for name in self._children if name in PORTS}
        return {name: url for name, url in doors.items() if url is not None}

    def tail(self, name: str, lines: int = 20) -> str:
        """The last lines that a process wrote."""
        try:
            text = self.log_path(name).read_text(encoding="utf-8", errors="backslashreplace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """Stop every process in order, the intake last; what does not obey in time is killed."""
        for name in sorted(self._children, key=STOP_ORDER.index):
            child = self._children[name]
            child.starts = 0
            if child.process is None:
                continue
            child.process.terminate()
            try:
                child.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            self._forget(child)
        remove_door(self._config.run, SUPERVISOR)
        self._lease.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _refuse_strangers(self) -> None:
        for name in self._children:
            if read_door(self._config.run, name) is not None:
                what = f"a {name} of this project is running already"
                raise UnavailableError("MS-L143", what, where=str(self._config.run), hint="stop it first")

    def _death(self, child: _Child, code: int) -> Death:
        times = 1 + (child.death.times if child.death is not None else 0)
        said = self.tail(child.name, LAST_WORDS)
        return Death(child.name, times, code, self._clock.now_us(), child.back_off_s, str(child.log), said)

    def _spawn(self, child: _Child) -> None:
        argv = [sys.executable, "-m", "mainspring", *COMMANDS[child.name], "-C", str(self._config.root), "--supervised"]
        if self._clock_file is not None:
            argv += ["--test-clock", str(self._clock_file)]
        if child.port:  # those who knew where it was find it there again
            argv += ["--port", str(child.port)]
        elif self._free_ports and child.name in PORTS:
            argv += ["--port", "0"]
        child.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if child.log.exists() and child.log.stat().st_size > LOG_BYTES:
            child.log.replace(child.log.with_suffix(".log.1"))
        ours, theirs = self._pipe()
        output: IO[bytes]
        with child.log.open("ab") as output:
            try:
                child.process = subprocess.Popen(
                    argv, stdin=theirs, stdout=output, stderr=output, start_new_session=True
                )
            except BaseException:
                os.close(ours)
                raise
            finally:
                os.close(theirs)
        child.lifeline = ours
        child.started_s = time.monotonic()
        child.starts += 1

    @staticmethod
    def _pipe() -> tuple[int, int]:
        read, write = os.pipe()  # neither end is inherited by the other children
        return write, read

    @staticmethod
    def _forget(child: _Child) -> None:
        child.process = None
        if child.lifeline >= 0:
            os.close(child.lifeline)
            child.lifeline = -1

    def _await_doors(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        waiting = list(self._children)
        while True:
            for name, child in self._children.items():
                code = child.process.poll() if child.process is not None else None
                if code is not None:
                    what, why = f"{name} ended at once with {code}", self.tail(name)
                    raise UnavailableError("MS-L141", what, where=str(child.log), why=why)
            waiting = [name for name in waiting if read_door(self._config.run, name) is None]
            if not waiting:
                for name, url in self.urls().items():
                    self._children[name].port = urlsplit(url).port or 0
                return
            if time.monotonic() > deadline:
                what = f"{waiting[0]} does not answer after {timeout_s:g} s"
                raise UnavailableError("MS-L142", what, where=str(self.log_path(waiting[0])), why=self.tail(waiting[0]))
            time.sleep(_TURN_S)
