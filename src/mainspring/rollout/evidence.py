"""Anytime-valid evidence: e-processes and confidence sequences that may be looked at after every event.

An e-process is a nonnegative process with mean at most 1 under its null hypothesis at every stopping time, so it
reaches 1/alpha with probability at most alpha, however often it is looked at (Ville). Products overflow, so all of them
are kept as natural logarithms: evidence acts when ``log_e >= log(1 / alpha)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from mainspring.core.errors import ContractError, DefinitionError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
"""The bets that are mixed: small ones find large harm late and small harm at all, large ones find large harm soon."""


@dataclass(frozen=True, eq=False)
class PairedEvidence:
    """Running log e-values, shape (n,), after each paired unit.

    Attributes:
        log_rollback: Against "mean D <= margin": large when the challenger is shown to be worse.
        log_promotion: Against "mean D >= margin": large when the challenger is shown not to be worse by the margin.
    """

    log_rollback: FloatArray
    log_promotion: FloatArray


def paired_eprocess(
    d: ArrayLike,
    margin: float,
    bound: float,
    *,
    rollback_margin: float | None = None,
    fractions: Sequence[float] = FRACTIONS,
) -> PairedEvidence:
    """Running evidence from paired losses, for rolling back and for promoting.

    Both models score the same request, so D = loss_challenger - loss_champion is bounded by B. For each bet f the
    factors are ``1 + f (D - m) / (B + m)`` for rollback and ``1 + f (m - D) / (B - m)`` for promotion; each is at least
    1 - f and has mean at most 1 under its null. The mixture is the mean over f of the products. A statement about the
    traffic seen (arXiv 2110.00115): it may roll back alone, it may not promote alone (see `block_upper_bound`).

    Args:
        d: Differences in order of maturity, shape (n,), within [-bound, bound].
        margin: Non-inferiority margin of the promotion test, in units of the loss, 0 <= margin < bound.
        bound: B.
        rollback_margin: Harm tolerated by the rollback test; ``margin`` if None.
        fractions: The bets f, each in (0, 1).

    Raises:
        DefinitionError: ``MS-R103`` if a margin is not in [0, bound).
        ContractError: ``MS-R104`` if a difference is not finite or exceeds the bound.
    """
    tolerated = margin if rollback_margin is None else rollback_margin
    for m in (margin, tolerated):
        if not 0.0 <= m < bound:
            raise DefinitionError(
                "MS-R103",
                f"a margin of {m} cannot be tested",
                why=f"a margin lies in [0, {bound:.4g}), below the loss's bound",
            )
    x = np.asarray(d, dtype=np.float64)
    if not np.all(np.abs(x) <= bound * (1.0 + 1e-9)):  # also catches NaN
        raise ContractError(
            "MS-R104", "a paired difference of losses is missing or exceeds its bound", why=f"|D| <= {bound:.4g}"
        )
    x = np.clip(x, -bound, bound)
    return PairedEvidence(
        log_rollback=_log_mixture((x - tolerated) / (bound + tolerated), fractions),
        log_promotion=_log_mixture((margin - x) / (bound - margin), fractions),
    )


def binary_harm_eprocess(
    is_canary: ArrayLike, rho: ArrayLike, harm_ratio: float = 1.0, fractions: Sequence[float] = FRACTIONS
) -> FloatArray:
    """Running log e-value, shape (k,), against "the canary fails at most ``harm_ratio`` times as often".

    Looks at failures only. X_k = 1 if failure k is the canary's; under harm ratio r it is so with probability
    ``p_k = rho_k r / (rho_k r + 1 - rho_k)``; the factors are ``1 + (f / p_k) (X_k - p_k)``. Exact, and immune to
    changing weights and to drift common to both arms, if assignments are independent: count the first failure of each
    randomisation unit (`first_failures`), and a system's failures once per arm, worker and batch.
    (arXiv 2011.03567, 2010.09686, 2205.14762)

    Args:
        is_canary: Whose failure each was, in order, shape (k,).
        rho: Probability of assignment to the canary at each failure, in (0, 1); for ``harm_ratio`` other than 1 the
            canary's share of the units still at risk (`at_risk_share`). In shadow, where both arms answer every
            request, use one half and leave out requests on which both failed.
        harm_ratio: Tolerated ratio of failure rates, above 0.
        fractions: The bets f, each in (0, 1).
    """
    x = np.asarray(is_canary, dtype=np.float64)
    share = np.broadcast_to(np.asarray(rho, dtype=np.float64), x.shape)
    if not (np.all((share > 0.0) & (share < 1.0)) and harm_ratio > 0.0):
        raise ContractError(
            "MS-R105",
            "a failure was counted under an assignment that was not random",
            why="assignment probabilities lie strictly between 0 and 1, and the harm ratio above 0",
        )
    p = share * harm_ratio / (share * harm_ratio + 1.0 - share)
    return _log_mixture((x - p) / p, fractions)


def first_failures(units: ArrayLike) -> IntArray:
    """Indices of the first failure of each randomisation unit, in order, shape (number of units,).

    A sticky heavy user who fails a hundred times is one piece of evidence, not a hundred: counted every time, an exact
    test at .05 rejected .167 of healthy canaries.

    >>> first_failures(["ann", "bob", "ann", "cy", "bob"]).tolist()
    [0, 1, 3]
    """
    names = np.asarray(units)
    if names.size == 0:
        return np.empty(0, dtype=np.int64)
    _, first = np.unique(names, return_index=True)
    return np.sort(first).astype(np.int64)


def at_risk_share(is_canary: ArrayLike, canary_units: ArrayLike, champion_units: ArrayLike) -> FloatArray:
    """The canary's share of the units that have not failed yet, just before each first failure, shape (k,).

    Args:
        is_canary: Whose each first failure was, in order.
        canary_units: Units exposed to the canary by the time of each failure.
        champion_units: The same for the champion.
    """
    x = np.asarray(is_canary, dtype=np.float64)
    failed_canary = np.cumsum(x) - x
    failed_champion = np.cumsum(1.0 - x) - (1.0 - x)
    canary = np.asarray(canary_units, dtype=np.float64) - failed_canary
    champion = np.asarray(champion_units, dtype=np.float64) - failed_champion
    return np.asarray(canary / (canary + champion), dtype=np.float64)


def log_rate_evalue(failures: int, exposures: int, rate: float, side: Literal["below", "above"]) -> float:
    """Log e-value from counts that the true failure rate lies below (or above) ``rate``.

    A likelihood ratio against ``rate``, mixed over a Beta(1/2, 1/2) restricted to the side in question. It depends on
    the counts alone, and is anytime-valid for independent exposures against every rate on the other side.

    Args:
        failures: How many of the exposures failed.
        exposures: How many there were.
        rate: The ceiling tested, in (0, 1).
        side: "below" is evidence of health (null: rate or more), "above" evidence of harm (null: rate or less).
    """
    a, b = failures + 0.5, exposures - failures + 0.5
    cdf = special.betainc if side == "below" else special.betaincc
    inside, prior = float(cdf(a, b, rate)), float(cdf(0.5, 0.5, rate))
    if inside <= 0.0:
        return -np.inf
    log_mixture = special.betaln(a, b) + np.log(inside) - special.betaln(0.5, 0.5) - np.log(prior)
    return float(log_mixture - special.xlogy(failures, rate) - special.xlog1py(exposures - failures, -rate))


def rate_upper_bound(failures: int, exposures: int, alpha: float = 0.05) -> float:
    """Anytime-valid upper confidence bound of a failure rate: the smallest rate that the counts reject as a ceiling.

    Somewhat above Clopper-Pearson's, which holds only at a number of exposures fixed beforehand.

    >>> round(rate_upper_bound(0, 1000), 4)
    0.0038
    """
    if exposures <= 0 or failures >= exposures:
        return 1.0
    wanted = -float(np.log(alpha))

    def excess(rate: float) -> float:
        return log_rate_evalue(failures, exposures, rate, "below") - wanted

    lowest = max(failures / exposures, 1e-12)
    highest = 1.0 - 1e-12
    if excess(highest) < 0.0:
        return 1.0
    # Far from the counts the restricted mixture may underflow to no evidence: the bound is where evidence begins.
    return float(optimize.brentq(lambda rate: max(excess(rate), -1e3), lowest, highest, xtol=1e-12))


def log_sample_ratio_evalue(segments: Sequence[tuple[Sequence[int], Sequence[float]]]) -> float:
    """Log e-value against "units were assigned with the weights we set" (sample ratio mismatch).

    Dirichlet-multinomial with concentration a = 100 rho (arXiv 2011.03567). Counts restart at each change of weights
    and the e-values multiply: pooled under a ramp they would reject always. Count each unit's first exposure only.

    Args:
        segments: For each period of constant weights: units per arm, and the weights, which sum to 1.

    Raises:
        ContractError: ``MS-R106`` if weights do not sum to 1, or an arm without weight was exposed.
    """
    total = 0.0
    for counts, weights in segments:
        n, rho = np.asarray(counts, dtype=np.float64), np.asarray(weights, dtype=np.float64)
        if n.shape != rho.shape or abs(float(rho.sum()) - 1.0) > 1e-9 or np.any(n[rho <= 0.0] > 0):
            raise ContractError(
                "MS-R106",
                f"counts {list(counts)} do not belong to weights {list(weights)}",
                why="weights sum to 1, one for each arm",
            )
        n, rho = n[rho > 0.0], rho[rho > 0.0]
        a = 100.0 * rho
        log_marginal = (
            special.gammaln(100.0)
            - special.gammaln(100.0 + n.sum())
            + np.sum(special.gammaln(a + n) - special.gammaln(a))
        )
        total += float(log_marginal - np.sum(n * np.log(rho)))
    return total


def block_index(day: ArrayLike, min_units: int = 1) -> IntArray:
    """Block of each unit, shape (n,): 0, 1, … in order of day, and -1 for days that do not fill a block yet.

    A day with fewer than ``min_units`` units is joined to the days after it until there are enough; a thin rest at the
    end waits for its next day. Days are joined by their counts alone, so blocks do not depend on what is averaged over
    them, and a later day never changes an earlier block.
    """
    days, index, counts = np.unique(np.asarray(day, dtype=np.int64), return_inverse=True, return_counts=True)
    blocks, block, held = np.zeros(len(days), dtype=np.int64), 0, 0
    for i, count in enumerate(counts.tolist()):
        blocks[i] = block
        held += count
        if held >= min_units:
            block, held = block + 1, 0
    blocks[blocks == block] = -1
    return np.asarray(blocks[index], dtype=np.int64)


def day_blocks(values: ArrayLike, day: ArrayLike, min_units: int = 1) -> FloatArray:
    """Means by block of days, in order of day, shape (blocks,): see `block_index`.

    >>> day_blocks([1.0, 3.0, 5.0], [7, 7, 9]).tolist()
    [2.0, 5.0]
    """
    x, index = np.asarray(values, dtype=np.float64), block_index(day, min_units)
    x, index = x[index >= 0], index[index >= 0]
    return np.asarray(np.bincount(index, weights=x) / np.bincount(index), dtype=np.float64)


def block_upper_bound(
    block_means: ArrayLike, alpha: float = 0.05, tuned_for: int = 14, min_blocks: int = 7
) -> FloatArray:
    """Running one-sided upper confidence sequence of the mean over blocks, shape (blocks,).

    The one-sided asymptotic confidence sequence of arXiv 2103.06476 (Gaussian mixture):
    ``mean + sd sqrt(2 (t rho^2 + 1) / (t rho)^2 * log(1 + sqrt(t rho^2 + 1) / (2 alpha)))``, with rho such that it is
    tightest near ``tuned_for`` blocks. Blocks are days because a day's shock is shared by all of its labels.

    Returns:
        The bound after each block, in the units of the means; infinite before ``min_blocks`` (at least 2).
    """
    x = np.asarray(block_means, dtype=np.float64)
    t = np.arange(1, len(x) + 1, dtype=np.float64)
    mean = np.cumsum(x) / t if len(x) else x
    centred = x - (x[0] if len(x) else 0.0)  # differences to the first: the sums of squares do not cancel
    shift = np.cumsum(centred) / t
    variance = np.maximum(np.cumsum(np.square(centred)) - t * np.square(shift), 0.0) / np.maximum(t - 1.0, 1.0)
    two_log = -2.0 * np.log(2.0 * alpha)  # one side of a two-sided sequence at 2 alpha
    rho2 = (two_log + np.log(two_log + 1.0)) / tuned_for
    spread = t * rho2 + 1.0
    width = np.sqrt(2.0 * spread / (np.square(t) * rho2) * np.log1p(np.sqrt(spread) / (2.0 * alpha)))
    return np.where(t >= max(min_blocks, 2), mean + np.sqrt(variance) * width, np.inf)


def block_lower_bound(
    block_means: ArrayLike, alpha: float = 0.05, tuned_for: int = 14, min_blocks: int = 7
) -> FloatArray:
    """Running one-sided lower confidence sequence, `block_upper_bound` mirrored; -inf before ``min_blocks``."""
    return -block_upper_bound(-np.asarray(block_means, dtype=np.float64), alpha, tuned_for, min_blocks)


def _log_mixture(payoff: FloatArray, fractions: Sequence[float]) -> FloatArray:
    """Log of the mean over bets f of the running products of ``1 + f payoff``, with ``payoff >= -1``."""
    bets = np.asarray(fractions, dtype=np.float64)
    paths = np.cumsum(np.log1p(bets[:, None] * payoff[None, :]), axis=1)
    largest = paths.max(axis=0)
    return np.asarray(largest + np.log(np.mean(np.exp(paths - largest), axis=0)), dtype=np.float64)
