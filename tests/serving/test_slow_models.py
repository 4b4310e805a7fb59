"""A model that is slow, or fails again and again, harms nobody but itself."""

import asyncio
import threading
from collections import defaultdict
from itertools import count

import numpy as np
import pytest

from mainspring.definitions import load_project
from mainspring.serving.breaker import MIN_RUNS, OPEN_S
from mainspring.serving.inference import Outputs, Scorer
from mainspring.serving.layout import Inputs
from mainspring.serving.metrics import ModelMetrics
from mainspring.serving.panel import Panel
from mainspring.serving.shared import LaneLimits

from rides import NOW, Client, Held, held, logged, ride, until  # isort: skip


class Failing(Held):
    """A runtime that fails until it is let go."""

    def predict_matrix(self, numbers, texts):
        self.asked += 1
        if not self.go.is_set():
            raise RuntimeError("broken")
        return self.runtime.predict_matrix(numbers, texts)


def declare(world, chain="ms.otherwise(value=12.5)"):
    world.redefine('["distance_km", "passengers"])', f'["distance_km", "passengers"], otherwise={chain})')


def test_a_slow_model_holds_nobody_up_but_itself_and_answers_when_it_can(world):
    version = world.live("minutes")
    world.live()

    async def story(gateway, client):
        model = held(gateway.lanes["minutes"].served.champion)
        late = asyncio.ensure_future(client.predict([ride(i) for i in range(3)], "minutes"))
        await until(lambda: model.asked)
        async with Client(gateway.url) as neighbour:
            for i in range(5):
                assert (await neighbour.predict(ride(i))).status == 200
            again = asyncio.ensure_future(neighbour.predict(ride(9), "minutes"))
            await until(lambda: gateway.lanes["minutes"].queued_rows)
            assert not late.done()
            model.go.set()
            assert {r["model_version"] for r in (await late).json} == {version}
            assert (await again).json["variant"] == "champion"
        assert model.asked == 2

    rows = logged(world, story)
    assert len([r for r in rows if r["model"] == "minutes"]) == 4


def test_at_its_deadline_a_request_is_answered_by_the_value_in_the_model_as_in_the_queue(world):
    declare(world)
    world.live("minutes")

    async def story(gateway, client):
        model = held(gateway.lanes["minutes"].served.champion)
        inside = asyncio.ensure_future(client.predict([ride(1), ride(2)], "minutes", X_Deadline_Ms="200"))
        await until(lambda: model.asked)
        async with Client(gateway.url) as other:
            queued = await other.predict(ride(3), "minutes", X_Deadline_Ms="200")
            found = [*(await inside).json, queued.json]
            assert {(r["prediction"], r["fallback"], r["reason"]) for r in found} == {(12.5, "value", "deadline")}
            model.go.set()
            assert (await other.predict(ride(4), "minutes")).json["variant"] == "champion"
        assert model.asked == 2  # what nobody waited for any more was not asked
        assert gateway.lanes["minutes"].queued_rows == 0

    rows = logged(world, story)
    assert [(r["unit"], r["fallback"]) for r in rows] == [
        ("r1", "value"),
        ("r2", "value"),
        ("r3", "value"),
        ("r4", None),
    ]


def test_without_a_value_a_request_is_told_at_its_deadline_that_it_comes_too_late(world):
    world.live("minutes")

    async def story(gateway, client):
        model = held(gateway.lanes["minutes"].served.champion)
        answer = await client.predict(ride(1), "minutes", X_Deadline_Ms="200")
        assert (answer.status, answer.json["code"]) == (504, "MS-S104")
        model.go.set()
        assert (await client.predict(ride(2), "minutes")).status == 200

    (row,) = logged(world, story)
    assert row["unit"] == "r2"
    assert row["prediction_id"].endswith("-1")  # nobody was told another one: a gap would say that an answer was lost


def test_a_slow_shadow_delays_no_answer_and_is_logged_with_its_pair(world):
    world.live("minutes")
    second = world.train("minutes", seed=2)
    world.decide("release", "minutes", version=second)

    async def story(gateway, client):
        model = held(gateway.lanes["minutes"].served.challenger)
        for i in range(3):
            assert (await client.predict(ride(i), "minutes")).json["variant"] == "champion"
        await until(lambda: model.asked)
        model.go.set()

    rows = logged(world, story)
    assert len(rows) == 3
    assert all(r["other_version"] == second and r["other_output"] is not None for r in rows)


def test_a_gateway_that_stops_waits_for_a_slow_model_and_answers(world):
    world.live("minutes")

    async def story(gateway, client):
        model = held(gateway.lanes["minutes"].served.champion)
        late = asyncio.ensure_future(client.predict(ride(1), "minutes"))
        await until(lambda: model.asked)
        threading.Timer(0.05, model.go.set).start()
        gateway.lanes["minutes"].finish()
        assert (await late).json["variant"] == "champion"

    assert len(logged(world, story)) == 1


@pytest.mark.parametrize("chain", ["ms.otherwise(value=12.5)", "ms.otherwise()"])
def test_a_champion_that_keeps_failing_is_left_alone_and_taken_back_once_it_is_well(world, monkeypatch, chain):
    declare(world, chain)
    first = world.live("minutes")
    world.decide("release", "minutes", version=world.train("minutes", seed=2))
    world.decide("promote", "minutes")
    now_s = [1_000.0]
    monkeypatch.setattr("mainspring.serving.lane.perf_counter", lambda: now_s[0])
    monkeypatch.setattr("mainspring.serving.batcher.perf_counter", lambda: now_s[0])
    monkeypatch.setattr("mainspring.serving.plain_json.perf_counter", lambda: now_s[0])

    async def story(gateway, client):
        lane = gateway.lanes["minutes"]
        broken = Failing(lane.served.champion)
        for i in range(MIN_RUNS):
            found = (await client.predict(ride(i), "minutes")).json
            assert (found["fallback"], found["reason"]) == ("last_good", "model")
        assert broken.asked == MIN_RUNS
        for i in range(3):
            found = (await client.predict(ride(i), "minutes")).json
            assert (found["model_version"], found["fallback"], found["reason"]) == (first, "last_good", "breaker")
        assert broken.asked == MIN_RUNS
        assert lane.breakers["champion"] == "open"
        assert (await client.get("/health")).json["models"]["minutes"]["breakers"]["champion"] == "open"
        assert b'mainspring_breaker_open{model="minutes",variant="champion"} 1' in (await client.get("/metrics")).body
        broken.go.set()
        now_s[0] += OPEN_S[0]
        assert (await client.predict(ride(8), "minutes")).json["variant"] == "champion"
        assert lane.breakers["champion"] == "closed"

    world.run(story)


def test_a_breaker_stays_out_of_the_way_where_nobody_else_could_answer(world):
    world.live("minutes")

    async def story(gateway, client):
        broken = Failing(gateway.lanes["minutes"].served.champion)
        for i in range(MIN_RUNS + 3):
            assert (await client.predict(ride(i), "minutes")).status == 503
        assert broken.asked == MIN_RUNS + 3

    world.run(story)


def test_rows_that_break_their_own_expression_do_not_open_the_breaker():
    panel, scorer = Panel(ModelMetrics("m")), Scorer("v1", None, None)
    inputs = inputs_of(1.0)
    for reason, state in (("expression", 0), ("features", 0), ("model", 1)):
        for _ in range(2 * MIN_RUNS if state else MIN_RUNS):
            panel.heard("champion", (scorer, Outputs(inputs, [0.0], {0: (reason, "why")}, 5)), 1.0, 1)
        assert panel._metrics.variants["champion"].breaker_open == state


def inputs_of(*numbers):
    shape = len(numbers), 1
    block = np.array(numbers, np.float32).reshape(shape)
    return Inputs(("km",), block.astype(float), np.zeros(shape, np.uint8), block, np.empty((len(block), 0), object), {})


def test_rows_with_numbers_beyond_float32_do_not_open_the_breaker_and_its_neighbours_failures_do():
    panel, scorer = Panel(ModelMetrics("m")), Scorer("v1", None, None)
    odd, sound = inputs_of(np.inf, 1.0), inputs_of(1.0, 1.0)
    why = ("output", "the model gave nan")
    for inputs, failed, state in (
        (odd, {0: why}, 0),
        (odd, {0: why, 1: why}, 1),
        (sound, {0: why, 1: why}, 1),
    ):
        panel = Panel(ModelMetrics("m"))
        for _ in range(2 * MIN_RUNS):
            panel.heard("champion", (scorer, Outputs(inputs, [0.0, 0.0], failed, 5)), 1.0, 2)
        assert panel._metrics.variants["champion"].breaker_open == state


def apply(world):
    """What the definitions' file says is in force from here on."""
    world.catalog.apply_definitions(load_project(world.config.definitions).describe(), NOW, "test")


def every_run_takes_ms(monkeypatch, ms):
    """Also where two are under way at once: each thread has a clock of its own, which goes on when it is looked at."""
    clocks = defaultdict(lambda: count(0, ms * 1_000_000))
    monkeypatch.setattr("mainspring.serving.inference.perf_counter_ns", lambda: next(clocks[threading.get_ident()]))


def test_a_budget_that_is_applied_is_the_breakers_from_then_on(world, monkeypatch):
    chain = "otherwise=ms.otherwise(value=12.5)"
    world.redefine('["distance_km", "passengers"])', f'["distance_km", "passengers"], {chain})')
    world.live("minutes")
    every_run_takes_ms(monkeypatch, 10)

    async def story(gateway, client):
        async def ask(times):
            found = [(await client.predict(ride(i), "minutes")).json for i in range(times)]
            return [one.get("reason") for one in found]

        async def budget(before, after):
            world.redefine(before, after)
            apply(world)
            await gateway.reload()

        apply(world)
        await gateway.reload()
        assert await ask(MIN_RUNS + 1) == [None] * (MIN_RUNS + 1)  # 10 ms is no second
        await budget(chain, f'{chain}, latency=ms.Latency(p99="5ms")')
        assert await ask(MIN_RUNS + 1) == [None] * MIN_RUNS + ["breaker"]
        await budget('p99="5ms"', 'p99="2s"')
        assert await ask(MIN_RUNS + 1) == [None] * (MIN_RUNS + 1)
        assert gateway.lanes["minutes"].breakers["champion"] == "closed"
        await budget('p99="2s"', 'p99="6ms"')
        assert await ask(MIN_RUNS + 1) == [None] * MIN_RUNS + ["breaker"]

    world.run(story)


@pytest.mark.parametrize("is_shadow", [False, True])
def test_long_lists_do_not_open_the_breaker_of_a_model_that_keeps_its_budget_a_row(world, monkeypatch, is_shadow):
    chain = 'otherwise=ms.otherwise(value=12.5), latency=ms.Latency(p99="5ms")'
    world.redefine('["distance_km", "passengers"])', f'["distance_km", "passengers"], {chain})')
    world.live("minutes")
    if is_shadow:
        world.decide("release", "minutes", version=world.train("minutes", seed=2))
    every_run_takes_ms(monkeypatch, 10)
    role = "challenger" if is_shadow else "champion"

    async def story(gateway, client):
        lane = gateway.lanes["minutes"]
        found = (await client.predict([ride(i) for i in range(40 * MIN_RUNS)], "minutes")).json
        assert {one["variant"] for one in found} == {"champion"}
        runs = lane.metrics.variants[role]
        await until(
            lambda: runs.executions >= 2 * MIN_RUNS
        )  # the list was cut into slices, each of which took twice 5 ms
        assert lane.breakers[role] == "closed"
        assert (await client.predict(ride(), "minutes")).json["variant"] == "champion"
        for i in range(2 * MIN_RUNS):
            await client.predict([ride(i), ride(i + 100)], "minutes")  # 5 ms a row is no more than may be
        assert lane.breakers[role] == "closed"
        for i in range(8 * MIN_RUNS):
            await client.predict(ride(i), "minutes")
        await until(lambda: lane.breakers[role] == "open")

    world.run(story, LaneLimits(batch_rows=20))
