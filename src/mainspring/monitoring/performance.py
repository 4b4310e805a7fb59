"""Performance on mature labels: metrics, calibration, and whether a model has become worse against its baseline.

Losses move with the season (on flights the month's own base rate moves log loss from .32 to .53), so a model is never
compared with its own past loss. It is compared on the same rows with a reference: the baseline, a simple model fitted
on the same training set, part of the release and scored on every request. The model's *advantage* is baseline loss -
model loss; the model has become worse when its advantage has shrunk since evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mainspring.core.errors import ContractError
from mainspring.rollout.evidence import block_index, block_lower_bound, block_upper_bound, day_blocks
from mainspring.rollout.losses import brier, log_loss
from mainspring.training import evaluate

FloatArray = NDArray[np.float64]

START_EVERY_BLOCKS = 7
MIN_BLOCK_UNITS = 30


@dataclass(frozen=True)
class Metrics:
    """Metrics of a binary classifier on mature outcomes.

    Attributes:
        rows: Outcomes.
        base_rate: Share of positives.
        roc_auc: Rank-based area under the curve; None with one class only.
        log_loss: Mean log loss, predictions clipped to [.01, .99] as in a rollout.
        brier: Mean squared error.
        calibration_error: Mean absolute distance of bins' mean prediction and mean outcome, weighted by rows.
    """

    rows: int
    base_rate: float
    roc_auc: float | None
    log_loss: float
    brier: float
    calibration_error: float


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions in [lower, upper) (the last bin includes 1), their mean, and the mean outcome."""

    lower: float
    upper: float
    rows: int
    mean_p: float
    mean_y: float


@dataclass(frozen=True)
class Advantage:
    """Mean of baseline loss - model loss over day blocks.

    Attributes:
        mean: Mean over blocks, in units of the loss; positive where the model is better.
        standard_error: Of that mean, from the spread between blocks; 0 with a single block.
        blocks: Days, thin ones joined.
    """

    mean: float
    standard_error: float
    blocks: int


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence sequence over day blocks; infinite bounds before there are enough blocks."""

    mean: float
    lower: float
    upper: float
    blocks: int


@dataclass(frozen=True)
class Worse:
    """Whether a model has become worse against its baseline, and the numbers.

    Attributes:
        worse: The advantage has shrunk by more than ``by``, with confidence.
        shrunk_by: Estimated loss of advantage since ``since_day``.
        shrunk_by_lower: Its lower confidence bound; minus infinity before there are enough days.
        by: How much is tolerated.
        advantage: Advantage since ``since_day``.
        reference_advantage: Advantage at evaluation.
        since_day: The start, among the starts looked at, that shows the largest lower bound.
        blocks: Day blocks since then.
    """

    worse: bool
    shrunk_by: float
    shrunk_by_lower: float
    by: float
    advantage: float
    reference_advantage: float
    since_day: int
    blocks: int


def roc_auc(p: ArrayLike, y: ArrayLike) -> float | None:
    """Probability that a positive is ranked above a negative, ties one half; None with one class only.

    >>> roc_auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    found = evaluate.roc_auc(np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64))
    return None if np.isnan(found) else found


def calibration(p: ArrayLike, y: ArrayLike, bins: int = 10) -> tuple[CalibrationBin, ...]:
    """Reliability by equal-width bins of the prediction; empty bins are left out."""
    prediction, outcome = _pair(p, y)
    index = np.clip((prediction * bins).astype(np.int64), 0, bins - 1)
    rows = np.bincount(index, minlength=bins)
    sum_p, sum_y = np.bincount(index, prediction, bins), np.bincount(index, outcome, bins)
    return tuple(
        CalibrationBin(i / bins, (i + 1) / bins, int(rows[i]), float(sum_p[i] / rows[i]), float(sum_y[i] / rows[i]))
        for i in range(bins)
        if rows[i]
    )


def metrics(p: ArrayLike, y: ArrayLike) -> Metrics:
    """Metrics of predicted probabilities against outcomes (0 or 1), shape (n,) each, n at least 1.

    Raises:
        ContractError: ``MS-R203`` if the shapes differ, a value is missing, or there are no rows.
    """
    prediction, outcome = _pair(p, y)
    n = len(prediction)
    return Metrics(
        rows=n,
        base_rate=float(outcome.mean()),
        roc_auc=roc_auc(prediction, outcome),
        log_loss=float(log_loss(prediction, outcome).mean()),
        brier=float(brier(prediction, outcome).mean()),
        calibration_error=sum(one.rows / n * abs(one.mean_p - one.mean_y) for one in calibration(prediction, outcome)),
    )


def daily_metrics(p: ArrayLike, y: ArrayLike, day: ArrayLike) -> dict[int, Metrics]:
    """Metrics by day, in order of day."""
    prediction, outcome = _pair(p, y)
    days = np.asarray(day, dtype=np.int64)
    return {int(one): metrics(prediction[days == one], outcome[days == one]) for one in np.unique(days)}


def slice_metrics(p: ArrayLike, y: ArrayLike, slices: Sequence[str | None]) -> dict[str, Metrics]:
    """Metrics by the value of a slicing column; rows without a value are left out."""
    prediction, outcome = _pair(p, y)
    column = np.asarray(slices, dtype=object)
    names = sorted({str(one) for one in column.tolist() if one is not None})
    return {name: metrics(prediction[column == name], outcome[column == name]) for name in names}


def difference_interval(
    loss_a: ArrayLike,
    loss_b: ArrayLike,
    day: ArrayLike,
    *,
    alpha: float = 0.05,
    min_blocks: int = 7,
    tuned_for: int = 14,
) -> Interval:
    """Confidence sequence of the mean of ``loss_a - loss_b`` on the same rows, over day blocks, two-sided."""
    blocks = _blocks(loss_a, loss_b, day)
    if not len(blocks):
        return Interval(0.0, -np.inf, np.inf, 0)
    lower = block_lower_bound(blocks, alpha / 2.0, tuned_for, min_blocks)[-1]
    upper = block_upper_bound(blocks, alpha / 2.0, tuned_for, min_blocks)[-1]
    return Interval(float(blocks.mean()), float(lower), float(upper), len(blocks))


def advantage(model_loss: ArrayLike, baseline_loss: ArrayLike, day: ArrayLike) -> Advantage:
    """The advantage on some rows, such as the test split at evaluation: keep it with the release."""
    blocks = _blocks(baseline_loss, model_loss, day)
    if not len(blocks):
        raise ContractError("MS-R204", "no rows to measure the advantage on", why=f"a block has {MIN_BLOCK_UNITS} rows")
    error = float(blocks.std(ddof=1) / np.sqrt(len(blocks))) if len(blocks) > 1 else 0.0
    return Advantage(float(blocks.mean()), error, len(blocks))


def advantage_test(
    model_loss: ArrayLike,
    baseline_loss: ArrayLike,
    day: ArrayLike,
    reference_advantage: float,
    by: float,
    *,
    alpha: float = 0.05,
    reference_se: float = 0.0,
    min_blocks: int = 7,
) -> Worse:
    """``ms.when_worse(metric, by=by, than="baseline")``: has the advantage over the baseline shrunk by more?

    Args:
        model_loss: Losses of the model since its release, mature rows of whole days only, shape (n,).
        baseline_loss: The baseline's on the same rows.
        day: Day of each row.
        reference_advantage: The advantage at evaluation.
        by: Tolerated loss of advantage, in units of the loss.
        alpha: Probability of ever saying "worse" of a model that is not, over all looks of its life.
        reference_se: Standard error of ``reference_advantage``; half of alpha is then spent on it.
        min_blocks: Days before the first decision; a later start asks for twice as many.

    A mean since the release would hide a change under the good days before it. So a confidence sequence starts anew
    every `START_EVERY_BLOCKS` days, start j at level alpha / ((j + 1)(j + 2)); the levels sum to alpha, so looking at
    all of them every day keeps it.
    """
    blocks = _blocks(baseline_loss, model_loss, day)
    days = np.asarray(day, dtype=np.int64)
    index = block_index(days, MIN_BLOCK_UNITS)
    first_days = [int(days[index == block].min()) for block in range(len(blocks))]
    slack, spend = 0.0, alpha
    if reference_se > 0.0:
        spend = alpha / 2.0
        slack = float(stats.norm.isf(alpha / 2.0)) * reference_se
    starts = range(0, max(len(blocks), 1), START_EVERY_BLOCKS)
    best = Worse(
        worse=False,
        shrunk_by=reference_advantage - float(blocks.mean()) if len(blocks) else 0.0,
        shrunk_by_lower=-np.inf,
        by=by,
        advantage=float(blocks.mean()) if len(blocks) else reference_advantage,
        reference_advantage=reference_advantage,
        since_day=first_days[0] if first_days else 0,
        blocks=len(blocks),
    )
    for j, start in enumerate(starts):
        recent = blocks[start:]
        enough = min_blocks if j == 0 else 2 * min_blocks
        if len(recent) < enough:
            break
        upper = float(block_upper_bound(recent, spend / ((j + 1) * (j + 2)), min_blocks=enough)[-1])
        lower = reference_advantage - slack - upper
        if lower > best.shrunk_by_lower:
            now = float(recent.mean())
            best = Worse(
                lower > by,
                reference_advantage - now,
                lower,
                by,
                now,
                reference_advantage,
                first_days[start],
                len(recent),
            )
    return best


def _pair(p: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    prediction, outcome = np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if prediction.shape != outcome.shape or not len(prediction) or not np.isfinite(prediction + outcome).all():
        raise ContractError(
            "MS-R203",
            f"{prediction.shape} predictions cannot be scored on {outcome.shape} outcomes",
            why="one finite outcome for each finite prediction, and at least one",
        )
    return prediction, outcome


def _blocks(loss_a: ArrayLike, loss_b: ArrayLike, day: ArrayLike) -> FloatArray:
    d = np.asarray(loss_a, dtype=np.float64) - np.asarray(loss_b, dtype=np.float64)
    if not np.isfinite(d).all():
        raise ContractError(
            "MS-R205", "a loss is missing", why="only mature rows that both models have scored are compared"
        )
    return day_blocks(d, day, MIN_BLOCK_UNITS)
