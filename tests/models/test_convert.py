"""What converts answers as its estimator does; what does not convert is refused by name."""

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, SplineTransformer, StandardScaler

from mainspring.core import PackageError
from mainspring.models import Runtime, Signature, check_outputs, convert, estimate

NUMBERS = make_column_selector(dtype_include=np.number)
TEXTS = make_column_selector(dtype_include="category")


def prepare(**encode):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = OneHotEncoder(**({"handle_unknown": "ignore"} | encode))
    return make_column_transformer((numbers, NUMBERS), (texts, TEXTS), sparse_threshold=0)


def fill_texts():
    return make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))


def checked(estimator, table, signature=None):
    signature = signature or table.signature
    runtime = Runtime(convert(estimator, signature, "m").SerializeToString(), signature)
    numbers, texts = signature.numbers_matrix(table.columns), signature.texts_matrix(table.columns)
    return check_outputs(estimator, runtime, numbers, texts, "m")


@pytest.mark.parametrize(
    "estimator",
    [
        LGBMClassifier(n_estimators=30, verbose=-1),
        LGBMClassifier(n_estimators=10, max_cat_to_onehot=50, verbose=-1),
        LGBMClassifier(n_estimators=10, boosting_type="rf", bagging_fraction=0.5, bagging_freq=1, verbose=-1),
        LGBMClassifier(n_estimators=10, use_missing=False, verbose=-1),
        make_pipeline(prepare(), LogisticRegression()),
        make_pipeline(prepare(), LGBMClassifier(n_estimators=10, verbose=-1)),
        make_pipeline(prepare(), RandomForestClassifier(5, max_depth=4, random_state=0)),
        make_pipeline(make_column_transformer((fill_texts(), TEXTS)), LogisticRegression()),
    ],
    ids=[
        "lightgbm",
        "one_against_rest",
        "rf",
        "no_missing",
        "logistic",
        "lightgbm_in_pipeline",
        "forest",
        "filled_texts",
    ],
)
def test_the_graph_answers_as_the_estimator(table, estimator):
    report = checked(estimator.fit(table.X, table.y), table)
    assert report.passed
    assert report.rows["missing"] > 0
    assert report.rows["unseen"] > 0


@pytest.mark.parametrize("objective", ["regression", "poisson", "quantile"])
def test_a_regression_answers_values(table, objective):
    y = np.abs(np.nan_to_num(table.X["f0"].to_numpy(np.float64))) * 100
    signature = Signature(table.signature.inputs, "value")
    estimator = LGBMRegressor(n_estimators=20, objective=objective, verbose=-1).fit(table.X, y)
    assert checked(estimator, table, signature).passed


def test_a_linear_regression_on_numbers_alone_needs_no_column_names(table):
    signature = Signature(table.signature.part(["f0", "f1", "whole"]).inputs, "value")
    estimator = make_pipeline(SimpleImputer(), Ridge()).fit(table.X[["f0", "f1", "whole"]], table.X["f2"])
    assert checked(estimator, table, signature).passed


def test_an_estimator_may_use_some_columns_in_an_order_of_its_own(table):
    estimator = LGBMClassifier(n_estimators=10, verbose=-1).fit(table.X[["origin", "f2", "f0"]], table.y)
    assert checked(estimator, table).passed


def test_numbers_alone_take_no_texts(table):
    estimator = LGBMClassifier(n_estimators=5, verbose=-1).fit(table.X[["f0", "f1"]], table.y)
    signature = table.signature.part(["f0", "f1"])
    runtime = Runtime(convert(estimator, signature, "m").SerializeToString(), signature)
    out = runtime.predict({"f0": [0.5, None], "f1": [np.nan, 1.0], "something_else": ["x", "y"]})
    expected = estimate(estimator, {"f0": [0.5, None], "f1": [np.nan, 1.0]}, signature)
    assert out == pytest.approx(expected, abs=1e-6)


def test_a_missing_text_is_not_the_same_as_an_unseen_one_where_the_encoder_learned_it(table):
    estimator = make_pipeline(prepare(), LogisticRegression()).fit(table.X, table.y)
    runtime = Runtime(convert(estimator, table.signature, "m").SerializeToString(), table.signature)
    row = {name: values[:1] for name, values in table.columns.items()}
    missing, unseen = runtime.predict(row | {"dest": [None]}), runtime.predict(row | {"dest": ["nowhere"]})
    assert missing != unseen
    assert missing == pytest.approx(estimate(estimator, row | {"dest": [None]}, table.signature), abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (make_pipeline(prepare(), HistGradientBoostingClassifier(max_iter=2)), "HistGradientBoostingClassifier"),
        (
            make_pipeline(make_column_transformer((SplineTransformer(), ["f0"])), LogisticRegression()),
            "SplineTransformer",
        ),
    ],
)
def test_what_cannot_be_packaged_is_refused_by_name(table, estimator, name):
    with pytest.raises(PackageError, match=rf"MS-M101.*{name}") as refused:
        convert(estimator.fit(table.X, table.y), table.signature, "late_flight")
    assert "late_flight" in str(refused.value)
    assert "LightGBM" in refused.value.hint or "LGBM" in refused.value.hint


@pytest.mark.parametrize(
    ("returned", "code"),
    [
        (None, "MS-M100"),
        (LGBMClassifier(), "MS-M100"),
        ("a model", "MS-M100"),
    ],
)
def test_what_is_no_fitted_estimator_is_refused(table, returned, code):
    with pytest.raises(PackageError, match=rf"{code}.*late_flight"):
        convert(returned, table.signature, "late_flight")


def test_a_classifier_of_other_classes_is_refused(table):
    labels = np.where(table.y, "late", "on time")
    with pytest.raises(PackageError, match="MS-M104"):
        convert(LGBMClassifier(n_estimators=2, verbose=-1).fit(table.X, labels), table.signature, "m")


def test_a_regressor_gives_no_probability(table):
    with pytest.raises(PackageError, match=r"MS-M104.*LGBMRegressor"):
        convert(LGBMRegressor(n_estimators=2, verbose=-1).fit(table.X, table.y), table.signature, "m")


def test_a_conversion_that_answers_differently_is_refused_with_the_kind_of_row(table):
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    estimator = make_pipeline(make_column_transformer((ordinal, TEXTS)), LGBMClassifier(n_estimators=10, verbose=-1))
    with pytest.raises(PackageError, match="MS-M111"):
        checked(estimator.fit(table.X, table.y), table)
