"""Metrics on arrays: pure, keyword-free, each with its formula's name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mainspring.definitions import METRICS

Values = npt.NDArray[np.float64]
_CLIP = 1e-15


def evaluate(task: str, y: Values, predicted: Values) -> dict[str, float]:
    """All metrics of ``task``.

    Args:
        task: ``binary_classification`` or ``regression``.
        y: Outcomes, shape (rows,): 0 or 1, or values.
        predicted: Probabilities of True, or values, shape (rows,).

    Returns:
        Metric by name. ``roc_auc`` is NaN when all outcomes are equal.
    """
    if task == "binary_classification":
        return {
            "roc_auc": roc_auc(y, predicted),
            "log_loss": log_loss(y, predicted),
            "brier": float(np.mean((predicted - y) ** 2)),
            "accuracy": float(np.mean((predicted >= 0.5) == (y >= 0.5))),
        }
    difference = predicted - y
    spread = float(np.sum((y - np.mean(y)) ** 2))
    return {
        "absolute_error": float(np.mean(np.abs(difference))),
        "rmse": float(np.sqrt(np.mean(difference**2))),
        "r2": 1.0 - float(np.sum(difference**2)) / spread if spread > 0 else float("nan"),
    }


def roc_auc(y: Values, predicted: Values) -> float:
    """Area under the ROC curve: the Mann–Whitney statistic, ties counted as one half.

    >>> roc_auc(np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.1, 0.3]))
    0.75
    """
    positive = y >= 0.5
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        return float("nan")
    _, group, counts = np.unique(predicted, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[group]
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def log_loss(y: Values, predicted: Values) -> float:
    """Mean of −ln of the probability given to what happened; probabilities are clipped to [1e-15, 1 − 1e-15]."""
    p = np.clip(predicted, _CLIP, 1 - _CLIP)
    return float(-np.mean(np.where(y >= 0.5, np.log(p), np.log1p(-p))))


def better(task: str, metric: str, value: float, than: float) -> bool:
    """Whether ``value`` of ``metric`` is strictly better ``than`` another; NaN never is."""
    return (value - than) * METRICS[task][metric] > 0
