import asyncio
import socket
import sys

import grpc
import msgspec
import pytest
from grpc import aio

from mainspring.core.errors import UnavailableError
from mainspring.serving.gateway import Gateway
from mainspring.serving.grpc_messages import MESSAGES, SERVICE
from mainspring.serving.shared import LaneLimits

from rides import World, ride  # isort: skip
from tensors import DATATYPES, columns, packed, unpacked  # isort: skip

CONTENTS = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "FP32": "fp32_contents", "INT64": "int64_contents"}


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A world with a champion and a gRPC door."""
    with World(tmp_path_factory.mktemp("standing")) as made:
        made.version = made.live()
        gateway = msgspec.structs.replace(made.config.gateway, grpc=0)
        made.config = msgspec.structs.replace(made.config, gateway=gateway)
        yield made


class Stub:
    """Calls by name of method."""

    def __init__(self, gateway):
        self.channel = aio.insecure_channel(gateway.grpc_url.removeprefix("grpc://"))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.channel.close()

    def __getattr__(self, method):
        return self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=MESSAGES[f"{method}Request"].SerializeToString,
            response_deserializer=MESSAGES[f"{method}Response"].FromString,
        )


def asked(found, *, raw=True, model="late_ride", **more):
    """A ModelInferRequest of columns."""
    request = MESSAGES["ModelInferRequest"](model_name=model, **more)
    for name, values in found.items():
        one = request.inputs.add(name=name, datatype=DATATYPES[name], shape=[len(values)])
        if raw:
            request.raw_input_contents.append(packed(one.datatype, values))
        else:
            sent = [v.encode() for v in values] if one.datatype == "BYTES" else values
            getattr(one.contents, CONTENTS[one.datatype]).extend(sent)
    return request


async def refusal(call):
    """Code and text of a call that fails."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


def test_health_and_metadata_are_those_of_rest(standing):
    async def story(gateway, client):
        async with Stub(gateway) as stub:
            assert (await stub.ServerLive(MESSAGES["ServerLiveRequest"]())).live
            assert (await stub.ServerReady(MESSAGES["ServerReadyRequest"]())).ready
            assert (await stub.ModelReady(MESSAGES["ModelReadyRequest"](name="late_ride"))).ready
            server = await stub.ServerMetadata(MESSAGES["ServerMetadataRequest"]())
            rest = (await client.get("/v2")).json
            assert (server.name, server.version, list(server.extensions)) == tuple(rest.values())
            model = await stub.ModelMetadata(MESSAGES["ModelMetadataRequest"](name="late_ride"))
            rest = (await client.get("/v2/models/late_ride")).json
            for ours, theirs in ((model.inputs, rest["inputs"]), (model.outputs, rest["outputs"])):
                assert [(t.name, t.datatype, list(t.shape)) for t in ours] == [tuple(t.values()) for t in theirs]
            assert (model.platform, list(model.versions)) == (rest["platform"], rest["versions"])
            index = await stub.RepositoryIndex(MESSAGES["RepositoryIndexRequest"]())
            assert [(one.name, one.state) for one in index.models] == [("late_ride", "READY")]

    standing.run(story)


def test_raw_is_answered_raw_and_typed_typed_with_the_values_of_plain_json(standing):
    async def story(gateway, client):
        plain = [one["prediction"] for one in (await client.predict([ride(i, asked_at=...) for i in (1, 2)])).json]
        async with Stub(gateway) as stub:
            typed = await stub.ModelInfer(asked(columns(1, 2), raw=False, id="mine"))
            assert (typed.id, typed.model_name, typed.model_version) == ("mine", "late_ride", standing.version)
            assert not typed.raw_output_contents
            assert list(typed.outputs[0].contents.fp64_contents) == plain
            raw = await stub.ModelInfer(asked(columns(1, 2)))
            assert raw.raw_output_contents[0] == packed("FP64", plain)
            assert not any(one.HasField("contents") for one in raw.outputs)
            assert [one.name for one in raw.outputs] == ["prediction", "prediction_id", "model_version", "variant"]
            one = asked(columns(1))
            one.outputs.add(name="variant")
            assert [o.name for o in (await stub.ModelInfer(one)).outputs] == ["variant"]

    standing.run(story)


def test_small_whole_numbers_come_in_int_contents_and_within_their_bounds(standing):
    async def story(gateway, client):
        async with Stub(gateway) as stub:
            wanted = (await stub.ModelInfer(asked(columns(1)))).raw_output_contents[0]
            for datatype, place, value, status in (
                ("INT8", "int_contents", 2, None),
                ("INT16", "int_contents", 2, None),
                ("INT32", "int_contents", 2, None),
                ("UINT8", "uint_contents", 2, None),
                ("UINT64", "uint64_contents", 2, None),
                ("INT8", "int_contents", 128, grpc.StatusCode.INVALID_ARGUMENT),
                ("UINT8", "uint_contents", 256, grpc.StatusCode.INVALID_ARGUMENT),
                ("INT64", "int_contents", 2, grpc.StatusCode.INVALID_ARGUMENT),
                ("FP16", "fp32_contents", 2, grpc.StatusCode.INVALID_ARGUMENT),
            ):
                request = asked(columns(1), raw=False)
                (one,) = (i for i in request.inputs if i.name == "passengers")
                one.datatype = datatype
                one.ClearField("contents")
                getattr(one.contents, place).append(value)
                if status is None:
                    answer = await stub.ModelInfer(request)
                    assert packed("FP64", list(answer.outputs[0].contents.fp64_contents)) == wanted
                else:
                    assert (await refusal(stub.ModelInfer(request)))[0] == status, datatype

    standing.run(story)


def test_each_refusal_has_its_status_code(standing):
    async def story(gateway, client):
        async with Stub(gateway) as stub:
            mixed = asked(columns(1))
            mixed.inputs[0].contents.bytes_contents.append(b"r1")
            few = asked(columns(1))
            del few.raw_input_contents[-1]
            short = asked(columns(1))
            short.raw_input_contents[0] = b"\x09\x00\x00\x00r"
            sequence = asked(columns(1))
            sequence.parameters["sequence_id"].int64_param = 7
            bad = grpc.StatusCode.INVALID_ARGUMENT
            for request, code, said in (
                (asked(columns(1), model="late_rides"), grpc.StatusCode.NOT_FOUND, "late_ride"),
                (asked(columns(1), model_version="x"), grpc.StatusCode.NOT_FOUND, "not loaded"),
                (asked(columns(1, zone=["west"])), bad, "$.zone"),
                (asked(columns(*range(501))), bad, "at most 500"),
                (mixed, bad, "do not go together"),
                (few, bad, "raw_input_contents"),
                (short, bad, "longer than what was sent"),
                (sequence, bad, "does not do"),
                (MESSAGES["ModelInferRequest"](model_name="late_ride"), bad, "no inputs"),
            ):
                found, details = await refusal(stub.ModelInfer(request))
                assert (found, said in details) == (code, True), details
            unknown = MESSAGES["ModelMetadataRequest"](name="nobody")
            assert (await refusal(stub.ModelMetadata(unknown)))[0] == grpc.StatusCode.NOT_FOUND
            gateway._is_stopping = True
            assert not (await stub.ServerReady(MESSAGES["ServerReadyRequest"]())).ready
            assert not (await stub.ModelReady(MESSAGES["ModelReadyRequest"](name="late_ride"))).ready
            gateway._is_stopping = False

    standing.run(story)


def test_deadlines_and_a_full_queue_are_said_by_their_codes(standing):
    async def story(gateway, client):
        async with Stub(gateway) as stub:
            late = asked(columns(1))
            late.parameters["timeout"].int64_param = 1  # microseconds
            waiting = [asyncio.ensure_future(stub.ModelInfer(asked(columns(*range(90))))) for _ in range(6)]
            code, _ = await refusal(stub.ModelInfer(late))
            assert code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
            found = await asyncio.gather(*waiting, return_exceptions=True)
            refused = [one.code() for one in found if isinstance(one, aio.AioRpcError)]
            assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert len(refused) < 6
            assert (await refusal(stub.ModelInfer(late)))[0] == grpc.StatusCode.DEADLINE_EXCEEDED

    standing.run(story, LaneLimits(batch_rows=8, queued_rows=100))


@pytest.fixture
def degrading(world):
    """A world with a gRPC door whose model declares a value and keeps its answers."""
    end = '["distance_km", "passengers"])'
    more = 'otherwise=ms.otherwise(value=12.5), cache=ms.Cache(ttl="1h"), rules=[ms.at_most(1000)]'
    world.redefine(end, f"{end[:-1]}, {more})")
    gateway = msgspec.structs.replace(world.config.gateway, grpc=0)
    world.config = msgspec.structs.replace(world.config, gateway=gateway)
    return world


def texts(response, *, raw):
    """Outputs of texts by name."""
    found = {}
    for i, one in enumerate(response.outputs):
        if one.datatype == "BYTES" and raw:
            found[one.name] = unpacked("BYTES", response.raw_output_contents[i])
        elif one.datatype == "BYTES":
            found[one.name] = [value.decode() for value in one.contents.bytes_contents]
    return found


@pytest.mark.parametrize("raw", [True, False])
def test_what_was_fallen_back_to_and_why_is_said_in_raw_and_in_typed_contents(degrading, raw):
    first = degrading.live("minutes")
    degrading.decide("release", "minutes", version=degrading.straight(seed=2))  # no finite answer without passengers
    degrading.decide("promote", "minutes")

    async def story(gateway, client):
        async with Stub(gateway) as stub:
            inputs = columns(1, 2)
            del inputs["passengers"]
            found = texts(await stub.ModelInfer(asked(inputs, raw=raw, model="minutes")), raw=raw)
            assert found["variant"] == ["fallback"] * 2
            assert (found["fallback"], found["reason"]) == (["last_good"] * 2, ["output"] * 2)
            assert found["model_version"] == [first] * 2
            assert "cached" not in found  # what is fallen back to is not kept

    degrading.run(story)


def test_a_call_that_is_late_or_shed_is_answered_by_the_declared_value_and_not_by_a_status(degrading):
    degrading.live("minutes")

    async def story(gateway, client):
        async with Stub(gateway) as stub:
            late = asked(columns(1), raw=False, model="minutes")
            late.parameters["timeout"].int64_param = 1
            response = await stub.ModelInfer(late)
            assert texts(response, raw=False)["reason"] == ["deadline"]
            assert texts(response, raw=False)["model_version"] == ["otherwise"]
            assert list(response.outputs[0].contents.fp64_contents) == [12.5]
            calls = [stub.ModelInfer(asked(columns(*range(9)), raw=False, model="minutes")) for _ in range(4)]
            reasons = [texts(one, raw=False).get("reason", [""]) for one in await asyncio.gather(*calls)]
            assert {reason for found in reasons for reason in found} <= {"", "shed"}

    degrading.run(story, LaneLimits(queued_rows=10))


def test_a_repeated_answer_says_so_in_either_contents(degrading):
    degrading.live("minutes")

    async def story(gateway, client):
        async with Stub(gateway) as stub:
            first = texts(await stub.ModelInfer(asked(columns(1), model="minutes")), raw=True)
            for raw in (True, False):
                again = texts(await stub.ModelInfer(asked(columns(1), raw=raw, model="minutes")), raw=raw)
                assert again["cached"] == first["prediction_id"] != again["prediction_id"]

    degrading.run(story)


def test_a_composite_says_its_members_and_its_spread(degrading):
    degrading.redefine(
        "def minutes(train): ...",
        "def minutes(train): ...\n"
        '@ms.model(request=Ride, label=minutes_late, task="regression", features=["distance_km"],\n'
        "          rollout=ms.Rollout())\n"
        "def near(train): ...\n"
        'both = ms.ensemble("both", minutes, near)\n',
    )
    gateway = msgspec.structs.replace(degrading.config.gateway, grpc=0)
    degrading.config = msgspec.structs.replace(degrading.config, gateway=gateway)
    degrading.live("minutes")
    degrading.live("near")

    async def story(gateway, client):
        plain = (await client.predict([ride(i, asked_at=...) for i in (1, 2)], "both")).json
        async with Stub(gateway) as stub:
            model = await stub.ModelMetadata(MESSAGES["ModelMetadataRequest"](name="both"))
            assert list(model.versions) == [degrading.project.composites["both"].version]
            response = await stub.ModelInfer(asked(columns(1, 2), raw=False, model="both"))
            numbers = {o.name: list(o.contents.fp64_contents) for o in response.outputs if o.datatype == "FP64"}
            assert numbers["prediction"] == [r["prediction"] for r in plain]
            assert numbers["spread"] == [r["spread"] for r in plain]
            said = [msgspec.json.decode(text) for text in texts(response, raw=False)["members"]]
            assert said == [r["members"] for r in plain]

    degrading.run(story)


def test_a_model_of_which_nothing_can_be_loaded_is_not_ready_and_one_with_a_value_answers_it(degrading):
    for model in ("minutes", "late_ride"):
        degrading.remove(model, degrading.live(model))

    async def story(gateway, client):
        async with Stub(gateway) as stub:
            assert (await stub.ModelReady(MESSAGES["ModelReadyRequest"](name="minutes"))).ready
            assert texts(await stub.ModelInfer(asked(columns(1), model="minutes")), raw=True)["reason"] == [
                "not_loaded"
            ]
            assert not (await stub.ModelReady(MESSAGES["ModelReadyRequest"](name="late_ride"))).ready
            code, details = await refusal(stub.ModelInfer(asked(columns(1))))
            assert (code, "MS-S125" in details) == (grpc.StatusCode.UNAVAILABLE, True)

    degrading.run(story)


def test_a_cancelled_call_leaves_its_batch_and_its_neighbours_are_answered(standing):
    async def story(gateway, client):
        async with Stub(gateway) as stub:
            for _ in range(20):
                gone = [stub.ModelInfer(asked(columns(*range(50)))) for _ in range(3)]
                stays = stub.ModelInfer(asked(columns(1)))
                await asyncio.sleep(0)
                for one in gone:
                    one.cancel()
                assert len((await asyncio.wait_for(stays, 5)).raw_output_contents) == 4
            assert (await client.predict(ride())).status == 200
            assert not gateway.lanes["late_ride"].queued_rows

    standing.run(story)


def test_a_gateway_that_is_not_asked_for_grpc_opens_no_second_door(world):
    world.live()

    async def story(gateway, client):
        assert gateway.grpc_url == ""

    world.run(story)


def test_without_the_extra_the_gateway_serves_on_and_says_what_is_missing(standing, monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, "mainspring.serving.grpc_server", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)

    async def story(gateway, client):
        assert gateway.grpc_url == ""
        assert (await client.predict(ride())).status == 200

    standing.run(story)
    assert "no gRPC door: grpc is not installed; pip install 'mainspring[grpc]'" in caplog.text


def test_a_taken_port_is_said_and_not_shared(standing):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        door = msgspec.structs.replace(standing.config.gateway, grpc=port)

        async def main():
            gateway = Gateway(msgspec.structs.replace(standing.config, gateway=door), standing.project, standing.clock)
            with pytest.raises(UnavailableError, match=f"cannot listen on 127.0.0.1:{port}"):
                await gateway.start()
            await gateway.stop(1)

        asyncio.run(main())
