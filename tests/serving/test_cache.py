"""Answers that are given again: the same as without a cache, never another model's, and said to be so."""

import asyncio
import gc
import json
import tracemalloc

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.errors import NotFoundError
from mainspring.features.parity import check
from mainspring.loop.lineage import trace

from doors import open_doors  # isort: skip
from rides import NOW, Client, columns_of, held, metric, ride, until  # isort: skip


def declare(world, minutes='ms.Cache(ttl="10s")', late_ride='ms.Cache(ttl="10s")'):
    """Keep the answers of the two models."""
    for end, cache in (('.alias("place")])', late_ride), ('["distance_km", "passengers"])', minutes)):
        if cache:
            world.redefine(end, f"{end[:-1]}, cache={cache})")


def test_who_asks_the_same_again_is_told_the_same_and_no_model_is_asked(world):
    declare(world)
    world.live()
    world.fold(("ann", 7.0, 10))

    async def story(gateway, client):
        first = (await client.predict(ride(1), query="?status=1")).json
        again = (await client.predict(ride(2), query="?status=1")).json
        other = (await client.predict(ride(3, distance_km=9.0))).json
        assert "cached" not in first
        assert again["cached"] == first["prediction_id"] != again["prediction_id"]
        assert (again["prediction"], again["status"]) == (first["prediction"], first["status"])
        assert (again["variant"], again["model_version"]) == ("champion", first["model_version"])
        assert "cached" not in other
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_cache_hits_total", model="late_ride") == 1
        assert metric(text, "mainspring_cache_misses_total", model="late_ride") == 2
        assert metric(text, "mainspring_cache_bytes", model="late_ride") > 2_000
        assert metric(text, "mainspring_inferences_total", model="late_ride", variant="champion") == 2
        assert metric(text, "mainspring_requests_total", model="late_ride", variant="champion") == 3

    world.run(story, intake=True)
    rows = world.logged()
    assert [r["cached"] for r in rows] == [None, rows[0]["prediction_id"], None]
    assert [(r["output"], r["features"], r["status"], r["folded"]) for r in rows[:2]] == [
        (rows[0]["output"], rows[0]["features"], rows[0]["status"], rows[0]["folded"])
    ] * 2
    assert rows[0]["folded"] > 0
    assert [(r["unit"], r["request_id"]) for r in rows] == [("r1", "r1"), ("r2", "r2"), ("r3", "r3")]
    assert [r["ride_id"] for r in world.logged("ride")] == ["r1", "r2", "r3"]


def test_a_model_is_never_answered_with_another_models_value(world):
    """What a response cache does whose key omits the model."""
    world.redefine("def minutes(train): ...", f"def minutes(train): ...\n{TWIN}")
    declare(world)
    world.live("minutes", 1)
    world.live("twin", 2)

    async def story(gateway, client):
        mine = (await client.predict(ride(1), "minutes")).json
        twins = (await client.predict(ride(1), "twin")).json
        assert mine["prediction"] != twins["prediction"]
        assert "cached" not in twins
        assert (await client.predict(ride(2), "minutes")).json["prediction"] == mine["prediction"]
        again = (await client.predict(ride(2), "twin")).json
        assert (again["prediction"], again["cached"]) == (twins["prediction"], twins["prediction_id"])

    world.run(story)


TWIN = """
@ms.model(request=Ride, label=minutes_late, task="regression", monitor=MONITOR,
          rollout=ms.Rollout(prove=[ms.guard("absolute_error", margin=1, bound=60)], veto=[ms.guard("errors")]),
          features=["distance_km", "passengers"], cache=ms.Cache(ttl="10s"))
def twin(train): ...
"""
RIDES = st.lists(
    st.builds(
        ride,
        st.integers(0, 10**6),
        driver=st.sampled_from(["ann", "bob", None]),
        zone=st.sampled_from(["north", "south"]),
        distance_km=st.sampled_from([0.0, -0.0, 1.0, 7.5, 1e300]),
        passengers=st.sampled_from([1, 2, None]),
    ),
    min_size=1,
    max_size=12,
)


SAME = """
@ms.model(request=Ride, label=late, task="binary_classification", gates=[], rollout=ROLLOUT, monitor=MONITOR,
          features=[Driver, "distance_km", "zone", "passengers", col("asked_at").dt.hour().alias("hour"),
                    (col("zone") + col("driver")).alias("place")])
def same(train): ...
"""


@pytest.fixture
def same(world):
    """Two models that are one, the first with a cache, behind a door."""
    declare(world, minutes=None)
    world.redefine("def minutes(train): ...", f"def minutes(train): ...\n{SAME}")
    world.live("late_ride", 1)
    world.live("same", 1)
    world.fold(("ann", 7.0, 10), ("bob", 1.0, 20))
    with open_doors(world) as (http, _), httpx.Client(base_url=f"http://{http}") as client:
        yield client


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=RIDES)
def test_a_cached_answer_is_the_answer_without_a_cache_whatever_is_asked(same, rows):
    for _ in range(2):
        kept, fresh = (same.post(f"/predict/{model}", json=rows).json() for model in ("late_ride", "same"))
        told = ("prediction", "variant", "code", "fallback")
        assert [[r.get(name) for name in told] for r in kept] == [[r.get(name) for name in told] for r in fresh]
    assert all("cached" in r for r in kept if "prediction" in r)


def test_an_answer_is_given_again_until_it_is_as_old_as_the_ttl(world):
    declare(world)
    world.live("minutes")

    async def story(gateway, client):
        async def is_cached(**changes):
            answer = (await client.predict(ride(1, asked_at=..., **changes), "minutes")).json
            return "cached" in answer

        assert not await is_cached()
        world.clock.set(NOW + 9_999_999)
        assert await is_cached()
        world.clock.set(NOW + 10_000_000)
        assert not await is_cached()
        assert await is_cached()
        world.clock.set(NOW + 20_000_000)
        assert not await is_cached(distance_km=1.0)  # takes what has gone by along
        assert len(gateway.lanes["minutes"]._cache) == 1

    world.run(story)


def test_a_swap_drops_what_was_kept_and_a_swap_of_another_model_does_not(world):
    declare(world)
    world.live("minutes", 1)
    world.live("late_ride", 1)

    async def story(gateway, client):
        first = (await client.predict(ride(1), "minutes")).json
        await client.predict(ride(1))
        second = world.train("minutes", 2)
        world.decide("release", "minutes", version=second)
        await gateway.reload()
        shadowed = (await client.predict(ride(2), "minutes")).json
        assert "cached" not in shadowed  # each request of a rollout has two forecasts
        assert (await client.predict(ride(2))).json["cached"]
        world.decide("promote", "minutes")
        await gateway.reload()
        fresh = (await client.predict(ride(3), "minutes")).json
        assert (fresh["model_version"], "cached" in fresh) == (second, False)
        assert fresh["prediction"] != first["prediction"]
        assert (await client.predict(ride(4), "minutes")).json["cached"] == fresh["prediction_id"]

    world.run(story, intake=True)
    rows = [row for row in world.logged() if row["model"] == "minutes"]
    assert [bool(r["other_version"]) for r in rows] == [False, True, False, False]


def test_the_cache_holds_no_more_than_it_may_and_lets_go_of_what_was_not_asked_for_the_longest(world):
    declare(world, minutes='ms.Cache(ttl="1h", max_bytes=100_000)')
    world.live("minutes")

    async def story(gateway, client):
        await client.predict([ride(i, distance_km=float(i)) for i in range(30)], "minutes")
        cache = gateway.lanes["minutes"]._cache
        assert len(cache) == 30
        for i in range(20):
            await client.predict([ride(i, distance_km=100.0 + j + 10 * i) for j in range(10)], "minutes")
            assert "cached" in (await client.predict(ride(0, distance_km=0.0), "minutes")).json
        assert cache.size_bytes <= 100_000
        assert len(cache) >= 30
        assert "cached" not in (await client.predict(ride(1, distance_km=1.0), "minutes")).json

    world.run(story)


def test_what_an_entry_takes_is_what_it_is_counted_as(world):
    declare(world, late_ride='ms.Cache(ttl="1h", max_bytes=100_000_000)')
    world.live()

    async def story(gateway, client):
        await client.predict([ride(i, distance_km=1e6 + i) for i in range(100)])
        cache = gateway.lanes["late_ride"]._cache
        before = cache.size_bytes
        tracemalloc.start()
        for k in range(1, 5):
            await client.predict([ride(i, distance_km=1e6 * k + 0.5 + i) for i in range(500)])
        gateway.log._buffer.clear()  # what waits to be logged is no part of the cache
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        counted = cache.size_bytes - before
        assert len(cache) == 2_100
        assert 0.5 * counted < taken < 1.5 * counted

    world.run(story)


def test_what_is_not_whole_is_not_kept(world):
    declare(world)
    world.live()

    async def story(gateway, client):
        gateway._store.env.close()
        for i in range(2):
            assert "cached" not in (await client.predict(ride(i))).json
        assert len(gateway.lanes["late_ride"]._cache) == 0

    world.run(story)


def test_rows_that_are_known_are_answered_beside_a_slow_model_in_the_order_of_the_request(world):
    declare(world, minutes='ms.Cache(ttl="10s"), otherwise=ms.otherwise(value=12.5)')
    world.live("minutes")
    rows = [ride(i, distance_km=float(i)) for i in range(6)]

    async def story(gateway, client):
        known = (await client.predict([rows[1], rows[3]], "minutes")).json
        model = held(gateway.lanes["minutes"].served.champion)
        body = json.dumps({"inputs": columns_of(*rows)}).encode()
        mixed = asyncio.ensure_future(client.ask("POST", "/v2/models/minutes/infer", body))
        await until(lambda: model.asked)
        async with Client(gateway.url) as neighbour:
            waiting = asyncio.ensure_future(neighbour.predict(rows, "minutes", X_Deadline_Ms="300"))
            late = (await waiting).json
            assert [r["prediction"] for r in late] == [12.5] * 6  # the lane is held: nothing of it has been looked up
        model.go.set()
        outputs = {one["name"]: one["data"] for one in (await mixed).json["outputs"]}
        assert [bool(id) for id in outputs["cached"]] == [False, True, False, True, False, False]
        assert [outputs["prediction"][i] for i in (1, 3)] == [r["prediction"] for r in known]
        fresh = (await client.predict(rows, "minutes")).json
        assert [r["prediction"] for r in fresh] == outputs["prediction"]

    world.run(story)


def test_at_the_deadline_only_rows_without_an_answer_are_given_the_declared_value(world):
    declare(world, minutes='ms.Cache(ttl="10s"), otherwise=ms.otherwise(value=12.5)')
    world.live("minutes")
    rows = [ride(i, distance_km=float(i)) for i in range(5)]

    async def story(gateway, client):
        known = (await client.predict([rows[1], rows[3]], "minutes")).json
        model = held(gateway.lanes["minutes"].served.champion)
        found = (await client.predict(rows, "minutes", X_Deadline_Ms="300")).json
        assert [r.get("reason") for r in found] == ["deadline", None, "deadline", None, "deadline"]
        assert [found[i]["prediction"] for i in (1, 3)] == [r["prediction"] for r in known]
        model.go.set()

    world.run(story, intake=True)
    assert [r["unit"] for r in world.logged()][2:] == ["r1", "r3", "r0", "r2", "r4"]


def test_output_rules_act_on_what_is_given_again(world):
    declare(
        world,
        minutes='ms.Cache(ttl="10s"), rules=[ms.override(when=col("zone") == "south", value=1.0, reason="south")]',
    )
    world.live("minutes")

    async def story(gateway, client):
        first = (await client.predict(ride(1, zone="south"), "minutes")).json
        again = (await client.predict(ride(2, zone="north"), "minutes")).json  # the model reads no zone, the rule does
        assert (first["prediction"], first["rules"]) == (1.0, ["south"])
        assert again["cached"] == first["prediction_id"]
        assert again["prediction"] != 1.0
        assert "rules" not in again

    world.run(story)


def test_a_repeated_answer_is_explained_by_the_first_and_left_out_of_parity(world):
    declare(world)
    world.live()
    world.arrive(("ann", 7.0, 10), ("ann", 2.0, 3))

    async def story(gateway, client):
        await client.predict(ride(1))
        world.clock.set(NOW + 5_000_000)
        return (await client.predict(ride(2, asked_at=...))).json

    again = world.run(story, intake=True)
    with world.history() as history:
        with pytest.raises(NotFoundError, match="is an answer that was given again") as refused:
            trace(world.catalog, history, again["prediction_id"])
        assert again["cached"] in refused.value.hint
        report = check(world.project.models["late_ride"], history.frame("_prediction"), history)
    assert (report.predictions, report.different) == (1, 0)
    assert report.exact == report.values > 0
