"""The check finds the mistakes that conversions make."""

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mainspring.core import PackageError
from mainspring.models import Runtime, Signature, check_outputs, convert
from mainspring.models import forest as forests
from mainspring.models.forest import read
from mainspring.models.graph import forest_graph
from mainspring.models.thresholds import beside_thresholds


@pytest.fixture(scope="module")
def fitted(table):
    return LGBMClassifier(n_estimators=30, verbose=-1).fit(table.X, table.y)


def matrices(table):
    return table.signature.numbers_matrix(table.columns), table.signature.texts_matrix(table.columns)


def check(table, fitted, graph):
    return check_outputs(fitted, Runtime(graph.SerializeToString(), table.signature), *matrices(table), "m")


def test_a_faithful_graph_passes_on_every_kind_of_row(table, fitted):
    report = check(table, fitted, convert(fitted, table.signature, "m"))
    assert report.passed
    assert set(report.rows) == {"sample", "missing", "unseen", "category", "threshold"}
    assert report.max_difference < 1e-6


def test_trees_that_found_no_split_are_packaged_too(table):
    stump = LGBMClassifier(n_estimators=2, min_child_samples=10**6, verbose=-1).fit(table.X, table.y)
    report = check(table, stump, convert(stump, table.signature, "m"))
    assert report.passed
    assert "threshold" not in report.rows


def test_thresholds_rounded_to_the_nearest_float32_are_found(table, fitted, monkeypatch):
    monkeypatch.setattr(forests, "floor32", lambda t: float(np.float32(min(t, 3e38))))
    graph = forest_graph(read(fitted, table.signature), table.signature)
    with pytest.raises(PackageError, match=r"MS-M111.*threshold"):
        check(table, fitted, graph)


def test_missing_values_sent_to_the_wrong_side_are_found(table, fitted):
    graph = convert(fitted, table.signature, "m")
    (node,) = (n for n in graph.graph.node if n.op_type == "TreeEnsembleRegressor")
    (sides,) = (a for a in node.attribute if a.name == "nodes_missing_value_tracks_true")
    sides.ints[:] = [1 - side for side in sides.ints]
    with pytest.raises(PackageError, match="MS-M111"):
        check(table, fitted, graph)


def test_one_wrong_category_is_found(table, fitted):
    graph = convert(fitted, table.signature, "m")
    (encoder,) = (n for n in graph.graph.node if n.op_type == "LabelEncoder" and "text_4" in n.input)
    (values,) = (a for a in encoder.attribute if a.name == "values_int64s")
    values.ints[7], values.ints[8] = values.ints[8], values.ints[7]
    with pytest.raises(PackageError, match="MS-M111"):
        check(table, fitted, graph)


def test_rows_beside_a_threshold_reach_its_split(table, fitted):
    forest = read(fitted, table.signature)
    numbers, _ = beside_thresholds(forest, table.signature, *matrices(table))
    asked = {(i, float(v)) for i in range(numbers.shape[1]) for v in numbers[:, i]}
    splits = [(n.feature, n.threshold) for tree in forest.trees for n in tree if n.left >= 0 and n.members is None]
    assert splits
    for feature, threshold in splits:
        column = table.signature.numbers.index(forest.columns[feature])
        below = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
        assert {(column, threshold), (column, below)} <= asked


def test_an_estimator_that_cannot_take_missing_numbers_is_refused_with_the_column(table):
    estimator = LogisticRegression().fit(table.X[["f0", "f2"]], table.y)
    signature = table.signature.part(["f0", "f2"])
    runtime = Runtime(convert(estimator, signature, "m").SerializeToString(), signature)
    numbers = signature.numbers_matrix(table.columns)
    with pytest.raises(PackageError, match=r"MS-M110(.|\n)*f0(.|\n)*SimpleImputer"):
        check_outputs(estimator, runtime, numbers, signature.texts_matrix(table.columns), "m")


def test_a_column_that_can_never_be_missing_is_not_asked_to_be(table):
    estimator = LogisticRegression().fit(table.X[["f0", "f2"]], table.y)
    inputs = tuple(
        type(c)(c.name, c.kind, c.categories, nullable=False) for c in table.signature.part(["f0", "f2"]).inputs
    )
    signature = Signature(inputs, "probability")
    runtime = Runtime(convert(estimator, signature, "m").SerializeToString(), signature)
    numbers = signature.numbers_matrix(table.columns)
    assert check_outputs(estimator, runtime, numbers, signature.texts_matrix(table.columns), "m").passed


def test_an_encoder_that_fails_on_unseen_texts_is_refused(table):
    signature = table.signature.part(["origin"])
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(table.X[["origin"]], table.y)
    runtime = Runtime(convert(estimator, signature, "m").SerializeToString(), signature)
    texts = signature.texts_matrix(table.columns)
    with pytest.raises(PackageError, match=r"MS-M110(.|\n)*unseen(.|\n)*origin"):
        check_outputs(estimator, runtime, np.empty((len(texts), 0), np.float32), texts, "m")
