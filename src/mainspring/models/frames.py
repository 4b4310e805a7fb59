"""Columns as the pandas frame that a training function and its estimator see."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.models.signature import Columns, Signature


def to_frame(columns: Columns, signature: Signature) -> Any:
    """The ``pandas.DataFrame`` of ``columns`` in order: float32 numbers, texts as ``category``, missing NaN.

    Texts that training did not know are kept as further categories, so that an estimator meets them as it would in
    production.

    Raises:
        PackageError: A column is not there (MS-M120).
    """
    import pandas as pd

    numbers = signature.numbers_matrix(columns)
    texts = signature.texts_matrix(columns)
    out: dict[str, Any] = {}
    at = {"number": 0, "text": 0}
    for column in signature.inputs:
        i = at[column.kind]
        at[column.kind] += 1
        if column.kind == "number":
            out[column.name] = numbers[:, i]
        else:
            out[column.name] = categorical(texts[:, i], column.categories, signature.missing_text)
    return pd.DataFrame(out)


def estimate(estimator: Any, columns: Columns, signature: Signature) -> npt.NDArray[np.float64]:
    """What the estimator itself says, shape (rows,): the probability of True, or the value."""
    frame = to_frame(columns, signature)
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and set(names) <= set(frame.columns):
        frame = frame[list(names)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unseen categories are what we ask about
        if signature.output == "probability":
            return np.asarray(estimator.predict_proba(frame), np.float64)[:, 1]
        return np.asarray(estimator.predict(frame), np.float64).reshape(-1)


def categorical(values: Any, known: tuple[str, ...], missing: str) -> Any:
    """A ``pandas.Categorical`` of ``values`` with the known categories first, then any others, sorted."""
    import pandas as pd

    codes = {text: i for i, text in enumerate(known)}
    others = sorted({v for v in values if v not in codes and v != missing})
    codes |= {text: len(known) + i for i, text in enumerate(others)}
    codes[missing] = -1
    return pd.Categorical.from_codes(
        np.fromiter((codes[v] for v in values), np.int32, len(values)), categories=[*known, *others]
    )
