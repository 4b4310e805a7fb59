"""The supervisor: everything starts, what dies comes back, nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mainspring.cli.app import run
from mainspring.core import ManualClock
from mainspring.core.errors import NotFoundError, UnavailableError
from mainspring.core.run import read_door
from mainspring.loop.deaths import read_deaths
from mainspring.loop.supervisor import Supervisor

pytestmark = pytest.mark.processes
_TURN = threading.Event()


@pytest.fixture
def config(config):
    """The same project, without what makes each process import a learner first."""
    text = config.definitions.read_text().replace("from lightgbm import LGBMClassifier\n", "")
    config.definitions.write_text(text)
    return config


def until(holds, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        _TURN.wait(0.01)


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def answers(url):
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


def test_what_was_started_answers_and_is_gone_after_the_stop(config):
    with Supervisor(config, ("intake",)) as supervisor:
        (pid,) = supervisor.pids().values()
        url = supervisor.urls()["intake"]
        assert lives(pid)
        assert answers(url)
        assert supervisor.poll() == []
    assert not lives(pid)
    assert not answers(url)
    assert read_door(config.run, "intake") is None


def test_a_process_that_is_killed_is_started_again_after_a_back_off(config):
    with Supervisor(config, ("intake",)) as supervisor:
        first = supervisor.pids()["intake"]
        supervisor.kill("intake")
        ended = []
        until(lambda: ended.extend(supervisor.poll()) or ended)
        assert [(one.name, one.pid, one.code, one.again_in_s) for one in ended] == [("intake", first, -9, 0.2)]
        assert supervisor.pids() == {}
        with pytest.raises(NotFoundError, match="MS-L144"):
            supervisor.kill("intake")
        until(lambda: supervisor.poll() == [] and supervisor.urls())
        second = supervisor.pids()["intake"]
        assert second != first
        supervisor.kill("intake", signal.SIGKILL)
        until(lambda: ended.extend(supervisor.poll()) or len(ended) == 2)
        assert ended[1].again_in_s == 0.4
    assert not lives(second)


def test_a_process_that_ends_at_once_is_an_error_with_what_it_said(config):
    config.definitions.write_text("this is no python\n")
    supervisor = Supervisor(config, ("intake",))
    with pytest.raises(UnavailableError, match=r"MS-L141: intake ended at once with 3") as caught:
        supervisor.start()
    assert "MS-D161" in caught.value.why
    assert caught.value.where == str(supervisor.log_path("intake"))
    assert supervisor.pids() == {}


def test_who_waits_for_a_slow_start_hears_once_what_is_waited_for(config, monkeypatch):
    monkeypatch.setattr("mainspring.loop.supervisor._SLOW_S", 0.0)
    heard = []
    with Supervisor(config, ("intake",), on_slow=heard.append) as supervisor:
        assert supervisor.urls()
    (said,) = heard
    assert said.startswith("still starting: intake; the first start on a machine compiles")


def test_a_process_that_ends_in_a_loop_is_told_of_until_it_is_well(config, monkeypatch, capsys):
    def status(*more):
        capsys.readouterr()
        assert run(["status", "-C", str(config.root), *more]) == 0
        return capsys.readouterr().out

    text = config.definitions.read_text()
    with Supervisor(config, ("intake",), clock=ManualClock(1_000_000)) as supervisor:
        assert read_deaths(config.run) == []
        config.definitions.write_text("this is no python\n")
        supervisor.kill("intake")
        until(lambda: supervisor.poll() is not None and [d.times for d in read_deaths(config.run)] == [3])
        (death,) = read_deaths(config.run)
        assert (death.process, death.code, death.at_us, death.again_in_s) == ("intake", 3, 1_000_000, 0.8)
        assert death.log == str(supervisor.log_path("intake"))
        (told,) = json.loads(status("--json"))["deaths"]
        assert (told["process"], told["times"], told["at"]) == ("intake", 3, "1970-01-01T00:00:01Z")
        assert "MS-D161" in told["said"]
        assert "intake has ended 3 times, the last at 1970-01-01T00:00:01Z with 3" in " ".join(status().split())
        config.definitions.write_text(text)
        monkeypatch.setattr("mainspring.core.children.HEALTHY_S", 0.0)
        until(lambda: supervisor.poll() is not None and read_deaths(config.run) == [])
        config.definitions.write_text("this is no python\n")
        supervisor.kill("intake")
        until(lambda: supervisor.poll() is not None and read_deaths(config.run) != [])
    assert read_deaths(config.run) == []  # nobody starts it again: nothing to tell of


def test_a_second_supervisor_of_a_project_is_refused(config):
    with Supervisor(config, ("intake",)), pytest.raises(UnavailableError, match=r"MS-C010: this project is in use"):
        Supervisor(config, ("intake",)).start()
    with Supervisor(config, ("intake",)) as again:
        assert again.pids()


def test_a_process_that_somebody_else_started_is_left_alone(config):
    argv = [sys.executable, "-m", "mainspring", "intake", "-C", str(config.root)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as other:
        until(lambda: read_door(config.run, "intake"))
        with pytest.raises(UnavailableError, match=r"MS-L143: a intake of this project is running already"):
            Supervisor(config, ("intake",)).start()
        assert lives(other.pid)
        other.send_signal(signal.SIGINT)
        assert other.wait(20) == 0


def test_a_supervisor_that_is_killed_takes_its_processes_with_it(config):
    code = (
        "import sys, pathlib\nfrom mainspring.core import load_config\n"
        "from mainspring.loop.supervisor import Supervisor\n"
        "s = Supervisor(load_config(pathlib.Path(sys.argv[1])), ('intake',))\ns.start()\n"
        "print(s.pids()['intake'], s.urls()['intake'], flush=True)\ns.watch()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(config.root)], stdout=subprocess.PIPE, text=True) as process:
        pid, url = process.stdout.readline().split()
        assert lives(int(pid))
        process.kill()
    until(lambda: not lives(int(pid)))
    assert not answers(url)


def test_ctrl_c_stops_everything_that_up_started(config):
    argv = [sys.executable, "-m", "mainspring", "up", "--json", "-C", str(config.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        said = json.loads(process.stdout.readline())
        assert set(said["pids"]) == {"intake", "gateway", "worker"}
        assert all(answers(url) for url in said["urls"].values())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not any(lives(pid) for pid in said["pids"].values())
    assert not any(answers(url) for url in said["urls"].values())


def test_up_as_json_is_one_document_and_what_ends_later_is_told_on_the_other_stream(config):
    argv = [sys.executable, "-m", "mainspring", "up", "--json", "-C", str(config.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        os.kill(json.loads(line)["pids"]["worker"], signal.SIGKILL)
        told = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    log = str(config.run / "logs" / "worker.log")
    assert told == {"event": "ended", "process": "worker", "code": -9, "again_in_s": 0.2, "log": log}
    assert rest == ""


def test_a_process_without_a_name_is_not_known(config):
    with pytest.raises(NotFoundError, match=r"MS-L140: no process is called 'door'"):
        Supervisor(config, ("door",))


def test_a_process_that_comes_back_is_found_where_it_was(config):
    with Supervisor(config, ("intake",)) as supervisor:
        before, pid = supervisor.urls()["intake"], supervisor.pids()["intake"]
        supervisor.kill("intake")
        until(lambda: supervisor.poll() is not None and supervisor.pids().get("intake", pid) != pid)
        until(lambda: supervisor.urls().get("intake") is not None)
        assert supervisor.urls()["intake"] == before
        assert answers(before)
