"""Served, frozen and static models on the same rows, month by month."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl

from mainspring.definitions import ModelDef
from mainspring.demo.flights import ORIGIN_ZONE
from mainspring.loop.judging import served_columns
from mainspring.models import load
from mainspring.monitoring import metrics
from mainspring.training import TrainingSet


@dataclass(frozen=True)
class Month:
    """One month of flights whose outcome is known; AUC and log loss by contender."""

    month: str
    rows: int
    base_rate: float
    roc_auc: dict[str, float | None]
    log_loss: dict[str, float]


def scoreboard(model: ModelDef, matured: pl.DataFrame, first_package: Path, first_dataset: TrainingSet) -> list[Month]:
    """Score every matured prediction by what was served, by the first release and by static features.

    Args:
        model: The model.
        matured: Its matured units: served ``output``, logged ``features``, outcome ``y``.
        first_package: Package of the first release.
        first_dataset: The training set it came from.
    """
    package = load(first_package)
    rows = matured.filter(pl.col("output").is_not_null())
    columns = served_columns(package, rows["features"].to_list())
    y = rows["y"].cast(pl.Float64).to_numpy()
    contenders = {
        "served": rows["output"].to_numpy(),
        "frozen": package.runtime.predict(columns),
        "static": _static(model, first_dataset, columns),
    }
    months = rows["_time"].dt.convert_time_zone(ORIGIN_ZONE).dt.strftime("%Y-%m").to_numpy()
    board = []
    for month in sorted(set(months.tolist())):
        here = months == month
        found = {name: metrics(p[here], y[here]) for name, p in contenders.items()}
        board.append(
            Month(
                month,
                int(here.sum()),
                float(y[here].mean()),
                {name: m.roc_auc for name, m in found.items()},
                {name: m.log_loss for name, m in found.items()},
            )
        )
    return board


def _static(model: ModelDef, dataset: TrainingSet, columns: dict[str, Any]) -> np.ndarray:
    """A model of the request's own columns alone, trained on the first training set: life without history."""
    names = [f.name for f in model.features if not model.views_of(f)]
    frame = dataset.frame
    x, asked = {}, {}
    for name in names:
        if frame.schema[name] == pl.String:
            known = {text: i for i, text in enumerate(sorted(frame[name].drop_nulls().unique().to_list()))}
            x[name] = [float(known[v]) if v is not None else np.nan for v in frame[name].to_list()]
            asked[name] = [float(known[v]) if v in known else np.nan for v in columns[name]]
        else:
            x[name] = frame[name].cast(pl.Float64).fill_null(float("nan")).to_list()
            asked[name] = columns[name]
    fitted = lightgbm.LGBMClassifier(n_estimators=200, random_state=model.seed, num_threads=2, verbose=-1)
    fitted.fit(np.column_stack([x[n] for n in names]), dataset.y >= 0.5, feature_name=names)
    return np.asarray(fitted.booster_.predict(np.column_stack([asked[n] for n in names])))
