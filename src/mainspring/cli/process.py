"""What the three processes have in common: they run until a signal, or until their supervisor is gone."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

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
    workspace = Workspace(options.project, process.test_clock)
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
    if port is not None:
        section = msgspec.structs.replace(getattr(config, door), port=port)
        config = msgspec.structs.replace(config, **{door: section})
    run(config, workspace.project, workspace.clock, stop)


def _stop_with_supervisor(stop: threading.Event) -> None:
    """Standard input is a pipe that nobody writes to: it ends when its other end is closed, whatever closes it."""
    while os.read(0, 1):
        pass
    stop.set()
