"""``mainspring connect``: list, check, run, reset; and ``up`` beside the other processes."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

TABLE = """
[connect.rides]
kind = "sql"
source = "done"
url = "sqlite:///rides.db"
table = "rides"
watermark = "id"
columns = { ride = "id" }
pick = true
every = "100ms"
"""


@pytest.fixture
def rides(project):
    """A project with a connector to a table; puts rows in it."""
    with (project / "mainspring.toml").open("a") as file:
        file.write(TABLE)

    def put(*rows):
        with closing(sqlite3.connect(project / "rides.db")) as database, database:
            columns = "id text primary key, city text, minutes real, done_at text, driver text"
            database.execute(f"create table if not exists rides ({columns})")
            for ident, minutes in rows:
                database.execute(
                    "insert into rides values (?, 'graz', ?, '2026-01-02T03:04:05', 'x')", (ident, minutes)
                )

    return put


def test_a_connector_is_checked_run_listed_and_begun_anew(cli, project, rides):
    rides(("a", 5.0), ("b", "long"))
    result = cli("connect", "check", "rides", "--json", at=project)
    assert result.code == 4
    good, bad = result.json["rows"]
    assert good["row"]["ride"] == "a"
    assert (bad["place"], bad["path"]) == ("connect rides id b", "$.minutes")
    assert cli("connect", "list", "--json", at=project).json["connectors"][0]["state"] == "stopped"
    result = cli("connect", "run", "--once", "--json", at=project)
    assert result.code == 4
    (one,) = result.json["connectors"]
    assert (one["accepted"], one["duplicate"], one["quarantined"]) == (1, 0, 1)
    assert cli("connect", "run", "rides", "--once", at=project).code == 0
    listed = cli("connect", "list", "--json", at=project).json["connectors"][0]
    assert (listed["rows"], listed["cursor"], listed["source"]) == (2, ["b", "b"], "done")
    assert "rides" in cli("connect", "list", at=project).out
    assert cli("connect", "reset", "rides", "--json", at=project).json == {"name": "rides", "rows": 2}
    assert cli("connect", "run", "rides", "--once", "--json", at=project).json["connectors"][0]["duplicate"] == 1


def test_what_cannot_be_asked_for_is_said(cli, project, rides):
    assert cli("connect", "run", "ride", "--json", "--once", at=project).error["code"] == "MS-C084"
    assert cli("connect", "run", "rides", "--history", "--json", at=project).error["code"] == "MS-C090"
    path = project / "mainspring.toml"
    path.write_text(path.read_text().replace('table = "rides"', 'tabel = "rides"'))
    assert cli("connect", "run", "rides", "--json", at=project).error["code"] == "MS-C081"
    assert cli("up", "--json", at=project).error["code"] == "MS-C081"


@pytest.mark.processes
@pytest.mark.slow
def test_connectors_run_beside_the_intake_and_hear_of_new_definitions(cli, project, rides):
    from mainspring.core import load_config
    from mainspring.core.run import door_pid
    from mainspring.events import Log
    from mainspring.loop.supervisor import Supervisor

    rides(("a", 5.0))
    pause = threading.Event()

    def brought():
        return cli("connect", "list", "--json", at=project).json["connectors"][0]

    def until(holds):
        deadline = time.monotonic() + 120
        while not (found := holds()):
            assert time.monotonic() < deadline, supervisor.tail("connect")
            pause.wait(0.05)
        return found

    config = load_config(project)
    with Supervisor(config, ("intake", "connect")) as supervisor:
        until(lambda: brought()["rows"] == 1)
        assert brought()["state"] == "running"
        rides(("b", 6.0))
        until(lambda: brought()["rows"] == 2)
        for turn, name in enumerate(("intake", "connect", "intake")):
            before = supervisor.pids()[name]
            supervisor.kill(name)
            rides(*((f"k{turn}-{i:02}", 1.0) for i in range(50)))
            until(lambda name=name, pid=before: supervisor.poll() == [] and supervisor.pids().get(name, pid) != pid)
        until(lambda: brought()["rows"] == 152)
        with Log.open(config.log_path, config.limits.log_map_bytes) as log:
            ids = [record.id for record in log.read(0)]
        assert len(ids) == len(set(ids)) == 152
        path = project / "mainspring.toml"
        path.write_text(path.read_text() + TABLE.replace("connect.rides", "connect.again"))
        os.kill(door_pid(config.run, "connect"), signal.SIGHUP)
        until(lambda: cli("connect", "list", "--json", at=project).json["connectors"][1]["rows"] == 152)
    assert brought()["state"] == "stopped"


def test_help_needs_no_package_of_a_connector(project):
    argv = [sys.executable, "-X", "importtime", "-m", "mainspring", "connect", "--help"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "mainspring connect check rides" in shown.stdout
    assert not [name for name in ("sqlalchemy", "psycopg", "paho", "polars") if f" {name}\n" in shown.stderr]
    assert json.dumps("connect") in json.dumps(shown.stdout.split())
