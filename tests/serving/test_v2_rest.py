import asyncio
import gzip
import json
import zlib

import pytest

from mainspring.definitions import load_project
from mainspring.serving.shared import LaneLimits

from rides import NOW, Client, World, logged, metric, ride  # isort: skip
from tensors import binary, columns, infer, inputs, output, texts  # isort: skip

LENGTH = "Inference_Header_Content_Length"


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A world with two models, for tests that change nothing in it."""
    with World(tmp_path_factory.mktemp("standing")) as made:
        made.version = made.live()
        made.live("minutes")
        yield made


# --- health and metadata ---------------------------------------------------------------------------------------------


def test_health_says_live_and_ready_in_both_bodies_and_503_until_models_serve(standing):
    async def story(gateway, client):
        for path in ("/v2/health/live", "/v2/health/ready"):
            answer = await client.get(path)
            assert (answer.status, answer.json) == (200, {"live": True, "ready": True})
        gateway._is_stopping = True
        live, ready = await client.get("/v2/health/live"), await client.get("/v2/health/ready")
        assert (live.status, ready.status) == (200, 503)
        assert live.json == ready.json == {"live": True, "ready": False}
        model = await client.get("/v2/models/late_ride/ready")
        assert (model.status, model.json["ready"]) == (503, False)
        gateway._is_stopping = False
        assert (await client.get("/v2/models/late_ride/ready")).json == {"name": "late_ride", "ready": True}

    standing.run(story)


def test_metadata_names_every_field_of_the_request_and_every_output(standing):
    async def story(gateway, client):
        server = (await client.get("/v2")).json
        assert "binary_tensor_data" in server["extensions"]
        found = (await client.get("/v2/models/late_ride")).json
        assert (found["name"], found["versions"]) == ("late_ride", [standing.version])
        assert {(one["name"], one["datatype"]) for one in found["inputs"]} == {
            ("ride_id", "BYTES"),
            ("driver", "BYTES"),
            ("zone", "BYTES"),
            ("distance_km", "FP64"),
            ("passengers", "INT64"),
            ("asked_at", "INT64"),
        }
        assert all(one["shape"] == [-1] for one in found["inputs"] + found["outputs"])
        assert [one["name"] for one in found["outputs"][:4]] == [
            "prediction",
            "prediction_id",
            "model_version",
            "variant",
        ]
        assert (await client.get(f"/v2/models/late_ride/versions/{standing.version}")).json == found
        config = (await client.get("/v2/models/late_ride/config")).json
        optional = [one["name"] for one in config["input"] if one["optional"]]
        assert optional == ["driver", "passengers", "asked_at"]
        index = (await client.ask("POST", "/v2/repository/index", b"{}")).json
        assert {(one["name"], one["state"]) for one in index} == {("late_ride", "READY"), ("minutes", "READY")}

    standing.run(story)


def test_stats_count_requests_inferences_and_executions_apart(standing):
    async def story(gateway, client):
        await infer(client, columns(1, 2, 3))
        await infer(client, columns(4))
        (found,) = (await client.get("/v2/models/late_ride/stats")).json["model_stats"]
        assert (found["request_count"], found["inference_count"], found["execution_count"]) == (2, 4, 2)
        assert found["inference_stats"]["success"]["ns"] > found["inference_stats"]["compute_infer"]["ns"] > 0
        every = (await client.get("/v2/models/stats")).json["model_stats"]
        assert {one["name"] for one in every} == {"late_ride", "minutes"}

    standing.run(story)


# --- inference -------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_plain_json_bit_for_bit(standing):
    async def story(gateway, client):
        plain = (await client.predict([ride(i, asked_at=...) for i in (1, 2)])).json
        answer = await infer(client, columns(1, 2), id="mine")
        assert (answer.status, answer.json["id"], answer.json["model_name"]) == (200, "mine", "late_ride")
        assert answer.json["model_version"] == standing.version
        assert output(answer, "prediction") == [one["prediction"] for one in plain]
        assert output(answer, "variant") == ["champion", "champion"]
        assert output(answer, "model_version") == [standing.version] * 2
        assert [one["shape"] for one in answer.json["outputs"]] == [[2]] * 4
        body, length = binary(columns(1, 2), {"binary_data_output": True})
        raw = await infer(client, body, headers={LENGTH: length})
        assert output(raw, "prediction") == [one["prediction"] for one in plain]
        assert "id" not in json.loads(raw.body[: int(raw.headers["inference-header-content-length"])])

    standing.run(story)


def test_both_protocols_are_logged_alike(world):
    world.live()
    found = []

    async def story(gateway, client):
        found.append((await client.predict(ride(1))).json)
        answer = await infer(client, columns(2))
        found.append({name: output(answer, name)[0] for name in ("prediction", "prediction_id", "variant")})

    rows = logged(world, story)
    assert [(r["prediction_id"], r["output"]) for r in rows] == [(f["prediction_id"], f["prediction"]) for f in found]
    plain, tensor = (
        {name: row[name] for name in ("features", "status", "version", "variant", "probability", "predicted_at")}
        for row in rows
    )
    assert plain == tensor
    requests = world.logged("ride")
    assert [row["ride_id"] for row in requests] == ["r1", "r2"]
    assert {k: v for k, v in requests[0].items() if k != "ride_id"} == {
        k: v for k, v in requests[1].items() if k != "ride_id"
    }


def test_every_kind_of_field_is_taken_in_its_own_datatypes(standing):
    async def story(gateway, client):
        async def prediction(body, length=None):
            answer = await infer(client, body, headers={} if length is None else {LENGTH: length})
            assert answer.status == 200, answer.body
            return output(answer, "prediction")

        wanted = await prediction(json.dumps({"inputs": inputs(columns(1))}).encode())
        whole = columns(1, distance_km=[7])
        for changes in (
            {"asked_at": [NOW]},
            {"asked_at": ["2026-03-01T12:00:00Z"]},
        ):
            datatypes = {"asked_at": "INT64" if changes["asked_at"] == [NOW] else "BYTES"}
            sent = {"inputs": inputs(columns(1, **changes), **datatypes)}
            assert await prediction(json.dumps(sent).encode()) == wanted
        sevens = [
            await prediction(*binary(whole, distance_km=datatype, passengers=other))
            for datatype, other in (("FP64", "INT64"), ("FP32", "INT32"), ("FP16", "UINT64"), ("INT64", "INT64"))
        ]
        assert sevens[1:] == sevens[:-1]
        column = {"inputs": inputs(columns(1), shape=[1, 1])}
        assert await prediction(json.dumps(column).encode()) == wanted

    standing.run(story)


def test_what_may_be_left_out_is_null(standing):
    async def story(gateway, client):
        plain = (await client.predict(ride(1, driver=..., passengers=..., asked_at=...))).json
        answer = await infer(client, columns(1, driver=..., passengers=...))
        assert output(answer, "prediction") == [plain["prediction"]]
        answer = await infer(client, columns(1, driver=[None], passengers=[None]))
        assert output(answer, "prediction") == [plain["prediction"]]
        missing = await infer(client, columns(1, zone=...))
        assert missing.status == 400
        assert "`zone`" in missing.json["error"]

    standing.run(story)


def test_outputs_are_those_asked_for_each_in_its_own_form(standing):
    async def story(gateway, client):
        answer = await infer(client, columns(1), outputs=[{"name": "variant"}, {"name": "error"}])
        assert [(one["name"], one["data"]) for one in answer.json["outputs"]] == [
            ("variant", ["champion"]),
            ("error", [""]),
        ]
        outputs = [{"name": "prediction", "parameters": {"binary_data": False}}, {"name": "prediction_id"}]
        body, length = binary(columns(1), {"binary_data_output": True}, outputs)
        mixed = await infer(client, body, headers={LENGTH: length})
        head = json.loads(mixed.body[: int(mixed.headers["inference-header-content-length"])])
        assert "data" in head["outputs"][0]
        assert head["outputs"][1]["parameters"]["binary_data_size"] == len(texts(output(mixed, "prediction_id")))

    standing.run(story)


def test_a_row_that_no_model_can_score_is_nan_with_its_error_and_spoils_no_other(world):
    version = world.straight()
    world.decide("release", "minutes", version=version)

    async def story(gateway, client):
        answer = await infer(client, columns(1, 2, passengers=[2, None]), model="minutes")
        assert answer.status == 200
        good, bad = output(answer, "prediction")
        assert good is not None
        assert bad is None
        assert output(answer, "error") == ["", "MS-S110"]
        alone = await infer(client, columns(1, passengers=[None]), model="minutes")
        assert alone.status == 503
        assert set(alone.json) == {"error"}

    world.run(story)


def test_no_rows_are_answered_by_no_rows(standing):
    async def story(gateway, client):
        answer = await infer(client, columns(1, **{name: [] for name in columns()}))
        assert (answer.status, output(answer, "prediction")) == (200, [])

    standing.run(story)


# --- versions --------------------------------------------------------------------------------------------------------


def test_a_version_that_is_asked_for_is_the_one_that_answers_or_the_request_is_refused(world):
    first = world.live()
    second = world.train(seed=2)

    async def story(gateway, client):
        assert (await infer(client, columns(1), version=first)).status == 200
        unknown = await infer(client, columns(1), version=second)
        assert unknown.status == 404
        world.decide("release", version=second)
        await gateway.reload()
        assert (await infer(client, columns(1), version=first)).status == 200  # in shadow the champion answers
        refused = await infer(client, columns(1), version=second)
        assert refused.status == 400
        assert "does not answer every request" in refused.json["error"]
        world.decide("stage", stage="ramp:0", weight=0.5)
        await gateway.reload()
        assert {(await infer(client, columns(1), version=one)).status for one in (first, second)} == {400}
        assert set((await client.get("/v2/models/late_ride")).json["versions"]) == {first, second}

    world.run(story)


# --- traps -----------------------------------------------------------------------------------------------------------


def test_the_json_length_is_that_of_the_decompressed_body(standing):
    async def story(gateway, client):
        body, length = binary(columns(1, 2))
        wanted = output(await infer(client, body, headers={LENGTH: length}), "prediction")
        raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        for coding, sent in (
            ("gzip", gzip.compress(body)),
            ("deflate", zlib.compress(body)),
            ("deflate", raw.compress(body) + raw.flush()),
        ):
            answer = await infer(client, sent, headers={LENGTH: length, "Content_Encoding": coding})
            assert output(answer, "prediction") == wanted

    standing.run(story)


def test_an_answer_is_compressed_for_a_client_that_accepts_it(standing):
    async def story(gateway, client):
        for coding, unpack in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
            body, length = binary(columns(*range(50)), {"binary_data_output": True})
            headers = {LENGTH: length, "Accept_Encoding": f"br, {coding};q=0.5"}
            answer = await infer(client, body, headers=headers)
            assert answer.headers["content-encoding"] == coding
            answer.body = unpack(answer.body)
            assert len(output(answer, "prediction")) == 50
        plain = await infer(client, columns(*range(50)), headers={"Accept_Encoding": "gzip;q=0, identity"})
        assert "content-encoding" not in plain.headers

    standing.run(story)


def test_a_small_body_that_unpacks_to_a_large_one_is_stopped_at_the_limit(standing):
    async def story(gateway, client):
        answer = await infer(client, gzip.compress(b" " * 200_000_000), headers={"Content_Encoding": "gzip"})
        assert answer.status == 413
        for sent, coding in ((b"{}", "gzip"), (gzip.compress(b"{}")[:-2], "gzip"), (b"{}", "br"), (b"{}", "zstd")):
            assert (await infer(client, sent, headers={"Content_Encoding": coding})).status == 415

    standing.run(story)


def test_a_length_of_zero_means_a_raw_body_for_a_model_with_one_input(world):
    path = world.root / "definitions.py"
    text = path.read_text().replace('zone: Annotated[str, ms.one_of("north", "south")]', "zone: str | None")
    path.write_text(text.replace("distance_km: Annotated[float, ms.between(0, 1e300)]", "distance_km: float | None"))
    world.project = load_project(path)
    world.live("minutes")

    async def story(gateway, client):
        answer = await infer(client, b"ride 7", "minutes", headers={LENGTH: 0})
        assert answer.status == 200, answer.body
        assert int(answer.headers["inference-header-content-length"]) < len(answer.body)
        plain = (await client.predict({"ride_id": "ride 8"}, "minutes")).json
        assert output(answer, "prediction") == [plain["prediction"]]

    world.run(story)


def test_a_raw_body_is_refused_where_more_than_one_input_is_needed(standing):
    async def story(gateway, client):
        answer = await infer(client, b"north", headers={LENGTH: 0})
        assert answer.status == 400
        assert "ride_id, zone, distance_km" in answer.json["error"]

    standing.run(story)


def test_clients_without_a_content_type_or_with_any_are_answered(standing):
    async def story(gateway, client):
        for headers in ({}, {"Content_Type": "application/octet-stream"}, {"Content_Type": "text/plain"}):
            assert (await infer(client, columns(1), headers=headers)).status == 200

    standing.run(story)


def _wrong(**changes):
    return json.dumps({"inputs": inputs(columns(1))} | changes).encode()


def _one(**changes):
    first, *rest = inputs(columns(1))
    return json.dumps({"inputs": [*rest, first | changes]}).encode()


WRONG = [
    (b"{", {}, 400, "cannot be read"),
    (b"", {}, 400, "cannot be read"),
    (b"[" * 100_000, {}, 400, "cannot be read"),
    (b"{}", {}, 400, "inputs"),
    (_wrong(inputs=[]), {}, 400, "there are no inputs"),
    (_wrong(inputs=inputs(columns(1, surprise=[1.0]))), {}, 400, "no input 'surprise'"),
    (_wrong(inputs=inputs(columns(1)) * 2), {}, 400, "there twice"),
    (_wrong(inputs=inputs(columns(1, zone=["west"]))), {}, 400, "$.zone"),
    (_wrong(inputs=inputs(columns(1, 2, zone=["north"]))), {}, 400, "has 1 rows"),
    (_wrong(inputs=inputs(columns(1, asked_at=[NOW - 7_200_000_000]))), {}, 400, "is not now"),
    (_wrong(inputs=inputs(columns(*range(501)))), {}, 413, "at most 500"),
    (_wrong(outputs=[{"name": "predictions"}]), {}, 400, "did you mean 'prediction'"),
    (_wrong(outputs=[{"name": "prediction"}] * 2), {}, 400, "twice"),
    (_wrong(outputs=[{"name": "prediction", "parameters": {"classification": 2}}]), {}, 400, "does not do"),
    (_wrong(parameters={"sequence_id": 7}), {}, 400, "does not do"),
    (_wrong(parameters={"timeout": "soon"}), {}, 400, "microseconds"),
    (_wrong(parameters={"timeout": -1}), {}, 400, "microseconds"),
    (_wrong(parameters={"timeout": True}), {}, 400, "microseconds"),
    (_one(datatype="FP16"), {}, 400, "FP16 is sent as bytes"),
    (_one(datatype="BF16"), {}, 400, "BF16 is sent as bytes"),
    (_one(datatype="STRING"), {}, 400, "unknown datatype"),
    (_one(datatype="INT64", data=[1]), {}, 400, "is BYTES, got 'INT64'"),
    (_one(data=[1]), {}, 400, "is no BYTES"),
    (_one(data=["a", "b"]), {}, 400, "another number of elements"),
    (_one(data=None), {}, 400, "no array"),
    (_one(shape=[]), {}, 400, "cannot have the shape"),
    (_one(shape=[-1]), {}, 400, "cannot have the shape"),
    (_one(shape=[2**62, 2**62]), {}, 400, "cannot have the shape"),
    (_one(shape=[1] * 9), {}, 400, "cannot have the shape"),
    (_one(shape=[1, 2], data=["a", "b"]), {}, 400, "[rows, 1]"),
    (_one(parameters={"binary_data_size": 5}), {}, 400, "does not fit"),
    (_one(parameters={"binary_data_size": True}), {}, 400, "does not fit"),
    (_one(parameters={"binary_data_size": -1}), {}, 400, "does not fit"),
    (_one(parameters={"shared_memory_region": "x"}), {}, 400, "does not do"),
    (_wrong(), {LENGTH: "x"}, 400, "Inference-Header-Content-Length"),
    (_wrong(), {LENGTH: "-1"}, 400, "Inference-Header-Content-Length"),
    (_wrong(), {LENGTH: len(_wrong()) + 1}, 400, "Inference-Header-Content-Length"),
    (_wrong() + b"xyz", {LENGTH: len(_wrong())}, 400, "3 bytes of the body belong to no input"),
]  # fmt: skip


def test_what_is_wrong_is_said_in_the_protocols_own_words(standing):
    async def story(gateway, client):
        for body, headers, status, said in WRONG:
            answer = await infer(client, body, headers=headers)
            assert set(answer.json) == {"error"}, (said, answer.body)
            assert said in answer.json["error"], (said, answer.json)
            assert answer.status == status, (said, answer.status)
        assert (await infer(client, columns(1))).status == 200

    standing.run(story)


def test_bytes_that_do_not_fit_their_shape_are_refused(standing):
    async def story(gateway, client):
        good, length = binary(columns(1))
        for change in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x03\x00\x00\x00"):  # a longer, empty, longer text
            body = good[:length] + change + good[length + 4 :]
            answer = await infer(client, body, headers={LENGTH: length})
            assert (answer.status, "ride_id" in answer.json["error"]) == (400, True)
        no_text = binary(columns(1, ride_id=[b"\xff\xfe"]))
        answer = await infer(client, no_text[0], headers={LENGTH: no_text[1]})
        assert "no UTF-8" in answer.json["error"]

    standing.run(story)


def test_paths_and_methods_that_are_not_there_are_an_error_in_the_protocols_words(standing):
    async def story(gateway, client):
        for method, path, status in (
            ("GET", "/v2/nothing", 404),
            ("GET", "/v2/models/late_rides", 404),
            ("POST", "/v2/models/late_rides/infer", 404),
            ("GET", "/v2/models/late_ride/versions/x", 404),
            ("GET", "/v2/models/late_ride/nothing", 404),
            ("GET", "/v2/models/late_ride/infer", 405),
            ("POST", "/v2/health/live", 405),
            ("DELETE", "/v2/models/late_ride", 405),
            ("POST", "/v2/repository/models/late_ride/load", 404),
        ):
            answer = await client.ask(method, path)
            assert (answer.status, set(answer.json)) == (status, {"error"}), path
            assert ("allow" in answer.headers) == (status == 405), path

    standing.run(story)


# --- under load ------------------------------------------------------------------------------------------------------


def test_the_timeout_is_in_microseconds_and_a_late_answer_is_a_504(standing):
    async def story(gateway, client):
        body = json.dumps({"inputs": inputs(columns(*range(200)))}).encode()
        late = json.dumps({"inputs": inputs(columns(1)), "parameters": {"timeout": 1}}).encode()
        patient = json.dumps({"inputs": inputs(columns(1)), "parameters": {"timeout": 5_000_000}}).encode()
        async with Client(gateway.url) as other:
            client.send("POST", "/v2/models/late_ride/infer", body)
            for sent, status in ((late, 504), (patient, 200)):
                other.send("POST", "/v2/models/late_ride/infer", sent)
                answer = await other.receive()
                assert answer.status == status
            await client.receive()
        assert (await infer(client, columns(1), parameters={"timeout": 0})).status == 200

    standing.run(story)


def test_too_many_waiting_rows_are_shed_with_a_word_when_to_come_again(standing):
    async def story(gateway, client):
        others = [await Client(gateway.url).__aenter__() for _ in range(4)]
        for number, other in enumerate(others):
            sent = json.dumps({"inputs": inputs(columns(*range(number * 100, number * 100 + 90)))}).encode()
            other.send("POST", "/v2/models/late_ride/infer", sent)
        answers = [await other.receive() for other in others]
        shed = [one for one in answers if one.status == 429]
        assert shed
        assert {one.status for one in answers} == {200, 429}
        assert all(one.headers["retry-after"] and set(one.json) == {"error"} for one in shed)
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_rejected_total", model="late_ride", reason="shed") == 90 * len(shed)
        for other in others:
            await other.__aexit__()

    standing.run(story, LaneLimits(batch_rows=8, queued_rows=100))


def test_a_client_that_goes_away_leaves_its_batch_and_its_neighbours_are_answered(standing):
    async def story(gateway, client):
        for _ in range(20):
            gone = await Client(gateway.url).__aenter__()
            gone.send("POST", "/v2/models/late_ride/infer", json.dumps({"inputs": inputs(columns(1))}).encode())
            client.send("POST", "/v2/models/late_ride/infer", json.dumps({"inputs": inputs(columns(2))}).encode())
            gone.writer.transport.abort()
            assert (await asyncio.wait_for(client.receive(), 5)).status == 200

    standing.run(story)
