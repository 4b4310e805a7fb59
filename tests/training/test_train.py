"""From a training set to a packaged candidate: honest numbers, deterministic versions, refusals with names."""

from dataclasses import replace

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor

import mainspring as ms
from mainspring.core import PackageError, RefusedError
from mainspring.definitions.expressions import expression
from mainspring.models import load
from mainspring.training import build, relabelled, train
from mainspring.training.evaluate import evaluate

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def candidate(world, training_set, tmp_path_factory):
    return train(world.model, training_set, tmp_path_factory.mktemp("packages"), now_us=world.end_us)


def test_a_candidate_is_packaged_checked_and_gated(world, training_set, candidate):
    assert candidate.passed
    assert candidate.metrics["roc_auc"] > 0.7
    assert candidate.metrics["log_loss"] < candidate.metrics["baseline_log_loss"]
    package = load(candidate.path)
    meta = package.meta
    assert meta.dataset == training_set.hash
    assert meta.definition_version == world.model.version
    assert [(f.view, f.feature, f.column, bool(f.expression)) for f in meta.features] == [
        ("driver", "delay_24h", "", False),
        ("driver", "trips_24h", "", False),
        ("", "", "km", False),
        ("", "", "city", False),
        ("", "", "", True),
    ]
    assert {f.view_version for f in meta.features if f.view} == {world.model.views[0].version}
    assert meta.check["max_difference"] <= 1e-5
    assert meta.check["rows"]["threshold"] > 0
    assert meta.refitted
    assert meta.trained_rows == meta.dataset_rows
    assert set(candidate.seconds) >= {"fit", "refit", "evaluate", "convert", "check", "package"}


def test_metrics_are_those_of_rows_that_the_evaluated_fit_never_saw(world, training_set, folder):
    seen = []

    def fit(data):
        seen.append(data)
        return world.model.fit(data)

    made = train(replace(world.model, fit=fit), training_set, folder, now_us=world.end_us, refit=False)
    (data,) = seen
    assert data.time_us.max() < made.split.cut_us
    tested = training_set.columns(made.split.test)
    said = made.package.runtime.predict(tested)
    assert made.metrics["log_loss"] == pytest.approx(
        evaluate("binary_classification", training_set.y[made.split.test], said)["log_loss"], abs=1e-5
    )
    assert made.package.meta.known_until_us == made.split.cut_us
    assert not made.package.meta.refitted


def test_the_refit_sees_all_rows(world, training_set, folder):
    seen = []

    def fit(data):
        seen.append(len(data.X))
        return world.model.fit(data)

    train(replace(world.model, fit=fit), training_set, folder, now_us=world.end_us)
    assert seen[1] == len(training_set.frame) > seen[0]


def test_training_twice_gives_the_same_version(world, training_set, candidate, folder):
    assert train(world.model, training_set, folder, now_us=world.end_us + DAY_US).version == candidate.version


def test_another_seed_is_another_version(world, training_set, candidate, folder):
    def fit(data):
        model = LGBMClassifier(
            n_estimators=5, subsample=0.5, subsample_freq=1, random_state=data.seed, n_jobs=1, verbose=-1
        )
        return model.fit(data.X, data.y)

    versions = {train(replace(world.model, fit=fit, seed=s), training_set, folder, now_us=0).version for s in (1, 2)}
    assert len(versions) == 2


def test_the_champion_is_asked_about_rows_it_was_not_trained_on(world, folder):
    then = world.end_us - 8 * DAY_US
    first = build(world.model, world.until(then), folder / "ds", now_us=then)
    champion = train(world.model, first, folder / "p", now_us=then)
    second = build(world.model, world.frames, folder / "ds", now_us=world.end_us, reuse=first)
    made = train(world.model, second, folder / "p", now_us=world.end_us, champion=champion.package)
    new = made.split.test & (second.time_us >= then)
    theirs = evaluate("binary_classification", second.y[new], champion.package.runtime.predict(second.columns(new)))
    assert made.metrics["champion_log_loss"] == pytest.approx(theirs["log_loss"])
    (gate,) = [g for g in made.gates if g.gate == "log_loss beats champion"]
    assert gate.bound == pytest.approx(theirs["log_loss"])


def test_a_champion_that_has_seen_all_rows_is_left_to_live_evidence(world, training_set, candidate, folder):
    made = train(world.model, training_set, folder, now_us=world.end_us, champion=candidate.package)
    (gate,) = [g for g in made.gates if g.gate == "log_loss beats champion"]
    assert gate.passed
    assert "live evidence decides" in gate.note


def test_a_model_of_corrupted_labels_does_not_pass_its_gates(world, training_set, folder):
    half = np.arange(len(training_set.y)) % 2 == 0
    corrupted = relabelled(
        training_set, np.where(half, 1 - training_set.y, training_set.y), folder / "ds", "half flipped"
    )
    made = train(world.model, corrupted, folder / "p", now_us=world.end_us)
    assert not made.passed
    assert load(made.path).meta.dataset == corrupted.hash


def test_a_regression_trains_with_a_baseline_of_its_own(world, folder):
    value = expression("delay_min", world.model.label.source.schema, of="done", where="")
    label = replace(world.model.label, value=value)

    def fit(data):
        return LGBMRegressor(n_estimators=10, num_leaves=7, n_jobs=1, verbose=-1).fit(data.X, data.y)

    model = replace(world.model, label=label, task="regression", gates=(ms.gate("rmse", beats="baseline"),), fit=fit)
    built = build(model, world.frames, folder / "ds", now_us=world.end_us)
    made = train(model, built, folder / "p", now_us=world.end_us)
    assert made.passed
    assert made.metrics["rmse"] < made.metrics["baseline_rmse"]
    assert made.package.signature.output == "value"


def test_without_request_columns_the_baseline_is_the_base_rate(world, training_set, folder):
    features = tuple(f for f in world.model.features if f.view is not None)
    model = replace(world.model, features=features)
    built = build(model, world.frames, folder / "ds", now_us=world.end_us)
    made = train(model, built, folder / "p", now_us=world.end_us)
    assert made.package.meta.baseline == "Constant"
    said = made.package.baseline.predict(built.columns(np.arange(5)))
    assert said == pytest.approx([built.meta.base_rate] * 5)


def test_a_training_function_that_fails_is_told_with_its_line(world, training_set, folder):
    def fit(data):
        raise ValueError("no such column")

    with pytest.raises(RefusedError, match=r"MS-T106(.|\n)*test_train.py:\d+(.|\n)*no such column"):
        train(replace(world.model, fit=fit), training_set, folder, now_us=0)


def test_an_estimator_that_cannot_be_packaged_is_refused_before_anything_is_written(world, training_set, folder):
    from sklearn.ensemble import HistGradientBoostingClassifier

    def fit(data):
        return HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype").fit(data.X, data.y)

    with pytest.raises(PackageError, match=r"MS-M101.*late_trip.*HistGradientBoostingClassifier"):
        train(replace(world.model, fit=fit), training_set, folder / "p", now_us=0)
    assert not (folder / "p").exists()
