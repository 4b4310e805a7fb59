"""Output rules and declared values of a composite's members: what they do to its answer, and how they are shown."""

from statistics import pstdev

import pytest

from mainspring.definitions.composition import combined
from mainspring.loop.heard import said_by

from compositions import RIDES, both_live, compose, give, in_order, logged  # isort: skip
from rides import metric, ride  # isort: skip


def test_a_member_whose_override_acted_is_sure_whatever_its_model_says(world):
    compose(
        world,
        'fast = ms.cascade("fast", quick, late_ride, sure=1.0)',
        'best = ms.cascade("best", quick, late_ride)',
        quick=', rules=[ms.at_most(0.0), ms.override(when=col("distance_km") < 1, value=0.0, reason="next door")]',
    )
    both_live(world)

    async def story(gateway, client):
        for name in ("fast", "best"):
            near, far = (await client.predict([RIDES[1], RIDES[3]], name)).json
            assert (near["prediction"], near["member"], list(near["members"])) == (0.0, "quick", ["quick"])
            assert "next door" in near["rules"]
            assert (far["member"], "rules" in far) == ("late_ride", False)  # a cap makes nobody sure

    world.run(story)


def test_rules_of_the_member_whose_declared_value_answers_act_where_no_member_was_asked(world):
    compose(
        world,
        'fast = ms.cascade("fast", late_ride, quick, sure=0.9)',
        quick=", otherwise=ms.otherwise(value=0.125),"
        ' rules=[ms.override(when=col("distance_km") < 1, value=0.0, reason="next door")]',
    )
    both_live(world)

    async def story(gateway, client):
        near, far = (await client.predict([RIDES[1], RIDES[3]], "fast", X_Deadline_Ms="0")).json
        assert (near["prediction"], near["rules"], near["reason"]) == (0.0, ["next door"], "deadline")
        assert (far["prediction"], "rules" in far) == (0.125, False)

    rows = logged(world, story)
    assert [(r["output"], r["answered"]) for r in rows] == [(0.0, 0.0), (0.125, None)]


def test_output_rules_of_a_member_act_within_a_composite_and_are_named(world):
    compose(
        world,
        'fast = ms.cascade("fast", quick, late_ride, sure=0.5001)',
        quick=', rules=[ms.override(when=col("distance_km") < 1, value=0.0, reason="next door")]',
    )
    both_live(world)

    async def story(gateway, client):
        first, second = (await client.predict(RIDES[:2], "fast")).json
        assert "rules" not in first
        assert (second["prediction"], second["rules"]) == (0.0, ["next door"])
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_rules_total", model="fast", rule="next door") == 1

    rows = logged(world, story)
    assert [(r["model"], r["answered"]) for r in rows] == [
        ("fast", None),
        ("fast", 0.0),
        ("quick", None),
        ("quick", 0.0),
    ]
    assert rows[1]["output"] == 0.0 != rows[3]["output"]  # the rule is the member's: its model is judged without it


@pytest.mark.parametrize("how", ["mean", "vote", "stack"])
def test_answer_spread_and_what_is_shown_and_logged_of_the_members_are_of_the_same_numbers_after_their_rules(
    world, how
):
    compose(
        world,
        f'both = ms.ensemble("both", quick, late_ride, how="{how}")',
        quick=', rules=[ms.override(when=col("distance_km") < 1, value=0.0, reason="next door")]',
    )
    both_live(world)
    weights = give(world, (0.75, 0.5)) if how == "stack" else None

    async def story(gateway, client):
        return (await client.predict(RIDES[1], "both")).json

    found = world.run(story, intake=True)
    answers = [one["prediction"] for one in found["members"].values()]
    assert answers[0] == 0.0 != answers[1]
    assert found["prediction"] == combined(how, answers, weights)
    assert found["spread"] == pytest.approx(pstdev(answers), rel=1e-12)
    rows = {row["model"]: row for row in in_order(world)}
    said = {name: answer for name, (_, answer) in said_by(rows["both"]["members"]).items()}
    assert list(said.values()) == answers
    assert rows["both"]["spread"] == found["spread"]
    assert rows["both"]["output"] == rows["both"]["answered"] == found["prediction"]
    assert rows["quick"]["output"] != rows["quick"]["answered"] == 0.0


def test_a_member_is_shown_as_it_answers_at_its_own_door_and_whether_it_counted(world):
    compose(
        world,
        'both = ms.ensemble("both", quick, late_ride)',
        'fast = ms.cascade("fast", late_ride, quick)',
        quick=", otherwise=ms.otherwise(value=0.875),"
        ' rules=[ms.override(when=col("distance_km") < 1, value=0.0, reason="next door")]',
    )
    quick, careful = both_live(world)

    async def whole(gateway, client):
        own = (await client.predict(RIDES[1], "quick")).json
        both = (await client.predict(RIDES[1], "both")).json["members"]
        fast = (await client.predict(RIDES[1], "fast")).json
        assert both["quick"] == {
            "prediction": 0.0,
            "model_version": own["model_version"],
            "variant": "champion",
            "rules": ["next door"],
            "counted": True,
        }
        assert both["late_ride"]["counted"]
        assert fast["member"] == "quick"
        assert {name: one["counted"] for name, one in fast["members"].items()} == {"late_ride": False, "quick": True}

    async def without_quick(gateway, client):
        own = (await client.predict(ride(1), "quick")).json
        own.pop("prediction_id")
        for name in ("both", "fast"):
            found = (await client.predict(ride(1), name)).json
            assert found["members"]["quick"] == own | {"counted": False}
            assert found["members"]["late_ride"]["counted"]
            assert found["prediction"] == found["members"]["late_ride"]["prediction"] != own["prediction"]

    async def without_any(gateway, client):
        found = (await client.predict(ride(1), "both")).json
        assert (found["prediction"], found["fallback"]) == (0.875, "value")
        assert {name: one["counted"] for name, one in found["members"].items()} == {"quick": True, "late_ride": False}

    world.run(whole)
    world.remove("quick", quick)
    world.run(without_quick)
    world.remove("late_ride", careful)
    world.run(without_any)
