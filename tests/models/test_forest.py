"""The float32 decisions of a forest against LightGBM's float64 ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor

from mainspring.core import PackageError
from mainspring.models import Signature
from mainspring.models.forest import floor32, read, threshold32

numbers = st.floats(width=32, allow_nan=False)
finite = numbers.filter(np.isfinite).map(float)  # as LightGBM's own are
thresholds = st.floats(-1e300, 1e300) | finite | st.sampled_from([0.0, 1e-35, -1e-35, 1.0000000180025095e-35])


@given(thresholds, numbers)
def test_a_threshold_rounded_down_decides_every_float32_the_same(threshold, x):
    assert (float(x) <= threshold) == (np.float32(x) <= np.float32(floor32(threshold)))


@given(thresholds, st.integers(-3, 3))
def test_neighbours_of_a_threshold_are_decided_the_same(threshold, steps):
    with np.errstate(over="ignore"):
        x = np.float32(threshold)
        for _ in range(abs(steps)):
            x = np.nextafter(x, np.float32(np.sign(steps) * np.inf))
    assert (float(x) <= threshold) == (x <= np.float32(floor32(threshold)))


@given(thresholds, numbers | st.sampled_from([0.0, -0.0, 1e-35, -1e-35, 1e-36, -1e-36, float("inf"), float("-inf")]))
def test_values_beside_zero_and_infinity_are_read_as_lightgbm_reads_them(threshold, x):
    x = np.float32(x)
    read_as = 0.0 if abs(x) <= np.float32(1e-35) else float(np.clip(np.float64(x), -1e300, 1e300))
    assert (read_as <= threshold) == (x <= np.float32(threshold32(threshold)))


@pytest.mark.parametrize(
    ("estimator", "what"),
    [
        (LGBMRegressor(n_estimators=2, linear_tree=True, verbose=-1), "linear_tree"),
        (LGBMRegressor(n_estimators=2, reg_sqrt=True, verbose=-1), "sqrt"),
        (LGBMClassifier(n_estimators=2, zero_as_missing=True, verbose=-1), "zero_as_missing"),
    ],
)
def test_a_forest_that_cannot_be_told_as_sums_of_leaves_is_refused_by_name(table, estimator, what):
    signature = table.signature.part(["f0", "f1", "whole"])
    estimator.fit(table.X[["f0", "f1", "whole"]], table.y)
    with pytest.raises(PackageError, match=rf"MS-M102.*{type(estimator).__name__}.*{what}"):
        read(estimator, signature)


def test_columns_that_the_model_does_not_have_are_named(table):
    estimator = LGBMClassifier(n_estimators=2, verbose=-1).fit(
        table.X[["f0"]].rename(columns={"f0": "log_f0"}), table.y
    )
    with pytest.raises(PackageError, match=r"MS-M105.*log_f0"):
        read(estimator, table.signature)


def test_texts_turned_into_other_categories_are_refused(table):
    X = table.X[["origin"]].copy()
    X["origin"] = X["origin"].cat.rename_categories({"EWR": "Newark"})
    estimator = LGBMClassifier(n_estimators=2, verbose=-1).fit(X, table.y)
    signature = Signature(tuple(c for c in table.signature.inputs if c.name == "origin"), "probability")
    with pytest.raises(PackageError, match=r"MS-M102.*categories"):
        read(estimator, signature)
