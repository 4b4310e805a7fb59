"""What the monitor says of one model at one boundary of time: performance on mature labels, drift of its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mainspring.catalog import Catalog
from mainspring.core.numbers import floats
from mainspring.definitions.values import DAY_US
from mainspring.loop.outcomes import Outcomes
from mainspring.models import Package
from mainspring.monitoring import (
    DriftReport,
    Reference,
    Worse,
    advantage,
    advantage_test,
    judge_window,
    metrics,
    reference,
)
from mainspring.rollout import plain_loss
from mainspring.training import Tested

REFERENCE_ROWS = 50_000


@dataclass(frozen=True, eq=False)
class Scored:
    """Matured predictions with the baseline's prediction on the same rows; arrays of shape (n,).

    Attributes:
        day: Day of the prediction, whole days since 1970 UTC.
    """

    p: NDArray[np.float64]
    baseline: NDArray[np.float64]
    y: NDArray[np.float64]
    day: NDArray[np.int64]

    def nothing(self) -> Scored:
        """The same without rows."""
        return Scored(self.p[:0], self.baseline[:0], self.y[:0], self.day[:0])

    def and_then(self, more: Scored) -> Scored:
        """These rows, then those."""
        return Scored(
            np.concatenate((self.p, more.p)),
            np.concatenate((self.baseline, more.baseline)),
            np.concatenate((self.y, more.y)),
            np.concatenate((self.day, more.day)),
        )


def score(package: Package, matured: pl.DataFrame) -> Scored:
    """Score the baseline on what a package's model was asked, from the logged feature values.

    Args:
        package: The release that answered.
        matured: Rows of ``Outcomes``; those that another version answered are left out.
    """
    rows = matured.filter((pl.col("version") == package.version) & pl.col("output").is_not_null())
    columns = served_columns(package, rows["features"].to_list())
    baseline = package.baseline.predict(columns) if rows.height else np.empty(0)
    return Scored(
        p=rows["output"].to_numpy().astype(np.float64),
        baseline=np.asarray(baseline, dtype=np.float64),
        y=rows["y"].cast(pl.Float64).to_numpy(),
        day=rows["_time"].dt.epoch("us").to_numpy() // DAY_US,
    )


class Track:
    """What one release has shown since it serves, scored once a row as labels mature."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._until_us = -(2**62)
        self._scored = Scored(np.empty(0), np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))

    def advance(self, outcomes: Outcomes, at_us: int) -> tuple[Scored, Scored]:
        """Take in what matured since the last look; returns that, and everything so far."""
        matured = outcomes.matured(self._until_us, at_us)
        self._until_us = at_us
        if matured.is_empty():
            return self._scored.nothing(), self._scored
        fresh = score(self.package, matured)
        self._scored = self._scored.and_then(fresh)
        return fresh, self._scored


def served_columns(package: Package, features: Sequence[str]) -> dict[str, Any]:
    """Logged feature values (JSON arrays in the model's order) as columns: float32 with NaN, or texts with None."""
    decoder = msgspec.json.Decoder(list[Any])
    rows = [decoder.decode(text) for text in features]
    columns: dict[str, Any] = {}
    for i, column in enumerate(package.signature.inputs):
        values = [row[i] for row in rows]
        if column.kind == "text":
            columns[column.name] = np.array(values, dtype=object)
        else:
            with np.errstate(over="ignore"):  # beyond float32's range the model saw infinity
                columns[column.name] = floats(values).astype(np.float32)
    return columns


def performance(task: str, scored: Scored, loss: str) -> dict[str, float]:
    """The numbers of a ``performance`` decision: metrics of the model, and the baseline's loss on the same rows."""
    each = plain_loss(loss)
    numbers = {
        "rows": float(len(scored.y)),
        loss: float(each(scored.p, scored.y).mean()),
        f"baseline_{loss}": float(each(scored.baseline, scored.y).mean()),
    }
    return numbers | of_chances(task, scored.p, scored.y)


def of_chances(task: str, p: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, float]:
    """Further numbers of a ``performance`` decision, where the answer is a probability: float64[n], 0 or 1 each."""
    if task != "binary_classification":
        return {}
    found = metrics(p, y)
    said = {"base_rate": found.base_rate, "brier": found.brier, "calibration_error": found.calibration_error}
    return said if found.roc_auc is None else said | {"roc_auc": found.roc_auc}


def advantage_metrics(loss: str, tested: Tested) -> dict[str, float]:
    """The advantage over the baseline on the test split, with its standard error over days, for `worse`."""
    each = plain_loss(loss)
    found = advantage(each(tested.predicted, tested.y), each(tested.baseline, tested.y), tested.time_us // DAY_US)
    return {"advantage": found.mean, "advantage_se": found.standard_error}


def worse(scored: Scored, loss: str, by: float, evaluated: Mapping[str, Any]) -> Worse:
    """Whether a release has lost its advantage over the baseline since it was evaluated."""
    each = plain_loss(loss)
    return advantage_test(
        each(scored.p, scored.y),
        each(scored.baseline, scored.y),
        scored.day,
        float(evaluated["advantage"]),
        by,
        reference_se=float(evaluated["advantage_se"]),
    )


def last_judged(catalog: Catalog, name: str, every_us: int, now_us: int) -> int:
    """The boundary at which a model or composite was judged last; without one, the last boundary before now."""
    done = catalog.decisions("performance", model=name, limit=1)
    return done[0].at_us if done else (now_us - 1) // every_us * every_us


def references(
    package: Package, features: pl.DataFrame, time_us: NDArray[np.int64], every_us: int
) -> dict[str, Reference]:
    """Reference distribution of every input of a package, from the rows it was trained on.

    Args:
        package: The release.
        features: Its training rows, at least its input columns.
        time_us: Moment of each row.
        every_us: Length of the windows that will be judged: they tell how far clean windows scatter by themselves.
    """
    step = max(1, len(time_us) // REFERENCE_ROWS)
    windows = time_us // every_us
    keep = np.isin(windows, np.unique(windows)[::step]) if step > 1 else np.ones(len(time_us), dtype=np.bool_)
    out = {}
    for column in package.signature.inputs:
        values = features[column.name].filter(keep)
        found = (
            values.to_list() if column.kind == "text" else values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        )
        out[column.name] = reference(found, windows[keep])
    return out


def drift(package: Package, references_: Mapping[str, Reference], features: Sequence[str]) -> DriftReport:
    """Judge one window of served feature values against the reference."""
    columns = served_columns(package, features)
    values = {
        name: column.tolist() if column.dtype == object else column.astype(np.float64)
        for name, column in columns.items()
    }
    return judge_window(references_, values)


def drift_numbers(report: DriftReport) -> dict[str, Any]:
    """The numbers of a ``drift`` decision: the effect and p of every flagged feature."""
    flagged = {name: {"psi": report.features[name].psi, "p": report.features[name].p} for name in report.flagged}
    return {"flagged": json.loads(json.dumps(flagged)), "e": report.e, "features": len(report.features)}
