"""An intake that runs in a thread of the test."""

import asyncio
import threading
from dataclasses import dataclass, field

import uvloop

from mainspring.core import Config
from mainspring.core.run import internal_token
from mainspring.events.client import IntakeClient
from mainspring.events.intake import Intake


@dataclass
class Running:
    """An intake on a loop of its own."""

    config: Config
    intake: Intake
    loop: asyncio.AbstractEventLoop
    url: str
    clients: list[IntakeClient] = field(default_factory=list)

    def client(self, *, with_token: bool = True) -> IntakeClient:
        """A client of it."""
        client = IntakeClient(self.url, internal_token(self.config.run) if with_token else "", timeout_s=20.0)
        self.clients.append(client)
        return client


class Runner:
    """Starts an intake in a thread, and stops it."""

    def __init__(self, config, project, clock):
        self.config, self.project, self.clock = config, project, clock
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main)
        self.running: Running | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Running:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self.running

    def __exit__(self, *_):
        for client in self.running.clients:
            client.close()
        self.running.loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    def _main(self):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())

    async def _run(self):
        self._ends = asyncio.Event()
        intake = Intake(self.config, self.project, self.clock)
        try:
            await intake.start()
        except BaseException as error:  # noqa: BLE001  raised where the test waits
            self._error = error
            self._ready.set()
            return
        self.running = Running(self.config, intake, asyncio.get_running_loop(), intake.url)
        self._ready.set()
        await self._ends.wait()
        await intake.stop()
