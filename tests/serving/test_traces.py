"""Spans of gateway and intake, as a collector of OpenTelemetry receives them."""

import builtins
import contextlib
import json
import logging
import re
import subprocess
import sys

import msgspec
import pytest
from grpc import aio

from mainspring.core.config import TracesSection
from mainspring.core.errors import ConfigError
from mainspring.core.seldom import Seldom
from mainspring.core.traces import TELLS, Traces
from mainspring.serving.grpc_messages import MESSAGES, SERVICE
from mainspring.serving.shared import LaneLimits

from collector import Collector  # isort: skip
from rides import ride  # isort: skip

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ASKED = f"00-{TRACE}-{PARENT}-01"
HEADER = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0([0-3])")  # the last one's lowest bit: it is recorded


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


def traced(world, collector, share):
    world.config = msgspec.structs.replace(
        world.config,
        traces=TracesSection(collector.url, share),
        gateway=msgspec.structs.replace(world.config.gateway, grpc=0),
    )


def test_a_request_with_a_traceparent_has_its_spans_in_that_trace_and_its_answer_names_its_own(world, collector):
    traced(world, collector, 0.0)
    world.live()

    async def story(gateway, client):
        answer = await client.predict([ride(1), ride(2)], traceparent=ASKED)
        assert answer.status == 200
        return answer.headers["traceparent"]

    trace, own, sampled = HEADER.fullmatch(world.run(story)).groups()
    assert (trace, sampled) == (TRACE, "1")
    (root,) = [span for span in collector.spans if span.id == own]
    assert (root.name, root.service, root.parent) == ("POST /predict", "mainspring-gateway", PARENT)
    assert root.attributes == {
        "http.request.method": "POST",
        "url.path": "/predict/late_ride",
        "http.response.status_code": 200,
    }
    parts = {span.name: span for span in collector.spans if span.parent == own}
    assert set(parts) == {"queue", "features", "model"}
    assert all(part.trace == TRACE and root.holds(part) for part in parts.values())
    assert parts["queue"].ended <= parts["features"].ended <= parts["model"].ended
    assert parts["queue"].attributes == {"mainspring.rows": 2}
    assert parts["model"].attributes == {"mainspring.model": "late_ride", "mainspring.batch_rows": 2}
    assert collector.paths == {"/v1/traces"}


def test_who_brings_no_trace_is_recorded_by_the_declared_share_and_who_declines_is_not(world, collector):
    traced(world, collector, 1.0)
    world.live()
    declined = f"00-{TRACE}-{PARENT}-00"

    async def story(gateway, client):
        names = [(await client.predict(ride())).headers["traceparent"]]
        wrong = ("", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "x" * 200)
        names += [(await client.predict(ride(), traceparent=one)).headers["traceparent"] for one in wrong]
        assert (await client.predict(ride(), traceparent=declined)).headers["traceparent"].startswith(f"00-{TRACE}-")
        assert "traceparent" not in (await client.get("/health")).headers
        return [HEADER.fullmatch(name).groups() for name in names]

    found = world.run(story)
    assert all(trace != TRACE and int(sampled) & 1 for trace, _, sampled in found)
    assert len({trace for trace, _, _ in found}) == len(found)
    assert {span.trace for span in collector.spans} == {trace for trace, _, _ in found}
    assert all(not span.parent for span in collector.named("POST /predict"))


def test_what_is_refused_shed_or_broken_has_a_span_that_says_so(world, collector):
    traced(world, collector, 1.0)
    world.live()

    async def story(gateway, client):
        assert (await client.predict(b"[")).status == 400
        assert (await client.predict(ride(), "nobody")).status == 404
        for i in range(3):
            client.send("POST", "/predict/late_ride", json.dumps([ride(i)] * 3).encode())
        assert sorted([(await client.receive()).status for _ in range(3)]) == [200, 429, 429]

    world.run(story, LaneLimits(queued_rows=4))
    spans = collector.named("POST /predict")
    assert sorted(span.attributes["http.response.status_code"] for span in spans) == [200, 400, 404, 429, 429]
    assert not any(span.failed for span in spans)  # by OpenTelemetry's words that is what clients did wrong
    assert len(collector.named("model")) == 1


def test_v2_and_grpc_have_the_same_spans(world, collector):
    traced(world, collector, 0.0)
    world.live()

    async def story(gateway, client):
        tensors = [{"name": n, "datatype": t, "shape": [1], "data": v} for n, t, v in _columns()]
        rest = await client.ask(
            "POST", "/v2/models/late_ride/infer", json.dumps({"inputs": tensors}).encode(), traceparent=ASKED
        )
        assert rest.status == 200
        assert HEADER.fullmatch(rest.headers["traceparent"]).group(1) == TRACE
        async with aio.insecure_channel(gateway.grpc_url.removeprefix("grpc://")) as channel:
            infer = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                request_serializer=MESSAGES["ModelInferRequest"].SerializeToString,
                response_deserializer=MESSAGES["ModelInferResponse"].FromString,
            )
            call = infer(_message("late_ride"), metadata=(("traceparent", ASKED),))
            await call
            told = dict(await call.trailing_metadata())["traceparent"]
            assert HEADER.fullmatch(told).group(1) == TRACE
            with contextlib.suppress(aio.AioRpcError):
                await infer(_message("nobody"), metadata=(("traceparent", ASKED),))

    world.run(story)
    (rest,) = collector.named("POST /v2")
    good, bad = sorted(collector.named("ModelInfer"), key=lambda span: span.started)
    assert (good.attributes["rpc.grpc.status"], bad.attributes["rpc.grpc.status"]) == ("OK", "NOT_FOUND")
    for root in (rest, good):
        assert root.parent == PARENT
        assert sorted(s.name for s in collector.spans if s.parent == root.id) == ["features", "model", "queue"]


def _columns():
    row = ride()
    return [
        ("ride_id", "BYTES", [row["ride_id"]]),
        ("driver", "BYTES", [row["driver"]]),
        ("zone", "BYTES", [row["zone"]]),
        ("distance_km", "FP64", [row["distance_km"]]),
        ("passengers", "INT64", [row["passengers"]]),
    ]


def _message(model):
    message = MESSAGES["ModelInferRequest"](model_name=model)
    for name, datatype, values in _columns():
        one = message.inputs.add(name=name, datatype=datatype, shape=[1])
        place = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "INT64": "int64_contents"}[datatype]
        getattr(one.contents, place).extend(v.encode() if isinstance(v, str) else v for v in values)
    return message


def test_the_intake_has_spans_of_what_it_takes(world, collector):
    traced(world, collector, 0.0)
    done = {"ride_id": "r9", "driver": "bob", "late_min": 3.0, "done_at": "2026-03-01T11:00:00Z"}

    async def story(gateway, client):
        async with contextlib.AsyncExitStack() as stack:
            intake = await world.start_intake(stack)
            client.writer.close()
            client.port = int(intake.url.rpartition(":")[2])
            await client.__aenter__()
            answer = await client.ask("POST", "/events/done", json.dumps(done).encode(), traceparent=ASKED)
            refused = await client.ask("POST", "/events/none", b"{}", traceparent=ASKED)
            return [one.headers["traceparent"] for one in (answer, refused)]

    told = world.run(story)
    spans = {f"00-{span.trace}-{span.id}-01": span for span in collector.named("POST /events")}
    assert [spans[one].attributes["http.response.status_code"] for one in told] == [200, 404]
    assert {(span.service, span.parent) for span in spans.values()} == {("mainspring-intake", PARENT)}


def test_a_collector_that_is_away_is_told_of_once_and_not_at_each_try(monkeypatch, caplog):
    monkeypatch.setattr("mainspring.core.traces.EXPORT_S", 0.1)
    monkeypatch.setattr("mainspring.core.traces._SELDOM", Seldom())
    for name in TELLS:
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    traces = Traces(TracesSection("http://127.0.0.1:9", 1.0), "gateway")
    for _ in range(4):
        traces.begin("GET /x", None, {}).end(200, failed=False)
        traces._provider.force_flush()
    traces.close()
    found = [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")]
    assert found
    assert len(found) == len(set(found))


def test_a_collector_that_is_away_costs_spans_and_nothing_else(world, collector):
    traced(world, collector, 1.0)
    world.config = msgspec.structs.replace(world.config, traces=TracesSection("http://127.0.0.1:9", 1.0))
    world.live()

    async def story(gateway, client):
        assert [(await client.predict(ride(i))).status for i in range(20)] == [200] * 20

    world.run(story)


def test_without_the_section_nothing_of_it_is_imported(root):
    code = (
        "import sys, mainspring.serving.gateway, mainspring.serving.grpc_server, mainspring.events.intake;"
        "import mainspring.core.traces as t; assert t.traces_of(None, 'x') is None;"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_package_that_is_missing_is_said_so(monkeypatch):
    found = builtins.__import__

    def missing(name, *rest):
        if name.startswith("opentelemetry.exporter"):
            raise ModuleNotFoundError(name=name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(
        ConfigError, match=r"MS-C116: \[traces\] needs opentelemetry\.exporter.*\n.*mainspring\[traces\]"
    ):
        Traces(TracesSection(), "gateway")
