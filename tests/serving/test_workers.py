"""Several workers on one port: shared out, counted together, reloaded together, and started again when one dies."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

from mainspring.core.errors import UnavailableError
from mainspring.core.run import (
    GRPC_DOOR,
    door_of,
    door_pid,
    internal_token,
    join_door,
    read_door,
    read_doors,
    write_door,
)
from mainspring.loop.supervisor import Supervisor
from mainspring.serving.roll_call import roll_call
from mainspring.serving.siblings import together
from mainspring.serving.workers import await_former

from rides import ride  # isort: skip

pytestmark = pytest.mark.processes
_TURN = threading.Event()


def until(found, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not (value := found()):
        assert time.monotonic() < deadline, "it never held"
        _TURN.wait(0.01)
    return value


@contextlib.contextmanager
def workers(world, count=2):
    """The command that users start; its URL, and pids by number of worker."""
    argv = [sys.executable, "-m", "mainspring", "serve", "-C", str(world.root), "--workers", str(count), "--port", "0"]
    said = world.root / "serve.log"
    with said.open("w") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        until(lambda: door_of(world.config.run, "gateway", process.pid) or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        yield door_of(world.config.run, "gateway", process.pid).where
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, said.read_text()


def names(world):
    """Names of the own doors of workers, by the worker's number."""
    return {int(path.stem.split("_")[2]): path.stem for path in world.config.run.glob("gateway_*_[0-9].json")}


def own_doors(world):
    return {i: door for i, name in names(world).items() if (door := read_door(world.config.run, name))}


def pids(world):
    return {i: pid for i, name in names(world).items() if (pid := door_pid(world.config.run, name))}


def are_new(found, before):
    """Whether there are as many workers as before, and none of those."""
    return len(found) == len(before) and not set(found.values()) & set(before.values())


def epoch(prediction_id):
    return prediction_id.rpartition("-")[0]


def ask(url, number):
    """One prediction on a connection of its own; its answer."""
    row = ride(number) | {"asked_at": None}
    row.pop("asked_at")
    answer = httpx.post(f"{url}/predict/late_ride", json=row)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_workers_share_a_port_count_together_reload_together_and_come_back_when_killed(world):
    first = world.live()
    second = world.train(seed=2)
    with workers(world) as url:
        numbers = iter(range(1, 100_000))
        seen = set()
        until(lambda: seen.add(epoch(ask(url, next(numbers))["prediction_id"])) or len(seen) == 2)
        asked = next(numbers) - 1

        # metrics and health are those of both, whoever is asked
        text = httpx.get(f"{url}/metrics").text
        counted = re.findall(
            r'^mainspring_answers_total\{worker="([12])",model="late_ride"\} (\d+)$', text, re.MULTILINE
        )
        assert [number for number, _ in counted] == ["1", "2"]
        assert sum(int(count) for _, count in counted) == asked
        assert text.count("# TYPE mainspring_answers_total counter") == 1
        for where in ("late_ride/stats", "stats", f"late_ride/versions/{first}/stats"):
            (stats,) = httpx.get(f"{url}/v2/models/{where}").json()["model_stats"]
            assert (stats["name"], stats["version"], stats["request_count"]) == ("late_ride", first, asked)
            assert stats["inference_count"] == stats["inference_stats"]["success"]["count"] == asked
            assert stats["inference_stats"]["success"]["ns"] > 0
        assert httpx.get(f"{url}/v2/models/nobody/stats").status_code == 404
        health = httpx.get(f"{url}/health").json()
        assert {one["epoch"] for one in health["workers"].values()} == seen

        # a reload is answered once both serve what is there now
        world.decide("release", version=second)
        world.decide("promote")
        token = {"Authorization": f"Bearer {internal_token(world.config.run)}"}
        assert httpx.post(f"{url}/internal/reload", headers=token).json()["problems"] == []
        served = {
            httpx.get(f"{door}/internal/own/health", headers=token).json()["models"]["late_ride"]["champion"]
            for door in own_doors(world).values()
        }
        assert served == {second} != {first}
        assert httpx.get(f"{url}/internal/own/health").status_code == 403

        # one dies: the other serves every request, and it is started again
        before = pids(world)
        os.kill(before[1], signal.SIGKILL)
        until(lambda: pids(world).get(1) != before[1])
        while (back := pids(world).get(1)) is None:
            assert ask(url, next(numbers))["model_version"] == second
        assert back != before[1]
        assert pids(world)[2] == before[2]
        until(lambda: seen.add(epoch(ask(url, next(numbers))["prediction_id"])) or len(seen) == 3)
        assert door_pid(world.config.run, "gateway") not in pids(world).values()
    assert pids(world) == {}
    assert read_door(world.config.run, "gateway") is None


def test_a_parent_that_is_killed_takes_its_workers_with_it_and_the_supervisor_starts_the_gateway_again_as_a_whole(
    world,
):
    version = world.live()
    settings = world.root / "mainspring.toml"
    settings.write_text(settings.read_text().replace("[gateway]\n", "[gateway]\nworkers = 2\ngrpc = 0\n"))
    world.reload()
    with Supervisor(world.config, ("gateway",)) as supervisor:
        url, parent = supervisor.urls()["gateway"], supervisor.pids()["gateway"]
        assert urlsplit(supervisor.urls()["grpc"]).scheme == "grpc"
        first = pids(world)
        assert len(first) == 2
        # a worker that has begun an answer: it keeps the port's connection, and the new gateway has to wait for it
        body = json.dumps(ride(asked_at=...)).encode()
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=60) as begun:
            head = f"POST /predict/late_ride HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            begun.sendall(head.encode() + body[:5])
            supervisor.kill("gateway")
            ended = []
            until(lambda: ended.extend(supervisor.poll()) or supervisor.pids().get("gateway", parent) != parent)
            begun.sendall(body[5:])
            said = b""
            while part := begun.recv(65_536):
                said += part
        assert said.startswith(b"HTTP/1.1 200 OK")
        until(lambda: ended.extend(supervisor.poll()) or are_new(pids(world), first))
        until(lambda: read_door(world.config.run, "gateway"))
        assert [(one.name, one.code) for one in ended] == [("gateway", -signal.SIGKILL)]  # at once: no port was held
        assert supervisor.urls()["gateway"] == url
        assert ask(url, 1)["model_version"] == version
    assert pids(world) == {}


def counted(url):
    """What each worker of a gateway says that it has answered, by its number, and the epochs of all of them."""
    text = httpx.get(f"{url}/metrics").text
    found = re.findall(r'^mainspring_answers_total\{worker="(\d)",model="late_ride"\} (\d+)$', text, re.MULTILINE)
    epochs = {one["epoch"] for one in httpx.get(f"{url}/health").json()["workers"].values()}
    return {int(number): int(count) for number, count in found}, epochs


def status(world, *options):
    argv = [sys.executable, "-m", "mainspring", "status", "-C", str(world.root), *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def test_two_gateways_of_a_project_count_and_tell_their_own_workers_and_one_that_stops_leaves_the_other_whole(world):
    world.live()
    settings = world.root / "mainspring.toml"
    settings.write_text(settings.read_text().replace("[gateway]\n", "[gateway]\nworkers = 2\ngrpc = 0\n"))
    world.reload()
    run = world.config.run
    with Supervisor(world.config, ("gateway",)) as supervisor:
        url, parent, grpc = supervisor.urls()["gateway"], supervisor.pids()["gateway"], supervisor.urls()["grpc"]
        before = names(world)
        with workers(world) as other:
            assert other != url
            of_url = {epoch(ask(url, number)["prediction_id"]) for number in range(40)}
            of_other = {epoch(ask(other, number)["prediction_id"]) for number in range(40, 45)}
            for _ in range(8):  # whichever worker takes the connection
                answers, epochs = counted(url)
                assert (sorted(answers), sum(answers.values())) == ([1, 2], 40)
                other_answers, other_epochs = counted(other)
                assert (sorted(other_answers), sum(other_answers.values())) == ([1, 2], 5)
                assert of_url <= epochs
                assert of_other <= other_epochs
                assert not epochs & other_epochs
            found = json.loads(status(world, "--json"))
            assert [one["url"] for one in found["gateways"]] == [url, other]
            assert found["gateways"][0]["pid"] == parent
            assert found["processes"]["gateway"] == url
            told = status(world)
            assert url in told
            assert other in told
            assert supervisor.urls() == {"gateway": url, "grpc": grpc}
        assert names(world) == before
        answers, _ = counted(url)
        assert (sorted(answers), sum(answers.values())) == ([1, 2], 40)
        assert json.loads(status(world, "--json"))["processes"]["gateway"] == url
        assert [door.pid for door in read_doors(run, "gateway")] == [parent]
        assert (read_door(run, "gateway"), read_door(run, GRPC_DOOR)) == (url, grpc)
    assert not list(run.glob("gateway*.json"))


def unwrapped(told):
    """What is said beneath the processes, whatever the width of the terminal."""
    return " ".join(told.split())


def test_status_says_what_a_worker_could_not_load_and_which_does_not_answer(world):
    version = world.live()
    with workers(world) as url:
        (gateway,) = json.loads(status(world, "--json"))["gateways"]
        said = [(one["worker"], one["pid"], one["status"], one["problems"]) for one in gateway["processes"]]
        assert said == [(number, pid, "ok", []) for number, pid in sorted(pids(world).items())]
        assert f"{url}, worker" not in unwrapped(status(world))

        world.damage("late_ride", version)
        before = pids(world)
        os.kill(before[1], signal.SIGKILL)
        until(lambda: pids(world).get(1) not in (None, before[1]))
        (gateway,) = json.loads(status(world, "--json"))["gateways"]
        first, second = gateway["processes"]
        assert [(one["model"], one["version"]) for one in first["problems"]] == [("late_ride", version)]
        assert (first["status"], second["problems"]) == ("degraded", [])
        told = unwrapped(status(world))
        assert f"gateway {url}, worker 1: late_ride {version}: MS-" in told
        assert "worker 2" not in told

        os.kill(before[2], signal.SIGSTOP)
        try:
            (gateway,) = json.loads(status(world, "--json"))["gateways"]
            assert (gateway["processes"][1]["status"], gateway["processes"][1]["pid"]) == (None, before[2])
            assert f"gateway {url}, worker 2: a neighbour does not answer" in unwrapped(status(world))
        finally:
            os.kill(before[2], signal.SIGCONT)


def test_a_worker_that_has_ended_and_a_gateway_whose_door_is_shut_are_said_so(world):
    run = world.config.run
    join_door(run, "gateway", "http://127.0.0.1:1")
    ((alone,),) = roll_call(run, read_doors(run, "gateway"))
    assert (alone.worker, alone.pid, alone.status) == (None, os.getpid(), None)
    assert "http://127.0.0.1:1" in alone.silent
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    door = (run / "gateway.json").read_text().replace(str(os.getpid()), str(gone.pid))
    (run / f"gateway_{os.getpid()}_2.json").write_text(door)
    ((second,),) = roll_call(run, read_doors(run, "gateway"))
    assert (second.worker, second.pid, second.status) == (2, None, None)
    assert "it has ended" in second.silent


def test_workers_of_a_gateway_that_is_gone_and_do_not_go_are_told_of(world, monkeypatch):
    monkeypatch.setattr("mainspring.serving.workers.FORMER_S", 0.0)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_door(world.config.run, f"gateway_{gone.pid}_1", "http://127.0.0.1:1")  # this process is alive, and stays so
    join_door(world.config.run, "gateway", "http://127.0.0.1:1")  # another gateway is not theirs
    with pytest.raises(UnavailableError, match=rf"MS-S131: workers of a gateway that is gone .*: pid {os.getpid()}"):
        await_former(world.config, threading.Event())
    write_door(world.config.run, f"gateway_{gone.pid}_1", "http://127.0.0.1:1")
    (world.config.run / f"gateway_{gone.pid}_1.json").rename(world.config.run / f"gateway_{os.getpid()}_1.json")
    await_former(world.config, threading.Event())  # they have a parent: the port will say so


def test_workers_whose_definitions_do_not_load_are_said_so_and_nothing_is_left_running(world):
    world.config.definitions.write_text("import nothing_of_that_name\n")
    argv = [sys.executable, "-m", "mainspring", "serve", "-C", str(world.root), "--workers", "2", "--port", "0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7
    assert "MS-S130" in done.stderr
    assert "nothing_of_that_name" in done.stderr
    assert pids(world) == {}


def test_a_port_that_somebody_else_has_is_said_so(world):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        argv = [sys.executable, "-m", "mainspring", "serve", "-C", str(world.root), "--workers", "2", "--port", port]
        done = subprocess.run([*argv, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7
    assert "MS-S002" in done.stdout + done.stderr


def test_series_of_several_workers_are_told_apart_and_described_once():
    one = '# HELP a_total x\n# TYPE a_total counter\na_total{model="m"} 1\n# TYPE up gauge\nup 1\n'
    two = (
        '# HELP a_total x\n# TYPE a_total counter\na_total{model="m"} 2\na_total{model="n"} 3\n# TYPE up gauge\nup 0\n'
    )
    assert together({2: two, 1: one}) == (
        "# HELP a_total x\n# TYPE a_total counter\n"
        'a_total{worker="1",model="m"} 1\na_total{worker="2",model="m"} 2\na_total{worker="2",model="n"} 3\n'
        '# TYPE up gauge\nup{worker="1"} 1\nup{worker="2"} 0\n'
    )
