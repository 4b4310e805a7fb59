"""Sources, a clock, a project on disk and a running intake for the tests of events."""

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from mainspring.core import Config, ManualClock, load_config
from mainspring.core.run import internal_token
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events.client import IntakeClient
from mainspring.events.intake import Intake

NOON_US = 1_362_139_200_000_000  # 2013-03-01 12:00 UTC


@pytest.fixture
def arrived():
    """A source with an id, constraints and a nullable column."""
    return SourceDef(
        "arrived",
        (
            Field("flight_id", "str", constraints=(Constraint("length", (1, 40)),)),
            Field("carrier", "str", constraints=(Constraint("one_of", ("UA", "AA", "DL")),)),
            Field("delay_min", "float", nullable=True, constraints=(Constraint("between", (-120, 3_000)),)),
            Field("seats", "int", nullable=True),
            Field("arrived_at", "datetime"),
        ),
        time="arrived_at",
        id="flight_id",
    )


@pytest.fixture
def weather():
    """A source without an id whose history says when it was known."""
    return SourceDef(
        "weather",
        (
            Field("origin", "str"),
            Field("wind_mph", "float", nullable=True),
            Field("is_wet", "bool", default=False, has_default=True),
            Field("observed_at", "datetime"),
            Field("published_at", "datetime"),
        ),
        time="observed_at",
        known_at="published_at",
    )


@pytest.fixture
def project(arrived, weather):
    """Both sources."""
    return Project({"arrived": arrived, "weather": weather}, {}, {})


@pytest.fixture
def clock():
    """Noon of a day in March 2013, until a test moves it."""
    return ManualClock(NOON_US)


@pytest.fixture
def config(tmp_path) -> Config:
    """A project on disk with free ports and small limits."""
    text = '[project]\nname = "t"\n[intake]\nport = 0\nmax_rows = 500\nmax_body_bytes = 200_000\n'
    (tmp_path / "mainspring.toml").write_text(text + "[limits]\nlog_map_bytes = 67_108_864\ndisk_free_bytes = 0\n")
    return load_config(tmp_path)


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


@pytest.fixture
def start(config, project, clock):
    """Starts an intake: ``with start() as running:``; another config may be given."""

    def run(other: Config | None = None) -> Runner:
        return Runner(other or config, project, clock)

    return run


@pytest.fixture
def running(start):
    """An intake that is up."""
    with start() as found:
        yield found


@pytest.fixture
def write_lines(tmp_path):
    """Writes a file of lines and returns its path."""

    def write(name: str, *lines: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines))
        return path

    return write


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """An intake that stays up for all the examples of a test."""
    root = tmp_path_factory.mktemp("lasting")
    (root / "mainspring.toml").write_text('[project]\nname = "f"\n[intake]\nport = 0\n')
    fields = (Field("flight_id", "str"), Field("delay_min", "float", nullable=True), Field("arrived_at", "datetime"))
    sources = {
        "arrived": SourceDef("arrived", fields, time="arrived_at", id="flight_id"),
        "weather": SourceDef("weather", fields, time="arrived_at"),
    }
    with Runner(load_config(root), Project(sources, {}, {}), ManualClock(NOON_US)) as found:
        yield found
