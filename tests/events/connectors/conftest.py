"""Real servers, and a project whose connectors run beside a real intake."""

import os
import secrets
import sqlite3
import threading
import time
from contextlib import closing, contextmanager

import msgspec
import psycopg
import pytest
from services import MissingError, mosquitto, postgres

from mainspring.core import WallClock
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events import Log
from mainspring.events.connectors.declared import Declared
from mainspring.events.connectors.inlet import open_inlet
from mainspring.events.connectors.run import run_once

RIDE = SourceDef(
    "ride",
    (
        Field("ride", "str"),
        Field("km", "float", constraints=(Constraint("between", (0, 1_000)),)),
        Field("city", "str", nullable=True),
        Field("at", "datetime"),
    ),
    time="at",
    id="ride",
)
TICK = SourceDef("tick", (Field("n", "int"), Field("at", "datetime")), time="at")
PRICE = SourceDef(
    "price",
    (
        Field("sku", "str"),
        Field("price", "float", constraints=(Constraint("between", (0, 1_000)),)),
        Field("op", "str"),
        Field("at", "datetime"),
    ),
    time="at",
    id="sku",
    corrects="op",
)
NOTE = SourceDef(
    "note",
    (
        Field("sku", "str"),
        Field("price", "float", nullable=True),
        Field("note", "str", nullable=True),
        Field("op", "str"),
        Field("at", "datetime"),
    ),
    time="at",
    id="sku",
    corrects="op",
)


def _served(start):
    try:
        with start() as service:
            yield service
    except MissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def database_server():
    """A PostgreSQL server."""
    yield from _served(postgres)


@pytest.fixture(scope="session")
def broker():
    """A Mosquitto broker."""
    yield from _served(mosquitto)


@pytest.fixture
def project():
    """A source with an id, one without, and two with corrections."""
    return Project({s.name: s for s in (RIDE, TICK, PRICE, NOTE)}, {}, {})


@pytest.fixture
def clock():
    """The machine's: what a database says of now is compared with it."""
    return WallClock()


class Feed:
    """One declared connector, and what has come of it."""

    def __init__(self, config, project, clock, table, name="feed"):
        self.config = msgspec.structs.replace(config, connect={name: table})
        self.project, self.clock, self.name = project, clock, name
        self.one = Declared(name, table, project.sources[table["source"]], self.config)

    def once(self, **how):
        """Bring in what is there; a status a row."""
        statuses = []
        run_once(self.one, self.project, self.clock, heard=lambda outcome: statuses.extend(outcome.statuses), **how)
        return statuses

    def log(self):
        return Log.open(self.config.log_path, self.config.limits.log_map_bytes)

    def records(self):
        with self.log() as log:
            return [record.to_dict() for record in log.read(0)]

    def ids(self):
        with self.log() as log:
            return [record.id for record in log.read(0)]

    def held(self):
        with self.log() as log:
            return [(entry.code, entry.reason, entry.sender) for entry in log.quarantined()]

    def position(self):
        with self.log() as log:
            return log.positions()[self.name]

    @contextmanager
    def inlet(self):
        with open_inlet(self.config, self.project, self.clock) as inlet:
            yield inlet


@pytest.fixture
def feed(config, project, clock):
    """Declares a connector: ``feed(kind=…, source=…)``."""
    return lambda name="feed", **table: Feed(config, project, clock, table, name)


@pytest.fixture
def sqlite(config):
    """A SQLite database in the project's folder; runs statements."""

    def run(*statements):
        with closing(sqlite3.connect(config.root / "rides.db")) as connection, connection:
            for statement in statements:
                one, *values = statement if isinstance(statement, tuple) else (statement,)
                connection.execute(one, values)

    return run


@pytest.fixture
def database(database_server, monkeypatch):
    """A PostgreSQL database of one's own; a connection to it, which commits each statement."""
    name = f"d{secrets.token_hex(4)}"
    with psycopg.connect(database_server.url, autocommit=True) as server:
        server.execute(f"create database {name}")
        url = database_server.url.removesuffix("/postgres") + f"/{name}"
        monkeypatch.setenv("PG_SECRET", "ms-pw")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.url = url.replace("ms-pw", "${PG_SECRET}")
            yield connection
        server.execute(f"drop database {name} with (force)")


@pytest.fixture
def until():
    """Waits for a condition, with a deadline."""
    turn = threading.Event()

    def wait(holds, timeout_s=20.0):
        deadline = time.monotonic() + timeout_s
        while not (found := holds()):
            assert time.monotonic() < deadline, "it never held"
            turn.wait(0.02)
        return found

    return wait
