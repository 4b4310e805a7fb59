"""The intake as a process of its own: signals, and who may write after a ``kill -9``."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from mainspring.core.errors import NotFoundError
from mainspring.core.run import read_door
from mainspring.events import Log
from mainspring.events.client import IntakeClient

SCRIPT = """
import sys
from pathlib import Path
from mainspring.core import WallClock, load_config
from mainspring.definitions import load_project
from mainspring.events.intake_process import run_intake
config = load_config(Path(sys.argv[1]))
run_intake(config, load_project(config.definitions), WallClock())
"""
DEFINITIONS = """
from datetime import datetime
import mainspring as ms
class {name}(ms.Source, id="id", time="at"):
    id: str
    at: datetime
"""
AT = "2013-03-01T12:00:00Z"


@pytest.fixture
def launch(config):
    """Starts an intake as a process and waits for its door; kills what is left."""
    (config.root / "definitions.py").write_text(DEFINITIONS.format(name="Arrived"))
    processes = []

    def run():
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(config.root)], stderr=subprocess.PIPE, text=True)
        processes.append(process)
        deadline = time.monotonic() + 60
        while (url := read_door(config.run, "intake")) is None:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            threading.Event().wait(0.02)
        return process, url

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.processes
def test_sigterm_ends_it_sighup_reads_the_definitions_again_and_a_bad_file_changes_nothing(launch, config):
    process, url = launch()
    with IntakeClient(url) as client:
        assert client.post_events("arrived", [{"id": "a", "at": AT}])["accepted"] == 1
        (config.root / "definitions.py").write_text("this is no Python")
        process.send_signal(signal.SIGHUP)
        while "MS-D161" not in process.stderr.readline():
            pass
        assert client.post_events("arrived", [{"id": "b", "at": AT}])["accepted"] == 1
        (config.root / "definitions.py").write_text(DEFINITIONS.format(name="Departed"))
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                assert client.post_events("departed", [{"id": "a", "at": AT}])["accepted"] == 1
                break
            except NotFoundError:
                continue
        with pytest.raises(NotFoundError):
            client.post_events("arrived", [{"id": "c", "at": AT}])
    process.terminate()
    assert process.wait(30) == 0
    assert read_door(config.run, "intake") is None


@pytest.mark.processes
def test_after_a_kill_the_next_one_writes_on(launch, config):
    process, url = launch()
    with IntakeClient(url) as client:
        client.post_events("arrived", [{"id": "a", "at": AT}])
    process.kill()
    process.wait()
    assert read_door(config.run, "intake") is None
    _, url = launch()
    with IntakeClient(url) as client:
        assert client.post_events("arrived", [{"id": "a", "at": AT}, {"id": "b", "at": AT}])["duplicate"] == 1
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert [r.id for r in log.read(0)] == ["a", "b"]


EACH = 60
WRITER = """
import sys
from mainspring.catalog import Catalog
from mainspring.events.client import IntakeClient
url, catalog_url, name, each = *sys.argv[1:4], int(sys.argv[4])
row = {"decided_at": 1, "kind": "apply", "model": None, "actor": "t", "reason": "", "numbers": {}}
with IntakeClient(url) as client, Catalog.open(catalog_url) as catalog:
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(each):
        assert client.post_events("arrived", [{"id": f"{name}{i}", "at": "2013-03-01T12:00:00Z"}])["accepted"] == 1
        catalog.project([(i + 1, {"decision_id": f"d{i}", **row})])
print("done")
"""
READER = """
import sys
from pathlib import Path
from mainspring.catalog import Catalog
from mainspring.core import load_config
from mainspring.events.log import Log
from mainspring.events.wake import Wake
root, name, wanted = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
config = load_config(root)
seen = []
with (
    Log.open(config.log_path, config.limits.log_map_bytes) as log,
    Wake(config.run, name) as wake,
    Catalog.open(config.catalog_url) as catalog,
):
    print("ready", flush=True)
    while len(seen) < wanted:
        records = log.read(len(seen))
        seen += [record.id for record in records]
        assert len(catalog.decisions()) <= wanted
        if not records and not wake.wait(60.0):
            sys.exit(f"not woken after {len(seen)}")
assert len(set(seen)) == wanted, seen
print("done")
"""


@pytest.mark.processes
def test_two_writers_and_eight_readers_lose_no_wake_up_and_find_nothing_locked(launch, config):
    _, url = launch()
    writers = [[WRITER, url, config.catalog_url, name, str(EACH)] for name in "ab"]
    readers = [[READER, str(config.root), f"reader_{i}", str(2 * EACH)] for i in range(8)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", *argv], **pipes) for argv in [*writers, *readers]]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [(process.communicate(timeout=300), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [(out, code) for (out, _), code in ends] == [("done\n", 0)] * 10, [err for (_, err), _ in ends]
