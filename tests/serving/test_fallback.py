"""What is answered when a model cannot: in the order that the definition declares, and never silently."""

import json

import pytest

from mainspring.core.errors import RefusedError
from mainspring.loop.apply import plan_project
from mainspring.serving.shared import LaneLimits

from rides import NOW, columns_of, logged, metric, ride  # isort: skip

RULE = 'ms.otherwise(value=ms.when(col("distance_km") < 5).then(0.0).otherwise(1.0))'
NUMBER = "ms.otherwise(value=12.5)"


def declare(world, minutes=None, late_ride=None):
    """Say what the two models answer when they cannot."""
    for end, chain in (('.alias("place")])', late_ride), ('["distance_km", "passengers"])', minutes)):
        if chain:
            world.redefine(end, f"{end[:-1]}, otherwise={chain})")


def test_a_rule_over_the_request_answers_when_the_features_cannot_be_read(world):
    declare(world, late_ride=RULE)
    version = world.live()

    async def story(gateway, client):
        before = (await client.predict(ride(1))).json
        assert before["model_version"] == version
        gateway._store.env.close()
        found = (await client.predict([ride(2, distance_km=4.0), ride(3)], query="?status=1")).json
        assert [(r["prediction"], r["variant"], r["fallback"], r["reason"]) for r in found] == [
            (0.0, "fallback", "value", "features"),
            (1.0, "fallback", "value", "features"),
        ]
        assert [(r["model_version"], r["status"]) for r in found] == [("otherwise", {})] * 2
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_fallbacks_total", to="value", reason="features") == 2
        assert metric(text, "mainspring_requests_total", variant="fallback") == 2

    rows = logged(world, story)[1:]
    assert [(r["version"], r["output"], r["fallback"], r["error"], r["drawn"]) for r in rows] == [
        ("otherwise", 0.0, "value", "features", "champion"),
        ("otherwise", 1.0, "value", "features", "champion"),
    ]
    assert [(r["features"], r["status"]) for r in rows] == [("[]", "")] * 2
    assert [r["ride_id"] for r in world.logged("ride")] == ["r1", "r2", "r3"]


@pytest.mark.parametrize("chain", ["ms.otherwise(value=0.5, blind=True)", "ms.otherwise()"])
def test_a_blind_model_and_one_with_nothing_behind_it_answer_without_their_features(world, chain):
    declare(world, late_ride=chain)
    version = world.live()

    async def story(gateway, client):
        gateway._store.env.close()
        found = (await client.predict(ride(), query="?status=1")).json
        assert (found["model_version"], found["variant"]) == (version, "champion")
        assert found["status"]["driver__rides_24h"] == "default"
        assert "fallback" not in found

    world.run(story)


def test_what_comes_too_late_is_answered_by_the_value_and_not_scored(world):
    declare(world, minutes=NUMBER)
    world.live("minutes")
    world.live()

    async def story(gateway, client):
        found = (await client.predict([ride(1), ride(2)], "minutes", X_Deadline_Ms="0")).json
        assert [(r["prediction"], r["fallback"], r["reason"]) for r in found] == [(12.5, "value", "deadline")] * 2
        assert (await client.predict(ride(), X_Deadline_Ms="0")).status == 504  # this one declares nothing
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_inferences_total", model="minutes", variant="champion") == 0
        assert metric(text, "mainspring_rejected_total", model="minutes", reason="deadline") == 2

    rows = logged(world, story)
    assert {(r["model"], r["error"], r["probability"]) for r in rows} == {("minutes", "deadline", 1.0)}


def test_a_request_that_is_shed_is_answered_by_the_value(world):
    declare(world, minutes=NUMBER)
    world.live("minutes")

    async def story(gateway, client):
        for number in (1, 2):
            client.send("POST", "/predict/minutes", json.dumps([ride(number, distance_km=3.0)] * 8).encode())
        await client.writer.drain()
        first, second = (await client.receive()).json, (await client.receive()).json
        assert {r["variant"] for r in first} == {"champion"}
        assert {(r["prediction"], r["fallback"], r["reason"]) for r in second} == {(12.5, "value", "shed")}

    world.run(story, LaneLimits(queued_rows=10))


def test_the_last_good_version_is_asked_before_the_value_and_only_if_it_is_declared(world):
    declare(world, minutes="ms.otherwise(value=-1.0)")
    first = world.live("minutes")
    world.decide("release", "minutes", version=world.straight(seed=2))
    world.decide("promote", "minutes")
    broken = ride(2, passengers=None)

    async def story(gateway, client):
        found = (await client.predict(broken, "minutes")).json
        assert (found["model_version"], found["fallback"], found["reason"]) == (first, "last_good", "output")

    world.run(story)
    world.redefine("value=-1.0", "value=-1.0, last_good=False")

    async def without(gateway, client):
        found = (await client.predict([ride(1), broken], "minutes")).json
        assert [r.get("fallback") for r in found] == [None, "value"]
        assert found[1]["prediction"] == -1.0

    world.run(without)


def test_a_healthy_shadow_takes_over_when_it_is_declared(world):
    declare(world, minutes="ms.otherwise(shadow=True, value=-1.0)")
    champion = world.straight()
    world.decide("release", "minutes", version=champion)
    second = world.train("minutes", seed=2)
    world.decide("release", "minutes", version=second)

    async def story(gateway, client):
        found = (await client.predict([ride(1), ride(2, passengers=None)], "minutes")).json
        assert [(r["model_version"], r.get("fallback")) for r in found] == [(champion, None), (second, "challenger")]

    rows = logged(world, story)
    assert [(r["version"], r["other_version"]) for r in rows] == [(champion, second), (second, second)]


def test_a_row_for_which_the_rule_has_no_value_is_answered_as_if_there_were_no_rule(world):
    declare(world, late_ride='ms.otherwise(value=col("passengers") * 0.1)')
    version = world.live()

    async def story(gateway, client):
        gateway._store.env.close()
        found = (await client.predict([ride(1), ride(2, passengers=None)])).json
        assert [r["model_version"] for r in found] == ["otherwise", version]
        late = (await client.predict([ride(3), ride(4, passengers=None)], X_Deadline_Ms="0")).json
        assert late[0]["reason"] == "deadline"
        assert late[1]["code"] == "MS-S110"

    world.run(story)


def test_the_open_inference_protocol_says_which_fallback_answered_and_why(world):
    declare(world, minutes=NUMBER)
    world.live("minutes")
    inputs = [
        {"name": "ride_id", "datatype": "BYTES", "shape": [1], "data": ["r1"]},
        {"name": "zone", "datatype": "BYTES", "shape": [1], "data": ["north"]},
        {"name": "distance_km", "datatype": "FP64", "shape": [1], "data": [7.5]},
    ]

    async def story(gateway, client):
        body = {"inputs": inputs, "parameters": {"timeout": 1}}
        answer = await client.ask("POST", "/v2/models/minutes/infer", json.dumps(body).encode())
        outputs = {one["name"]: one["data"] for one in answer.json["outputs"]}
        assert outputs["prediction"] == [12.5]
        assert (outputs["fallback"], outputs["reason"]) == (["value"], ["deadline"])
        assert outputs["model_version"] == ["otherwise"]

    world.run(story)


def test_a_new_fallback_is_in_force_once_it_is_applied_without_a_training(world):
    version = world.live("minutes")

    async def story(gateway, client):
        world.catalog.apply_definitions(world.project.describe(), NOW, "test")
        await gateway.reload()
        assert (await client.predict(ride(), "minutes", X_Deadline_Ms="0")).status == 504
        declare(world, minutes=NUMBER)
        world.catalog.apply_definitions(world.project.describe(), NOW, "test")
        await gateway.reload()
        assert (await client.predict(ride(), "minutes", X_Deadline_Ms="0")).json["prediction"] == 12.5
        assert (await client.predict(ride(), "minutes")).json["model_version"] == version

    world.run(story)


def test_plan_warns_of_a_model_without_a_fallback_and_refuses_it_in_production(world):
    declare(world, minutes=NUMBER)
    lines = plan_project(world.config, world.project).lines
    assert [(line.action, line.name) for line in lines if "is late" in line.text] == [("warn", "late_ride")]
    toml = world.root / "mainspring.toml"
    toml.write_text(toml.read_text().replace("[project]", '[project]\nenvironment = "production"'))
    world.reload()
    with pytest.raises(RefusedError, match="model late_ride: does not say what is answered") as refused:
        plan_project(world.config, world.project).check()
    assert refused.value.code == "MS-C031"
    declare(world, late_ride=RULE)
    plan_project(world.config, world.project).check()


def test_a_value_that_is_no_probability_is_no_value_of_a_binary_model(world):
    declare(
        world,
        minutes='ms.otherwise(value=col("distance_km") - 1.0)',
        late_ride='ms.otherwise(value=col("distance_km") - 1.0)',
    )
    world.live("minutes")
    world.live()

    async def story(gateway, client):
        for model, distance, status in (
            ("late_ride", 1.5, 200),
            ("late_ride", 4.0, 504),
            ("late_ride", 0.5, 504),
            ("minutes", 4.0, 200),
        ):
            answer = await client.predict(ride(distance_km=distance), model, X_Deadline_Ms="0")
            assert (model, distance, answer.status) == (model, distance, status)

    world.run(story)


async def infer(client, model, *rows):
    body = json.dumps({"inputs": columns_of(*rows)}).encode()
    return await client.ask("POST", f"/v2/models/{model}/infer", body)


@pytest.mark.parametrize("harm", ["damage", "remove"])
def test_a_value_answers_where_no_package_can_be_loaded_from_the_start_on_until_one_can(world, harm):
    declare(world, minutes=NUMBER)
    getattr(world, harm)("minutes", world.live("minutes"))

    async def story(gateway, client):
        found = (await client.predict(ride(1), "minutes", query="?status=1")).json
        assert (found["prediction"], found["model_version"], found["variant"]) == (12.5, "otherwise", "fallback")
        assert (found["fallback"], found["reason"], found["status"]) == ("value", "not_loaded", {})
        outputs = {one["name"]: one["data"] for one in (await infer(client, "minutes", ride(2))).json["outputs"]}
        assert (outputs["prediction"], outputs["reason"]) == ([12.5], ["not_loaded"])
        assert (await client.get("/ready")).json == {"ready": True, "models": ["minutes"]}
        assert (await client.get("/v2/models/minutes/ready")).json["ready"] is True
        health = (await client.get("/health")).json
        assert (health["status"], health["models"]["minutes"]["champion"]) == ("degraded", None)
        assert [(one["model"], one["is_serving"]) for one in health["problems"]] == [("minutes", False)]
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_fallbacks_total", model="minutes", to="value", reason="not_loaded") == 2
        good = world.train("minutes", seed=2)
        world.decide("release", "minutes", version=good)
        world.decide("promote", "minutes")
        await gateway.reload()
        found = (await client.predict(ride(3), "minutes")).json
        assert (found["model_version"], found["variant"]) == (good, "champion")
        assert "fallback" not in found

    rows = logged(world, story)
    assert [(r["output"], r["fallback"], r["error"], r["drawn"]) for r in rows[:2]] == [
        (12.5, "value", "not_loaded", "champion")
    ] * 2
    assert (rows[2]["fallback"], rows[2]["variant"]) == (None, "champion")


def test_a_model_that_cannot_be_loaded_and_has_no_value_says_so_and_its_neighbours_go_on(world):
    broken = world.live("minutes")
    world.live()
    world.remove("minutes", broken)

    async def story(gateway, client):
        answer = await client.predict(ride(1), "minutes")
        assert (answer.status, answer.json["code"]) == (503, "MS-S125")
        assert "no version of this model could be loaded" in answer.json["error"]
        spoken = await infer(client, "minutes", ride(1))
        assert (spoken.status, "MS-S125" in spoken.json["error"]) == (503, True)
        ready = await client.get("/v2/models/minutes/ready")
        assert (ready.status, ready.json["ready"]) == (503, False)
        assert (await client.predict([ride(2), ride(3)], "minutes")).status == 503
        pinned = await client.get(f"/v2/models/minutes/versions/{broken}/ready")
        assert (pinned.status, "loaded: none" in pinned.json["error"]) == (404, True)
        index = {one["name"]: one["state"] for one in (await client.get("/v2/repository/index")).json}
        assert (index["minutes"], index["late_ride"]) == ("UNAVAILABLE", "READY")
        assert (await client.get("/ready")).json == {"ready": True, "models": ["late_ride"]}
        assert (await client.predict(ride(4))).status == 200
        assert (await client.predict(ride(5), "minute")).status == 404
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_rejected_total", model="minutes", reason="not_loaded") == 4

    rows = logged(world, story)
    mine = [(r["version"], r["output"], r["error"]) for r in rows if r["model"] == "minutes"]
    assert mine == [(broken, None, "not_loaded")] * 4
