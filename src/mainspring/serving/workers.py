"""Several workers on one port: a parent that holds the port, starts them, and starts again who dies.

The kernel shares new connections out among the workers that listen (SO_REUSEPORT). The parent serves nothing and loads
nothing: it keeps the port while workers come and go, writes the gateway's doors, and passes SIGHUP on.

A parent that is killed takes its workers with it: they answer what they have begun, and end. The gateway that is
started in its place, by the supervisor or by hand, waits for them, so that it finds its ports free.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType

from mainspring.core.access import access_of
from mainspring.core.children import Child
from mainspring.core.config import Config
from mainspring.core.errors import UnavailableError
from mainspring.core.http import hold_port, url_of
from mainspring.core.run import GRPC_DOOR, door_pid, join_door, leave_door, read_door, read_doors
from mainspring.serving.siblings import seat_door

DOOR = "gateway"
START_S = 90.0
FORMER_S = 45.0
"""How long the workers of a parent that was killed may take to answer and to hand over their log."""
_TURN_S = 0.05
_log = logging.getLogger(__name__)


def run_workers(config: Config, argv: Sequence[str], stop: threading.Event) -> None:
    """Keep ``config.gateway.workers`` workers serving until ``stop`` is set; then have them drain.

    Args:
        config: The project's settings.
        argv: Command that starts one worker; its number and its ports are appended.
        stop: Set by a signal, or when the supervisor is gone.

    Raises:
        UnavailableError: The port is taken (MS-S002), or a worker ends before it ever listened (MS-S130).
    """
    await_former(config, stop)
    door = config.gateway
    access = access_of(config, door)
    wanted = {"--port": (door.host, door.port)}
    if door.grpc is not None:
        wanted["--grpc"] = (door.host, door.grpc)
    if access.has_inner:
        wanted["--inner"] = ("127.0.0.1", 0)
    held = {option: hold_port(*where) for option, where in wanted.items()}
    ports = {option: one.getsockname()[1] for option, one in held.items()}
    options = [text for option, port in ports.items() for text in (option, str(port))]
    options += ["--parent", str(os.getpid())]
    children = {number: Child(f"gateway worker {number}") for number in range(1, door.workers + 1)}
    commands = {number: [*argv, *options, "--worker", str(number)] for number in children}
    _pass_on(children)
    try:
        for number, child in children.items():
            child.start(commands[number])
        if _await_first(config, children, stop):
            public = url_of(door.host, ports["--port"], access.scheme("http"))
            if access.has_inner:
                join_door(config.run, DOOR, url_of("127.0.0.1", ports["--inner"]), public)
            else:
                join_door(config.run, DOOR, public)
            if door.grpc is not None:
                join_door(config.run, GRPC_DOOR, url_of(door.host, ports["--grpc"], access.scheme("grpc")))
        while not stop.wait(_TURN_S):
            _look_after(children, commands)
    finally:
        leave_door(config.run, DOOR)
        leave_door(config.run, GRPC_DOOR)
        for child in children.values():
            child.tell_to_stop()
        for child in children.values():
            child.stop()
        for one in held.values():
            one.close()


def await_former(config: Config, stop: threading.Event) -> None:
    """Wait until the workers of a gateway that was killed are gone: they hold its ports while they answer.

    Raises:
        UnavailableError: They do not go (MS-S131).
    """
    ends_s = time.monotonic() + FORMER_S
    is_told = False
    while (pids := _former_pids(config)) and not stop.wait(_TURN_S):
        if not is_told:
            _log.warning("the workers of a gateway that is gone answer what they have begun: pid %s", pids)
            is_told = True
        if time.monotonic() > ends_s:
            what = f"workers of a gateway that is gone still run after {FORMER_S:g} s: pid {', '.join(map(str, pids))}"
            raise UnavailableError("MS-S131", what, where=str(config.run), hint="end them, then start it again")


def _former_pids(config: Config) -> list[int]:
    """The workers that run though their gateway is gone; the doors of those that are gone too are removed."""
    living = {door.pid for door in read_doors(config.run, DOOR)}
    found = []
    for path in config.run.glob(seat_door("*", "*") + ".json"):
        parent = path.stem.split("_")[1]
        if not parent.isdigit() or int(parent) in living:
            continue
        pid = door_pid(config.run, path.stem)
        if pid is None:
            path.unlink(missing_ok=True)
        else:
            found.append(pid)
    return sorted(found)


def _look_after(children: dict[int, Child], commands: dict[int, list[str]]) -> None:
    for number, child in children.items():
        ended = child.poll()
        if ended is not None:
            _log.warning("%s ended with %d; it is started again in %g s", child.name, ended.code, ended.again_in_s)
        elif child.is_due:
            child.start(commands[number])


def _await_first(config: Config, children: dict[int, Child], stop: threading.Event) -> bool:
    """Wait until all of them serve; False when told to stop before."""
    ends_s = time.monotonic() + START_S
    while not all(read_door(config.run, seat_door(os.getpid(), number)) for number in children):
        if stop.wait(_TURN_S):
            return False
        for child in children.values():
            if child.code is not None:
                raise UnavailableError("MS-S130", f"{child.name} ended at once with {child.code}", why="see above")
        if time.monotonic() > ends_s:
            raise UnavailableError("MS-S130", f"a worker of the gateway does not serve after {START_S:g} s")
    return True


def _pass_on(children: dict[int, Child]) -> None:
    """Every worker looks for new routes when the gateway is told to."""
    if threading.current_thread() is not threading.main_thread():
        return

    def tell(_number: int, _frame: FrameType | None) -> None:
        for child in children.values():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGHUP)

    signal.signal(signal.SIGHUP, tell)
