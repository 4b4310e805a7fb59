"""Bodies larger than are kept: every record has its fate, whatever the pieces; nothing grows with the body."""

import asyncio
import gzip
import http.client
import json
import socket
import threading
import time
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.errors import BackPressureError
from mainspring.events.bodies import lines_in
from mainspring.events.contract import Contract
from mainspring.events.log import Log
from mainspring.events.pieces import ArrowBatches, Lines
from mainspring.events.streaming import Stream
from mainspring.events.unpacking import Gzip, Plain, Zstd

NDJSON = "application/x-ndjson"
HEAD = b"POST /events/arrived HTTP/1.1\r\nHost: localhost\r\n"
HEAD += b"Content-Type: application/x-ndjson\r\nContent-Length: 90000000\r\n\r\n"
ARROW = "application/vnd.apache.arrow.stream"


def zstd(body):
    return pa.Codec("zstd").compress(body, asbytes=True)


PACK = {"gzip": lambda body: gzip.compress(body, 1), "zstd": zstd}


def lines(n, start=0):
    return b"".join(
        b'{"flight_id":"f%d","carrier":"UA","delay_min":%d,"arrived_at":"2013-03-01T11:00:00Z"}\n' % (i, i % 100)
        for i in range(start, start + n)
    )


def arrow(n, rows_a_batch):
    table = pa.table(
        {
            "flight_id": [f"f{i}" for i in range(n)],
            "carrier": pa.array(["UA", "AA"] * (n // 2)).dictionary_encode(),
            "arrived_at": pa.array([1_362_135_600_000_000] * n, pa.timestamp("us", "UTC")),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows_a_batch)
    return sink.getvalue().to_pybytes()


def post(running, body, kind=NDJSON, path="/events/arrived", **headers):
    """Status and answer of one request; ``body`` may be an iterator, which is sent in chunks."""
    connection = http.client.HTTPConnection(running.url.partition("//")[2], timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, {"Content-Type": kind, **named})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def address(running):
    host, _, port = running.url.partition("//")[2].partition(":")
    return host, int(port)


def stored(config):
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        return [record.values[0] for record in log.read(0, 10**6)]


def test_lines_beyond_the_limit_are_all_taken_in_order_and_counted(running):
    body = lines(20_000)
    assert len(body) > running.config.intake.max_body_bytes
    status, said = post(running, body)
    assert status == 200
    assert (said["accepted"], said["duplicate"], said["quarantined"]) == (20_000, 0, 0)
    assert said["last_offset"] == 20_000
    assert stored(running.config) == [f"f{i}" for i in range(20_000)]


def test_broken_and_repeated_lines_spoil_nothing_and_are_named_by_place(running):
    parts = lines(6_000).splitlines(keepends=True)
    parts[10], parts[20], parts[5_000], parts[5_500] = b"{\n", b'{"flight_id": 1}\n', parts[0], b"\n"
    status, said = post(running, b"".join(parts))
    assert status == 200
    assert (said["accepted"], said["duplicate"], said["quarantined"]) == (5_996, 1, 2)
    assert [(one["index"], one["code"]) for one in said["errors"]] == [(10, "MS-E101"), (20, "MS-E102")]
    assert said["duplicates"] == [5_000]


def test_errors_beyond_a_thousand_are_counted_and_not_listed(running):
    status, said = post(running, (b"{}\n" * 8_000 + lines(1)) * 3)
    assert (status, said["quarantined"], len(said["errors"])) == (200, 24_000, 1_000)


@pytest.mark.parametrize("name", ["", "zstd"])
def test_ten_thousand_broken_records_in_a_row_end_a_body_and_no_more_are_held(running, name):
    body = lines(3) + b"{}\n" * 9_999 + lines(1, 3) + b"{}\n" * 200_000
    status, said = post(running, PACK.get(name, bytes)(body), content_encoding=name)
    assert (status, said["code"]) == (422, "MS-E215")
    held = said["taken"]["quarantined"]
    assert (said["taken"]["accepted"], held) == (4, 19_999)
    with Log.open(running.config.log_path, running.config.limits.log_map_bytes) as log:
        assert len(log.quarantined("arrived", limit=100_000)) == held


def test_chunks_without_a_length_are_taken_too_and_the_connection_is_kept(running):
    connection = http.client.HTTPConnection(running.url.partition("//")[2], timeout=60)
    for start in (0, 10_000):
        chunks = (lines(1_000, start + i) for i in range(0, 10_000, 1_000))
        connection.request("POST", "/events/arrived", chunks, {"Content-Type": NDJSON}, encode_chunked=True)
        response = connection.getresponse()
        assert json.loads(response.read())["accepted"] == 10_000
        assert not response.will_close
    connection.close()


@pytest.mark.parametrize("rows_a_batch", [100, 1_500])
def test_an_arrow_stream_is_taken_batch_by_batch_with_its_dictionaries(running, rows_a_batch):
    body = arrow(12_000, rows_a_batch)
    assert len(body) > running.config.intake.max_body_bytes
    status, said = post(running, body, ARROW)
    assert (status, said["accepted"], said["quarantined"]) == (200, 12_000, 0)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_packed_body_is_unpacked_on_the_way_and_may_hold_more_than_a_kept_one(running, name):
    for n, start in ((90_000, 0), (20_000, 100_000)):  # larger than is kept on the way, and only once unpacked
        body = PACK[name](lines(n, start)) + PACK[name](lines(10, start + n))
        if name == "gzip":
            assert (len(body) > running.config.intake.max_body_bytes) == (n == 90_000)
        status, said = post(running, iter([body]), content_encoding=name)
        assert (status, said["accepted"]) == (200, n + 10)


def test_what_is_taken_only_whole_is_refused_as_before(running):
    body = b"[" + lines(5_000).rstrip().replace(b"\n", b",") + b"]"
    assert post(running, body, "application/json")[1]["code"] == "MS-S004"
    assert post(running, lines(5_000), content_encoding="br")[1]["code"] == "MS-S004"
    assert post(running, lines(5_000), path="/quarantine/arrived/replay")[1]["code"] == "MS-S004"
    assert post(running, lines(5_000), path="/events/nothing")[1]["code"] == "MS-E201"
    assert stored(running.config) == []


@pytest.mark.parametrize(
    ("spoil", "kind", "packed", "code"),
    [
        (lambda body: body + b"x" * 300_000, NDJSON, "", "MS-E213"),
        (lambda body: gzip.compress(body * 6, 0)[:-1_000], NDJSON, "gzip", "MS-E210"),
        (lambda body: gzip.compress(body * 6, 0) + b"no gzip", NDJSON, "gzip", "MS-E210"),
        (lambda _: zstd(lines(30_000))[:-1_000], NDJSON, "zstd", "MS-E210"),
        (lambda _: zstd(lines(30_000)) + b"no zstd, and more of it", NDJSON, "zstd", "MS-E210"),
        (lambda body: body, NDJSON, "zstd", "MS-E210"),
        (lambda _: arrow(12_000, 1_500)[:-100], ARROW, "", "MS-E211"),
        (lambda _: arrow(12_000, 1_500)[:-8] + b"garbage!" * 9, ARROW, "", "MS-E211"),
        (lambda _: arrow(30_000, 30_000), ARROW, "", "MS-E213"),
    ],
    ids=[
        "a long line",
        "gzip ends early",
        "no gzip after gzip",
        "zstd ends early",
        "no zstd after zstd",
        "no zstd",
        "arrow ends early",
        "no arrow after arrow",
        "batch",
    ],
)
def test_a_body_that_breaks_on_the_way_says_what_was_taken_before(running, spoil, kind, packed, code):
    headers = {"content_encoding": packed} if packed else {}
    status, said = post(running, spoil(lines(5_000)), kind, **headers)
    assert status in (400, 413, 422)
    assert said["code"] == code
    assert said["taken"]["accepted"] == len(stored(running.config))
    assert post(running, lines(1, 10**6))[1]["accepted"] == 1


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_bomb_costs_no_more_than_the_limit(start, config, name):
    import msgspec

    small = msgspec.structs.replace(config, intake=msgspec.structs.replace(config.intake, max_stream_bytes=30_000_000))
    bomb = gzip.compress(b" " * 400_000_000, 9) if name == "gzip" else zstd(b" " * 400_000_000)
    if name == "gzip":
        assert len(bomb) > config.intake.max_body_bytes
    with start(small) as running:
        tracemalloc.start()
        status, said = post(running, bomb, content_encoding=name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert status == 413
        assert said["code"] in ("MS-E208", "MS-E213")
        assert peak < 20_000_000


def empty_batches(n):
    schema = pa.schema([("flight_id", pa.string())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for _ in range(n):
            writer.write_batch(pa.record_batch([pa.array([], pa.string())], schema))
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"\n" * 50_000_000, NDJSON), (b" \r\n" * 3_000_000, NDJSON), (empty_batches(20_000), ARROW)],
    ids=["breaks", "blank lines", "empty batches"],
)
def test_a_body_that_goes_on_without_a_record_is_refused_soon(running, body, kind, monkeypatch):
    pieces, piece = [], Zstd.piece

    def counted(self):
        pieces.append(piece(self))
        return pieces[-1]

    monkeypatch.setattr(Zstd, "piece", counted)
    most = running.config.intake.max_body_bytes
    status, said = post(running, zstd(body), kind, content_encoding="zstd")
    assert (status, said["code"]) == (413, "MS-E213")
    assert "between two records" in said["error"]
    assert sum(map(len, filter(None, pieces))) <= most + 2 * 65_536


def test_blank_lines_between_records_are_passed_over_however_many(running):
    most = running.config.intake.max_body_bytes
    body = b"".join(lines(1, i) + b"\n" * (most - 70_000) for i in range(5))
    status, said = post(running, zstd(body), content_encoding="zstd")
    assert (status, said["accepted"]) == (200, 5)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", NDJSON), (b"\n \n", NDJSON), (b"", ARROW), (empty_batches(3), ARROW)],
    ids=["nothing", "blank lines", "no bytes of Arrow", "empty batches"],
)
@pytest.mark.parametrize("is_large", [False, True])
def test_a_body_without_a_record_is_refused_the_same_however_large(running, body, kind, is_large):
    """Large are: chunks of which more come than are kept, though they unpack to little."""
    headers = {"content_encoding": "gzip"} if is_large else {}
    packed = gzip.compress(b"") * 15_000 + gzip.compress(body) if is_large else body
    assert (len(packed) > running.config.intake.max_body_bytes) == is_large
    status, said = post(running, packed, kind, **headers)
    assert (status, said["code"]) == (400, "MS-E205")
    assert post(running, lines(1))[1]["accepted"] == 1


class NoCommitter:
    """A committer that nothing comes to."""

    def hand_over(self, *_):
        raise AssertionError


@pytest.mark.parametrize("name", ["plain", "gzip", "zstd"])
def test_others_have_their_turn_while_a_body_is_unpacked(arrived, name):
    body = b"\n" * 20_000_000
    turns, finished = [0], []

    class Counted(Lines):
        def feed(self, piece):
            turns[-1] += 1
            return super().feed(piece)

    async def run():
        unpack = {"plain": Plain, "gzip": Gzip, "zstd": Zstd}[name]()
        records = Counted(Contract(arrived), "t", 10**9)
        stream = Stream(unpack, records, NoCommitter(), 10**9, 10**9, lambda: finished.append(1))
        stream.feed(PACK.get(name, bytes)(body))
        turns.append(0)
        stream.end()
        while not stream.deferred.answered:
            turns.append(0)
            await asyncio.sleep(0)

    asyncio.run(run())
    assert finished == [1]
    assert sum(turns) >= 20_000_000 // 65_536
    assert max(turns) <= 17  # sixteen, and the end


def test_a_client_that_goes_away_between_two_turns_leaves_nothing_to_do(arrived):
    async def run():
        finished = []
        stream = Stream(
            Gzip(), Lines(Contract(arrived), "t", 10**9), NoCommitter(), 10**9, 10**9, lambda: finished.append(1)
        )
        stream.feed(gzip.compress(b"\n" * 20_000_000))
        stream.end()
        stream.abort()
        for _ in range(5):
            await asyncio.sleep(0)
        assert finished == [1]
        assert not stream.deferred.answered

    asyncio.run(run())


def test_blank_lines_take_no_memory():
    text = b"a\n" + b"\n" * 4_000_000 + b" b\n\n"
    tracemalloc.start()
    found = lines_in(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [b"a", b" b"]
    assert peak < 1_000_000


def test_threads_that_unpack_are_gone_when_their_clients_are(running):
    head = HEAD.replace(b"Content-Length", b"Content-Encoding: zstd\r\nContent-Length")
    for turn in range(3):
        with socket.create_connection(address(running)) as client:
            client.sendall(head + zstd(lines(200_000, turn * 200_000))[:400_000])
    deadline = time.monotonic() + 20
    while running.intake._streams._running or any(one.name == "zstd" for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_memory_does_not_grow_with_the_body(running):
    chunks = [lines(100, i).replace(b"\n", b" " * 2_000 + b"\n") for i in range(0, 30_000, 100)]
    tracemalloc.start()
    status, said = post(running, iter(chunks))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (status, said["accepted"]) == (200, 30_000)
    assert peak < 20_000_000 < sum(map(len, chunks)) / 3


def test_a_log_that_is_full_on_the_way_ends_the_stream_with_429_and_the_count(running, monkeypatch):
    append, calls = Log.append_all, []

    def full(self, *args):
        calls.append(1)
        if len(calls) > 1:
            raise BackPressureError("MS-E302", "the disk is full")
        return append(self, *args)

    monkeypatch.setattr(Log, "append_all", full)
    status, said = post(running, lines(30_000))
    assert (status, said["code"]) == (429, "MS-E302")
    assert 0 < said["taken"]["accepted"] == len(stored(running.config)) < 30_000


def test_a_client_that_goes_away_leaves_whole_records_and_its_place_free(running):
    for turn in range(20):
        with socket.create_connection(address(running)) as client:
            client.sendall(HEAD + lines(3_000, turn * 3_000)[:-20])
    deadline = time.monotonic() + 20
    while (answer := post(running, lines(10_000, 10**6)))[0] == 429:  # until their places are free
        assert time.monotonic() < deadline
    assert (answer[0], answer[1]["accepted"]) == (200, 10_000)
    assert running.intake._streams._running == 0
    assert all(one.startswith("f") for one in stored(running.config))


def test_as_many_large_bodies_as_are_taken_at_once_and_one_more_is_429(running):
    clients = []
    for _ in range(16):
        clients.append(socket.create_connection(address(running)))
        clients[-1].sendall(HEAD)
    deadline = time.monotonic() + 20
    while running.intake._streams._running < 16:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    status, said = post(running, lines(10_000))
    assert (status, said["code"]) == (429, "MS-E311")
    for client in clients:
        client.close()


def test_a_slow_log_holds_the_client_back(running, monkeypatch):
    """While nothing is committed only a bounded part of the body is read."""
    gate, append = threading.Event(), Log.append_all

    def slow(self, *args):
        gate.wait(30)
        return append(self, *args)

    monkeypatch.setattr(Log, "append_all", slow)
    sent = []

    def chunks():
        for i in range(0, 20_000, 100):
            sent.append(i)
            yield lines(100, i).replace(b"\n", b" " * 2_000 + b"\n")

    answers = []
    sender = threading.Thread(target=lambda: answers.append(post(running, chunks())))
    sender.start()
    deadline, before = time.monotonic() + 30, -1
    while len(sent) != before or not sent:  # until it no longer gets rid of anything
        assert time.monotonic() < deadline
        before = len(sent)
        gate.wait(0.5)
    assert len(sent) < 150
    gate.set()
    sender.join()
    assert answers[0][1]["accepted"] == 20_000


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_records_do_not_depend_on_how_the_body_is_cut(arrived, data):
    is_arrow = data.draw(st.booleans())
    body = (
        arrow(40, 7)
        if is_arrow
        else b"".join(data.draw(st.lists(st.sampled_from([lines(1), b"\n", b"x\n", b"{}\n", b" \r\n"]), max_size=30)))
        + data.draw(st.sampled_from([b"", b"tail", lines(1).rstrip()]))
    )
    pack, unpacker = data.draw(st.sampled_from([(bytes, Plain), (gzip.compress, Gzip), (zstd, Zstd)]))
    packed = pack(body)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(packed)), max_size=12)))
    unpack = unpacker()
    records = (ArrowBatches if is_arrow else Lines)(Contract(arrived), "t", 100_000)
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(packed)], strict=True):
        unpack.add(packed[start:stop])
        if stop == len(packed):
            unpack.end()
        while (piece := unpack.piece()) is not None:
            found += [entry for entries, _ in records.feed(piece) for entry in entries]
    assert not unpack.waits
    unpack.check_end()
    unpack.close()
    found += [entry for entries, _ in records.end() for entry in entries]
    if is_arrow:
        assert [entry.row[0] for entry in found] == [f"f{i}" for i in range(40)]
    else:
        assert [entry.raw for entry in found] == [line for line in body.split(b"\n") if line.strip()]
