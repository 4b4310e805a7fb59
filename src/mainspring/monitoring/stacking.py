"""The weights of a stack: fitted on outcomes of the past, proved on those that came after.

Members' answers are made after their training, so what they said and what became of it is fair to each of them. Weights
are fitted anew every `START_EVERY_BLOCKS` day blocks on what was mature then, and are tested from then on against what
serves: a fit never sees a row that it is tested on, and the test may be looked at every day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from mainspring.definitions.values import DAY_US
from mainspring.definitions.weights import EPS, SCALES, Weights
from mainspring.monitoring.performance import MIN_BLOCK_UNITS, START_EVERY_BLOCKS, Interval, difference_interval
from mainspring.rollout import plain_loss
from mainspring.rollout.evidence import block_index

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PRIOR_ROWS = 100.0
"""Equal weights count as if so many outcomes had said that they are best."""
MIN_FIT_ROWS = 200
MOST_FIT_ROWS = 50_000
NEWEST_STARTS = 12
"""Older fits are no longer tried: a look costs no more as the log grows."""
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Heard:
    """Matured answers of one ensemble, every member of which said something, in order of time.

    Attributes:
        said: Outputs of the members, shape (n, members).
        y: Outcomes, shape (n,).
        time_us: Moment of each prediction.
        mature_us: When each outcome became known for good.
    """

    said: FloatArray
    y: FloatArray
    time_us: IntArray
    mature_us: IntArray

    @property
    def day(self) -> IntArray:
        """Day of each prediction, whole days since 1970 UTC."""
        return self.time_us // DAY_US

    def where(self, chosen: NDArray[np.bool_]) -> Heard:
        """Some of the rows."""
        return Heard(self.said[chosen], self.y[chosen], self.time_us[chosen], self.mature_us[chosen])


@dataclass(frozen=True)
class Proof:
    """Weights that are better than what serves.

    Attributes:
        weights: As they were fitted.
        rows: On how many outcomes.
        until_us: On none that was known later; what is tested was asked at this moment or after.
        better_by: Mean loss of what serves less theirs, with its confidence sequence over day blocks.
        alpha: The level of that.
        tested: Outcomes that it rests on.
    """

    weights: Weights
    rows: int
    until_us: int
    better_by: Interval
    alpha: float
    tested: int


def weighted(said: FloatArray, weights: Weights | None) -> FloatArray:
    """What an ensemble answers, shape (n,): by its weights, or the mean; see `Weights.of`."""
    if weights is None:
        return np.asarray(said.mean(axis=1), dtype=np.float64)
    total = _scaled(said, weights.scale) @ np.asarray(weights.weights) + weights.intercept
    return np.asarray(special.expit(total) if weights.scale == "log_odds" else total, dtype=np.float64)


def fit(members: tuple[str, ...], task: str, said: FloatArray, y: FloatArray) -> Weights:
    """Non-negative weights that lose little on these outcomes, pulled towards equal ones.

    With x the members' log-odds (of values: themselves), c their mean over all rows and d = w - 1/M, the answer on
    that scale is ``mean(x) + a + sum of d (x - c)``. Minimised is the sum of the log loss (half the squared error for
    values) and of ``PRIOR_ROWS / 2 * h * (a^2 + sum of d^2 var(x))``, where h is the mean curvature of the loss at
    equal weights: what so many rows would weigh for which equal weights are best. So few outcomes mean nearly the
    mean, whatever the label's unit.

    Args:
        members: Names of the columns.
        task: Of the members.
        said: Their outputs, shape (n, members).
        y: Outcomes, shape (n,).
    """
    scale = SCALES[task]
    x = _scaled(said, scale)
    middle, equal = x.mean(axis=1), 1.0 / x.shape[1]
    centre = float(middle.mean())
    size = np.maximum(x.std(axis=0), 1e-9)
    design = np.column_stack((np.ones(len(x)), (x - centre) / size))  # each unknown is of the size of the answer
    is_binary = scale == "log_odds"
    unit = 1.0 if is_binary else max(float((y - middle).std()), 1e-9)
    chance = special.expit(middle)
    ridge = PRIOR_ROWS * (float(np.mean(chance * (1.0 - chance))) if is_binary else 1.0)

    def lost(unknown: FloatArray) -> tuple[float, FloatArray]:
        answer = middle + design @ unknown
        if is_binary:
            loss, slope = float(np.sum(np.logaddexp(0.0, answer) - y * answer)), special.expit(answer) - y
        else:
            off = (answer - y) / unit
            loss, slope = 0.5 * float(off @ off), off / unit
        pull = unknown / unit
        return loss + 0.5 * ridge * float(pull @ pull), design.T @ slope + ridge * pull / unit

    least = [(None, None), *((-equal * one, None) for one in size)]
    found = optimize.minimize(lost, np.zeros(design.shape[1]), jac=True, bounds=least, method="L-BFGS-B")
    apart = np.asarray(found.x[1:], dtype=np.float64) / size
    weights = np.maximum(apart + equal, 0.0)
    intercept = float(found.x[0] - centre * apart.sum())
    return Weights(members, tuple(float(one) for one in weights), intercept, scale)


def proofs(
    members: tuple[str, ...], task: str, heard: Heard, loss: str, serving: Weights | None, after_us: int
) -> Iterator[Proof]:
    """Every fit that may still be tried, with what it shows against what serves.

    Fit j = 1, 2, … begins at day block 7 j; its test is at level ``ALPHA / (j (j + 1))``. The levels sum to ALPHA, so
    looking at all of them every day keeps it, for each set of versions and each thing that serves.

    Args:
        members: Names of the columns.
        task: Of the members.
        heard: Answers of one set of the members' versions.
        loss: By which they are compared.
        serving: The weights that serve; None: the mean.
        after_us: Fits that began earlier are not tried: they are older than what serves, or have been taken back.
    """
    function = plain_loss(loss)
    blocks = block_index(heard.day, MIN_BLOCK_UNITS)
    last = int(blocks.max()) if len(blocks) else 0
    known = range(1, last // START_EVERY_BLOCKS + 1)
    served = function(weighted(heard.said, serving), heard.y)
    for j in known[-NEWEST_STARTS:]:
        since_us = int(heard.day[blocks == START_EVERY_BLOCKS * j].min()) * DAY_US
        past = heard.where(heard.mature_us <= since_us)
        if since_us <= after_us or len(past.y) < MIN_FIT_ROWS or past.y.min() == past.y.max():
            continue
        weights = fit(members, task, past.said[-MOST_FIT_ROWS:], past.y[-MOST_FIT_ROWS:])
        tested = heard.time_us >= since_us
        level = ALPHA / (j * (j + 1))
        after = heard.where(tested)
        lost = function(weighted(after.said, weights), after.y)
        better_by = difference_interval(served[tested], lost, after.day, alpha=level)
        yield Proof(weights, min(len(past.y), MOST_FIT_ROWS), since_us, better_by, level, len(after.y))


def proved(found: Iterator[Proof]) -> Proof | None:
    """The weights that are shown to be better, by the most that is certain; None: nothing is."""
    sure = [one for one in found if one.better_by.lower > 0.0]
    return max(sure, key=lambda one: one.better_by.lower, default=None)


def _scaled(said: FloatArray, scale: str) -> FloatArray:
    return np.asarray(special.logit(np.clip(said, EPS, 1.0 - EPS)) if scale == "log_odds" else said, dtype=np.float64)
