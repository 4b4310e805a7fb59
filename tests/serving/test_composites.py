"""Several models that answer one request: each as at its own door, from one reading, and answers say who said what."""

import asyncio
import json

import pytest

from mainspring.cli.app import run
from mainspring.definitions.composition import combined
from mainspring.features.parity import check
from mainspring.loop.lineage import trace
from mainspring.serving.shared import LaneLimits

from compositions import RIDES, answers_of, both_live, compose, give, in_order, logged  # isort: skip
from rides import NOW, Client, columns_of, held, metric, ride, until  # isort: skip


def between(world):
    """A sureness that some of the rides have, by the quick model, and some have not."""
    compose(world)
    both_live(world)
    found = sorted({max(r["prediction"], 1 - r["prediction"]) for r in answers_of(world, "quick")})
    assert len(found) > 1
    return (found[0] + found[-1]) / 2


def add(world, *words):
    world.redefine("def quick(train): ...", "def quick(train): ...\n" + "\n".join(words))


def test_a_cascade_asks_the_next_member_only_about_rows_of_which_the_one_before_is_not_sure(world):
    sure = between(world)
    add(world, f'fast = ms.cascade("fast", quick, late_ride, sure={sure!r})')
    quick, careful = answers_of(world, "quick"), answers_of(world, "late_ride")
    versions = {"quick": quick[0]["model_version"], "late_ride": careful[0]["model_version"]}

    async def story(gateway, client):
        found = (await client.predict(RIDES, "fast")).json
        text = (await client.get("/metrics")).body.decode()
        health = (await client.get("/health")).json["models"]["fast"]
        return found, text, health

    found, text, health = world.run(story, intake=True)
    unsure = [max(r["prediction"], 1 - r["prediction"]) < sure for r in quick]
    assert 0 < sum(unsure) < len(RIDES)
    expected = [c if is_unsure else q for q, c, is_unsure in zip(quick, careful, unsure, strict=True)]
    assert [r["prediction"] for r in found] == [r["prediction"] for r in expected]
    assert [r["member"] for r in found] == ["late_ride" if is_unsure else "quick" for is_unsure in unsure]
    assert {r["model_version"] for r in found} == {world.project.composites["fast"].version}
    assert {r["variant"] for r in found} == {"champion"}
    for answer, is_unsure in zip(found, unsure, strict=True):
        assert {name: one["model_version"] for name, one in answer["members"].items()} == (
            versions if is_unsure else {"quick": versions["quick"]}
        )
    asked = {"quick": len(RIDES), "late_ride": sum(unsure)}
    for name, count in asked.items():
        assert metric(text, "mainspring_members_total", model="fast", member=name, was="asked") == count
    assert metric(text, "mainspring_members_total", model="fast", member="late_ride", was="answered") == sum(unsure)
    assert set(health["breakers"]) == {"quick.champion", "late_ride.champion"}
    assert health["members"]["quick"]["champion"] == versions["quick"]

    rows = in_order(world)
    whole = [row for row in rows if row["model"] == "fast"]
    assert [(r["output"], r["member"]) for r in whole] == [(r["prediction"], r["member"]) for r in found]
    for row, answer in zip(whole, found, strict=True):
        assert row["prediction_id"] == answer["prediction_id"]
        said = {name: [v, variant, output] for name, v, variant, output in json.loads(row["members"])}
        assert said == {
            name: [one["model_version"], one["variant"], one["prediction"]] for name, one in answer["members"].items()
        }
    parts = [row for row in rows if row["model"] != "fast"]
    assert [(r["model"], r["part_of"], r["selected"]) for r in parts] == [
        ("quick", answer["prediction_id"], False) for answer in found
    ] + [("late_ride", answer["prediction_id"], True) for answer in found if answer["member"] == "late_ride"]
    assert all(json.loads(r["features"]) for r in parts)
    assert [r["ride_id"] for r in world.logged("ride")] == ["r1", "r2", "r3", "r4"]  # each once, whoever was asked


@pytest.mark.parametrize("how", ["mean", "vote"])
def test_an_ensemble_answers_with_all_of_its_members_and_says_how_far_they_lie_apart(world, how):
    compose(world, f'both = ms.ensemble("both", quick, late_ride, how="{how}")')
    both_live(world)
    pairs = [
        (a["prediction"], b["prediction"])
        for a, b in zip(answers_of(world, "quick"), answers_of(world, "late_ride"), strict=True)
    ]

    async def story(gateway, client):
        for number, (a, b) in enumerate(pairs):
            found = (await client.predict(RIDES[number], "both")).json
            wanted = (a + b) / 2 if how == "mean" else ((a >= 0.5) + (b >= 0.5)) / 2
            assert found["prediction"] == pytest.approx(wanted, abs=1e-12)
            assert found["spread"] == pytest.approx(abs(a - b) / 2, abs=1e-12)
            assert "member" not in found

    rows = logged(world, story)
    whole = [row for row in rows if row["model"] == "both"]
    assert all(row["spread"] is not None and row["member"] is None for row in whole)
    assert {row["selected"] for row in rows if row["part_of"]} == {False}


def test_the_features_of_all_members_are_read_once(world):
    compose(world, 'both = ms.ensemble("both", quick, late_ride)')
    both_live(world)
    world.fold(("ann", 7.0, 10), ("bob", 1.0, 20))

    async def story(gateway, client):
        await client.predict(RIDES, "both")
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_features_served_total", model="both", view="driver", status="present") == 8

    rows = logged(world, story)
    quick = [json.loads(r["features"])[:2] for r in rows if r["model"] == "quick"]
    careful = [json.loads(r["features"])[:2] for r in rows if r["model"] == "late_ride"]
    assert quick == careful
    assert len({r["folded"] for r in rows}) == 1


def test_a_composite_goes_on_without_a_member_that_is_broken_and_says_so(world):
    compose(
        world,
        'both = ms.ensemble("both", quick, late_ride)',
        'fast = ms.cascade("fast", quick, late_ride, sure=1.0)',
        'slow = ms.cascade("slow", late_ride, quick, sure=1.0)',
    )
    version, careful = both_live(world)
    world.damage("late_ride", careful)

    async def story(gateway, client):
        own = (await client.predict(ride(), "quick")).json["prediction"]
        for name in ("both", "fast"):
            found = (await client.predict(ride(), name)).json
            assert found["prediction"] == own
            assert (found["variant"], found["fallback"], found["reason"]) == ("fallback", "member", "not_loaded")
            assert found["members"]["quick"]["model_version"] == version
        found = (await client.predict(ride(), "slow")).json  # who was not there was to be asked first: nothing is lost
        assert (found["prediction"], found["member"], found["variant"]) == (own, "quick", "champion")
        problems = (await client.get("/health")).json["problems"]
        assert {p["model"] for p in problems} == {"late_ride", "both", "fast", "slow"}

    world.run(story)


@pytest.mark.parametrize(
    "how", ['ms.ensemble("both", quick, late_ride)', 'ms.cascade("both", quick, late_ride, sure=0.9)']
)
@pytest.mark.parametrize("value", ["", ", otherwise=ms.otherwise(value=0.125)"])
def test_of_a_composite_no_member_of_which_can_be_loaded_a_declared_value_answers_or_nobody(world, how, value):
    compose(world, f"both = {how}", quick=value)
    for model, version in zip(("quick", "late_ride"), both_live(world), strict=True):
        world.remove(model, version)

    async def story(gateway, client):
        answer = await client.predict(ride(), "both")
        ready = (await client.get("/v2/models/both/ready")).json["ready"]
        assert {p["model"] for p in (await client.get("/health")).json["problems"]} == {"quick", "late_ride", "both"}
        if value:
            found = answer.json
            assert (found["prediction"], found["fallback"], found["reason"]) == (0.125, "value", "not_loaded")
            assert ready
        else:
            assert (answer.status, answer.json["code"], ready) == (503, "MS-S125", False)

    world.run(story)


def test_a_members_own_fallbacks_work_and_its_declared_value_is_the_last_word(world):
    compose(
        world,
        'both = ms.ensemble("both", quick, late_ride)',
        'fast = ms.cascade("fast", quick, late_ride, sure=0.9)',
        quick=", otherwise=ms.otherwise(value=0.125)",
    )
    both_live(world)

    async def story(gateway, client):
        gateway._store.env.close()
        for name in ("both", "fast"):  # late_ride answers blind, the declared value of quick counts for no model
            found = (await client.predict(ride(1), name)).json
            assert found["prediction"] == found["members"]["late_ride"]["prediction"] != 0.125
        late = (await client.predict(ride(2), "fast", X_Deadline_Ms="0")).json
        assert (late["prediction"], late["fallback"], late["reason"]) == (0.125, "value", "deadline")

    world.run(story)


def test_where_no_member_can_answer_the_first_declared_value_does(world):
    compose(
        world,
        'fast = ms.cascade("fast", quick, late_ride, sure=0.9)',
        quick=", otherwise=ms.otherwise(value=0.125)",
    )
    world.redefine('.alias("place")])', '.alias("place")], otherwise=ms.otherwise(value=0.75))')
    both_live(world)

    async def without(gateway, client):
        gateway._store.env.close()
        found = (await client.predict(ride(3), "fast")).json
        assert (found["prediction"], found["model_version"]) == (0.125, "otherwise")
        assert (found["fallback"], found["reason"]) == ("value", "features")

    rows = logged(world, without)
    assert [(r["model"], r["version"], r["output"]) for r in rows] == [
        ("fast", "otherwise", 0.125),
        ("quick", "otherwise", 0.125),
        ("late_ride", "otherwise", 0.75),
    ]


def test_where_the_first_declared_value_cannot_be_computed_for_a_row_the_next_one_answers(world):
    compose(
        world,
        'fast = ms.cascade("fast", quick, late_ride, sure=0.9)',
        quick=', otherwise=ms.otherwise(value=ms.when(col("distance_km") > 1).then(0.125).otherwise(None))',
    )
    world.redefine('.alias("place")])', '.alias("place")], otherwise=ms.otherwise(value=0.75))')
    both_live(world)

    async def story(gateway, client):
        rows = (await client.predict([RIDES[1], RIDES[3]], "fast", X_Deadline_Ms="0")).json
        assert [r["prediction"] for r in rows] == [0.75, 0.125]
        assert {(r["fallback"], r["reason"], r["model_version"]) for r in rows} == {("value", "deadline", "otherwise")}
        alone = await client.predict(RIDES[1], "fast", X_Deadline_Ms="0")
        assert (alone.status, alone.json["prediction"]) == (200, 0.75)

    world.run(story)


def test_a_rollout_of_a_member_gathers_its_evidence_within_a_composite(world):
    compose(world, 'both = ms.ensemble("both", quick, late_ride)')
    both_live(world)
    second = world.train("quick", 9)
    world.decide("release", "quick", version=second)

    async def story(gateway, client):
        await client.predict(RIDES, "both")

    parts = [row for row in logged(world, story) if row["model"] == "quick"]
    assert {r["other_version"] for r in parts} == {second}  # in shadow, scored after the answer
    assert all(r["other_output"] is not None and r["rollout"] for r in parts)


def test_a_quick_estimate_is_refined_where_there_is_time_and_nobody_waits_for_another_ones_refinement(world):
    sure = between(world)
    add(world, f'fast = ms.cascade("fast", quick, late_ride, sure={sure!r})')
    own = answers_of(world, "quick")
    careful = answers_of(world, "late_ride")
    is_sure = [max(r["prediction"], 1 - r["prediction"]) >= sure for r in own]
    at, other = is_sure.index(False), is_sure.index(True)

    async def story(gateway, client):
        model = held(gateway.lanes["fast"].served.members["late_ride"].champion)
        refined = asyncio.ensure_future(client.predict(RIDES[at], "fast"))
        await until(lambda: model.asked)
        async with Client(gateway.url) as neighbour:
            found = (await neighbour.predict(RIDES[other], "fast")).json  # while the other one is being refined
            assert (found["prediction"], found["member"]) == (own[other]["prediction"], "quick")
        assert not refined.done()
        model.go.set()
        found = (await refined).json
        assert (found["prediction"], found["member"]) == (careful[at]["prediction"], "late_ride")
        assert model.asked == 1

    rows = logged(world, story)
    assert [(r["model"], r["member"]) for r in rows] == [
        ("fast", "quick"),
        ("quick", None),
        ("fast", "late_ride"),
        ("quick", None),
        ("late_ride", None),
    ]


def test_what_is_refined_apart_from_its_batch_is_logged_and_shown_with_its_own_features(world):
    sure = between(world)
    add(world, f'fast = ms.cascade("fast", quick, late_ride, sure={sure!r})')
    own = answers_of(world, "quick")
    is_sure = [max(r["prediction"], 1 - r["prediction"]) >= sure for r in own]
    at, other = is_sure.index(False), is_sure.index(True)

    async def story(gateway, client):
        world.fold((RIDES[other]["driver"], 4.0, 10))
        model = held(gateway.lanes["fast"].served.members["late_ride"].champion)
        for row in (RIDES[other], RIDES[at] | {"driver": None}):  # one after the other in one piece: they are one batch
            client.send("POST", "/predict/fast?status=1", json.dumps(row).encode())
        await until(lambda: model.asked)
        model.go.set()
        return [(await client.receive()).json for _ in range(2)]

    found = world.run(story, intake=True)
    assert [one["member"] for one in found] == ["quick", "late_ride"]
    asked = {one["prediction_id"]: row for one, row in zip(found, (RIDES[other], RIDES[at]), strict=True)}
    parts = [row for row in in_order(world) if row["part_of"]]
    assert [row["model"] for row in parts] == ["quick", "quick", "late_ride"]
    for row in parts:
        assert json.loads(row["features"])[2] == asked[row["part_of"]]["distance_km"]
    mean, known = "driver__late_mean_1h", [{"quick": "present"}, {"quick": "missing", "late_ride": "missing"}]
    assert [{name: one[mean] for name, one in answer["status"].items()} for answer in found] == known
    assert found[1]["status"]["late_ride"]["distance_km"] == "present"


def test_at_its_time_a_request_is_answered_with_the_quick_estimate_and_what_comes_later_is_told_to_nobody(world):
    compose(world, 'fast = ms.cascade("fast", quick, late_ride, within="2s")')
    both_live(world)

    async def story(gateway, client):
        lane = gateway.lanes["fast"]
        model = held(lane.served.members["late_ride"].champion)
        found = (await client.predict(RIDES[:2], "fast")).json  # the model is let go only after this answer
        assert model.asked == 1
        assert [r["member"] for r in found] == ["quick", "quick"]
        assert all(list(r["members"]) == ["quick"] and "fallback" not in r for r in found)
        assert {(r["reason"], r["variant"]) for r in found} == {("deadline", "champion")}
        body = {"inputs": columns_of(RIDES[2]), "parameters": {"timeout": 1_000_000}}
        answer = await client.ask("POST", "/v2/models/fast/infer", json.dumps(body).encode())
        outputs = {one["name"]: one["data"] for one in answer.json["outputs"]}
        assert (outputs["member"], outputs["reason"]) == (["quick"], ["deadline"])
        model.go.set()
        await until(lambda: not lane._refiner._under_way)
        found = (await client.predict(RIDES[3], "fast")).json
        assert (found["member"], "reason" in found) == ("late_ride", False)

    rows = logged(world, story)
    assert [r["error"] for r in rows if r["model"] == "fast"] == ["deadline", "deadline", "deadline", None]
    assert [r["model"] for r in rows] == [
        "fast",
        "fast",
        "quick",
        "quick",
        "fast",
        "quick",
        "fast",
        "quick",
        "late_ride",
    ]


def test_what_would_be_too_late_is_not_begun_and_is_tried_again_after_a_while(world):
    compose(world, 'fast = ms.cascade("fast", quick, late_ride, within="10s")')
    both_live(world)

    async def story(gateway, client):
        model = held(gateway.lanes["fast"].served.members["late_ride"].champion, 11_000_000)
        model.go.set()
        long = {"X_Deadline_Ms": "60000"}
        assert (await client.predict(RIDES[0], "fast", **long)).json["member"] == "quick"
        assert model.asked == 0
        found = [(await client.predict(RIDES[0], "fast", **long)).json["member"] for _ in range(20)]
        assert model.asked  # one stall does not keep it from being timed again for ever
        assert found[-1] == "late_ride"

    world.run(story)


def test_a_gateway_that_stops_answers_what_is_being_refined(world):
    compose(world, 'fast = ms.cascade("fast", quick, late_ride)')
    both_live(world)

    async def story(gateway, client):
        lane = gateway.lanes["fast"]
        model = held(lane.served.members["late_ride"].champion)
        waiting = asyncio.ensure_future(client.predict(RIDES[0], "fast"))
        await until(lambda: model.asked)
        model.go.set()
        lane.finish()
        assert (await waiting).json["member"] == "late_ride"

    world.run(story)


def test_a_request_of_many_batches_keeps_its_order_whoever_is_slow(world):
    compose(world, 'fast = ms.cascade("fast", quick, late_ride)')
    both_live(world)
    rows = [ride(i, distance_km=float(i)) for i in range(1, 40)]
    careful = answers_of(world, "late_ride", rows)

    async def story(gateway, client):
        model = held(gateway.lanes["fast"].served.members["late_ride"].champion)
        model.go.set()
        body = json.dumps({"inputs": columns_of(*rows)}).encode()
        answer = await client.ask("POST", "/v2/models/fast/infer", body)
        outputs = {one["name"]: one["data"] for one in answer.json["outputs"]}
        assert outputs["prediction"] == [r["prediction"] for r in careful]

    world.run(story, LaneLimits(batch_rows=8))


def test_a_composites_prediction_is_replayed_from_the_parts_that_its_log_entry_names(world):
    compose(
        world,
        'both = ms.ensemble("both", quick, late_ride)',
        'fast = ms.cascade("fast", quick, late_ride)',
        'poll = ms.ensemble("poll", quick, late_ride, how="vote")',
        'pile = ms.ensemble("pile", quick, late_ride, how="stack")',
    )
    both_live(world)
    weights = give(world, (0.3, 0.9), 0.1, "pile")
    world.arrive(("ann", 7.0, 10), ("bob", 1.0, 20), ("ann", 2.0, 3))

    async def story(gateway, client):
        for name in ("both", "fast", "poll", "pile"):
            await client.predict(RIDES, name)

    rows = logged(world, story)
    whole = [row for row in rows if row["members"]]
    assert len(whole) == 16
    for row in whole:
        parts = [part for part in rows if part["part_of"] == row["prediction_id"]]
        assert json.loads(row["members"]) == [[p["model"], p["version"], p["variant"], p["output"]] for p in parts]
        composite = world.project.composites[row["model"]]
        of_stack = weights if composite.how == "stack" else None
        assert row["version"] == composite.served_version(of_stack)
        assert row["output"] == combined(composite.how, [p["output"] for p in parts], of_stack)
        assert {(p["request_id"], p["folded"]) for p in parts} == {(row["request_id"], row["folded"])}
    with world.history() as history:
        predictions = history.frame("_prediction")
        for name in ("quick", "late_ride"):
            report = check(world.project.models[name], predictions, history)
            assert (report.predictions, report.unlinked, report.different) == (16, 0, 0)
            assert report.exact == report.values > 0
        found = trace(world.catalog, history, whole[-1]["prediction_id"])
    assert found.weights.subject == weights.version
    parts = [row for row in rows if row["part_of"] == whole[-1]["prediction_id"]]
    assert [(one.member, one.version, one.output, one.prediction_id) for one in found.said] == [
        (part["model"], part["version"], part["output"], part["prediction_id"]) for part in parts
    ]
    assert [one.weight for one in found.said] == [0.3, 0.9]


def test_parity_of_a_composite_is_that_of_what_its_members_were_asked_within_it(world, capsys):
    compose(world, 'both = ms.ensemble("both", quick, late_ride)')
    world.catalog.apply_definitions(world.project.describe(), NOW, "test")
    both_live(world)
    world.arrive(("ann", 7.0, 10), ("bob", 1.0, 20), ("ann", 2.0, 3))

    def parity(name, *more):
        code = run(["parity", name, "--sample", "100%", *more, "-C", str(world.root)])
        return code, capsys.readouterr().out

    async def story(gateway, client):
        await client.predict(RIDES, "both")
        await client.predict(RIDES[:1], "quick")

    logged(world, story)
    code, said = parity("both", "--json")
    found = json.loads(said)
    assert (code, found["model"], found["logged"]) == (0, "both", 4)
    counted = {name: (one["predictions"], one["unlinked"]) for name, one in found["members"].items()}
    assert counted == {"quick": (4, 0), "late_ride": (4, 0)}
    assert all(one["exact"] == one["values"] > 0 for one in found["members"].values())
    assert json.loads(parity("quick", "--json")[1])["predictions"] == 5  # at its own door as well

    world.fold(("ann", 30.0, 5))  # of which the log knows nothing
    parts = [row for row in logged(world, story) if row["part_of"] and row["model"] == "late_ride"]
    code, said = parity("both")
    assert (code, "both is a composite of quick, late_ride" in said) == (1, True)
    assert sum(part["prediction_id"] in said for part in parts) == 3  # those of ann


class Broken:
    """A runtime that fails from now on."""

    def __init__(self, scorer):
        object.__setattr__(scorer, "runtime", self)

    def predict_matrix(self, numbers, texts):
        raise RuntimeError("broken")


def test_a_member_that_is_swapped_paused_or_broken_under_load_fails_no_request_of_its_composites(world):
    compose(
        world,
        'both = ms.ensemble("both", quick, late_ride)',
        'fast = ms.cascade("fast", quick, late_ride)',
    )
    first, careful = both_live(world)
    second = world.train("quick", 5)
    answers, epoch, is_done = [], 0, False

    async def load(url, name):
        async with Client(url) as one:
            while not is_done:
                began = epoch
                answer = await one.predict(RIDES, name, X_Deadline_Ms="30000")
                answers.append((began, answer.status, answer.json))

    async def more():
        """The rows of some requests that begin from now on."""
        nonlocal epoch
        epoch += 1
        await until(lambda: sum(began == epoch for began, _, _ in answers) >= 6)
        return [row for began, _, rows in answers if began == epoch for row in rows]

    async def story(gateway, client):
        nonlocal is_done
        loaders = [asyncio.ensure_future(load(gateway.url, name)) for name in ("both", "fast")]
        try:
            for i in range(6):
                world.decide("release", "quick", version=(second, first)[i % 2])
                world.decide("promote", "quick")
                await gateway.reload()
                assert {r["members"]["quick"]["model_version"] for r in await more()} == {(second, first)[i % 2]}
            world.decide("release", "quick", version=second)
            world.decide("stage", "quick", stage="ramp_1", weight=1.0, version=second)
            await gateway.reload()
            assert {r["members"]["quick"]["variant"] for r in await more()} == {"challenger"}
            world.decide("pause", "quick")
            await gateway.reload()
            assert {r["members"]["quick"]["model_version"] for r in await more()} == {first}
            broken = world.train("late_ride", 8)
            world.damage("late_ride", broken)
            world.decide("release", "late_ride", version=broken)
            await gateway.reload()
            assert {r["members"]["late_ride"]["model_version"] for r in await more()} == {careful}
            for name in ("both", "fast"):
                Broken(gateway.lanes[name].served.members["late_ride"].champion)
            fell = await more()
            assert {(r["fallback"], r["reason"]) for r in fell} <= {("member", "model"), ("member", "breaker")}
            assert {r["members"]["late_ride"].get("prediction") for r in fell} == {None}
        finally:
            is_done = True
            await asyncio.gather(*loaders)

    world.run(story, seconds=240)
    assert {status for _, status, _ in answers} == {200}
    assert all("prediction" in row for _, _, rows in answers for row in rows)
