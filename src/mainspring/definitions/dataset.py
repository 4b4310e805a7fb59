"""``ms.Dataset``: what a training function is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Dataset:
    """The training split of a versioned training set.

    Attributes:
        X: One row a unit, one column a feature of the model, in the model's order. Numbers are float32, texts are
            pandas ``category`` with the categories of the training split, missing values NaN.
        y: The label, shape (rows,): bool for classification, float64 for regression.
        time_us: Moment of each row, int64 microseconds since 1970 UTC, rising.
        seed: Seed from the model's definition: the only source of randomness that is reproducible.
        version: Content hash of the training set.
    """

    X: pd.DataFrame
    y: np.ndarray
    time_us: np.ndarray
    seed: int
    version: str
