"""Static tables: a file loaded as history holds since 1970; rows sent live replace from when they are known."""

import csv
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

import mainspring as ms
from mainspring.core import ManualClock, load_config
from mainspring.definitions.values import Project
from mainspring.events import Contract, Draft, Log
from mainspring.events.files import ingest_file
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.features.fold import Folder
from mainspring.features.history import stream
from mainspring.features.reader import Reader
from mainspring.features.replay import replay
from mainspring.features.status import Status

NOON_US = 1_362_139_200_000_000
DAY_US = 86_400_000_000


class Plane(ms.Table, key="tailnum"):
    """One row an aircraft."""

    tailnum: str
    seats: int
    engines: int | None


AIRCRAFT = ms.lookup(Plane)
PROJECT = Project({"plane": Plane.definition}, {"plane": AIRCRAFT}, {})


@pytest.fixture
def config(tmp_path):
    (tmp_path / "mainspring.toml").write_text('[project]\nname = "t"\n')
    return load_config(tmp_path)


@pytest.fixture
def clock():
    return ManualClock(NOON_US)


@pytest.fixture
def load(config, clock, tmp_path):
    """Ingests rows of a file with these columns."""

    def run(columns, *rows):
        path = tmp_path / "planes.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns.split(), *rows])
        return ingest_file(config, PROJECT, path, "plane", clock)

    return run


@pytest.fixture
def send(config, clock):
    """Appends a row as it comes live."""

    def run(**fields):
        clock.set(clock.now_us() + DAY_US)
        with Log.open(config.log_path, 1 << 26, writable=True) as log:
            log.append([Draft(Plane.definition, Contract(Plane.definition).check(fields))], clock)
        return clock.now_us()

    return run


@pytest.fixture
def answers(config, store):
    """What planes are, live (folded in batches of one) and by replay at a moment (t, k)."""

    def run(tailnums, t_us, known_us):
        with Log.open(config.log_path, 1 << 26) as log:
            history = History(PROJECT, log, Lake(config.lake_path))
            history.catch_up()
            records = log.read(0)
        keys = pl.DataFrame({"tailnum": tailnums}, schema={"tailnum": pl.String})
        events = stream(AIRCRAFT, history.frame)
        by_replay, _ = replay(AIRCRAFT, events, keys, np.full(len(keys), t_us), known_us=known_us)
        folder = Folder([AIRCRAFT], store)
        for record in records:
            folder.fold([record])
        with Reader([AIRCRAFT], store).snapshot() as snapshot:
            live, status = snapshot.read(AIRCRAFT, [(t,) for t in tailnums], np.full(len(keys), t_us))
        return by_replay.tolist(), live.tolist(), status.tolist()

    return run


def test_a_file_holds_since_1970_and_every_moment_of_history_sees_it(load, answers):
    loaded = load("tailnum seats engines", ("N1", 180, 2), ("N2", 60, ""))
    assert (loaded.accepted, loaded.quarantined) == (2, 0)
    planes, nan = ["N1", "N2", "N3"], float("nan")
    known = [[180.0, 2.0], [60.0, nan], [nan, nan]]
    long_ago, _, _ = answers(planes, DAY_US, DAY_US)
    now, live, status = answers(planes, NOON_US, NOON_US)
    for found in (long_ago, now, live):
        assert np.array_equal(found, known, equal_nan=True)
    present, missing = Status.PRESENT, Status.MISSING
    assert status == [[present, present], [present, missing], [missing, missing]]


def test_a_row_sent_live_replaces_from_when_it_is_known_and_not_before(load, send, answers):
    load("tailnum seats engines", ("N1", 180, 2))
    known_us = send(tailnum="N1", seats=200, engines=2)
    t_us = known_us + 10
    assert answers(["N1"], t_us, known_us)[0] == [[180.0, 2.0]]
    by_replay, live, _ = answers(["N1"], t_us, known_us + 1)
    assert by_replay == live == [[200.0, 2.0]]


def test_a_row_with_a_date_holds_from_then_on(load, answers):
    since = datetime(2013, 2, 1, tzinfo=UTC)
    load("tailnum seats engines valid_from", ("N1", 180, 2, "1970-01-01"), ("N1", 150, 2, since.isoformat()))
    at_us = int(since.timestamp() * 1e6)
    assert answers(["N1"], at_us, NOON_US)[0] == [[180.0, 2.0]]
    by_replay, live, _ = answers(["N1"], NOON_US, NOON_US)
    assert by_replay == live == [[150.0, 2.0]]


def test_loading_a_file_twice_changes_no_answer_and_another_file_replaces_it(load, answers):
    for seats in (180, 180, 190):
        load("tailnum seats engines", ("N1", seats, 2))
    by_replay, live, _ = answers(["N1"], NOON_US, NOON_US)
    assert by_replay == live == [[190.0, 2.0]]


def test_a_lookup_may_name_columns():
    assert ms.lookup(Plane, "engines").column_names == ("plane__engines",)
