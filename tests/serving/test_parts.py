"""What a member of a composite was asked is a prediction of its own, with a latency of its own."""

from mainspring.serving.answers import Batch, batch_of
from mainspring.serving.inference import Choice
from mainspring.serving.layout import Gathered
from mainspring.serving.panel import Part, Verdict

from compositions import RIDES, both_live, compose, logged  # isort: skip

NOTHING = Gathered([(), (), ()], (), {}, (), (), {}, 0)


def answered(version, variant="champion"):
    return Choice(variant, version, None, 0.5)


def part_of(places, *choices):
    """A part of a batch of three rows, for some of them."""
    assigned = [("champion", 1.0)] * len(choices)
    verdict = Verdict(list(choices), ["u"] * len(choices), assigned)
    return Part(None, NOTHING, [0] * len(choices), places, verdict, False, {"v1": 500, "v2": 7_000})


WHOLE = Batch(
    None,
    NOTHING,
    [0] * 3,
    ["w-1", "w-2", "w-3"],
    [answered("c")] * 3,
    [1.0] * 3,
    ["u"] * 3,
    [10, 20, 30],
    [90_000] * 3,
    2,
)


def test_a_part_took_as_long_as_its_own_version_and_not_as_the_whole():
    part = part_of([0, 1, 2], answered("v1"), answered("v2"), answered("otherwise", "fallback"))
    assert batch_of(part, ["p-1", "p-2", "p-3"], WHOLE).latencies_us == [510, 7_020, 7_530]


def test_a_part_of_some_rows_keeps_its_times_and_says_whose_part_it_is_and_of_how_many_requests():
    batch = batch_of(part_of([0, 2], answered("v1"), answered("v2")).part([2]), ["p-1"], WHOLE)
    assert batch.latencies_us == [7_010]  # of a batch that begins with that row
    assert (batch.part_of, batch.requests) == (["w-1"], 2)


def test_of_an_ensemble_each_parts_latency_is_less_than_the_wholes(world):
    compose(world, 'both = ms.ensemble("both", quick, late_ride)')
    both_live(world)

    async def story(gateway, client):
        await client.predict(RIDES, "both")

    rows = logged(world, story)
    whole = {row["prediction_id"]: row["latency_us"] for row in rows if row["model"] == "both"}
    parts = [row for row in rows if row["part_of"]]
    assert len(parts) == 2 * len(RIDES)
    assert all(0 <= row["latency_us"] < whole[row["part_of"]] for row in parts)
