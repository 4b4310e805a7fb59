"""Output rules act on whatever is answered, in their order, and say so; the model's own output is what is judged."""

import json
from datetime import datetime

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from mainspring.definitions import Source
from mainspring.definitions.rules import at_least, at_most, bound_rules, override
from mainspring.serving.inference import Choice
from mainspring.serving.rules import Rules

from rides import NOW, logged, metric, ride  # isort: skip


class Asked(Source, time="at", name="asked"):
    x: float
    n: int | None
    at: datetime


RULES = [
    at_least(0),
    override(when=pl.col("n") > 2, value=50.0, reason="many"),
    at_most(10),
    override(when=pl.col("x") < 0, value=-1.0, reason="unknown"),
]


def plainly(output, x, n):
    """The same rules, as one would say them."""
    acted = []
    if output < 0:
        output, acted = 0.0, [*acted, "at least 0"]
    if n is not None and n > 2:
        output, acted = 50.0, [*acted, "many"]
    if output > 10:
        output, acted = 10.0, [*acted, "at most 10"]
    if x < 0:
        output, acted = -1.0, [*acted, "unknown"]
    return output, tuple(acted)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
            st.floats(-5, 5),
            st.one_of(st.none(), st.integers(0, 5)),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_rules_act_in_their_order_on_every_row_that_has_an_output(rows):
    source = Asked.definition
    rules = Rules(bound_rules(RULES, source, "regression", ""), source)
    choices = [Choice("champion", "v1", None, output) for output, _, _ in rows]
    found = rules.apply(choices, [(x, n, NOW) for _, x, n in rows], [NOW] * len(rows))
    for (output, x, n), choice in zip(rows, found, strict=True):
        assert choice.output == output
        expected = (None, ()) if output is None else plainly(output, x, n)
        assert (choice.answer, choice.rules) == expected


def test_what_a_rule_changes_is_answered_logged_and_counted_and_the_models_output_is_kept(world):
    rules = '[ms.override(when=col("passengers") > 5, value=60, reason="a bus")]'
    world.redefine('["distance_km", "passengers"])', f'["distance_km", "passengers"], rules={rules})')
    world.live("minutes")

    async def story(gateway, client):
        plain, bus = (await client.predict([ride(1), ride(2, passengers=6)], "minutes")).json
        assert "rules" not in plain
        assert (bus["prediction"], bus["rules"], bus["variant"]) == (60.0, ["a bus"], "champion")
        inputs = [
            {"name": "ride_id", "datatype": "BYTES", "shape": [1], "data": ["r1"]},
            {"name": "zone", "datatype": "BYTES", "shape": [1], "data": ["north"]},
            {"name": "distance_km", "datatype": "FP64", "shape": [1], "data": [7.5]},
            {"name": "passengers", "datatype": "INT64", "shape": [1], "data": [6]},
        ]
        answer = await client.ask("POST", "/v2/models/minutes/infer", json.dumps({"inputs": inputs}).encode())
        outputs = {one["name"]: one["data"] for one in answer.json["outputs"]}
        assert (outputs["prediction"], outputs["rules"]) == ([60.0], ["a bus"])
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_rules_total", rule="a bus") == 2

    first, second, _ = logged(world, story)
    assert (first["answered"], first["rules"]) == (None, None)
    assert (second["answered"], second["rules"]) == (60.0, "a bus")
    assert second["output"] != 60.0


def test_a_fallback_keeps_to_the_rules_too(world):
    more = "otherwise=ms.otherwise(value=-3.0), rules=[ms.at_least(0)]"
    world.redefine('["distance_km", "passengers"])', f'["distance_km", "passengers"], {more})')
    world.live("minutes")

    async def story(gateway, client):
        found = (await client.predict(ride(), "minutes", X_Deadline_Ms="0")).json
        assert (found["prediction"], found["fallback"], found["rules"]) == (0.0, "value", ["at least 0"])

    world.run(story)
