"""The published error rates of rollout evidence and drift, over many seeds: type I at most alpha + 3 standard errors.

Each line is the share of simulated runs in which something acted although nothing was wrong, looking after every event.
Its spread is the standard error of alpha at this number of seeds, its ratio alpha over the rate. Lines named "naive"
are the same runs judged as is usual, to show what the method is for; nothing is required of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
from harness import ROOT, Bench
from scipy import stats

sys.path.insert(0, str(ROOT / "tests" / "rollout"))

from test_error_rates import harmful_by_the_margin  # type: ignore[import-not-found]

from mainspring.definitions.values import DAY_US
from mainspring.monitoring import Detector, average_e, judge_window, reference
from mainspring.monitoring.stacking import Heard, proofs, proved, weighted
from mainspring.rollout import (
    LOSSES,
    binary_harm_eprocess,
    block_upper_bound,
    day_blocks,
    first_failures,
    log_sample_ratio_evalue,
    paired_eprocess,
)

ALPHA = 0.05
ACTS = math.log(1 / ALPHA)
SRM_ALPHA = 0.001
LETTERS, SHARES = list("abcdefgh"), [0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02]
Outcome = dict[str, bool]


def paired_rollback(rng: np.random.Generator) -> Outcome:
    """3,000 paired labels whose mean harm is exactly what rollback tolerates."""
    d = np.clip(rng.normal(0, 0.2, 3_000), -0.9, 0.9) + 0.01
    e = paired_eprocess(d, 0.02, 1.0, rollback_margin=0.01).log_rollback
    mean = np.cumsum(d) / np.arange(1, len(d) + 1)
    z = (mean - 0.01) / (0.2 / np.sqrt(np.arange(1, len(d) + 1)))
    return {
        "paired shadow, rollback at the margin": bool(e.max() >= ACTS),
        "naive z-test at each label": bool(z[30:].max() > 1.645),
    }


def paired_promotion(rng: np.random.Generator) -> Outcome:
    """3,000 paired labels of a challenger that is worse by exactly the margin, without day shocks."""
    d = np.clip(rng.normal(0, 0.2, 3_000), -0.9, 0.9) + 0.02
    return {"paired shadow, promotion at the margin": bool(paired_eprocess(d, 0.02, 1.0).log_promotion.max() >= ACTS)}


def log_loss_rollback(rng: np.random.Generator) -> Outcome:
    """Two models equally far from the truth on either side, judged by log loss on drawn outcomes."""
    loss = LOSSES["log_loss"]
    truth = rng.beta(1, 3, 3_000)
    shift = rng.choice([-0.1, 0.1], 3_000)
    y = (rng.random(3_000) < truth).astype(float)
    d = loss.difference(np.clip(truth + shift, 0, 1), np.clip(truth + rng.permutation(shift), 0, 1), y)
    return {
        "paired log loss, equal models rolled back": bool(
            paired_eprocess(d, 0.0, loss.bound).log_rollback.max() >= ACTS
        )
    }


def day_shocks(rng: np.random.Generator) -> Outcome:
    """40 days of 900 labels, mean exactly at the margin, a shock of .02 shared by all labels of a day."""
    d, day = harmful_by_the_margin(int(rng.integers(2**62)))
    by_label = paired_eprocess(d, 0.02, 1.0).log_promotion >= ACTS
    by_block = block_upper_bound(day_blocks(d, day)) < 0.02
    ends = np.flatnonzero(np.diff(day, append=day[-1] + 1))
    return {
        "promotion under day shocks, with day blocks": bool((by_label[ends] & by_block).any()),
        "naive promotion label by label": bool(by_label.any()),
    }


def day_bound(rng: np.random.Generator) -> Outcome:
    """The bound over 60 normal day means, looked at each day."""
    return {"day-block bound, 60 looks": bool((block_upper_bound(rng.normal(0, 1, 60)) < 0).any())}


def binary_ramp(rng: np.random.Generator) -> Outcome:
    """5 % -> 25 % -> 50 % while errors common to both arms grow tenfold."""
    weight = np.repeat([0.05, 0.25, 0.5], 4_000)
    canary = rng.random(len(weight)) < weight
    failed = rng.random(len(weight)) < np.linspace(0.005, 0.05, len(weight))
    pooled = stats.fisher_exact(
        [[(failed & canary).sum(), (~failed & canary).sum()], [(failed & ~canary).sum(), (~failed & ~canary).sum()]],
        alternative="greater",
    ).pvalue
    e = binary_harm_eprocess(canary[failed], weight[failed])
    return {
        "binary harm, ramp with rising errors": bool(e.max(initial=0) >= ACTS),
        "naive pooled Fisher test at the end": bool(pooled < ALPHA),
    }


def binary_sticky(rng: np.random.Generator) -> Outcome:
    """Heavy users who fail often on either model, at 10 %."""
    users = rng.zipf(1.3, 4_000) % 2_000
    fragile = rng.random(2_000) < 0.05
    canary = rng.random(2_000) < 0.1
    failed = users[fragile[users] & (rng.random(4_000) < 0.5)]
    once = failed[first_failures(failed)]
    return {
        "binary harm, first failure of each sticky unit": bool(
            binary_harm_eprocess(canary[once], 0.1).max(initial=0) >= ACTS
        ),
        "naive: every failure counted": bool(binary_harm_eprocess(canary[failed], 0.1).max(initial=0) >= ACTS),
    }


def sample_ratio(rng: np.random.Generator) -> Outcome:
    """5 % then 25 % of 5,000 units each, looked at every 50 units."""
    worst = pooled = -math.inf
    before, counts = 0.0, (0, 0)
    for rho in (0.05, 0.25):
        canary = np.cumsum(rng.random(5_000) < rho)
        e = 0.0
        for n in range(50, 5_001, 50):
            mine = int(canary[n - 1])
            e = log_sample_ratio_evalue([((mine, n - mine), (rho, 1 - rho))])
            both = (counts[0] + mine, counts[1] + n - mine)
            pooled = max(pooled, log_sample_ratio_evalue([(both, (rho, 1 - rho))]))
            worst = max(worst, before + e)
        before, counts = before + e, (int(canary[-1]), 5_000 - int(canary[-1]))
    return {
        "sample ratio mismatch through a ramp": worst >= math.log(1 / SRM_ALPHA),
        "naive: counts pooled over the ramp": pooled >= math.log(1 / SRM_ALPHA),
    }


REFERENCE_RNG = np.random.default_rng(0)
REFERENCES = {f"n{i}": reference(REFERENCE_RNG.normal(size=20_000)) for i in range(15)} | {
    f"c{i}": reference(REFERENCE_RNG.choice(LETTERS, 20_000, p=SHARES)) for i in range(5)
}


def clean_window(rng: np.random.Generator) -> Outcome:
    """A window of 500 rows like its reference, 20 features."""
    values = {f"n{i}": rng.normal(size=500) for i in range(15)}
    values |= {f"c{i}": rng.choice(LETTERS, 500, p=SHARES) for i in range(5)}
    naive = [stats.ks_1samp(values[f"n{i}"], stats.norm.cdf).pvalue < ALPHA for i in range(15)]
    return {
        "drift alarm in a clean window of 20 features": bool(judge_window(REFERENCES, values).flagged),
        "naive: any Kolmogorov-Smirnov p < .05": any(naive),
    }


def detector_alarm(rng: np.random.Generator) -> Outcome:
    """50 windows with one p-value shared by 5 features, detector at A = 1,000: at most 50 / 1,000 have an alarm."""
    detector = Detector(1_000.0)
    for p in rng.random(50):
        detector, alarm = detector.advance(average_e([p] * 5))
        if alarm:
            return {"drift detector, any alarm in 50 windows at A = 1,000": True}
    return {"drift detector, any alarm in 50 windows at A = 1,000": False}


def stacked(rng: np.random.Generator) -> Outcome:
    """Five weeks of an ensemble whose members know all but the day's shock: no weights are better than their mean."""
    day = np.repeat(np.arange(35), 60)
    truth = rng.normal(0.0, 1.5, len(day))
    said = np.repeat(1.0 / (1.0 + np.exp(-truth))[:, None], 2, axis=1)
    y = (rng.random(len(day)) < 1.0 / (1.0 + np.exp(-truth - rng.normal(0.0, 0.3, 35)[day]))).astype(float)
    time_us = day * DAY_US + 3_600_000_000
    heard = Heard(said, y, time_us, time_us + DAY_US)
    loss = LOSSES["log_loss"].function
    given, naive = False, False
    for days in (14, 21, 28, 35):
        seen = heard.where(day < days)
        tried = list(proofs(("a", "b"), "binary_classification", seen, "log_loss", None, 0))
        given = given or proved(iter(tried)) is not None
        for one in tried:
            after = seen.where(seen.time_us >= one.until_us)
            d = loss(after.said[:, 0], after.y) - loss(weighted(after.said, one.weights), after.y)
            naive = naive or bool(d.mean() / (d.std() / math.sqrt(len(d))) > 1.645)
    return {"stack: weights given though no better": given, "naive z-test of each fit at each look": naive}


SCENARIOS: list[tuple[Callable[[np.random.Generator], Outcome], float]] = [
    (paired_rollback, ALPHA),
    (paired_promotion, ALPHA),
    (log_loss_rollback, ALPHA),
    (day_shocks, ALPHA),
    (day_bound, ALPHA),
    (binary_ramp, ALPHA),
    (binary_sticky, ALPHA),
    (sample_ratio, SRM_ALPHA),
    (clean_window, 0.01),
    (detector_alarm, ALPHA),
    (stacked, ALPHA),
]


def main() -> None:
    bench = Bench.start("Error rates of rollout evidence and drift", [("--seeds", int, "runs of each simulation")])
    seeds = bench.options.seeds or (150 if bench.quick else 2_000)
    for number, (scenario, alpha) in enumerate(SCENARIOS):
        wrong: dict[str, int] = {}
        for seed in range(seeds):
            for name, acted in scenario(np.random.default_rng([number, seed])).items():
                wrong[name] = wrong.get(name, 0) + acted
        error = math.sqrt(alpha * (1 - alpha) / seeds)
        for name, count in wrong.items():
            rate = count / seeds
            bench.add(
                name, rate, "share", against=f"alpha {alpha:g}", ratio=alpha / rate if rate else None, spread=error
            )
            if not name.startswith("naive"):
                bench.require(f"{name}: {rate:.4f} <= {alpha:g} + 3 x {error:.4f}", holds=rate <= alpha + 3 * error)
    bench.say(f"{seeds} seeds; 'spread' is the standard error of alpha")
    bench.finish()


if __name__ == "__main__":
    main()
