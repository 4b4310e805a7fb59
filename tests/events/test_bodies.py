"""Bodies of every form over real HTTP: packed ones, Arrow, bombs of each kind, and whatever else bytes may be."""

import contextlib
import gzip
import http.client
import io
import json
import tracemalloc
import zlib
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import ContractError, TooLargeError
from mainspring.definitions.values import Constraint, Field, SourceDef
from mainspring.events import Log
from mainspring.events.arrow import arrow_batches
from mainspring.events.bodies import EncodingError, entries_in, unpacked
from mainspring.events.commas import has_more
from mainspring.events.contract import Contract

ARROW = "application/vnd.apache.arrow.stream"
T = "2013-03-01T11:00:00Z"
AT = datetime(2013, 3, 1, 11, tzinfo=UTC)


def flight(ident, **more):
    return {"flight_id": ident, "carrier": "UA", "delay_min": 1.0, "arrived_at": T} | more


def zstd(raw):
    return pa.Codec("zstd").compress(raw, asbytes=True)


def send(running, body, path="/events/arrived", **headers):
    """Status and answer of a body."""
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=20)
    try:
        connection.request("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def stream(table, **options):
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return out.getvalue()


def frame_stream(frame):
    out = io.BytesIO()
    frame.write_ipc_stream(out)
    return out.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("zstd", zstd), ("identity", bytes)])
def test_a_packed_body_is_taken_like_one_that_is_not(running, config, name, pack):
    rows = [flight(f"{name}{i}") for i in range(100)] + [flight("bad", delay_min="late")]
    status, answer = send(running, pack(json.dumps(rows).encode()), content_encoding=name.upper())
    assert (status, answer["accepted"], answer["quarantined"], answer["errors"][0]["index"]) == (200, 100, 1, 100)
    lines = b"\n".join(json.dumps(row).encode() for row in rows)
    status, answer = send(running, pack(lines), content_encoding=name, content_type="application/x-ndjson")
    assert (status, answer["duplicate"], answer["quarantined"]) == (200, 100, 1)


def test_parts_that_were_packed_one_after_the_other_are_one_body(running):
    lines = [json.dumps(flight(i)).encode() + b"\n" for i in "abc"]
    body = b"".join(gzip.compress(line) for line in lines)
    assert send(running, body, content_encoding="gzip", content_type="application/x-ndjson")[1]["accepted"] == 3
    body = b"".join(zstd(line) for line in lines)
    assert send(running, body, content_encoding="zstd", content_type="application/x-ndjson")[1]["duplicate"] == 3


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (gzip.compress(b" " * 50_000_000), "gzip", 413, "MS-E208"),
        (gzip.compress(gzip.compress(b"[" * 50_000_000)), "gzip, gzip", 415, "MS-E209"),
        (zstd(b" " * 100_000_000), "zstd", 413, "MS-E208"),
        (b"x" * 100, "br", 415, "MS-E209"),
        (b"x" * 100, "gzip", 400, "MS-E210"),
        (b"x" * 100, "zstd", 400, "MS-E210"),
        (gzip.compress(b"{}" * 1_000)[:-5], "gzip", 400, "MS-E210"),
        (gzip.compress(b"{}") + b"more", "gzip", 400, "MS-E210"),
        (zstd(b"{}" * 1_000)[:-5], "zstd", 400, "MS-E210"),
        (gzip.compress(b""), "gzip", 400, "MS-E205"),
        (gzip.compress(b"[" * 700_000), "gzip", 400, "MS-E101"),
        (gzip.compress(b'{"a":' * 100_000), "gzip", 422, "MS-E102"),
        (zlib.compress(b"{}"), "deflate", 415, "MS-E209"),
    ],
    ids=[  # a gzip body has the time in it, and every worker must find the same tests
        "spaces",
        "twice",
        "zstd_bomb",
        "brotli",
        "no_gzip",
        "no_zstd",
        "cut_gzip",
        "more",
        "cut_zstd",
        "nothing",
        "deep_lists",
        "deep_objects",
        "deflate",
    ],
)
def test_a_bomb_and_a_broken_body_are_refused_and_the_next_one_is_taken(running, body, encoding, status, code):
    found, answer = send(running, body, content_encoding=encoding)
    assert found == status
    assert code == (answer["errors"][0]["code"] if "errors" in answer else answer["code"])
    assert send(running, json.dumps(flight("after")).encode())[1]["accepted"] == 1


def test_a_bomb_costs_no_more_memory_than_a_body_may_unpack_to():
    body = zstd(b" " * 200_000_000)

    def resident_kb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4

    for packed, name in ((body, "zstd"), (gzip.compress(b" " * 100_000_000), "gzip")):
        before = resident_kb()
        with pytest.raises(TooLargeError, match="MS-E208"):
            unpacked(packed, name, 1_000_000)
        assert resident_kb() - before < 50_000


def test_arrow_is_taken_row_by_row_and_a_bad_row_fails_alone(running, config):
    frame = pl.DataFrame(
        {
            "flight_id": ["a", "b", "c"],
            "carrier": pl.Series(["UA", "ZZ", "AA"], dtype=pl.Categorical),
            "delay_min": pl.Series([1, None, 2], dtype=pl.Float32),
            "seats": pl.Series([1, 2, None], dtype=pl.UInt64),
            "arrived_at": pl.Series([AT] * 3, dtype=pl.Datetime("ns", "UTC")),
        }
    )
    status, answer = send(running, frame_stream(frame), content_type=ARROW)
    assert (status, answer["accepted"], answer["quarantined"]) == (200, 2, 1)
    assert (answer["errors"][0]["index"], answer["errors"][0]["path"]) == (1, "$.carrier")
    status, answer = send(running, zstd(frame_stream(frame)), content_type=ARROW, content_encoding="zstd")
    assert (status, answer["duplicate"]) == (200, 2)
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        rows = [record.to_dict() for record in log.read(0)]
        assert json.loads(log.quarantined()[0].raw)["arrived_at"] == T
    at_us = int(AT.timestamp() * 1_000_000)
    assert rows == [
        {"flight_id": "a", "carrier": "UA", "delay_min": 1.0, "seats": 1, "arrived_at": at_us},
        {"flight_id": "c", "carrier": "AA", "delay_min": 2.0, "seats": None, "arrived_at": at_us},
    ]


def arrow_bodies():
    """Bodies that claim what they should not, with what is said of them."""
    ids = pa.array(["x" * 100_000] * 1)
    taken = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int8()), ids)])
    deep = pa.array([[[[1]]]])
    good = pa.table({"flight_id": ["a"]})
    compressed = stream(pa.table({"flight_id": ["a" * 1_000]}), compression="zstd")
    by_dictionary = pa.table({"flight_id": pa.array(["a" * 1_000] * 3).dictionary_encode()})
    return {
        "rows without bytes": (stream(pa.table({"x": pa.nulls(10_000_000)})), 413, "MS-E204"),
        "a text of many rows": (stream(pa.table({"flight_id": taken})), 413, "MS-E208"),
        "buffers packed inside": (compressed, 400, "MS-E211"),
        "a dictionary packed inside": (stream(by_dictionary, compression="lz4"), 400, "MS-E211"),
        "a list of lists": (stream(pa.table({"flight_id": deep})), 400, "MS-E212"),
        "bytes": (stream(pa.table({"flight_id": [b"a"]})), 400, "MS-E212"),
        "a struct": (stream(pa.table({"flight_id": [{"a": 1}]})), 400, "MS-E212"),
        "a column twice": (stream(pa.Table.from_arrays([pa.array(["a"])] * 2, ["a", "a"])), 400, "MS-E212"),
        "no rows": (stream(good.slice(1)), 400, "MS-E205"),
        "no stream": (b"nope nope nope", 400, "MS-E211"),
        "cut off": (stream(good)[:-60], 400, "MS-E211"),
        "a whole number for a time": (
            stream(pa.table({"flight_id": ["a"], "carrier": ["UA"], "arrived_at": [1_362_135_600]})),
            422,
            "MS-E102",
        ),
        "a moment that no datetime can be": (
            stream(
                pa.table(
                    {
                        "flight_id": ["a"],
                        "carrier": ["UA"],
                        "arrived_at": pa.array([2**62], pa.int64()).cast(pa.timestamp("s")),
                    }
                )
            ),
            422,
            "MS-E104",
        ),
    }


@pytest.mark.parametrize("name", arrow_bodies())
def test_an_arrow_body_that_claims_what_it_should_not_is_refused(running, name):
    body, status, code = arrow_bodies()[name]
    found, answer = send(running, body, content_type=ARROW)
    assert found == status, answer
    shown = answer["errors"][0]["code"] if answer.get("errors") else answer["code"]
    assert shown == code
    assert send(running, json.dumps(flight("after")).encode())[1]["accepted"] == 1


def test_views_that_share_a_text_are_counted_for_each_row():
    data = pa.array(["x" * 10_000], pa.string_view())
    one = data.buffers()
    views = pa.py_buffer(one[1].to_pybytes()[:16] * 500)
    shared = pa.Array.from_buffers(pa.string_view(), 500, [None, views, one[2]])
    source = SourceDef("s", (Field("a", "str"), Field("at", "datetime")), "at")
    body = stream(pa.table({"a": shared}))
    assert len(body) < 50_000
    with pytest.raises(TooLargeError, match="MS-E208"):
        list(arrow_batches(body, source, 1_000, 1_000_000))


VECTOR = SourceDef(
    "v",
    (Field("id", "str"), Field("v", "vector", constraints=(Constraint("dim", (2,)),)), Field("at", "datetime")),
    "at",
    "id",
)


def test_a_vector_is_a_list_of_numbers():
    table = pa.table({"id": ["a"], "v": pa.array([[1, 2]], pa.list_(pa.float32(), 2)), "at": [AT]})
    columns = {"id": ["a"], "v": [[1.0, 2.0]], "at": [int(AT.timestamp()) * 1_000_000]}
    assert list(arrow_batches(stream(table), VECTOR, 10, 1_000)) == [(columns, 1)]


columns = st.sampled_from(
    [
        pa.array(["a", None, "UA"]),
        pa.array([1.5, float("nan"), float("inf")]),
        pa.array([2**63, 1, None], pa.uint64()),
        pa.array([True, None, False]),
        pa.array([AT, None, AT]),
        pa.array([0, 2**40, -(2**40)], pa.timestamp("s")),
        pa.array([1, 2, 3], pa.date32()),
        pa.array(["x", "x", None]).dictionary_encode(),
        pa.array(["x", "yy" * 20, None], pa.string_view()),
        pa.array([[1.0], [], None]),
        pa.nulls(3),
        pa.array([b"x", None, b""]),
    ]
)
names = st.sampled_from(["flight_id", "carrier", "delay_min", "arrived_at", "x", "$", ""])
tables = st.dictionaries(names, columns, min_size=1, max_size=5).map(lambda made: stream(pa.table(made)))


@st.composite
def damaged(draw, whole):
    """A body of which a few bytes are others, or which is cut."""
    body = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))]) if draw(st.booleans()) else bytes(body)


texts = st.lists(st.sampled_from([flight("a"), {}, 1, None, flight("b", x=1)]), max_size=4).map(json.dumps)
packs = st.sampled_from([(gzip.compress, "gzip"), (zstd, "zstd"), (bytes, ""), (bytes, "gzip"), (bytes, "zstd")])
kinds = st.sampled_from([ARROW, "application/json", "application/x-ndjson", "", "x/y; charset=\xff"])


@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(damaged(tables | texts.map(str.encode) | st.binary(min_size=1, max_size=200)), packs, kinds),
        min_size=20,
        max_size=40,
    )
)
def test_no_body_whatever_it_is_makes_a_5xx_or_a_hang(lasting, requests):
    for body, (pack, encoding), kind in requests:
        path = "/events/arrived" if len(body) % 2 else "/events/weather"
        status, answer = send(lasting, pack(body), path, content_encoding=encoding, content_type=kind)
        assert status in (200, 400, 413, 415, 422), (body, encoding, kind, answer)


@settings(max_examples=150)
@given(damaged(tables))
def test_damaged_arrow_is_an_error_of_ours_and_never_a_crash(body):
    with contextlib.suppress(ContractError, TooLargeError):
        list(arrow_batches(body, VECTOR, 100, 10_000))


@given(st.binary(max_size=300), st.sampled_from(["gzip", "zstd", "GZIP", "br", "x" * 100]))
def test_any_bytes_unpack_or_are_refused(body, name):
    with contextlib.suppress(ContractError, TooLargeError, EncodingError):
        assert len(unpacked(body, name, 10_000)) <= 10_000


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"[" + b"1," * 1_000_000 + b"1]", "application/json"), (b"12\n" * 1_000_000, "application/x-ndjson")],
    ids=["array", "lines"],
)
def test_more_records_than_are_taken_are_refused_before_any_is_made(arrived, body, kind):
    has_more(b"[1]", 1)  # numpy is there
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="MS-E204"):
        entries_in(body, {"content-type": kind}, Contract(arrived), "t", max_bytes=10**7, max_rows=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000


@given(
    st.lists(
        st.recursive(
            st.integers() | st.text(alphabet=',"\\[]{}x', max_size=6),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(',"\\[', max_size=3), inner, max_size=4)
            ),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 12),
    st.integers(1, 9),
)
def test_commas_in_texts_objects_and_arrays_are_no_records(elements, most, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mainspring.events.commas._PIECE_BYTES", piece)
        assert has_more(json.dumps(elements).encode(), most) == (len(elements) > most)


def test_records_full_of_commas_are_taken_up_to_the_limit(running, config):
    most = config.intake.max_rows
    rows = [flight(f'{i},"],[') for i in range(most)]
    status, answer = send(running, json.dumps(rows).encode())
    assert (status, answer["accepted"]) == (200, most)
    status, answer = send(running, json.dumps([*rows, rows[0]]).encode())
    assert (status, answer["code"]) == (413, "MS-E204")


def test_of_an_array_that_is_read_as_a_whole_what_is_refused_later_is_kept_as_it_came(running):
    client = running.client(with_token=False)
    first = [{"flight_id": f"f{i}", "carrier": "UA", "arrived_at": "2013-03-01T11:00:00Z"} for i in range(30)]
    assert client.post_events("arrived", first)["accepted"] == 30
    again = [
        b'{"flight_id":"f%d", "carrier":"%s","arrived_at":"2013-03-01T11:00:00Z"}' % (i, c)
        for i, c in ((0, b"UA"), (40, b"UA"), (7, b"AA"))
    ]
    status, said = send(running, b"[" + b" ,".join(again) + b"]")
    assert (status, said["accepted"], said["duplicates"]) == (200, 1, [0])
    assert [(error["index"], error["code"]) for error in said["errors"]] == [(2, "MS-E106")]
    (held,) = running.client().get("/quarantine")["records"]
    assert held["text"] == again[2].decode()
