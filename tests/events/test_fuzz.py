"""Whatever is sent to any door of the intake: an answer that is no 5xx, a process that lives, bounded memory."""

import gzip
import http.client
import json
import os
import resource
import socket
import subprocess
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.run import internal_token

ROOT = Path(__file__).parents[2]
PATHS = [
    "/events/arrived",
    "/events/weather",
    "/events/_prediction",
    "/events/nothing",
    "/internal/events",
    "/internal/events?history=1",
    "/internal/events?first_wins=1&sender=x",
    "/internal/connectors/rides",
    "/internal/connectors/Not%20a%20name",
    "/internal/trim",
    "/quarantine",
    "/quarantine?source=arrived&limit=99999999999&all=1",
    "/quarantine/arrived/replay",
    "/quarantine/arrived/discard",
    "/health",
    "/metrics",
    "/openapi.json",
    "/",
    "/%00/%ff",
]
KINDS = [
    "application/json",
    "application/x-ndjson",
    "application/vnd.apache.arrow.stream",
    "application/msgpack",
    "text/html; charset=utf-16",
    "",
]
ENCODINGS = ["", "", "", "gzip", "zstd", "identity", "br", "gzip, gzip"]
METHODS = ["POST", "POST", "POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
columns = st.sampled_from(
    ["flight_id", "delay_min", "arrived_at", "carrier", "x", "only", "rename", "compute", "before"]
)
events = st.dictionaries(columns, values | st.just("2013-03-01T11:00:00Z") | st.just("a"), max_size=5)
GOOD = {"flight_id": "a", "delay_min": 1.0, "arrived_at": "2013-03-01T11:00:00Z"}


def as_json(value):
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_msgpack(value):
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        return b"\xc1"


def as_arrow(rows):
    table = pa.table({"flight_id": rows, "arrived_at": pa.array([0] * len(rows), pa.timestamp("us"))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return sink.getvalue().to_pybytes()


bodies = st.one_of(
    st.binary(max_size=200),
    (events | st.lists(events, max_size=4) | values).map(as_json),
    st.lists(events.map(as_json) | st.binary(max_size=20), max_size=5).map(b"\n".join),
    st.lists(st.tuples(st.sampled_from(["arrived", "_prediction", "no"]), events), max_size=3).map(as_msgpack),
    st.fixed_dictionaries({"before": values, "cursor": values, "rows": values}).map(as_msgpack),
    st.lists(st.text("ab", max_size=3), max_size=9).map(as_arrow),
    st.sampled_from([b"[" * 50_000, b'{"a":' * 20_000, as_json([GOOD] * 3), as_msgpack([["arrived", GOOD]])]),
)
spoils = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3)


@given(
    st.sampled_from(METHODS),
    st.sampled_from(PATHS),
    st.sampled_from(KINDS),
    st.sampled_from(ENCODINGS),
    bodies,
    st.booleans(),
    spoils,
)
@settings(max_examples=400)
def test_no_request_whatever_it_is_makes_a_5xx(lasting, method, path, kind, encoding, body, is_chunked, spoiled):
    if encoding == "gzip":
        body = gzip.compress(body, 1)
    elif encoding == "zstd":
        body = pa.compress(body, "zstd", asbytes=True)
    raw = bytearray(body)
    for at, byte in spoiled:
        if at < len(raw):
            raw[at] = byte
    headers = {"Authorization": f"Bearer {internal_token(lasting.config.run)}"} | (
        {"Content-Type": kind} if kind else {}
    )
    headers |= {"Content-Encoding": encoding} if encoding else {}
    connection = http.client.HTTPConnection(lasting.url.partition("//")[2], timeout=20)
    try:
        pieces = [bytes(raw[:7]), bytes(raw[7:])] if is_chunked and raw else bytes(raw)
        connection.request(method, path, pieces, headers, encode_chunked=isinstance(pieces, list))
        response = connection.getresponse()
        response.read()
        assert response.status < 500
    finally:
        connection.close()


PIECES = [
    b"POST /events/arrived HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Type: application/x-ndjson\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"X: " + b"y" * 20_000,
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"\r\n",
    b"\n",
    b"\0",
]


@given(st.lists(st.binary(max_size=60) | st.sampled_from(PIECES), max_size=8))
@settings(max_examples=200)
def test_no_bytes_whatever_they_are_hang_or_end_the_process(lasting, pieces):
    host, _, port = lasting.url.partition("//")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            said = b""
            while part := client.recv(65_536):
                said += part
        except (ConnectionResetError, BrokenPipeError):
            said = b""
    assert b"HTTP/1.1 5" not in said


def test_after_all_of_it_the_intake_is_well_and_memory_is_bounded(lasting):
    """Runs after the two above: files of tests are run from top to bottom."""
    client = lasting.client()
    answer = client.post_events("arrived", [GOOD | {"flight_id": "the last"}])
    assert answer["accepted"] == 1
    assert client.get("/health")["status"] == "ok"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    deep = gzip.compress(b"[" * 30_000_000)
    for _ in range(20):
        connection = http.client.HTTPConnection(lasting.url.partition("//")[2], timeout=60)
        connection.request("POST", "/events/arrived", deep, {"Content-Encoding": "gzip"})
        assert connection.getresponse().status in (400, 413)
        connection.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_the_document_shows_each_source_with_its_bounds(running):
    shown = running.client().get("/openapi.json")
    event = shown["components"]["schemas"]["arrived"]
    assert event["required"] == ["flight_id", "carrier", "arrived_at"]
    assert event["properties"]["carrier"]["enum"] == ["UA", "AA", "DL"]
    assert event["properties"]["delay_min"]["type"] == ["number", "null"]
    assert {"/events/arrived", "/events/weather", "/quarantine/arrived/replay"} <= set(shown["paths"])


@pytest.mark.slow
def test_schemathesis_finds_no_fault_with_the_openapi(lasting):
    program = ROOT / ".venv" / "clients" / "v2" / "bin" / "schemathesis"
    if not program.exists() and not os.environ.get("CI"):
        pytest.skip("make clients")
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--seed", "7", "--no-color"]
    config = ROOT / "tests" / "serving" / "clients" / "schemathesis.toml"
    command = [str(program), "--config-file", str(config), "run", f"{lasting.url}/openapi.json", *options]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    assert "9 selected / 9 total" in done.stdout
