"""Exactly once through every way a step can fail, a killed process, and two at once; secrets; one of one's own."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import load_config
from mainspring.core.errors import BackPressureError, ConfigError, NotFoundError, TooLargeError, UnavailableError
from mainspring.core.run import Lease
from mainspring.definitions import load_project
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events import Log
from mainspring.events.connectors import Arrival, Batch, Connector, Declared, Settings, declared, one_declared
from mainspring.events.connectors.inlet import Outcome
from mainspring.events.connectors.run import State, pump, run_connectors, run_once, state_of
from mainspring.events.progress import MovedError, Position

AT = "2026-01-02T03:04:05Z"


class Numbers(Connector):
    """Counts up to a number."""

    def __init__(self, last):
        self.last = last
        self.confirmed = []

    def read(self, cursor, limit):
        start = cursor or 0
        rows = [Arrival({"n": n, "at": AT}, place=str(n)) for n in range(start, min(start + limit, self.last))]
        return Batch(rows, start + len(rows), more=start + len(rows) < self.last)

    def confirm(self, cursor):
        self.confirmed.append(cursor)


class Troubled:
    """An inlet in memory that fails as it is told: before a step is written, after it, or in its answer."""

    def __init__(self, troubles):
        self.troubles = list(troubles)
        self.at = Position()
        self.rows = []

    def position(self, _name):
        return self.at

    def advance(self, _name, before, cursor, rows):
        trouble = self.troubles.pop(0) if self.troubles else "none"
        if trouble == "full":
            raise BackPressureError("MS-E306", "full")
        if trouble == "large" and len(rows) > 1:
            raise TooLargeError("MS-E204", "too large")
        if trouble == "before":
            raise UnavailableError("MS-E300", "gone")
        if before != self.at.sequence:
            raise MovedError("MS-E430", "moved")
        self.at = Position(before + 1, cursor)
        self.rows += [row.fields["n"] for row in rows]
        if trouble == "after":
            raise UnavailableError("MS-E300", "gone, and nobody knows")
        if trouble == "twice":  # the answer was lost and the client sent it again
            raise MovedError("MS-E430", "moved")
        return Outcome(["accepted"] * len(rows), [])


class Now(threading.Event):
    """Does not wait."""

    def wait(self, timeout=None):
        return self.is_set()


@settings(max_examples=60)
@given(
    troubles=st.lists(st.sampled_from(["none", "full", "large", "before", "after", "twice"]), max_size=12),
    last=st.integers(0, 20),
    batch=st.integers(1, 7),
)
def test_every_row_comes_once_whatever_fails_and_wherever(troubles, last, batch):
    tick = SourceDef("tick", (Field("n", "int"), Field("at", "datetime")), time="at")
    one = Declared("feed", {"kind": "x", "source": "tick"}, tick, None)
    inlet, numbers = Troubled(troubles), Numbers(last)
    while True:
        try:
            asked = Settings(kind="x", source="tick", batch=batch)
            pump(numbers, one, asked, inlet, Now(), once=True)
            break
        except UnavailableError:
            pass  # as the runner does: begin again from the position
    assert inlet.rows == list(range(last))
    assert numbers.confirmed == sorted(numbers.confirmed)


def test_a_connector_that_somebody_else_moves_stops(feed):
    tick = feed(kind="files", source="tick", url="x")
    with tick.inlet() as inlet:
        inlet.advance("feed", 0, {"a": [1]}, [])
        with pytest.raises(MovedError, match="at step 1, not 0"):
            inlet.advance("feed", 0, {"a": [2]}, [])
        assert inlet.position("feed").cursor == {"a": [1]}


def test_a_step_and_its_rows_are_written_together_over_http_too(running):
    client = running.client()
    rows = [["arrived", {"flight_id": "a", "carrier": "UA", "arrived_at": 1}], ["nobody", {}]]
    answer = client.advance("feed", 0, {"at": 1}, rows, history=False, backfill=False)
    assert answer["statuses"] == ["accepted", "quarantined"]
    with pytest.raises(MovedError):
        client.advance("feed", 0, {"at": 1}, rows, history=False, backfill=False)
    found = client.get("/internal/connectors/feed")
    assert (found["sequence"], found["cursor"], found["rows"]) == (1, {"at": 1}, 2)
    assert client.get("/internal/connectors/other")["sequence"] == 0
    with pytest.raises(Exception, match="MS-E203"):
        running.client(with_token=False).get("/internal/connectors/feed")
    assert client.get("/health")["last_offset"] == 1


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("feed", b"", 400),
        ("feed", b"\xc1", 400),
        ("feed", b"\x91" * 50_000, 400),
        ("feed", msgspec.msgpack.encode({"before": "x", "cursor": 1, "rows": []}), 400),
        ("feed", msgspec.msgpack.encode({"before": -1, "cursor": 1, "rows": []}), 409),
        ("feed", msgspec.msgpack.encode({"before": 0, "cursor": 1, "rows": [["arrived", {}]] * 501}), 413),
        ("Feed", msgspec.msgpack.encode({"before": 0, "cursor": 1, "rows": []}), 400),
        ("%2e%2e", msgspec.msgpack.encode({"before": 0, "cursor": 1, "rows": []}), 400),
        (
            "feed",
            msgspec.msgpack.encode({"before": 0, "cursor": "x" * 100_000, "rows": [["../x", 1], ["arrived"]]}),
            200,
        ),
    ],
)
def test_a_step_that_cannot_be_is_refused_and_moves_nothing(running, name, body, status):
    client = running.client()
    host = running.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request("POST", f"/internal/connectors/{name}", body, {"Authorization": f"Bearer {client._token}"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status == status, answer
    assert client.get("/internal/connectors/feed")["sequence"] == (1 if status == 200 else 0)


@pytest.fixture
def project():
    """The sources of the intake's own tests and one without an id, for what runs beside an intake."""
    arrived = SourceDef(
        "arrived",
        (
            Field("flight_id", "str"),
            Field("carrier", "str", constraints=(Constraint("one_of", ("UA",)),)),
            Field("arrived_at", "datetime"),
        ),
        time="arrived_at",
        id="flight_id",
    )
    tick = SourceDef("tick", (Field("n", "int"), Field("at", "datetime")), time="at")
    return Project({"arrived": arrived, "tick": tick}, {}, {})


@pytest.fixture
def ticks(config):
    """Files of numbers in the folder ``in``; a row that breaks the contract after each hundred."""
    (config.root / "in").mkdir()

    def write(name, numbers):
        rows = [json.dumps({"n": n, "at": AT}) for n in numbers]
        rows += [json.dumps({"n": f"bad {n}", "at": AT}) for n in numbers if n % 100 == 0]
        (config.root / "in" / name).write_text("\n".join(rows) + "\n")

    return write


def test_one_that_runs_brings_what_appears_and_goes_on_when_the_intake_comes_back(feed, start, ticks, until, config):
    one = feed(kind="files", source="tick", url="in/*.jsonl", settle="0s", every="20ms", batch=7)
    stop = threading.Event()
    thread = threading.Thread(target=run_connectors, args=(one.config, one.project, one.clock, stop, ()))
    try:
        with start():
            thread.start()
            ticks("a.jsonl", range(50))
            until(lambda: len(one.records()) == 50)
            assert state_of(config.run, "feed").state == "running"
        ticks("b.jsonl", range(50, 100))
        until(lambda: state_of(config.run, "feed").state == "failing")
        assert len(one.records()) == 50  # it does not take the intake's place
        with start():
            until(lambda: len(one.records()) == 100)
    finally:
        stop.set()
        thread.join()
    assert [row["n"] for row in one.records()] == list(range(100))
    assert len(one.held()) == 1


SCRIPT = """
import sys, threading
from pathlib import Path
from mainspring.core import WallClock, load_config
from mainspring.definitions import load_project
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events import Log
from mainspring.events.connectors.run import run_connectors
config = load_config(Path(sys.argv[1]))
run_connectors(config, load_project(config.definitions), WallClock(), threading.Event(), ())
"""
DEFINITIONS = """
from datetime import datetime
import mainspring as ms
class Tick(ms.Source, time="at"):
    n: int
    at: datetime
"""


@pytest.mark.crash
def test_a_connector_that_is_killed_at_any_moment_loses_nothing_and_brings_nothing_twice(config, start, ticks, until):
    (config.root / "definitions.py").write_text(DEFINITIONS)
    with (config.root / "mainspring.toml").open("a") as file:
        file.write('[connect.feed]\nkind = "files"\nsource = "tick"\nurl = "in/*.jsonl"\nsettle = "0s"\nbatch = 5\n')
    ticks("a.jsonl", range(600))
    ticks("b.jsonl", range(600, 1_200))
    argv = [sys.executable, "-c", SCRIPT, str(config.root)]
    with start() as running:
        client = running.client()

        def last():
            return client.get("/health")["last_offset"]

        done = 0
        for more in (150, 233, 317):
            with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
                until(lambda goal=done + more: process.poll() is not None or last() >= goal, 60)
                assert process.poll() is None, process.stderr.read().decode()
                process.send_signal(signal.SIGKILL)
            done = last()
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
            until(lambda: client.get("/internal/connectors/feed")["rows"] == 1_212, 60)
            process.kill()
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert [record.to_dict()["n"] for record in log.read(0, 10_000)] == list(range(1_200))
        held = [entry.raw for entry in log.quarantined()]
    assert len(held) == len(set(held)) == 12  # once each there too, without an id


def test_a_row_that_is_too_large_for_any_request_waits_in_quarantine(feed, start, config):
    (config.root / "in").mkdir()
    rows = [{"flight_id": "a", "carrier": "UA", "arrived_at": AT}]
    rows += [{"flight_id": "x" * 300_000, "carrier": "UA", "arrived_at": AT}, dict(rows[0], flight_id="b")]
    (config.root / "in" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = feed(kind="files", source="arrived", url="in/*", settle="0s")
    with start():
        assert one.once() == ["accepted", "quarantined", "accepted"]
    assert one.held()[0][0] == "MS-E431"


def test_a_value_that_cannot_be_written_down_waits_in_quarantine(feed, start, config):
    (config.root / "odd.py").write_text(
        "from mainspring.events.connectors import Arrival, Batch, Connector\n"
        "class Odd(Connector):\n"
        "    def __init__(self, settings, site):\n        pass\n"
        "    def read(self, cursor, limit):\n"
        "        at = '2026-01-02T03:04:05Z'\n"
        "        odd = [1, 2**70, '\\ud800', b'\\xff', object(), {1: 2}, 7]\n"
        "        return Batch([Arrival({'n': n, 'at': at}) for n in odd if cursor is None], 1)\n"
    )
    one = feed(kind="odd.py:Odd", source="tick")
    with start():
        assert one.once() == ["accepted", *["quarantined"] * 5, "accepted"]
    assert {code for code, *_ in one.held()} == {"MS-E102", "MS-E440"}


def test_two_cannot_run_one_connector_at_once(feed, config):
    one = feed(kind="files", source="tick", url="in/*")
    with Lease(config.run / "connect_feed.lock"), pytest.raises(UnavailableError, match="MS-C010"):
        one.once()


def test_history_keeps_what_the_source_declares_and_live_rows_become_known_now(feed, ticks, clock):
    ticks("a.jsonl", [1])
    one = feed(kind="files", source="tick", url="in/*", settle="0s")
    assert one.once(history=True) == ["accepted"]
    ticks("b.jsonl", [2])
    assert one.once() == ["accepted"]
    with one.log() as log:
        first, second = log.read(0)
    assert first.known_at_us == first.time_us
    assert abs(second.known_at_us - clock.now_us()) < 60_000_000


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ({"kind": "filez"}, "MS-C080: no connector is of kind 'filez'"),
        ({"kind": "files", "urls": "x"}, "MS-C081.*unknown field"),
        ({"kind": "files", "batch": 0}, "MS-C081"),
        ({"kind": "files", "url": "${NOBODY_SETS_THIS}"}, "MS-C082: .*is not set"),
        ({"kind": "nowhere.py:X"}, "MS-C080: no Python file"),
    ],
)
def test_a_table_that_cannot_be_is_said_with_its_place(feed, table, code):
    with pytest.raises(ConfigError, match=f"(?s){code}.*connect.feed"):
        feed(**{"source": "tick", "url": "x"} | table).one.settings()


def test_a_table_without_a_source_and_a_name_that_nobody_declared_are_said(config, project):
    broken = msgspec.structs.replace(config, connect={"a": {"kind": "files", "source": "tik"}})
    with pytest.raises(ConfigError, match="did you mean 'tick'"):
        declared(broken, project)
    good = msgspec.structs.replace(config, connect={"rides": {"kind": "files", "source": "tick"}})
    with pytest.raises(NotFoundError, match="did you mean 'rides'"):
        one_declared(good, project, "ride")


def test_a_secret_is_shown_nowhere(feed, monkeypatch, config, until):
    monkeypatch.setenv("TOP_SECRET", "hunter2/ß")
    url = "postgresql://me:${TOP_SECRET}@127.0.0.1:1/x?application_name=pl@in"
    one = feed(kind="sql", source="arrived", url=url, table="t", watermark="w", key="k", every="1s")
    assert "hunter2" not in one.one.url
    literal = feed(kind="sql", source="arrived", url="postgresql://me:pl%40in@h/x", table="t", watermark="w", key="k")
    assert literal.one.url == "postgresql://me:***@h/x"
    stop = threading.Event()
    thread = threading.Thread(target=run_connectors, args=(one.config, one.project, one.clock, stop, ()))
    thread.start()
    until(lambda: (state_of(config.run, "feed") or State("", 0)).state == "failing")
    stop.set()
    thread.join()
    for path in config.home.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()


def test_the_connector_on_the_page_works(tmp_path, root, clock):
    page = (root / "docs" / "reference" / "connectors.md").read_text()
    code = re.search(r'```python title="tides.py"\n(.*?)```', page, re.DOTALL)[1]
    (tmp_path / "tides.py").write_text(code)
    (tmp_path / "definitions.py").write_text(
        "from datetime import datetime\nimport mainspring as ms\n"
        'class Tide(ms.Source, time="at"):\n    station: str\n    level_m: float\n    at: datetime\n'
    )
    (tmp_path / "levels.csv").write_text(f"time,level\n{AT},0.5\n{AT},0.75\n")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        table = re.search(r"```toml\n(\[connect.tides\].*?)```", page, re.DOTALL)[1]
        table = table.replace("https://tides.example/trieste.csv", f"http://127.0.0.1:{server.server_port}/levels.csv")
        limits = "[limits]\nlog_map_bytes = 67108864\ndisk_free_bytes = 0\n"
        (tmp_path / "mainspring.toml").write_text(f'[project]\nname = "t"\n{limits}{table}')
        config = load_config(tmp_path)
        project = load_project(config.definitions)
        statuses = []
        for _ in range(2):
            one = one_declared(config, project, "tides")
            run_once(one, project, clock, heard=lambda outcome: statuses.extend(outcome.statuses))
        server.shutdown()
        thread.join()
    assert statuses == ["accepted"] * 2
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert [record.to_dict()["level_m"] for record in log.read(0)] == [0.5, 0.75]


def test_the_modules_of_connectors_are_not_imported_before_they_are_needed(root):
    code = "import sys, mainspring.events.connectors.run, mainspring.cli.connect; print(sorted(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(re.findall(r"'([\w.]+)'", shown.stdout))
    assert not loaded & {"paho", "fsspec", "psycopg", "sqlalchemy", "pyarrow"}
