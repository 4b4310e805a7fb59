"""The reference that travels with every package: what the request alone can tell, without any feature view.

Losses move with the season; compared with a plain model on the same rows, only the model's own fault remains.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.definitions import ModelDef
from mainspring.models import Constant, Signature

_ROWS = 50_000
"""Rows that are enough for a linear model of a few dozen columns."""
_CATEGORIES = 100
"""Most frequent texts of a column that get a weight of their own."""


def request_columns(model: ModelDef) -> tuple[str, ...]:
    """Names of the model's columns that come from the request alone."""
    return tuple(feature.name for feature in model.features if not model.views_of(feature))


def fit_baseline(model: ModelDef, X: Any, y: npt.NDArray[Any], signature: Signature) -> tuple[Any, Signature]:
    """Logistic regression (or ridge) on imputed, scaled and one-hot request columns; a constant when there are none.

    Args:
        model: The definition.
        X: The training split as its function sees it.
        y: Labels.
        signature: Of the model.

    Returns:
        The fitted estimator and the signature of the columns that it reads.
    """
    names = request_columns(model)
    if not names or (model.task == "binary_classification" and len(np.unique(y)) < 2):
        return Constant(float(np.mean(y))), signature.part(names) if names else signature
    part = signature.part(names)
    rows = np.unique(np.linspace(0, len(X) - 1, min(len(X), _ROWS)).astype(np.int64))
    pipeline = _pipeline(model, X.iloc[rows], part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a column without values, or one more step to convergence: it is a yardstick
        pipeline.fit(X[list(names)].iloc[rows], y[rows])
    return pipeline, part


def _pipeline(model: ModelDef, X: Any, part: Signature) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    steps: list[Any] = []
    if part.numbers:
        impute = SimpleImputer(keep_empty_features=True)
        steps.append(("numbers", make_pipeline(impute, StandardScaler()), list(part.numbers)))
    texts = [name for name in part.texts if X[name].notna().any()]
    if texts:
        kept = [np.array(sorted(X[name].value_counts().index[:_CATEGORIES]), dtype=object) for name in texts]
        encode = OneHotEncoder(categories=kept, handle_unknown="ignore", dtype=np.float32)
        steps.append(("texts", encode, texts))
    linear = (
        LogisticRegression(max_iter=200) if model.task == "binary_classification" else Ridge(random_state=model.seed)
    )
    return make_pipeline(ColumnTransformer(steps, sparse_threshold=1.0), linear)
