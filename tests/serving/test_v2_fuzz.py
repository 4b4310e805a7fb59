"""Whatever a client sends, the gateway answers as the protocol says, and the next request is served."""

import http.client
import json
import struct

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.errors import MainspringError
from mainspring.serving.grpc_messages import SERVICE
from mainspring.serving.v2_tensors import DATATYPES, ProtocolError, count_of, from_bytes, from_json, to_bytes

from doors import open_doors  # isort: skip
from rides import World  # isort: skip
from tensors import binary, columns, inputs  # isort: skip

PATH = "/v2/models/late_ride/infer"
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """A gateway that stands through all of this."""
    with World(tmp_path_factory.mktemp("fuzz")) as world:
        world.live()
        with open_doors(world) as found:
            yield found


@pytest.fixture(scope="module")
def ask(doors):
    """One kept-alive connection: body and headers to status and JSON."""
    connection = http.client.HTTPConnection(doors[0], timeout=20)

    def send(body, **headers):
        named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        connection.request("POST", PATH, body, named)
        answer = connection.getresponse()
        raw = answer.read()
        length = answer.getheader("Inference-Header-Content-Length")
        return answer.status, json.loads(raw if length is None else raw[: int(length)])

    yield send
    connection.close()


@pytest.fixture(scope="module")
def infer(doors):
    """ModelInfer with bytes for a message."""
    with grpc.insecure_channel(doors[1]) as channel:
        yield channel.unary_unary(f"/{SERVICE}/ModelInfer")


def check(ask, body, **headers):
    """No answer is the server's fault, and each is in the protocol's words."""
    status, found = ask(body, **headers)
    assert status in (200, 400, 413, 415), (status, found)
    assert (set(found) == {"error"}) == (status != 200)
    return status


GOOD, LENGTH = binary(columns(1, 2))


@FUZZ
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=9), st.integers(0, 9))
def test_a_damaged_binary_body_is_refused_or_answered(ask, at, put, cut):
    check(ask, GOOD[:at] + put + GOOD[at + cut :], Inference_Header_Content_Length=LENGTH)


@FUZZ
@given(
    st.binary(max_size=200), st.integers(-2, 220) | st.text(st.characters(codec="latin-1", exclude_categories=["C"]))
)
def test_any_bytes_with_any_length_of_json_are_refused(ask, body, length):
    assert check(ask, body, Inference_Header_Content_Length=str(length).strip().encode("latin-1")) == 400


@FUZZ
@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(-2, 2**33), max_size=4),
    JSONS,
    st.dictionaries(st.sampled_from(["binary_data_size", "content_type", "timeout"]), JSONS),
    st.sampled_from(["ride_id", "zone", "distance_km", "passengers", "asked_at"]),
)
def test_any_tensor_in_the_place_of_an_input_is_refused_or_answered(ask, datatype, shape, data, parameters, name):
    one = {"name": name, "datatype": datatype, "shape": shape, "data": data, "parameters": parameters}
    rest = [other for other in inputs(columns(1)) if other["name"] != name]
    check(ask, json.dumps({"inputs": [*rest, one], "parameters": parameters}).encode())


@FUZZ
@given(JSONS, JSONS, JSONS, JSONS)
def test_any_json_around_the_inputs_is_refused_or_answered(ask, id, parameters, outputs, more):
    body = {"inputs": inputs(columns(1)), "id": id, "parameters": parameters, "outputs": outputs, "more": more}
    check(ask, json.dumps(body).encode())


@FUZZ
@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "x-gzip", "br"]))
def test_any_bytes_as_a_compressed_body_are_refused(ask, body, coding):
    assert check(ask, body, Content_Encoding=coding) in (400, 415)


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_as_a_grpc_message_are_refused(infer, body):
    with pytest.raises(grpc.RpcError) as caught:
        infer(body, timeout=10)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


VALUES = {
    "BYTES": st.text(st.characters(codec="utf-8"), max_size=9),
    "BOOL": st.booleans(),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "FP64": st.floats(allow_nan=False),
}


@given(st.data(), st.sampled_from(sorted(VALUES)))
def test_bytes_and_json_give_back_what_was_put_in(data, datatype):
    values = data.draw(st.lists(VALUES[datatype], max_size=9))
    assert list(from_bytes("x", datatype, to_bytes(datatype, values), len(values))) == values
    assert from_json("x", datatype, [[value] for value in values], len(values)) == values


def is_of(datatype, value):
    if datatype in ("FP32", "FP64"):
        return type(value) in (int, float)
    if "INT" in datatype:
        size = 2 ** int(datatype.lstrip("UINT"))
        low = 0 if datatype[0] == "U" else -size // 2
        return type(value) is int and low <= value < low + size
    return type(value) is {"BOOL": bool, "BYTES": str}[datatype]


SOME = st.lists(
    st.one_of(
        st.none(), st.booleans(), st.text(max_size=2), st.floats(), *(st.integers(-(2**b), 2**b) for b in (7, 64))
    ),
    max_size=4,
)


@given(st.sampled_from(sorted(DATATYPES - {"FP16", "BF16"})), SOME, st.booleans())
def test_the_first_element_of_another_datatype_is_named(datatype, values, is_nested):
    data = [[value] for value in values] if is_nested else values
    wrong = [i for i, value in enumerate(values) if value is not None and not is_of(datatype, value)]
    if wrong:
        with pytest.raises(ProtocolError, match=f"element {wrong[0]} of input 'x' is no {datatype}"):
            from_json("x", datatype, data, len(values))
    else:
        assert repr(from_json("x", datatype, data, len(values))) == repr(values)


@given(st.sampled_from(sorted(DATATYPES)), st.binary(max_size=64), st.lists(st.integers(-1, 9), max_size=4))
def test_bytes_are_a_tensor_exactly_if_all_of_them_are_used(datatype, raw, shape):
    try:
        count = count_of("x", shape)
        values = from_bytes("x", datatype, raw, count)
    except MainspringError:
        return
    assert len(values) == count
    if datatype == "BYTES":
        assert b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in values) == raw
