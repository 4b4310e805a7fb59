"""A stack answers by the weights that are in force, and its version says which."""

import json

import pytest

from compositions import RIDES, both_live, compose, give, logged  # isort: skip
from rides import ride, until  # isort: skip


def test_a_stack_answers_the_mean_until_it_has_weights_and_says_by_what_it_answers(world):
    compose(world, 'both = ms.ensemble("both", quick, late_ride, how="stack")')
    both_live(world)
    world.catalog.apply_definitions(world.project.describe(), 1, "test")
    own = world.project.composites["both"].version

    async def story(gateway, client):
        async def ask():
            (found,) = (await client.predict([RIDES[2]], "both")).json
            said = [one["prediction"] for one in found["members"].values()]
            return found["prediction"], found["model_version"], said, found["spread"]

        prediction, version, said, spread = await ask()
        assert (prediction, version) == (pytest.approx(sum(said) / 2, abs=1e-12), f"{own}-mean")
        weights = give(world, (0.75, 0.5), -0.25)
        await until(lambda: gateway.lanes["both"].served.weights is not None)  # nobody has to tell it
        prediction, version, again, spread_after = await ask()
        assert (prediction, version) == (weights.of(said), f"{own}-{weights.version}")
        assert (again, spread_after) == (said, spread)
        assert (await client.get("/health")).json["models"]["both"]["version"] == version
        other = give(world, (1.0, 0.0))
        await gateway.reload()
        assert (await ask())[:2] == (pytest.approx(said[0], rel=1e-12), f"{own}-{other.version}")
        world.decide("rollback", "both")
        await gateway.reload()
        assert (await ask())[1] == f"{own}-mean"

    rows = [row for row in logged(world, story) if row["model"] == "both"]
    assert [row["version"].rpartition("-")[2] for row in rows][::3] == ["mean", "mean"]
    assert len({row["version"] for row in rows}) == 3


def test_a_stack_without_one_of_its_members_answers_the_mean_of_the_others(world):
    compose(world, 'both = ms.ensemble("both", quick, late_ride, how="stack")')
    _, careful = both_live(world)
    give(world, (3.0, 0.0), 1.0)
    world.damage("late_ride", careful)
    own = world.project.composites["both"].version

    async def story(gateway, client):
        found = (await client.predict(ride(), "both")).json
        assert found["prediction"] == found["members"]["quick"]["prediction"]
        assert (found["model_version"], found["fallback"]) == (f"{own}-mean", "member")

    world.run(story)


def test_weights_of_another_definition_are_not_used(world):
    compose(world, 'both = ms.ensemble("both", quick, late_ride, how="stack")')
    both_live(world)
    give(world, (3.0, 0.0), definition="0123456789ab")

    async def story(gateway, client):
        assert (await client.predict(ride(), "both")).json["model_version"].endswith("-mean")

    world.run(story)


def test_an_override_of_a_member_is_weighed_like_its_answer(world):
    compose(
        world,
        'both = ms.ensemble("both", quick, late_ride, how="stack")',
        quick=', rules=[ms.override(when=col("distance_km") < 1, value=0.25, reason="next door")]',
    )
    both_live(world)
    weights = give(world, (0.75, 0.5))

    async def story(gateway, client):
        found = (await client.predict(RIDES[1], "both")).json
        careful = found["members"]["late_ride"]["prediction"]
        assert (found["prediction"], found["rules"]) == (weights.of([0.25, careful]), ["next door"])

    rows = logged(world, story)
    whole = next(row for row in rows if row["model"] == "both")
    assert whole["output"] == weights.of([output for _, _, _, output in json.loads(whole["members"])])
