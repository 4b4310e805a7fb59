"""Starts a project's processes, starts a dead one again, and leaves none behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from mainspring.core.children import Child, Exit
from mainspring.core.clock import Clock, WallClock
from mainspring.core.config import Config
from mainspring.core.errors import NotFoundError, UnavailableError
from mainspring.core.run import GRPC_DOOR, Lease, door_of, read_door, remove_door, write_door
from mainspring.loop.deaths import SUPERVISOR, Death, write_deaths

COMMANDS = {"intake": ("intake",), "gateway": ("serve",), "worker": ("worker",), "connect": ("connect", "run")}
# What is stopped first must not miss what is stopped last: the gateway hands its last predictions to the intake.
STOP_ORDER = ("connect", "gateway", "worker", "intake")
PORTS = ("intake", "gateway")
LAST_WORDS = 5
_TURN_S = 0.05
_SLOW_S = 10.0


class Supervisor:
    """The processes of one project on this machine.

    Args:
        config: The project's settings.
        names: Which processes: ``intake``, ``gateway``, ``worker``, ``connect``; None for all that the project needs,
            the last one only if it declares connectors.
        clock_file: A clock that somebody else drives, for all of them.
        free_ports: Let each listen on a free port, whatever ``mainspring.toml`` says.
        clock: Tells when a process has ended; the wall's.
        on_slow: Hears once, when a start has taken ten seconds, what is waited for.
    """

    def __init__(
        self,
        config: Config,
        names: Sequence[str] | None = None,
        clock_file: Path | None = None,
        *,
        free_ports: bool = False,
        clock: Clock | None = None,
        on_slow: Callable[[str], None] | None = None,
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
        self._on_slow = on_slow
        self._children = {name: Child(name, self.log_path(name)) for name in names}
        self._ports: dict[str, int] = {}
        self._deaths: dict[str, Death] = {}
        self._lease = Lease(config.run / "supervisor.lock")

    def log_path(self, name: str) -> Path:
        """Where a process's output goes."""
        return self._config.run / "logs" / f"{name}.log"

    def start(self, timeout_s: float = 600.0) -> None:
        """Start every process and wait until each is ready: it answers, or has folded what had come before it.

        Args:
            timeout_s: How long that may take. The first start on a machine compiles the kernels, for about a minute of
                one core; a process that ends is told of at once, whatever is said here.

        Raises:
            UnavailableError: Another supervisor runs this project (MS-C010), or one of the processes runs already
                (MS-L143), ends at once (MS-L141) or does not answer in time (MS-L142). Nothing is left running.
        """
        self._lease.require("this project")
        try:
            self._refuse_strangers()
            self._discard_stale_state()
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
        told = dict(self._deaths)
        ended = [one for child in self._children.values() if (one := child.poll()) is not None]
        for name, child in self._children.items():
            if child.is_healthy:
                self._deaths.pop(name, None)
            if child.is_due:
                self._spawn(child)
        for one in ended:
            self._deaths[one.name] = self._death(one)
        if self._deaths != told:
            write_deaths(self._config.run, list(self._deaths.values()))
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
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

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
        """URL at which others find each process that answers on one; and ``grpc``, where the gateway speaks it."""
        run, pids = self._config.run, self.pids()
        doors = {name: door_of(run, name, pids.get(name)) for name in self._children if name in PORTS}
        if "gateway" in doors:
            doors["grpc"] = door_of(run, GRPC_DOOR, pids.get("gateway"))
        return {name: door.where for name, door in doors.items() if door is not None}

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
            self._children[name].stop()
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

    def _discard_stale_state(self) -> None:
        """Empty a state that is to be built anew, as the worker would: a gateway does not open it before."""
        from mainspring.features import OnlineStore

        if "worker" in self._children:
            OnlineStore.open(self._config.state_path, self._config.limits.state_map_bytes, writable=True).close()

    def _death(self, ended: Exit) -> Death:
        before = self._deaths.get(ended.name)
        times = 1 + (before.times if before is not None and not ended.was_healthy else 0)
        said, log = self.tail(ended.name, LAST_WORDS), str(self.log_path(ended.name))
        return Death(ended.name, times, ended.code, self._clock.now_us(), ended.again_in_s, log, said)

    def _spawn(self, child: Child) -> None:
        argv = [sys.executable, "-m", "mainspring", *COMMANDS[child.name], "-C", str(self._config.root), "--supervised"]
        if self._clock_file is not None:
            argv += ["--test-clock", str(self._clock_file)]
        if child.name in self._ports:  # those who knew where it was find it there again
            argv += ["--port", str(self._ports[child.name])]
        elif self._free_ports and child.name in PORTS:
            argv += ["--port", "0"]
        child.start(argv)

    def _await_doors(self, timeout_s: float) -> None:
        began_s, on_slow = time.monotonic(), self._on_slow
        waiting = list(self._children)
        while True:
            for name, child in self._children.items():
                if child.code is not None:
                    what, why = f"{name} ended at once with {child.code}", self.tail(name)
                    raise UnavailableError("MS-L141", what, where=str(child.log), why=why)
            waiting = [name for name in waiting if door_of(self._config.run, name, self._children[name].pid) is None]
            if not waiting:
                for name, url in self.urls().items():
                    self._ports[name] = urlsplit(url).port or 0
                return
            if time.monotonic() > began_s + timeout_s:
                what = f"{waiting[0]} does not answer after {timeout_s:g} s"
                raise UnavailableError("MS-L142", what, where=str(self.log_path(waiting[0])), why=self.tail(waiting[0]))
            if on_slow is not None and time.monotonic() > began_s + _SLOW_S:
                on_slow(
                    f"still starting: {', '.join(waiting)}; the first start on a machine compiles for a minute or two"
                )
                on_slow = None
            time.sleep(_TURN_S)
