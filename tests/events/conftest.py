"""Sources, a clock, a project on disk and a running intake for the tests of events."""

import sys
from pathlib import Path

import pytest

from mainspring.core import Config, ManualClock, load_config
from mainspring.definitions.values import Constraint, Field, Project, SourceDef

sys.path.insert(0, str(Path(__file__).parent))

from doorstep import Runner

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
