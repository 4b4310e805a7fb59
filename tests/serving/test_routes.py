import asyncio
import json

from mainspring.core.run import internal_token
from mainspring.definitions import load_project

from rides import NOW, Client, logged, metric, ride, until  # isort: skip


# --- routes ----------------------------------------------------------------------------------------------------------


def test_swaps_under_load_lose_no_request_and_every_answer_is_of_one_version(world):
    versions = [world.live(), *(world.train(seed=seed) for seed in (2, 3))]

    async def story(gateway, client):
        done = False
        seen = []

        async def load():
            async with Client(gateway.url) as one:
                number = 0
                while not done:
                    number += 1
                    answer = await one.predict([ride(number), ride(number + 1)])
                    assert answer.status == 200
                    seen.append({row["model_version"] for row in answer.json})
                    assert all("prediction" in row for row in answer.json)

        loaders = [asyncio.ensure_future(load()) for _ in range(4)]
        token = {"Authorization": f"Bearer {internal_token(world.config.run)}"}
        for i in range(6):
            world.decide("release", version=versions[(i + 1) % 3])
            world.decide("promote")
            answer = await client.ask("POST", "/internal/reload", **token)
            assert answer.json == {"generation": world.catalog.generation(), "problems": []}
            after = (await client.predict(ride())).json
            assert after["model_version"] == versions[(i + 1) % 3]
        done = True
        await asyncio.gather(*loaders)
        assert all(len(one) == 1 for one in seen)
        assert set().union(*seen) >= set(versions)

    world.run(story)


def test_new_routes_are_found_without_being_told(world):
    world.live()

    async def story(gateway, client):
        second = world.train(seed=2)
        world.decide("release", version=second)
        world.decide("promote")
        await until(lambda: gateway.snapshot.generation == world.catalog.generation())
        assert (await client.predict(ride())).json["model_version"] == second

    world.run(story)


def test_a_load_that_fails_leaves_the_old_version_serving_and_health_says_so(world, caplog):
    first = world.live()

    async def story(gateway, client):
        assert (await client.get("/health")).json["status"] == "ok"
        second = world.train(seed=2)
        world.damage("late_ride", second)
        world.decide("release", version=second)
        world.decide("promote")
        snapshot = await gateway.reload()
        assert snapshot.problems
        await gateway.reload()  # as it does every few seconds: what was said of it is not said again
        assert caplog.text.count("was not loaded") == 1
        assert (await client.predict(ride())).json["model_version"] == first
        health = (await client.get("/health")).json
        assert health["status"] == "degraded"
        assert health["problems"][0]["version"] == second
        assert health["models"]["late_ride"]["champion"] == first
        assert (await client.get("/ready")).status == 200

    world.run(story)


def test_a_gateway_without_models_is_ready_and_says_that_it_has_none(world):
    async def story(gateway, client):
        assert (await client.get("/ready")).json == {"ready": True, "models": []}
        assert (await client.predict(ride())).status == 404
        world.live()
        await gateway.reload()
        assert (await client.predict(ride())).status == 200

    world.run(story)


def test_definitions_that_were_applied_are_taken_up_and_an_edited_file_alone_is_not(world):
    world.live()
    text = world.config.definitions.read_text()

    def apply():
        world.catalog.apply_definitions(load_project(world.config.definitions).describe(), NOW, "test")

    async def story(gateway, client):
        apply()
        await gateway.reload()
        assert (await client.predict(ride())).status == 200
        world.config.definitions.write_text(text.replace("    zone:", "    city: str\n    zone:"))
        await gateway.reload()
        assert (await client.predict(ride())).status == 200
        apply()
        await gateway.reload()
        assert (await client.predict(ride())).json["where"] == "$"
        assert (await client.predict(ride(city="here"))).status == 200
        world.config.definitions.write_text("nonsense(")
        await gateway.reload()
        assert (await client.predict(ride(city="here"))).status == 200

    world.run(story)


def test_what_goes_on_in_place_of_a_champion_that_cannot_be_loaded_goes_on_by_the_definition_that_was_applied(world):
    world.redefine('["distance_km", "passengers"])', '["distance_km", "passengers"], rules=[ms.at_most(-50)])')
    first = world.live("minutes")
    second = world.train("minutes", seed=2)
    world.damage("minutes", second)

    async def story(gateway, client):
        world.decide("release", "minutes", version=second)
        world.decide("promote", "minutes")
        await gateway.reload()
        assert (await client.predict(ride(), "minutes")).json["prediction"] == -50
        world.redefine("ms.at_most(-50)", "ms.at_most(-60)")
        world.catalog.apply_definitions(load_project(world.config.definitions).describe(), NOW, "test")
        await gateway.reload()
        found = (await client.predict(ride(), "minutes")).json
        assert (found["prediction"], found["model_version"]) == (-60, first)

    world.run(story)


# --- rollouts and fallbacks ------------------------------------------------------------------------------------------


def test_a_shadow_is_scored_on_every_request_and_answers_none(world):
    first = world.live()
    second = world.train(seed=2)
    world.decide("release", version=second)

    async def story(gateway, client):
        found = (await client.predict([ride(i) for i in range(50)])).json
        assert {(row["variant"], row["model_version"]) for row in found} == {("champion", first)}

    rows = logged(world, story)
    assert len(rows) == 50
    assert {r["rollout"] for r in rows} == {world.catalog.rollout("late_ride").rollout_id}
    assert all(r["other_latency_us"] > 0 and r["other_error"] is None for r in rows)
    assert {(r["variant"], r["probability"], r["version"], r["other_version"]) for r in rows} == {
        ("champion", 1.0, first, second)
    }
    assert all(0 < r["other_output"] < 1 and r["other_output"] != r["output"] for r in rows)


def test_in_a_ramp_both_are_scored_and_the_assigned_one_answers(world):
    first = world.live()
    second = world.train(seed=2)
    world.decide("release", version=second)
    world.decide("stage", stage="ramp:0", weight=0.25)

    async def story(gateway, client):
        found = (await client.predict([ride(i) for i in range(400)])).json
        again = (await client.predict([ride(i) for i in range(400)])).json
        assert [row["variant"] for row in found] == [row["variant"] for row in again]

    rows = logged(world, story)[:400]
    challenged = [r for r in rows if r["variant"] == "challenger"]
    assert 60 < len(challenged) < 140
    assert {(r["version"], r["other_version"], r["probability"]) for r in challenged} == {(second, first, 0.25)}
    rest = [r for r in rows if r["variant"] == "champion"]
    assert {(r["version"], r["other_version"], r["probability"]) for r in rest} == {(first, second, 0.75)}
    assert len(challenged) + len(rest) == 400
    assert all(r["output"] is not None and r["other_output"] is not None for r in rows)


def test_a_challenger_that_fails_is_replaced_by_the_champion_and_the_answer_says_so(world):
    first = world.live("minutes")
    second = world.straight(seed=2)
    world.decide("release", "minutes", version=second)
    world.decide("stage", "minutes", stage="ramp:0", weight=0.999999)

    async def story(gateway, client):
        found = (await client.predict([ride(1), ride(2, passengers=None)], "minutes")).json
        assert (found[0]["variant"], found[0]["model_version"]) == ("challenger", second)
        assert (found[1]["variant"], found[1]["model_version"], found[1]["fallback"]) == ("fallback", first, "champion")
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_failures_total", variant="challenger", reason="output") == 1

    good, bad = logged(world, story)
    assert (good["variant"], good["fallback"], good["error"]) == ("challenger", None, None)
    assert (bad["variant"], bad["fallback"], bad["error"]) == ("fallback", "champion", "output")
    assert (bad["other_version"], bad["other_output"], bad["probability"]) == (second, None, 0.999999)


def test_a_failing_shadow_changes_no_answer(world):
    world.live("minutes")
    second = world.straight(seed=2)
    world.decide("release", "minutes", version=second)

    async def story(gateway, client):
        found = (await client.predict([ride(1), ride(2, passengers=None)], "minutes")).json
        assert [row["variant"] for row in found] == ["champion", "champion"]

    good, bad = logged(world, story)
    assert good["other_output"] is not None
    assert (bad["other_version"], bad["other_output"], bad["error"]) == (second, None, None)
    assert (good["other_error"], bad["other_error"]) == (None, "output")


def test_a_challenger_that_cannot_be_loaded_counts_as_failing_so_that_it_is_rolled_back(world):
    first = world.live()
    second = world.train(seed=2)
    world.decide("release", version=second)
    world.decide("stage", stage="ramp:0", weight=0.5)
    world.damage("late_ride", second)

    async def story(gateway, client):
        found = (await client.predict([ride(i) for i in range(20)])).json
        assert {(row["variant"], row["model_version"]) for row in found} == {("champion", first)}

    rows = logged(world, story)
    assert {(r["probability"], r["other_version"], r["other_error"]) for r in rows} == {(1.0, second, "not_loaded")}
    assert all(r["rollout"] for r in rows)


def test_a_champion_that_fails_is_replaced_by_the_last_good_version_and_without_one_the_row_is_an_error(world):
    first = world.live("minutes")
    second = world.straight(seed=2)
    world.decide("release", "minutes", version=second)
    world.decide("promote", "minutes")

    async def story(gateway, client):
        found = (await client.predict([ride(1), ride(2, passengers=None)], "minutes")).json
        assert (found[0]["variant"], found[0]["model_version"]) == ("champion", second)
        assert (found[1]["variant"], found[1]["model_version"], found[1]["fallback"]) == (
            "fallback",
            first,
            "last_good",
        )
        world.remove("minutes", first)

    rows = logged(world, story)
    assert [(r["version"], r["fallback"]) for r in rows] == [(second, None), (first, "last_good")]

    async def alone(gateway, client):
        answer = await client.predict([ride(1), ride(2, passengers=None)], "minutes")
        assert answer.status == 200
        assert answer.json[1]["code"] == "MS-S110"
        answer = await client.predict(ride(3, passengers=None), "minutes")
        assert (answer.status, answer.json["code"]) == (503, "MS-S110")

    rows = logged(world, alone)[-3:]
    failed = [(r["output"], r["error"]) for r in rows if r["output"] is None]
    assert failed == [(None, "output")] * 2


def test_a_store_that_fails_is_no_reason_not_to_answer(world):
    world.live()

    async def story(gateway, client):
        world.fold(("ann", 4.0, 10))
        gateway._store.env.close()
        answer = await client.predict(ride(), query="?status=1")
        assert answer.status == 200
        assert answer.json["status"]["driver__rides_24h"] == "default"
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_store_failures") == 1

    world.run(story)


# --- the log ---------------------------------------------------------------------------------------------------------


def test_every_answer_is_logged_with_what_the_model_saw_and_the_request_is_an_event(world):
    version = world.live()
    offset = world.fold(("ann", 4.0, 10), ("ann", 8.0, 20))
    found = []

    async def story(gateway, client):
        found.extend((await client.predict([ride(1), ride(2, driver=None, passengers=None, asked_at=...)])).json)
        found.append((await client.predict(ride(1))).json)
        health = (await client.get("/health")).json
        assert health["models"]["late_ride"]["champion"] == version

    rows = logged(world, story)
    assert [r["prediction_id"] for r in rows] == [f["prediction_id"] for f in found]
    assert [r["output"] for r in rows] == [f["prediction"] for f in found]
    first, second, _ = rows
    assert json.loads(first["features"]) == [6.0, 2.0, 7.5, "north", 2.0, 12.0, "northann"]
    assert first["status"] == ""
    assert json.loads(second["features"]) == [None, 0.0, 7.5, "north", None, 12.0, None]
    assert json.loads(second["status"]) == [1, 0, 0, 0, 1, 0, 1]
    assert {(r["predicted_at"], r["folded"], r["unit"] == r["request_id"]) for r in rows} == {(NOW, offset, True)}
    assert all(0 < r["latency_us"] < 30_000_000 for r in rows)
    requests = world.logged("ride")
    assert [r["ride_id"] for r in requests] == ["r1", "r2"]
    assert requests[1]["asked_at"] == NOW


def test_answers_do_not_wait_for_an_intake_that_is_away(world):
    world.live()

    async def story(gateway, client):
        assert (await client.predict([ride(i) for i in range(100)])).status == 200
        await until(lambda: gateway.log.spooled_bytes)
        health = (await client.get("/health")).json
        assert (health["status"], health["prediction_log"]["away"]) == ("degraded", True)
        assert (await client.predict(ride())).status == 200

    world.run(story)

    async def nothing(gateway, client):
        await until(lambda: gateway.log.sent == 101)

    assert len(logged(world, nothing)) == 101
