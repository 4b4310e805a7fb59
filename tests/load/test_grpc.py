"""Simulated traffic over gRPC: the same open loop, the same kinds of ends."""

import contextlib
import json
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from mainspring.cli.app import run
from mainspring.load.pool import Pool, pool
from mainspring.load.sender import ANSWERED, NOT_SENT, TIMEOUT, Job, send
from mainspring.load.shape import arrivals, steady
from mainspring.serving.grpc_messages import MESSAGES, SERVICE

from doors import open_doors  # isort: skip
from rides import World  # isort: skip

STALL, STALL_S = threading.Event(), 0.5
PLAIN = Pool(((b"x" * 16, b""),), ("str", 0), 1, True)


@contextlib.contextmanager
def serving(answer, threads=1):
    """A server whose calls ``answer(number, context)`` answers, so many at a time; its port and what it was sent."""
    seen, lock = [], threading.Lock()

    def infer(body, context):
        with lock:
            seen.append((body, dict(context.invocation_metadata())))
            number = len(seen)
        return answer(number, context)

    server = grpc.server(ThreadPoolExecutor(threads))
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, seen
    finally:
        server.stop(None).wait()


def job(port, times_s, pool=PLAIN, **more):
    return Job("127.0.0.1", port, False, pool, np.asarray(times_s, float), **more)


def kinds(sent):
    return [sent.kinds[kind] for kind in sent.kind]


def test_a_stall_is_seen_by_every_call_that_was_due_in_it():
    stalled = []

    def answer(number, context):
        if number == 60:
            begins_s = time.monotonic()
            STALL.wait(STALL_S)  # the only thread stands still, and so does the server: that is what is looked for
            stalled.append((begins_s, time.monotonic()))
        return b""

    times_s, _ = arrivals(steady(200.0, 1.5), seed=1)
    begins_s = time.monotonic() + 0.5
    with serving(answer) as (port, _):
        sent = send(job(port, times_s, begins_s=begins_s, connections=8, timeout_s=60.0))
    assert set(kinds(sent)) == {ANSWERED}
    ((since_s, until_s),) = stalled
    due_s = begins_s + times_s
    caught = (due_s > since_s) & (due_s < until_s)
    assert caught.sum() > 50  # a client that waits for its answers would have asked 8
    assert (sent.latency_s[caught] >= until_s - due_s[caught]).all()


def test_each_call_has_an_id_of_its_own_and_the_keys_metadata():
    keyed = Pool((tuple(b"<~id~>".split(b"~id~")),), ("str", 7), 1, True, (("authorization", "Bearer ms_a_b"),))
    with serving(lambda *_: b"", threads=4) as (port, seen):
        sent = send(job(port, np.arange(50) / 1_000, keyed, first=100, timeout_s=60.0))
    assert set(kinds(sent)) == {ANSWERED}
    assert {body for body, _ in seen} == {b"<%04x%012x>" % (7, 100 + n) for n in range(50)}
    assert {metadata["authorization"] for _, metadata in seen} == {"Bearer ms_a_b"}


def test_every_end_has_its_name():
    gate = threading.Event()

    def answer(number, context):
        if number == 1:
            context.abort(grpc.StatusCode.NOT_FOUND, "no model 'x' is served here [MS-S109]")
        if number == 2:
            context.abort(grpc.StatusCode.INTERNAL, "who knows")
        if number == 3:
            return b"\x2a\x09\x0a\x08fallback"
        if number == 4:
            return b"\x2a\x07\x0a\x05error"
        gate.wait(60)
        return b""

    with serving(answer) as (port, _):
        firsts = [send(job(port, [0.0], timeout_s=60.0)) for _ in range(4)]
        late = send(job(port, [0.0, 0.01, 0.02], connections=1, timeout_s=1.0))
        gate.set()
    assert [kinds(one) for one in firsts] == [["NOT_FOUND MS-S109"], ["INTERNAL"], [ANSWERED], ["some rows failed"]]
    assert [one.fallbacks for one in firsts] == [0, 0, 1, 0]
    assert kinds(late)[0] == TIMEOUT
    assert set(kinds(late)[1:]) <= {TIMEOUT, NOT_SENT}
    assert kinds(send(job(port, [0.0], timeout_s=60.0))) == ["UNAVAILABLE"]


@pytest.mark.parametrize("kind", ["str", "int"])
def test_messages_hold_the_rows_and_an_id_of_their_own_each(world, kind):
    world.redefine("ride_id: str", f"ride_id: {kind}")
    source = world.project.models["late_ride"].request
    rows = [
        {"ride_id": "a", "driver": None, "zone": "north", "distance_km": 2.5, "passengers": None},
        {"ride_id": "b", "driver": "bob", "zone": "south", "distance_km": 3.0, "passengers": None},
    ]
    made = pool(source, "late_ride", "", rows, run=9, protocol="grpc", rows_a_request=2)
    ids = []
    for number in (0, 1):
        message = MESSAGES["ModelInferRequest"].FromString(made.request(number))
        raw = {one.name: part for one, part in zip(message.inputs, message.raw_input_contents, strict=True)}
        assert list(raw) == ["ride_id", "driver", "zone", "distance_km"]  # a column of nulls is left out
        assert {tuple(one.shape) for one in message.inputs} == {(2,)}
        assert struct.unpack("<2d", raw["distance_km"]) == (2.5, 3.0)
        assert raw["driver"] == b"\x03\0\0\0bob" * 2
        ids += struct.unpack("<2q", raw["ride_id"]) if kind == "int" else [raw["ride_id"][4:20], raw["ride_id"][24:40]]
    assert len(set(ids)) == 4


@pytest.mark.processes
def test_a_copy_of_the_project_is_asked_over_grpc(world, capsys):
    world.live()
    argv = ["--rate", "40", "--for", "1s", "--target", "4s", "--protocol", "grpc", "--rows", "2"]
    assert run(["load", "late_ride", *argv, "-C", str(world.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (level,) = found["levels"]
    assert (found["protocol"], level["errors"], level["verdict"]) == ("grpc", {}, "kept")
    assert not list(world.config.home.glob("load-*"))


def test_a_gateway_is_asked_over_grpc_and_one_that_serves_no_such_model_is_said_so(tmp_path, capsys):
    with World(tmp_path) as world:
        world.live()
        with open_doors(world) as (_, door):
            argv = ["--url", f"grpc://{door}", "--yes", "--rate", "50", "--for", "500ms", "--json", "-C", str(tmp_path)]
            assert run(["load", "late_ride", *argv]) == 0
            (level,) = json.loads(capsys.readouterr().out)["levels"]
            assert (level["errors"], level["fallbacks"]) == ({}, 0)
            assert run(["load", "minutes", *argv]) == 7
            error = json.loads(capsys.readouterr().err)
            assert error["error"] == "a first request failed: NOT_FOUND MS-S109"
            assert "nothing of that name serves there" in error["hint"]
