"""``mainspring load`` as a user runs it."""

import json
import signal
import subprocess
import sys

import pytest
from servers import OK

from mainspring.cli.app import run
from mainspring.core.config import load_config
from mainspring.core.run import read_door
from mainspring.load.replica import copy

pytestmark = pytest.mark.processes


@pytest.fixture
def load(world, capsys):
    """Runs the command; gives its exit code, its answer as JSON and what it said of an error."""

    def call(*argv):
        capsys.readouterr()
        code = run(["load", *argv, "--json", "-C", str(world.root)])
        shown = capsys.readouterr()
        return code, json.loads(shown.out) if shown.out else None, json.loads(shown.err) if shown.err else None

    return call


def test_a_copy_of_the_project_is_asked_and_nothing_of_it_becomes_an_event(load, world):
    world.live()
    argv = ["--rate", "40", "--rate", "80", "--for", "1s"]
    code, found, _ = load("late_ride", *argv, "--target", "4s", "--protocol", "v2", "--rows", "2")
    assert code == 0
    assert [one["rate"] for one in found["levels"]] == [40, 80]
    assert all(one["errors"] == {} and one["verdict"] == "kept" for one in found["levels"])
    assert all(0 < one["latency_ms"]["p50"] <= one["latency_ms"]["p99.9"] for one in found["levels"])
    assert (found["requests"], found["url"]) == ("synthetic", "a copy of the project")
    assert read_door(world.config.run, "gateway") is None
    assert not list(world.config.home.glob("load-*"))
    assert not (world.config.log_path / "data.mdb").exists() or world.logged("ride") == []


def test_a_copy_has_the_projects_releases_and_a_log_of_its_own(world, tmp_path_factory):
    version = world.live()
    folder = tmp_path_factory.mktemp("copy")
    copy(world.config, folder)
    copied = load_config(folder)
    assert copied.state_path == world.config.state_path.resolve()
    assert copied.definitions == world.config.definitions
    assert copied.log_path.is_relative_to(folder)
    assert (copied.packages / "late_ride" / version / "model.onnx").exists()
    assert (copied.gateway.max_rows, copied.gateway.port, copied.intake.port) == (500, 0, 0)
    assert copied.limits == world.config.limits


def test_another_server_is_asked_only_with_a_yes(load, world):
    code, _, error = load("late_ride", "--url", "http://192.0.2.1:7070", "--rate", "10")
    assert (code, error["code"]) == (5, "MS-C103")
    assert "it is not on this machine" in error["error"]
    code, _, error = load("late_ride", "--url", "http://127.0.0.1:7070")
    assert (code, "not on this machine" in error["error"]) == (5, False)
    assert "becomes events of the request's source" in error["why"]


def test_a_server_that_runs_is_asked_with_a_yes_and_a_broken_target_is_exit_code_5(load, world, answering):
    with answering(lambda _: OK) as server:
        argv = ["--url", f"http://127.0.0.1:{server.port}", "--yes", "--for", "300ms", "--value", "zone=north"]
        code, found, _ = load("late_ride", *argv, "--rate", "50", "--rate", "100", "--shape", "spike")
        assert (code, [one["stage"] for one in found["levels"]]) == (0, ["before", "spike", "after"])
        assert {json.loads(body)["zone"] for body in server.seen} == {"north"}
        assert not any(b"authorization" in head.lower() for head in server.heads)
        (world.root / "key").write_text("ms_abc\n")
        load("late_ride", *argv, "--rate", "10", "--key-file", str(world.root / "key"))
        assert b"Authorization: Bearer ms_abc\r\n" in server.heads[-1]
        code, found, _ = load("late_ride", *argv, "--rate", "100", "--target", "1us")
        assert (code, found["levels"][0]["verdict"]) in ((5, "too slow"), (5, "the sender was late"))
        server.answer = lambda _: b"HTTP/1.1 404 No\r\nContent-Length: 18\r\n\r\n" + b'{"code":"MS-S109"}'
        code, _, error = load("late_ride", *argv, "--rate", "100")
        assert (code, error["code"], error["error"]) == (7, "MS-C104", "a first request failed: 404 MS-S109")
        assert "nothing of that name serves there" in error["hint"]
        for status, hint in ((401, "--key-file"), (403, "not for this model"), (422, "--value"), (503, "/health")):
            server.answer = lambda _, n=status: b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % n
            code, _, error = load("late_ride", *argv, "--rate", "100")
            assert (code, hint in error["hint"]) == (7, True), error
    code, _, error = load("late_ride", *argv, "--rate", "100")
    assert (code, "nobody takes requests there" in error["hint"]) == (7, True), error


def test_without_a_rate_the_capacity_is_searched_and_replicas_are_planned(load, answering):
    served = []

    def answer(_):
        served.append(1)
        refuses = len(served) > 700  # the server is good for so much, and then for nothing
        return b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n" if refuses else OK

    with answering(answer) as server:
        argv = ["--url", f"http://127.0.0.1:{server.port}", "--yes", "--for", "200ms", "--target", "3s"]
        code, found, _ = load("late_ride", *argv, "--replicas", "1", "--replicas", "3", "--need", "1000")
    assert code == 0
    assert (found["capacity"], found["ended_by"]) == (found["replicas"][0]["all_up"], "errors")
    assert found["capacity"] >= 400
    assert found["replicas"][1]["all_up"] == 3 * found["capacity"]
    assert found["needed_replicas"] >= 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rate", "0"], "rates and times must be above 0"),
        (["--rate", "10", "--shape", "ramp"], "a ramp needs two rates"),
        (["--rate", "nan"], "rates and times must be above 0"),
        (["--rate", "inf"], "more than 50,000,000 requests"),
        (["--rate", "1e12", "--for", "1s"], "more than 50,000,000 requests"),
        (["--errors", "2"], "--errors 2 is a share"),
        (["--replicas", "0"], "--replicas 0 must be 1 or more"),
        (["--need", "-5"], "--need -5 must be above 0"),
        (["--rows", "0"], "--rows 0 must be 1 or more"),
        (["--value", "zon=north"], "ride has no column 'zon'"),
        (["--value", "distance_km=far"], "distance_km is float, and 'far' is none"),
        (["--value", "zone=north", "--requests", "recorded"], "--value does not go with --requests recorded"),
        (["--rate", "10", "--need", "5"], "--need plans from the capacity, and --rate asks for none"),
        (["--rate", "10", "--replicas", "2"], "--replicas plans from the capacity"),
        (["--url", "ftp://x", "--yes"], "no http:// or https:// URL"),
        (["--url", "grpc://x", "--yes"], "nor grpc:// with a port"),
        (["--url", "grpc://x:1", "--protocol", "v2", "--yes"], "--protocol v2 does not go with --url 'grpc://x:1'"),
        (["--url", "http://x:1", "--protocol", "grpc", "--yes"], "--protocol grpc does not go with --url"),
        (["--key-file", "nowhere"], "--key-file cannot be read"),
        (["--ca-file", "nowhere"], "--ca-file goes with a --url that begins with https:// or grpcs://"),
        (["--ca-file", "nowhere", "--url", "https://x", "--yes"], "--ca-file cannot be used"),
        (["--ca-file", __file__, "--url", "https://x", "--yes"], "--ca-file cannot be used"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(load, argv, words):
    code, _, error = load("late_ride", *argv)
    assert (code, error["code"]) == (3, "MS-C105")
    assert words in error["error"]


def test_a_model_without_a_release_is_said_so_before_anything_is_started(load, world):
    code, _, error = load("late_ride")
    assert (code, error["code"], error["error"]) == (6, "MS-C119", "late_ride has no release: nobody would answer")
    assert error["hint"].startswith("mainspring train late_ride --release")


def test_sigterm_leaves_no_copy_and_that_of_a_process_that_was_killed_is_swept(load, world):
    world.live()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale = world.config.home / f"load-{ended.pid}-x"
    stale.mkdir()
    argv = ["load", "late_ride", "--rate", "10", "--for", "5m", "-C", str(world.root)]
    with subprocess.Popen([sys.executable, "-m", "mainspring", *argv], stderr=subprocess.PIPE, text=True) as running:
        for line in running.stderr:
            if "10 requests/s" in line:
                break
        assert [one.name.split("-")[1] for one in world.config.home.glob("load-*")] == [str(running.pid)]
        running.send_signal(signal.SIGTERM)
        running.stderr.read()
        assert running.wait(30) != 0
    assert not list(world.config.home.glob("load-*"))
