"""Composites of two models of rides: how tests define them, ask them and read what was logged."""

from mainspring.definitions.weights import Weights

from rides import ride  # isort: skip

QUICK = """
@ms.model(request=Ride, label=late, task="binary_classification", monitor=MONITOR, rollout=ROLLOUT,
          features=[Driver, "distance_km"]{more})
def quick(train): ...

"""
RIDES = [ride(1), ride(2, distance_km=0.5), ride(3, distance_km=30.0, driver="bob"), ride(4, distance_km=12.0)]


def compose(world, *words, quick="", more=""):
    """Add a quick model, and composites of it and the careful one."""
    text = QUICK.format(more=quick) + "\n".join(words) + more
    world.redefine("def minutes(train): ...", f"def minutes(train): ...\n{text}")


def both_live(world):
    """The versions of the quick and of the careful model."""
    return world.live("quick", 3), world.live("late_ride", 4)


def answers_of(world, model, rows=RIDES, **options):
    """What a gateway answers to rows."""

    async def story(gateway, client):
        return (await client.predict(rows, model)).json

    return world.run(story, **options)


def in_order(world):
    """What the last gateway logged, by number of prediction; an earlier one's spool comes before it."""
    rows = world.logged()
    last = rows[-1]["prediction_id"].partition("-")[0]
    mine = (row for row in rows if row["prediction_id"].startswith(f"{last}-"))
    return sorted(mine, key=lambda row: int(row["prediction_id"].rpartition("-")[2]))


def logged(world, story):
    """The prediction log after a story."""
    world.run(story, intake=True)
    return in_order(world)


def give(world, weights, intercept=0.0, composite="both", definition=None):
    """Weights for a stack of the quick and the careful model; what they are."""
    made = Weights(("quick", "late_ride"), tuple(weights), intercept, "log_odds")
    definition = definition or world.project.composites[composite].version
    world.decide("weights", composite, made.version, definition=definition, weights=made.describe())
    return made
