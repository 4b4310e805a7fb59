"""The intake as a process: its event loop, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading

import uvloop

from mainspring.core.clock import Clock
from mainspring.core.collector import rest_what_is_loaded
from mainspring.core.config import Config
from mainspring.core.errors import MainspringError
from mainspring.definitions.applied import load_applied
from mainspring.definitions.values import Project
from mainspring.events.intake import Intake


def run_intake(config: Config, project: Project, clock: Clock, stop: threading.Event | None = None) -> None:
    """Run the intake until SIGTERM, SIGINT, or ``stop`` is set.

    Raises:
        UnavailableError: Another process writes the log (MS-C010), or the port is taken (MS-S002).
    """
    sys.setswitchinterval(0.000_5)  # the appender's thread and the event loop wait less for each other
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(Intake(config, project, clock), config, stop))


async def _run(intake: Intake, config: Config, stop: threading.Event | None) -> None:
    loop = asyncio.get_running_loop()
    ends = asyncio.Event()

    def reload() -> None:
        try:
            intake.use(load_applied(config))
        except MainspringError as error:
            print(f"the definitions stay as they were: {error}", file=sys.stderr, flush=True)  # noqa: T201

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ends.set)
        loop.add_signal_handler(signal.SIGHUP, reload)
    await intake.start()
    if threading.current_thread() is threading.main_thread():
        rest_what_is_loaded()
    checks = asyncio.ensure_future(intake.check_readers())
    if stop is not None:
        waiter = threading.Thread(target=_when_set, args=(stop, loop, ends), daemon=True)
        waiter.start()
    try:
        await ends.wait()
    finally:
        checks.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await checks
        await intake.stop()


def _when_set(stop: threading.Event, loop: asyncio.AbstractEventLoop, ends: asyncio.Event) -> None:
    stop.wait()
    with contextlib.suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(ends.set)
