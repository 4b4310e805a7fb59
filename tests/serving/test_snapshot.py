import subprocess
import sys

from mainspring.features import Reader
from mainspring.serving.snapshot import load_snapshot


def load(world, before=None):
    return load_snapshot(
        world.catalog.generation(), world.catalog.routes(), world.project, before, Reader((), world.store)
    )


def roles(served):
    found = {"champion": served.champion, "challenger": served.challenger, "last_good": served.last_good}
    return {role: scorer.version for role, scorer in found.items() if scorer is not None}


def test_a_release_is_champion_then_a_second_one_is_its_shadow_and_then_has_its_share(world):
    first = world.live()
    one = load(world).models["late_ride"]
    assert (roles(one), one.weight, one.is_shadow) == ({"champion": first}, 0.0, False)
    second = world.train(seed=2)
    world.decide("release", version=second)
    two = load(world).models["late_ride"]
    assert (roles(two), two.weight, two.is_shadow) == ({"champion": first, "challenger": second}, 0.0, True)
    world.decide("stage", stage="ramp:0", weight=0.25)
    three = load(world).models["late_ride"]
    assert (three.weight, three.is_shadow) == (0.25, False)
    world.decide("promote")
    four = load(world).models["late_ride"]
    assert roles(four) == {"champion": second, "last_good": first}


def test_what_is_loaded_is_not_loaded_again(world):
    world.live()
    one = load(world)
    world.decide("release", version=world.train(seed=2))
    two = load(world, one)
    champion = str(two.models["late_ride"].route.champion_path)
    assert two.models["late_ride"].packages[champion] is one.models["late_ride"].packages[champion]


def test_a_damaged_champion_leaves_the_old_one_serving_and_is_reported(world):
    world.live()
    one = load(world)
    second = world.train(seed=2)
    world.decide("release", version=second)
    world.decide("promote")
    world.damage("late_ride", second)
    two = load(world, one)
    assert two.models["late_ride"] is one.models["late_ride"]
    (problem,) = two.problems
    assert (problem.version, problem.is_serving) == (second, True)
    assert "MS-M131" in problem.error


def test_a_damaged_challenger_is_left_out_and_takes_no_traffic(world):
    first = world.live()
    second = world.train(seed=2)
    world.decide("release", version=second)
    world.decide("stage", stage="ramp:0", weight=0.5)
    world.damage("late_ride", second)
    found = load(world)
    served = found.models["late_ride"]
    assert (roles(served), served.weight, served.is_shadow) == ({"champion": first}, 0.0, False)
    assert [p.version for p in found.problems] == [second]


def test_a_gateway_that_starts_beside_a_damaged_champion_serves_the_last_good_version(world):
    first = world.live()
    second = world.train(seed=2)
    world.decide("release", version=second)
    world.decide("promote")
    world.remove("late_ride", second)
    found = load(world)
    assert roles(found.models["late_ride"]) == {"last_good": first}
    assert [(p.version, p.is_serving) for p in found.problems] == [(second, False)]


def test_a_package_of_another_model_is_refused(world):
    version = world.train("minutes")
    path = str(world.config.packages / "minutes" / version)
    world.decide("version", version=version, path=path)
    world.decide("release", version=version)
    found = load(world)
    assert not found.models["late_ride"].answers
    assert "MS-S122" in found.problems[0].error


def test_a_model_that_the_definitions_no_longer_have_is_reported(world):
    world.live()
    del world.project.models["late_ride"]
    found = load(world)
    assert not found.models
    assert "MS-S121" in found.problems[0].error


def test_a_package_that_needs_a_column_that_requests_no_longer_have_is_refused_by_name(world):
    world.live()
    text = world.config.definitions.read_text().replace("    distance_km: Annotated[float, ms.between(0, 1e300)]\n", "")
    text = text.replace('"distance_km", ', "").replace('features=["passengers"]', 'features=["passengers"]')
    world.config.definitions.write_text(text)
    from mainspring.definitions import load_project

    world.project = load_project(world.config.definitions)
    found = load(world)
    assert not found.models["late_ride"].answers
    assert "distance_km" in found.problems[0].error


def test_a_release_from_before_a_column_of_the_request_was_renamed_goes_on(world):
    world.live()
    before = load(world)
    text = world.config.definitions.read_text()
    text = text.replace("    distance_km: Annotated[float, ", '    road_km: Annotated[float, ms.alias("distance_km"), ')
    text = text.replace('"distance_km", ', '"road_km", ').replace('["distance_km"', '["road_km"')
    world.config.definitions.write_text(text)
    from mainspring.definitions import load_project

    world.project = load_project(world.config.definitions)
    found = load(world)
    assert found.problems == ()
    assert found.models["late_ride"].champion.version == before.models["late_ride"].champion.version


def test_a_gateway_without_a_model_has_loaded_what_its_first_one_needs():
    code = """
import sys
from mainspring.definitions import Project
from mainspring.serving.snapshot import load_snapshot
assert load_snapshot(0, (), Project({}, {}, {}), None, None).models == {}
assert "mainspring.models.walk" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
