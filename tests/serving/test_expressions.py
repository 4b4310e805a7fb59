"""Derived and joined features, from a definitions file to an answer: what was served is what a training set holds."""

import json

import msgspec
import numpy as np
import polars as pl
import pytest
from cards import HOUR, T0, World

from mainspring.catalog import Catalog
from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.definitions.expressions import renamed
from mainspring.features import replay
from mainspring.features.moments import features_at
from mainspring.features.parity import check
from mainspring.features.request import program_of
from mainspring.loop.apply import plan_project
from mainspring.loop.lineage import trace
from mainspring.loop.workshop import Workshop
from mainspring.serving.inference import Expressions, versioned
from mainspring.training import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A world that has lived, been trained, released, and asked for three predictions in one request."""
    world = World(tmp_path_factory.mktemp("cards"))
    world.live()
    candidate = world.train()
    rows = [
        {"payment_id": "n1", "card": "c1", "shop": "bar", "amount": 61.5, "opened_at": None},
        {"payment_id": "n2", "card": "c2", "shop": "inn", "amount": 3.25, "opened_at": "2026-03-01T00:00:00Z"},
        {"payment_id": "n3", "card": "nobody", "shop": "new", "amount": 0.0, "opened_at": None},
    ]
    answers, predictions = world.serve(rows)
    return world, candidate, rows, answers[0], predictions


def test_what_was_served_is_what_a_replay_of_its_moment_gives_bit_for_bit(served):
    world, _, rows, answer, predictions = served
    assert answer.status == 200, answer.body
    with world.history() as history:
        requests = history.frame("asked").filter(pl.col("payment_id").str.starts_with("n")).sort("payment_id")
        logged = predictions.sort("request_id")
        assert logged["request_id"].to_list() == [row["payment_id"] for row in rows]
        found = features_at(
            world.model, requests, history.frame, logged["predicted_at"], known_offset=logged["folded"].to_numpy()
        )
    values = [json.loads(text) for text in logged["features"]]
    codes = [json.loads(text) if text else [0] * len(world.model.features) for text in logged["status"]]
    for place, feature in enumerate(world.model.features):
        replayed = found.columns[feature.name].to_list()
        assert [v[place] for v in values] == [None if v != v else v for v in replayed], feature.name
        assert [c[place] for c in codes] == found.status[feature.name].tolist(), feature.name


def test_a_training_set_holds_what_was_served_and_the_package_answers_the_same(served):
    world, candidate, _, answer, _ = served
    later = world.dataset(world.clock.now_us() + 2 * 24 * HOUR)
    rows = np.array([(u or "").startswith("n") for u in later.frame["_unit"].to_list()])
    assert rows.sum() == 3
    outputs = candidate.package.runtime.predict(later.columns(rows))
    by_unit = dict(zip(later.frame.filter(rows)["_unit"], np.asarray(outputs).tolist(), strict=True))
    got = {f"n{i}": one["prediction"] for i, one in enumerate(answer.json, 1)}
    assert got == by_unit


def test_features_by_hand(served):
    world, _, _, answer, predictions = served
    names = [f.name for f in world.model.features]
    row = predictions.filter(pl.col("request_id") == "n2")
    seen = dict(zip(names, json.loads(row["features"][0]), strict=True))
    now = row["predicted_at"].dt.timestamp("us")[0]
    assert seen["open_s"] == (now - T0) * (1 / 1_000_000)
    assert seen["hour"] == now // HOUR % 24
    assert seen["reversed"] == "nni"
    assert seen["known_shop"] == "INN"
    assert seen["relative"] == pytest.approx(3.25 / _mean(world, "inn", now))
    assert seen["card__busy"] in (0.0, 1.0)
    assert isinstance(seen["card__shops_1"], str)
    assert seen["card__is_loyal"] in (None, 0.0, 1.0)
    last = _paid(world).filter(pl.col("card") == "c2").sort("paid_at")
    amounts = last["amount"].drop_nulls()[-3:].to_list()
    assert [seen[f"card__amounts_{i}"] for i in (1, 2, 3)] == amounts[::-1]
    assert seen["card__step"] == amounts[-1] - amounts[-2]
    assert seen["card__last_shop"] in (None, last["shop"][-1])
    stranger = predictions.filter(pl.col("request_id") == "n3")
    seen = dict(zip(names, json.loads(stranger["features"][0]), strict=True))
    assert seen["card__share"] is None
    assert seen["known_shop"] is None
    status = answer.json[2]["status"]
    assert (status["card__share"], status["open_s"], status["amount"]) == ("missing", "missing", "present")


def _paid(world):
    with world.history() as history:
        return history.frame("paid")


def _mean(world, shop, now):
    paid = _paid(world).filter(pl.col("shop") == shop)
    at = paid["paid_at"].dt.timestamp("us")
    return paid.filter((at >= now - 24 * HOUR) & (at < now))["amount"].mean()


def test_the_baseline_reads_what_the_request_alone_tells(served):
    _, candidate, _, _, _ = served
    names = {c.name for c in candidate.package.baseline_signature.inputs}
    assert names == {"amount", "shop", "open_s", "hour", "reversed"}


def test_the_package_names_every_view_that_it_reads(served):
    _, candidate, _, _, _ = served
    assert [view["name"] for view in candidate.package.meta.views] == ["card", "shop"]


def test_a_later_set_takes_over_the_rows_that_cannot_have_changed(served):
    world, _, _, _, _ = served
    end = world.clock.now_us() + 2 * 24 * HOUR
    whole = world.dataset(end)
    first = world.dataset(T0 + 60 * HOUR)
    again = world.dataset(end, between_us=(None, T0 + 50 * HOUR), reuse=first)
    assert 100 < again.meta.reused_rows < again.meta.counts.rows
    assert again.frame.equals(whole.frame.filter(pl.col("_t") < T0 + 50 * HOUR))


def test_expressions_on_a_store_that_cannot_be_read_have_the_status_default(served):
    world, _, _, _, _ = served
    views = world.model.views
    share = next(f.expression for f in world.model.features if f.name == "relative")
    own = {c: json.dumps({"Column": versioned(v, c)}) for v in views for c in v.column_names}
    program = Expressions([renamed(share.json, own)], world.model.request, views)
    blocks = [
        (np.full((2, len(v.column_names)), np.nan), np.full((2, len(v.column_names)), 3, np.uint8)) for v in views
    ]
    row = ("n", "c1", "bar", 2.0, None, T0)
    (value,), (status,), broken = program.evaluate([row, row], np.array([T0, T0]), blocks, {})
    assert np.isnan(value).all()
    assert status.tolist() == [3, 3]
    assert broken == {}


def test_plan_names_what_polars_evaluates_and_what_it_costs(served):
    world, _, _, _, _ = served
    assert [one.name for one in program_of(world.model).interpreted] == ["reversed"]
    lines = plan_project(world.config, world.project).lines
    (slow,) = [line for line in lines if line.action == "warn" and "polars evaluates it" in line.text]
    assert "reversed" in slow.text
    assert "µs a batch" in slow.text


def test_an_expression_is_explained_by_the_values_that_it_read(served):
    world, _, _, _, predictions = served
    id = predictions.filter(pl.col("request_id") == "n2")["prediction_id"][0]
    with world.history() as history, Catalog.open(world.config.catalog_url) as catalog:
        lineage = trace(catalog, history, id)
    features = {one.name: one for one in lineage.features}
    relative = features["relative"]
    assert "card" not in relative.expression
    assert relative.inputs == {"amount": 3.25}
    (mean,) = relative.reads
    assert (mean.view, mean.key, mean.function) == ("shop", {"shop": "inn"}, "mean")
    assert mean.value == pytest.approx(3.25 / relative.value)
    assert mean.event_count > 20
    since = features["log_since"]
    assert list(since.inputs) == ["the moment"]
    assert since.reads[0].value.endswith("Z")


def served_set(world, predictions, definitions=None):
    described = {version: world.model.describe() for version in predictions["version"].unique()}
    told = Served(predictions, described if definitions is None else definitions)
    return world.dataset(world.clock.now_us() + 2 * 24 * HOUR, served=told)


def test_a_set_of_served_values_is_the_replayed_one_where_nothing_went_wrong(served):
    world, _, _, _, predictions = served
    replayed = world.dataset(world.clock.now_us() + 2 * 24 * HOUR).frame
    built = served_set(world, predictions)
    assert built.frame.equals(replayed.filter(pl.col("_unit").str.starts_with("n")))
    assert built.meta.derived == "served values"
    assert {(f.compared, f.unread, f.other_at_logged, f.other_at_request) for f in built.meta.served} == {(3, 0, 0, 0)}


def test_a_set_of_served_values_says_where_they_differ_from_a_replay(served):
    world, _, _, _, predictions = served
    names = [f.name for f in world.model.features]

    def changed(text):
        values = json.loads(text)
        values[names.index("relative")] = 7.0
        return json.dumps(values)

    codes = [0] * len(names)
    codes[names.index("card__share")] = 4
    wrong = predictions.with_columns(
        pl.when(pl.col("request_id") == "n1")
        .then(pl.col("features").map_elements(changed, pl.String))
        .otherwise("features")
        .alias("features"),
        pl.when(pl.col("request_id") == "n2").then(pl.lit(json.dumps(codes))).otherwise("status").alias("status"),
    )
    built = served_set(world, wrong)
    found = {f.name: f for f in built.meta.served}
    assert (found["relative"].compared, found["relative"].other_at_logged) == (3, 1)
    assert (found["card__share"].compared, found["card__share"].unread) == (2, 1)
    assert found["amount"].other_at_logged == 0
    assert built.frame.filter(pl.col("_unit") == "n1")["relative"][0] == 7.0
    early = predictions.with_columns(pl.lit(0).alias("folded"))
    lagging = served_set(world, early)
    by_name = {f.name: f for f in lagging.meta.served}
    assert by_name["card__sum_24h"].other_at_logged == 2  # the stranger has none either way
    assert by_name["card__sum_24h"].other_at_request == 0


def test_served_values_of_another_feature_list_are_refused_by_name(served):
    world, _, _, _, predictions = served
    before = world.model.describe()
    for one in before["features"]:
        if one["name"] == "relative":
            one["expression"] = "{}"
    before["features"] = [one for one in before["features"] if one["name"] != "hour"]
    with pytest.raises(RefusedError, match=r"MS-T107.*no prediction of model fraudulent") as refused:
        served_set(world, predictions, definitions=dict.fromkeys(predictions["version"].unique(), before))
    assert "relative, hour" in str(refused.value)
    with pytest.raises(RefusedError, match="does not know how version"):
        served_set(world, predictions, definitions={})


def test_served_values_of_another_version_of_a_view_are_not_taken(served):
    world, _, _, _, predictions = served
    before = world.model.describe()
    before["using"] = [["shop", "000000000000"]]
    with pytest.raises(RefusedError, match="relative, odd, smooth_diff, known_shop"):
        served_set(world, predictions, definitions=dict.fromkeys(predictions["version"].unique(), before))


def test_the_first_prediction_of_a_request_counts_and_others_than_the_models_do_not(served):
    world, _, _, _, predictions = served
    again = predictions.with_columns(pl.col("_offset") + 1_000, pl.lit("[]").alias("features"))
    others = predictions.with_columns(pl.lit("another").alias("model"))
    built = served_set(world, pl.concat([predictions, again, others]))
    assert built.meta.counts.rows == 3


def test_the_workshop_knows_what_each_version_was_served(served):
    world, candidate, _, _, _ = served
    now_us = world.clock.now_us() + 2 * 24 * HOUR
    with Workshop.open(world.config) as workshop:
        built = workshop.build("fraudulent", now_us, "ann", is_served=True, version=candidate.version)
        assert built.frame["_unit"].to_list() == ["n1", "n2", "n3"]
        again = workshop.build("fraudulent", now_us, "ann")
        assert (again.meta.reused_rows, again.meta.served) == (0, ())  # a set of served values is not built on
        with pytest.raises(NotFoundError, match="no version"):
            workshop.build("fraudulent", now_us, "ann", is_served=True, version="000000000000")


def test_parity_of_derived_and_joined_features_is_exact(served):
    world, _, _, _, predictions = served
    with world.history() as history:
        report = check(world.model, predictions, history)
    made = {f.name for f in world.model.features if f.view is not None or f.expression is not None}
    assert {f.name for f in report.features} == made
    assert report.predictions == 3
    assert (report.different, report.not_compared) == (0, 0)
    assert report.exact == report.values


def test_a_training_set_is_the_same_with_a_bound_on_the_memory_of_its_replay(served, monkeypatch):
    world, _, _, _, _ = served
    now_us = world.clock.now_us() + 2 * 24 * HOUR
    with Workshop.open(world.config) as workshop:
        free = [workshop.build("fraudulent", now_us, "ann", is_served=is_served).hash for is_served in (False, True)]
    dealt = []

    def too_much(layout, events):
        dealt.append((layout.view.name, events.height))
        return 1 << 60

    monkeypatch.setattr(replay, "bytes_in_memory", too_much)
    limits = msgspec.structs.replace(world.config.limits, replay_memory_bytes=67_108_864)
    with Workshop.open(msgspec.structs.replace(world.config, limits=limits)) as workshop:
        again, _ = workshop.rebuild("fraudulent", free[0])  # takes over no rows
        assert {name for name, _ in dealt} == {"card", "shop"}
        dealt.clear()
        served_again = workshop.build("fraudulent", now_us, "ann", is_served=True).hash
        assert {name for name, _ in dealt} == {"card", "shop"}
    assert [again, served_again] == free
