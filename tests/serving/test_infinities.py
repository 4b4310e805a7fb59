"""A feature may be infinite: what divides by a count of none is. It is told from null wherever it comes by."""

import json
from math import inf

import numpy as np
import polars as pl
import pytest
from cards import DEFINITIONS, HOUR, World

from mainspring.catalog import Catalog
from mainspring.features.parity import check
from mainspring.loop.judging import drift, references, served_columns
from mainspring.loop.lineage import trace
from mainspring.models import load
from mainspring.models.package import EXAMPLES
from mainspring.training import Served

MORE = """
        (col("amount") / Card.col("count_24h")).alias("per"),
        (-col("amount") / Card.col("count_24h")).alias("less"),
"""
WITH_INFINITIES = DEFINITIONS.replace(
    '    share = col("sum_1h")',
    '    count_1h = ms.count(window="1h")\n'
    '    per_hour = col("amounts_1") / col("count_1h")\n    share = col("sum_1h")',
).replace('        "shop",\n', f'        "shop",{MORE}')
ROWS = [
    {"payment_id": "n1", "card": "nobody", "shop": "inf", "amount": 5.0, "opened_at": None},
    {"payment_id": "n2", "card": "c1", "shop": "bar", "amount": 5.0, "opened_at": None},
    {"payment_id": "n3", "card": "nobody", "shop": "-inf", "amount": 0.0, "opened_at": None},
]
ALONE = [row | {"payment_id": f"{row['payment_id']}x"} for row in ROWS]
SEEN = {
    "n1": {"per": inf, "less": -inf, "card__per_hour": None, "shop": "inf"},
    "n2": {"card__per_hour": inf, "shop": "bar"},
    "n3": {"per": None, "less": None, "card__per_hour": None, "shop": "-inf"},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A world that was asked the same in one batch, whose rows are logged together, and row by row."""
    world = World(tmp_path_factory.mktemp("cards"), WITH_INFINITIES)
    world.live()
    candidate = world.train()
    world.clock.set(world.clock.now_us() + 2 * HOUR)  # the last hour is empty
    answers, predictions = world.serve(ROWS, *ALONE)
    assert [one.status for one in answers] == [200] * 4
    statuses = [row["status"] for row in [*answers[0].json, *(one.json for one in answers[1:])]]
    return world, candidate.package, statuses, predictions.sort("request_id")


def values_of(world, predictions):
    names = [f.name for f in world.model.features]
    return {
        id: dict(zip(names, json.loads(text), strict=True))
        for id, text in predictions[["request_id", "features"]].rows()
    }


def test_an_infinite_feature_is_logged_as_a_text_and_one_that_is_nothing_as_null(served):
    world, _, statuses, predictions = served
    logged = values_of(world, predictions)
    assert len(logged) == 6
    for id, values in logged.items():
        for name, value in SEEN[id.removesuffix("x")].items():
            assert values[name] == (str(value) if value in (inf, -inf) else value), (id, name)
    assert [s["per"] for s in statuses] == ["present", "present", "missing"] * 2
    assert [s["card__per_hour"] for s in statuses] == ["missing", "present", "missing"] * 2


def test_a_replay_of_infinite_features_is_what_was_served(served):
    world, _, _, predictions = served
    with world.history() as history:
        report = check(world.model, predictions, history)
        assert (report.predictions, report.different, report.examples) == (6, 0, ())
        assert report.exact == report.values
        other = predictions.with_columns(pl.col("features").str.replace_all('"-inf",', '"inf",', literal=True))
        assert {e.feature: (e.served, e.replayed) for e in check(world.model, other, history).examples} == {
            "less": (inf, -inf)
        }
        before = predictions.with_columns(pl.col("features").str.replace_all(r'"-?inf"', "null"))
        assert {f.name for f in check(world.model, before, history).features if f.missing} == {
            "per", "less", "card__per_hour",
        }  # fmt: skip


def test_a_training_set_of_served_values_holds_the_infinite_ones(served):
    world, package, _, predictions = served
    told = Served(predictions, {package.version: world.model.describe()})
    later_us = world.clock.now_us() + 2 * 24 * HOUR
    built = world.dataset(later_us, served=told)
    for row in built.frame.to_dicts():
        for name, value in SEEN[row["_unit"].removesuffix("x")].items():
            assert row[name] == value or (value is None and np.isnan(row[name])), (row["_unit"], name)
    assert {(f.compared, f.other_at_logged, f.other_at_request) for f in built.meta.served} == {(6, 0, 0)}
    assert built.frame.equals(world.dataset(later_us).frame.filter(pl.col("_unit").str.starts_with("n")))


def test_a_prediction_is_explained_with_its_infinite_features(served):
    world, _, _, predictions = served
    with world.history() as history, Catalog.open(world.config.catalog_url) as catalog:
        lineage = trace(catalog, history, predictions["prediction_id"][0])
    found = {one.name: (one.value, one.status) for one in lineage.features}
    assert (found["per"], found["less"]) == (("inf", "present"), ("-inf", "present"))
    assert found["card__per_hour"] == (None, "missing")


def test_the_monitor_reads_the_infinite_values_that_the_model_was_served(served):
    world, package, _, predictions = served
    columns = served_columns(package, predictions["features"].to_list())
    assert columns["per"][0] == inf
    assert columns["less"][0] == -inf
    assert np.isnan(columns["per"][4])
    assert columns["shop"].tolist() == ["inf", "inf", "bar", "bar", "-inf", "-inf"]
    trained = world.dataset(world.clock.now_us() + 2 * 24 * HOUR).frame
    known = references(package, trained, trained["_t"].to_numpy(), HOUR)
    found = drift(package, known, predictions["features"].to_list()).features["per"]
    assert found.missing_share == pytest.approx(1 / 3)


def test_a_package_records_infinite_examples_and_answers_them(served):
    _, package, _, _ = served
    recorded = json.loads((package.path / EXAMPLES).read_bytes())
    place = package.signature.numbers.index("card__per_hour")
    assert "inf" in [row[place] for row in recorded["numbers"]]
    load(package.path).verify_examples()
