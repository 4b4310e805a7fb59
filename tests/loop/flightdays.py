"""Real flights through a real intake and a real worker, hour by hour, on a clock that is ours: days that go wrong."""

import json
import shutil
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "events"))

from doorstep import Runner

from mainspring.catalog import Catalog
from mainspring.core import SharedClock, from_datetime, load_config
from mainspring.core.run import read_door
from mainspring.definitions import load_project
from mainspring.demo import flights
from mainspring.demo.places import example_folder
from mainspring.events.files import ingest_file
from mainspring.loop.apply import apply_project
from mainspring.loop.telling import DOOR
from mainspring.loop.worker import run_worker
from mainspring.loop.workshop import Workshop

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
HISTORY = datetime(2013, 4, 15, tzinfo=UTC)
STREAM = datetime(2013, 5, 20, tzinfo=UTC)
STREAM_US = from_datetime(STREAM)
MODEL = "late_flight"
PATIENCE_S = 120.0


def prepare(folder):
    """A project of the flights example with five weeks of history, applied, one good day streamed; nothing runs."""
    folder.mkdir()
    shutil.copyfile(example_folder() / "definitions.py", folder / "definitions.py")
    text = (example_folder() / "mainspring.toml").read_text() + "[intake]\nport = 0\n[worker]\nport = 0\n"
    (folder / "mainspring.toml").write_text(text + "[limits]\nlog_map_bytes = 268435456\nstate_map_bytes = 268435456\n")
    with Days(folder, STREAM_US) as days:
        days.apply()
        for name, path in flights.write_month_files(folder / "history", since=HISTORY, through=STREAM).items():
            ingest_file(days.config, days.project, path, name, days.clock)
        days.stream(1)
    return folder


class Days:
    """A project that runs in threads of the test, and whose clock moves when told."""

    def __init__(self, folder, now_us=None):
        self.config = load_config(folder)
        self.config.run.mkdir(parents=True, exist_ok=True)
        self.clock = SharedClock(self.config.run / "clock")
        if now_us is not None:
            self.clock.set(now_us)
            self.clock.settle(now_us)
        self.project = load_project(self.config.definitions)

    def __enter__(self):
        self._door = Runner(self.config, self.project, self.clock)
        self._running = self._door.__enter__()
        self._intake = self._running.client()
        self._before = signal.signal(signal.SIGHUP, lambda *_: self._reload())
        self._stop, self._failed = threading.Event(), []
        self._worker = threading.Thread(target=self._work, name="worker")
        self._worker.start()
        self._wait(lambda: read_door(self.config.run, DOOR) is not None)  # a reader may not come before it: one process
        self.catalog = Catalog.open(self.config.catalog_url)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._worker.join()
        self.catalog.close()
        self._door.__exit__()
        signal.signal(signal.SIGHUP, self._before)

    def _work(self):
        try:
            run_worker(self.config, self.project, self.clock, self._stop)
        except BaseException as error:  # noqa: BLE001  raised where the test waits
            self._failed.append(error)

    def _reload(self):
        """What an intake does when it is told to read the definitions again."""
        self.project = load_project(self.config.definitions)
        self._running.loop.call_soon_threadsafe(self._running.intake.use, self.project)

    def apply(self):
        """Put the definitions file in force."""
        apply_project(self.config, now_us=self.clock.now_us(), actor="test")
        self.project = load_project(self.config.definitions)

    def move(self, until_us):
        """Move the clock, and wait until the worker has done what was due."""
        self.clock.set(until_us)
        self._wait(lambda: self.clock.settled_us() >= until_us)

    def _wait(self, is_done):
        deadline = time.monotonic() + PATIENCE_S
        while not is_done():
            if self._failed:
                raise self._failed[0]
            assert time.monotonic() < deadline, "the worker has not done what was due"
            time.sleep(0.002)

    def stream(self, days=0, hours=0, fault=None):
        """Send what happens from now on, an hour at a time; returns the counts of the intake's answers.

        Args:
            days: So many.
            hours: And so many.
            fault: Turns the arrivals of an hour, and the hour's number, into batches to send.
        """
        book = {"accepted": 0, "duplicate": 0, "quarantined": 0}
        for number in range(days * 24 + hours):
            since_us = self.clock.now_us() // HOUR_US * HOUR_US
            until_us = since_us + HOUR_US
            self.clock.set(until_us - 1_000_000)
            for source in ("weather", "departed", "arrived", "scheduled"):
                rows = happened(source, since_us, until_us)
                batches = fault(rows, number) if fault is not None and source == "arrived" else [rows]
                for batch in batches:
                    if batch:
                        answer = self._intake.post_events(source, batch)
                        for word in book:
                            book[word] += answer[word] if source == "arrived" else 0
            self.move(until_us)
        return book

    def incidents(self, *kinds):
        """Incidents of sources, oldest first."""
        return [one for one in self.catalog.incidents() if one.kind in (kinds or ("check", "contract"))]

    def training_set(self):
        """The training set as of now: rows by flight."""
        with Workshop.open(self.config) as workshop:
            return workshop.build(MODEL, self.clock.now_us(), "test")


def happened(source, since_us, until_us):
    """Events of a source in a stretch of time, as a sender writes them."""
    column = flights.EVENT_TIME[source]
    frame = getattr(flights.load(), source)
    at = pl.col(column).dt.epoch("us")
    rows = frame.filter((at >= since_us) & (at < until_us)).with_columns(
        pl.col(column).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    return rows.to_dicts()


def cli(run, capsys, folder, *argv):
    """A command line; what it says as JSON."""
    capsys.readouterr()
    code = run([*argv, "--json", "-C", str(folder)])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)
