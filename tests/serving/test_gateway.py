import asyncio
import gzip
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.run import read_door
from mainspring.serving.shared import LaneLimits

from rides import MINUTE, NOW, Client, World, logged, metric, ride, until  # isort: skip


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A world with a champion, for tests that change nothing in it."""
    with World(tmp_path_factory.mktemp("standing")) as made:
        made.live()
        yield made


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_request_is_answered_with_prediction_id_version_and_variant(world):
    version = world.live()

    async def story(gateway, client):
        answer = await client.predict(ride())
        assert answer.status == 200
        found = answer.json
        assert set(found) == {"prediction", "prediction_id", "model_version", "variant"}
        assert 0 < found["prediction"] < 1
        assert (found["model_version"], found["variant"]) == (version, "champion")
        again = (await client.predict(ride())).json
        assert again["prediction"] == found["prediction"]
        assert [one["prediction_id"].rpartition("-")[2] for one in (found, again)] == ["1", "2"]

    world.run(story)


def test_features_are_those_of_the_moment_and_their_status_is_told_on_request(world):
    world.live()

    async def story(gateway, client):
        before = (await client.predict(ride(), query="?status=1")).json
        world.fold(("ann", 50.0, 10), ("ann", 40.0, 20))
        after = (await client.predict(ride(), query="?status=1")).json
        assert before["status"]["driver__late_mean_1h"] == "missing"
        assert after["status"]["driver__late_mean_1h"] == "present"
        assert before["prediction"] != after["prediction"]

    world.run(story)


def test_a_list_is_answered_by_a_list_with_bad_rows_in_place(world):
    world.live()

    async def story(gateway, client):
        rows = [ride(1), ride(2, distance_km="far"), ride(3), ride(4, zone="west"), ride(5, surprise=1)]
        answer = await client.predict(rows)
        assert answer.status == 200
        found = answer.json
        assert [set(one) >= {"prediction"} for one in found] == [True, False, True, False, False]
        assert found[1] == {"error": "Expected `float`, got `str`", "code": "MS-E102", "where": "$.distance_km"}
        assert found[3]["where"] == "$.zone"
        alone = (await client.predict(ride(3))).json
        assert alone["prediction"] == found[2]["prediction"]
        assert (await client.predict([])).json == []

    world.run(story)


def test_a_request_without_any_good_row_is_refused_with_the_reason_of_each(world):
    world.live()

    async def story(gateway, client):
        answer = await client.predict([ride(1, zone="x"), ride(2, passengers=1.5)])
        assert answer.status == 422
        assert [one["where"] for one in answer.json] == ["$.zone", "$.passengers"]
        answer = await client.predict(ride(1, zone="x"))
        assert (answer.status, answer.json["code"]) == (422, "MS-E103")

    world.run(story)


@pytest.mark.parametrize(
    ("body", "path", "status", "code"),
    [
        (b"{", "/predict/late_ride", 400, "MS-S101"),
        (b"", "/predict/late_ride", 400, "MS-S101"),
        (b'{"distance_km": NaN}', "/predict/late_ride", 400, "MS-S101"),
        (json.dumps(ride(distance_km=1e301)).encode(), "/predict/late_ride", 422, "MS-E103"),
        (json.dumps(ride(asked_at="1969-12-31T23:59:59Z")).encode(), "/predict/late_ride", 422, "MS-E107"),
        (json.dumps(ride(asked_at="2999-01-01T00:00:00Z")).encode(), "/predict/late_ride", 400, "MS-S103"),
        (json.dumps(ride(passengers=2**63)).encode(), "/predict/late_ride", 422, "MS-E102"),
        (json.dumps([ride(i) for i in range(501)]).encode(), "/predict/late_ride", 413, "MS-S102"),
        (b"x" * 200_001, "/predict/late_ride", 413, "MS-S004"),
        (b"{}", "/predict/late_rides", 404, "MS-S109"),
        (b"{}", "/predict/", 404, "MS-S109"),
        (b"{}", "/predict/late_ride/x", 404, "MS-S109"),
        (b"{}", "/nothing", 404, "MS-S107"),
        (b"{}", "/metrics", 405, "MS-S114"),
        (b"{}", "/internal/reload", 403, "MS-S112"),
    ],
)  # fmt: skip
def test_bad_input_is_a_clear_error_and_never_the_servers_fault(standing, body, path, status, code):
    async def story(gateway, client):
        answer = await client.ask("POST", path, body)
        assert (answer.status, answer.json["code"]) == (status, code)
        if path.endswith("late_rides"):
            assert answer.json["hint"] == "did you mean 'late_ride'?"
        async with Client(gateway.url) as other:
            assert (await other.predict(ride())).status == 200

    standing.run(story)


def test_a_body_may_be_compressed_and_is_what_its_coding_says(standing):
    async def story(gateway, client):
        plain = json.dumps(ride()).encode()
        for coding, body in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain)), ("identity", plain)):
            assert (await client.ask("POST", "/predict/late_ride", body, Content_Encoding=coding)).status == 200
        for coding, body, status, code in (
            ("gzip", plain, 415, "MS-S145"),
            ("br", plain, 415, "MS-S145"),
            ("gzip", gzip.compress(b" " * 200_001), 413, "MS-S146"),
        ):
            answer = await client.ask("POST", "/predict/late_ride", body, Content_Encoding=coding)
            assert (answer.status, answer.json["code"]) == (status, code)

    standing.run(story)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_requests_of_one_tick_are_one_batch_with_one_run_of_the_model(world):
    world.live()

    async def story(gateway, client):
        for i in range(20):
            client.send("POST", "/predict/late_ride", json.dumps(ride(i)).encode())
        await client.writer.drain()
        ids = [(await client.receive()).json["prediction_id"] for _ in range(20)]
        assert [one.rpartition("-")[2] for one in ids] == [str(i) for i in range(1, 21)]
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_inferences_total", variant="champion") == 20
        assert metric(text, "mainspring_executions_total", variant="champion") <= 3
        assert metric(text, "mainspring_latency_seconds_count", part="total") == 20

    world.run(story)


def test_metrics_tell_what_was_served_and_how_far_the_fold_is_behind(world):
    world.live()

    async def story(gateway, client):
        for i in range(3):
            assert (await client.predict(ride(i))).status == 200
        text = (await client.get("/metrics")).body.decode()
        served = [line for line in text.splitlines() if line.startswith("mainspring_features_served_total{")]
        assert sum(int(line.split()[-1]) for line in served) > 0
        assert {line.split('status="')[1].split('"')[0] for line in served} >= {"present", "missing", "unavailable"}
        assert metric(text, "mainspring_fold_lag_records") >= 0
        assert metric(text, "mainspring_fold_lag_seconds") >= 0

    world.run(story)


def test_a_long_request_is_split_and_answered_whole(world):
    world.live()

    async def story(gateway, client):
        client.send(
            "POST", "/predict/late_ride", json.dumps([ride(i, distance_km=float(i)) for i in range(100)]).encode()
        )
        client.send("POST", "/predict/late_ride", json.dumps(ride(7, distance_km=7.0)).encode())
        many, one = (await client.receive()).json, (await client.receive()).json
        assert many[7]["prediction"] == one["prediction"]
        assert len({row["prediction_id"] for row in many}) == 100
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_executions_total", variant="champion") >= 101 / 16

    world.run(story, LaneLimits(batch_rows=16))


def test_a_client_that_leaves_in_the_middle_of_a_batch_takes_nobody_with_it(world):
    world.live()

    async def story(gateway, client):
        async with Client(gateway.url) as leaver, Client(gateway.url) as other:
            reset = struct.pack("ii", 1, 0)
            leaver.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            for one in (client, leaver, other):
                one.send("POST", "/predict/late_ride", json.dumps([ride(i) for i in range(300)]).encode())
            leaver.writer.transport.abort()
            for one in (client, other):
                answer = await one.receive()
                assert answer.status == 200
                assert len(answer.json) == 300
        assert (await client.predict(ride())).status == 200

    world.run(story, LaneLimits(batch_rows=50))


def test_a_full_queue_sheds_with_a_time_to_come_back_and_then_recovers(world):
    world.live()

    async def story(gateway, client):
        async with Client(gateway.url) as other:
            rows = json.dumps([ride(i) for i in range(60)]).encode()
            for _ in range(5):
                other.send("POST", "/predict/late_ride", rows)
            await other.writer.drain()
            answers = [await other.receive() for _ in range(5)]
            shed = [answer for answer in answers if answer.status == 429]
            assert shed
            assert any(answer.status == 200 for answer in answers)
            assert {answer.headers["retry-after"] for answer in shed} == {"1"}
            assert shed[0].json["code"] == "MS-S105"
        assert (await client.predict(ride())).status == 200
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_rejected_total", reason="shed") == 60 * len(shed)

    world.run(story, LaneLimits(batch_rows=10, queued_rows=100))


def test_a_deadline_that_passes_in_the_queue_is_said_so(world):
    world.live()

    async def story(gateway, client):
        answer = await client.predict(ride(), X_Deadline_Ms="0")
        assert (answer.status, answer.json["code"]) == (504, "MS-S104")
        for written in ("5000", "5000 ", " 5000\t"):  # blanks around a value are no part of it
            assert (await client.predict(ride(), X_Deadline_Ms=written)).status == 200
        for wrong in ("9" * 10, "5 0", "-1", "1.5"):
            answer = await client.predict(ride(), X_Deadline_Ms=wrong)
            assert (answer.status, answer.json["code"]) == (400, "MS-S115")

    world.run(story)


# --- the process -----------------------------------------------------------------------------------------------------

_PROCESS = """
import sys, threading
from pathlib import Path
from mainspring.core.clock import SharedClock
from mainspring.core.config import load_config
from mainspring.definitions import load_project
from mainspring.serving import run_gateway
config = load_config(Path(sys.argv[1]))
run_gateway(config, load_project(config.definitions), SharedClock(config.run / "clock"), threading.Event())
"""


@pytest.mark.processes
def test_a_terminated_gateway_answers_what_is_queued_keeps_its_log_and_takes_its_door_back(world):
    from mainspring.core.clock import SharedClock

    world.live()
    world.config.run.mkdir(parents=True, exist_ok=True)
    SharedClock(world.config.run / "clock").set(NOW + MINUTE)
    process = subprocess.Popen([sys.executable, "-c", _PROCESS, world.root])

    async def main():
        await until(lambda: process.poll() is not None or read_door(world.config.run, "gateway"))
        url = read_door(world.config.run, "gateway")
        async with Client(url) as client:
            statuses = []
            while not statuses or statuses[-1] != 200:
                statuses.append((await client.get("/ready")).status)
                await asyncio.sleep(0.01)
            assert set(statuses) <= {200, 503}
            client.send("POST", "/predict/late_ride", json.dumps([ride(i) for i in range(500)]).encode())
            await client.writer.drain()
            first = asyncio.ensure_future(client.receive())
            await asyncio.sleep(0)
            os.kill(process.pid, signal.SIGTERM)
            assert len((await first).json) == 500
        return await asyncio.to_thread(process.wait, 30)

    try:
        assert asyncio.run(main()) == 0
    finally:
        process.kill()
        process.wait()
    assert read_door(world.config.run, "gateway") is None
    assert list((world.config.run / "spool").glob("*.spool"))

    async def nothing(gateway, client):
        await until(lambda: gateway.log.sent == 500)

    assert len(logged(world, nothing)) == 500


# --- whatever comes in -----------------------------------------------------------------------------------------------

_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["north", "2026-03-01T12:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_ROW = st.builds(
    lambda changes, gone: {k: v for k, v in (ride() | changes).items() if k not in gone},
    st.dictionaries(st.sampled_from([*ride(), "other"]), _VALUE, max_size=3),
    st.sets(st.sampled_from(list(ride())), max_size=2),
)
_BODY = st.one_of(
    st.one_of(_ROW, st.lists(_ROW | _VALUE, max_size=6), _VALUE).map(lambda v: json.dumps(v).encode()),
    st.binary(max_size=60),
)
_PATH = st.sampled_from(
    ["/predict/late_ride", "/predict/late_ride?status=1", "/predict/nobody", "/predict/%20", "/", "/ready"]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["POST", "GET", "PUT"]), _PATH, _BODY), min_size=1, max_size=8))
def test_whatever_is_sent_is_answered_and_is_never_the_servers_fault(standing, requests):
    async def story(gateway, client):
        for method, path, body in requests:
            answer = await asyncio.wait_for(client.ask(method, path, body), 5)
            assert answer.status < 500, (method, path, body, answer.body)
            if answer.status == 200 and path.startswith("/predict"):
                sent, got = json.loads(body), answer.json
                assert isinstance(got, list) == isinstance(sent, list)
                assert not isinstance(sent, list) or len(sent) == len(got)

    standing.run(story)
