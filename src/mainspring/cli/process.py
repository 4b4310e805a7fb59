"""What the three processes have in common: they run until a signal, or until their supervisor is gone."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from mainspring.cli.options import Options, ProcessOptions
from mainspring.cli.workspace import Workspace

if TYPE_CHECKING:
    from mainspring.core.clock import Clock
    from mainspring.core.config import Config
    from mainspring.definitions import Project

Run = Callable[["Config", "Project", "Clock", threading.Event], None]


def run_process(
    run: Run, options: Options, process: ProcessOptions, *, door: str = "", port: int | None = None
) -> None:
    """Run one of the processes in this one.

    Args:
        run: Its function: config, project, clock and an event that tells it to stop.
        options: Where the project is.
        process: Its clock, and whether somebody supervises it.
        door: Section of ``mainspring.toml`` with its port.
        port: Another port than that section's.
    """
    workspace, config, stop = prepare(options, process, door, {} if port is None else {"port": port})
    run(config, workspace.project, workspace.clock, stop)


def prepare(
    options: Options, process: ProcessOptions, door: str, changes: Mapping[str, Any]
) -> tuple[Workspace, Config, threading.Event]:
    """What every process begins with: logging, the settings, and an event that signals and a lost supervisor set.

    Args:
        options: Where the project is.
        process: Its clock, and whether somebody supervises it.
        door: Section of ``mainspring.toml`` that ``changes`` are of.
        changes: Settings that the command line makes other than the file.
    """
    workspace = Workspace(options.project, process.test_clock, as_applied=True)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    stop = threading.Event()

    def tell(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    if process.supervised:
        threading.Thread(target=_stop_with_supervisor, args=(stop,), name="lifeline", daemon=True).start()
    config = workspace.config
    if changes:
        section = msgspec.structs.replace(getattr(config, door), **changes)
        config = msgspec.structs.replace(config, **{door: section})
    return workspace, config, stop


def _stop_with_supervisor(stop: threading.Event) -> None:
    """Standard input is a pipe that nobody writes to: it ends when its other end is closed, whatever closes it."""
    while os.read(0, 1):
        pass
    stop.set()
