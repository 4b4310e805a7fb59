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
from mainspring.core.run import door_pid, internal_token, read_door, write_door
from mainspring.loop.supervisor import Supervisor
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
        url = until(lambda: read_door(world.config.run, "gateway") or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        until(lambda: all(httpx.get(f"{one}/ready").status_code == 200 for one in own_doors(world, count).values()))
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, said.read_text()


def own_doors(world, count=2):
    return {i: door for i in range(1, count + 1) if (door := read_door(world.config.run, f"gateway_{i}"))}


def pids(world, count=2):
    return {i: pid for i in range(1, count + 1) if (pid := door_pid(world.config.run, f"gateway_{i}"))}


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
        until(lambda: door_pid(world.config.run, "gateway_1") is None)
        while (back := door_pid(world.config.run, "gateway_1")) is None:
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


def test_workers_of_a_gateway_that_is_gone_and_do_not_go_are_told_of(world, monkeypatch):
    monkeypatch.setattr("mainspring.serving.workers.FORMER_S", 0.0)
    write_door(world.config.run, "gateway_1", "http://127.0.0.1:1")  # this process is alive, and stays so
    with pytest.raises(UnavailableError, match=rf"MS-S131: workers of a gateway that is gone .*: pid {os.getpid()}"):
        await_former(world.config, threading.Event())
    write_door(world.config.run, "gateway", "http://127.0.0.1:1")
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
