"""A row whose expression cannot be computed fails alone: for its client, in parity, in training sets and in judging."""

import contextlib
import json
import threading

import polars as pl
import pytest
from cards import DEFINITIONS, HOUR, World

from mainspring.catalog import Catalog
from mainspring.core.errors import RefusedError
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.features.parity import check
from mainspring.loop.controller import Controller
from mainspring.loop.ledger import Ledger, decision_row
from mainspring.loop.pipelines import Pipelines
from mainspring.training import Served, build, sources_of

DAY = 24 * HOUR
STRICT = DEFINITIONS.replace(
    '        "shop",\n',
    '        "shop",\n        col("amount").cast(int).alias("whole"),\n'
    '        (Card.col("sum_24h") / col("amount").cast(int)).alias("part"),\n'
    '        (col("opened_at").dt.hour().cast(float) + 0.5).alias("half"),\n',
)
SECOND = STRICT + STRICT[STRICT.index("@ms.model") :].replace("fraudulent", "careful")
GOOD = {"payment_id": "n1", "card": "c1", "shop": "bar", "amount": 5.0, "opened_at": None}
BAD = {"payment_id": "n2", "card": "c2", "shop": "bar", "amount": 1e300, "opened_at": None}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("cards"), SECOND)
    world.live()
    candidate = world.train()
    with world.log(writable=True) as log, Catalog.open(world.config.catalog_url) as catalog:
        numbers = {"version": candidate.version, "path": str(candidate.path), "view_versions": {}}
        numbers["definition"] = world.project.models["careful"].version
        for kind in ("version", "release"):
            row = decision_row(kind, f"{kind}-2", world.clock.now_us(), "careful", None, "ann", "", numbers)
            world.add(log, "_decision", world.clock.now_us(), **row)
            catalog.project([(log.last_offset(), row)])
    good, bad = world.serve(GOOD, BAD)[0]
    assert (good.status, bad.status, bad.json["code"]) == (200, 422, "MS-S106")
    with world.history() as history:
        return world, candidate.package, history.frame("_prediction").sort("request_id")


def features(world, predictions, name, value):
    """The predictions as if the refused one had been served another value of a feature."""
    place = [f.name for f in world.model.features].index(name)
    values = [json.loads(text) for text in predictions["features"]]
    values[1][place] = value
    return predictions.with_columns(features=pl.Series([json.dumps(row) for row in values]))


def compared(world, predictions):
    with world.history() as history:
        return check(world.model, predictions, history)


def test_what_neither_serving_nor_a_replay_can_compute_is_counted_and_no_difference(served):
    world, _, predictions = served
    report = compared(world, predictions)
    assert (report.predictions, report.different, report.examples, report.uncomputable) == (2, 0, (), 2)
    by_name = {f.name: (f.values, f.exact, f.uncomputable) for f in report.features}
    assert by_name["whole"] == by_name["part"] == (1, 1, 1)
    assert by_name["half"] == (2, 2, 0)  # null, and computed: of the same row
    assert report.to_dict()["uncomputable"] == 2


@pytest.mark.parametrize(
    ("change", "different"),
    [
        (lambda world, rows: features(world, rows, "whole", 3.0), {"whole": "extra"}),
        (lambda _, rows: rows.with_columns(error=pl.lit(None, pl.String)), {"whole": "unequal", "part": "unequal"}),
        (lambda _, rows: rows.with_columns(output=pl.lit(0.5)), {"whole": "unequal", "part": "unequal"}),
    ],
)
def test_what_serving_computed_and_a_replay_cannot_is_a_difference(served, change, different):
    world, _, predictions = served
    report = compared(world, change(world, predictions))
    assert {f.name: f.different for f in report.features if f.different} == dict.fromkeys(different, 1)
    assert {f.name: getattr(f, different[f.name]) for f in report.features if f.different} == dict.fromkeys(
        different, 1
    )
    assert {(e.prediction_id, e.feature) for e in report.examples} == {
        (predictions["prediction_id"][1], name) for name in different
    }


def test_what_serving_could_not_compute_and_a_replay_can_is_a_difference(served):
    world, _, predictions = served
    refused = pl.col("request_id") == "n1"
    told = predictions.filter(refused).with_columns(output=pl.lit(None, pl.Float64), error=pl.lit("expression"))
    place = [f.name for f in world.model.features].index("whole")
    values = json.loads(told["features"][0])
    values[place] = None
    report = compared(world, told.with_columns(features=pl.Series([json.dumps(values)])))
    assert {f.name: f.missing for f in report.features if f.different} == {"whole": 1}
    # Null on both sides says nothing of which it was: each that is null may be the one.
    report = compared(world, told)
    assert {f.name for f in report.features if f.unequal} >= {"half"}


def test_training_leaves_such_a_row_out_counts_it_and_says_which_expression(served):
    world, _, _ = served
    later_us = world.clock.now_us() + 2 * DAY
    built = world.dataset(later_us)
    counts = built.meta.counts
    assert counts.uncomputable == 1
    assert counts.rows + counts.immature + counts.held + counts.excluded + counts.uncomputable == counts.units
    assert counts.rows == len(built.frame)
    assert "n1" in built.frame["_unit"].to_list()
    assert "n2" not in built.frame["_unit"].to_list()
    assert [(one.name, one.rows) for one in built.meta.uncomputable] == [("whole", 1), ("part", 1)]
    assert str(built.meta.uncomputable[0]).startswith(
        "1 rows are left out, for which whole cannot be computed; strict="
    )
    again = world.dataset(later_us, reuse=world.dataset(later_us - DAY))
    assert again.frame.equals(built.frame)
    assert again.hash == built.hash
    assert again.meta.uncomputable == built.meta.uncomputable


def test_a_set_that_is_there_already_is_told_with_what_was_left_out_this_time(served, tmp_path):
    world, _, _ = served
    now_us = world.clock.now_us() + 2 * DAY
    with world.history() as history:
        frames = {name: history.frame(name) for name in sources_of(world.model)}
    without = frames | {"asked": frames["asked"].filter(pl.col("payment_id") != "n2")}
    first = build(world.model, without, tmp_path, now_us=now_us)
    second = build(world.model, frames, tmp_path, now_us=now_us)
    assert first.hash == second.hash
    assert (first.meta.counts.uncomputable, second.meta.counts.uncomputable) == (0, 1)
    assert second.meta.uncomputable != ()


def test_a_set_of_served_values_leaves_out_whom_nobody_answered(served):
    world, package, predictions = served
    later_us = world.clock.now_us() + 2 * DAY
    built = world.dataset(later_us, served=Served(predictions, {package.version: world.model.describe()}))
    assert built.frame["_unit"].to_list() == ["n1"]
    assert built.meta.counts.uncomputable == 1
    assert [one.rows for one in built.meta.uncomputable] == [1]
    assert {(f.compared, f.other_at_logged, f.other_at_request) for f in built.meta.served} == {(1, 0, 0)}
    only_bad = Served(predictions.filter(pl.col("request_id") == "n2"), {package.version: world.model.describe()})
    with pytest.raises(RefusedError, match=r"MS-T102(.|\n)*1 rows are left out"):
        world.dataset(later_us, served=only_bad)


@contextlib.contextmanager
def judging(world):
    """What a worker judges with."""
    with world.log() as log, Catalog.open(world.config.catalog_url) as catalog:
        history = History(world.project, log, Lake(world.config.lake_path))
        ledger = Ledger(world.config, catalog, history, threading.Event(), alone=True, clock=world.clock)
        parts = (world.config, world.project, world.clock, log, history, catalog, ledger, Pipelines(world.config))
        yield Controller(*parts), catalog


def judge(world, controller, at_us):
    world.clock.set(at_us)
    controller.run_due(at_us)


def test_one_refused_request_stops_neither_judging_nor_a_model_that_cannot_be_judged_the_others(served):
    world, package, _ = served
    with judging(world) as (controller, catalog):
        day_us = (world.clock.now_us() // DAY + 2) * DAY
        judge(world, controller, day_us)
        (audited,) = catalog.decisions("parity", model="fraudulent")
        assert (audited.numbers["different"], audited.numbers["uncomputable"]) == (0, 2)
        assert "2 could be computed neither then nor now" in audited.reason
        performance = catalog.decisions("performance", model="fraudulent")
        assert sum(one.numbers["rows"] for one in performance) == 1
        assert catalog.incidents() == ()

        path = catalog.champion("fraudulent").path
        away = package.path.with_name("away")
        assert world.config.located(path) == package.path
    with judging(world) as (controller, catalog):  # anew: a package once loaded is kept
        package.path.rename(away)
        before = {name: len(catalog.decisions("performance", model=name)) for name in ("fraudulent", "careful")}
        judge(world, controller, day_us + DAY)
        assert {(one.kind, one.model) for one in catalog.incidents(is_open=True)} == {
            ("judging", "fraudulent"),
            ("judging", "careful"),
        }
        judge(world, controller, day_us + DAY + HOUR)
        away.rename(package.path)
        judge(world, controller, day_us + DAY + 2 * HOUR)
        assert catalog.incidents(is_open=True) == ()
        assert {one.closing for one in catalog.incidents()} == {"fraudulent is judged again", "careful is judged again"}
        after = {name: catalog.decisions("performance", model=name) for name in before}
        assert {name: len(said) for name, said in after.items()} == {name: n + 1 for name, n in before.items()}
        assert {said[-1].at_us for said in after.values()} == {day_us + DAY}
