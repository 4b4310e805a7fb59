"""A small table with what makes packaging hard: missing numbers and texts, many categories, zeros."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mainspring.models import InputColumn, Signature

CATEGORIES = {"dest": tuple(f"C{i:02d}" for i in range(40)), "origin": ("EWR", "JFK", "LGA")}


@dataclass
class Table:
    """Training rows as a training function sees them, and as production asks."""

    X: Any
    y: Any
    signature: Signature
    columns: dict[str, Any]


@pytest.fixture(scope="session")
def table() -> Table:
    r = np.random.default_rng(0)
    n = 2_000
    X = pd.DataFrame({f"f{i}": r.normal(size=n).astype(np.float32) for i in range(3)})
    X.loc[::7, "f1"] = np.nan
    X["whole"] = r.integers(-2, 3, n).astype(np.float32)
    codes = r.integers(-1, 40, n)
    X["dest"] = pd.Categorical.from_codes(codes, categories=CATEGORIES["dest"])
    X["origin"] = pd.Categorical.from_codes(r.integers(-1, 3, n), categories=CATEGORIES["origin"])
    score = X["f0"] + np.sin(codes) + np.nan_to_num(X["f1"]) * X["whole"]
    y = (score + r.normal(size=n) > 0).to_numpy()
    inputs = tuple(InputColumn(c, "text" if c in CATEGORIES else "number", CATEGORIES.get(c, ())) for c in X.columns)
    columns = {c: X[c].to_numpy() for c in X.columns if c not in CATEGORIES}
    for c in CATEGORIES:
        columns[c] = np.array([None if pd.isna(v) else v for v in X[c].astype(object)], dtype=object)
    return Table(X, y, Signature(inputs, "probability"), columns)
