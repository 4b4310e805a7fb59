"""Drift of one window of a feature against its reference: binned counts, tests with a tolerance, effects.

Counts over fixed bins are exact and mergeable. A test asks whether a window differs by more than is worth knowing, not
whether it differs at all, so alarms do not grow with the number of rows. Drift alone opens an incident; only a loss in
performance starts a retraining.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from mainspring.core.errors import ContractError
from mainspring.monitoring.detector import average_e
from mainspring.monitoring.references import (
    MISSING,
    QUANTILES,
    UNSEEN,
    FloatArray,
    Reference,
    Values,
    bin_codes,
    finite_values,
    merged_groups,
)

PHI2 = 0.01
"""Tolerated distance phi squared between distributions: about PSI .01, or a shift by a tenth of a deviation."""
SHARE_TOLERANCE = 0.005
"""Tolerated absolute change of the share of missing or unseen values: half a point."""
FDR = 0.01
CAUSE_WEIGHTS = {"distribution": 0.8, "missing": 0.1, "unseen": 0.1}
"""How a feature's error is divided over its tests (weighted Bonferroni): gaps and new values, when real, are plain."""


@dataclass(frozen=True)
class FeatureDrift:
    """What one window says of one feature.

    Attributes:
        rows: Rows of the window.
        p: Smallest of the p-values below, each divided by its weight in `CAUSE_WEIGHTS` (weighted Bonferroni).
        p_distribution: Null: the distribution differs by at most phi^2.
        p_missing: Null: the share of missing values differs by at most half a point.
        p_unseen: Null: the share of categories never seen before exceeds what is expected by at most half a point;
            1 for numbers.
        psi: Population stability index over the merged bins: the effect.
        wasserstein_sd: Distance of the quantile functions in standard deviations (at most 1e9); None for categories.
        missing_share: Share of missing values in the window.
        unseen_share: Share of unseen categories among present values.
        flagged: Whether it is drift, at the level of the test.
        causes: Which of ``distribution``, ``missing`` and ``unseen`` say so, if flagged.
    """

    rows: int
    p: float
    p_distribution: float
    p_missing: float
    p_unseen: float
    psi: float
    wasserstein_sd: float | None
    missing_share: float
    unseen_share: float
    flagged: bool
    causes: tuple[str, ...]


@dataclass(frozen=True)
class DriftReport:
    """What one window says of all features (or of features by slices).

    Attributes:
        features: By name.
        flagged: Names found to have drifted (Benjamini-Hochberg), in order of p.
        e: Average calibrated e-value over the features, for the detector over time.
    """

    features: dict[str, FeatureDrift]
    flagged: tuple[str, ...]
    e: float


def window_test(reference: Reference, values: Values, *, phi2: float = PHI2, level: float = FDR) -> FeatureDrift:
    """Test one window of one feature.

    Distribution: pooled two-sample X^2 over bins merged until five (clusters) are expected in each, and
    ``p = ncx2.sf(X2 / c, B - 1, n_eff phi^2)`` with ``n_eff = n m / (n + m) / c``, c the reference's dispersion: the
    null allows a distance of phi^2, and clustered rows count for fewer, both in the statistic and in its null.
    Missing and unseen values are binomial tests of their own: in one pooled statistic a single unseen value would be an
    alarm. The reference's share is itself an estimate, so the missing test uses n_eff rows too.

    Args:
        reference: What the feature looked like.
        values: The window, of the reference's kind.
        phi2: Tolerated distance.
        level: Level of `FeatureDrift.flagged`; `judge_window` decides over all features instead.
    """
    code = bin_codes(reference, values)
    rows, missing, unseen = len(code), int((code == MISSING).sum()), int((code == UNSEEN).sum())
    counts = np.asarray(reference.counts, dtype=np.float64)
    window = np.bincount(code[code >= 0], minlength=len(counts)).astype(np.float64)
    if counts[-1] > 0:
        window[-1] += unseen  # among rare categories a new name is as good as an old one; else it has no bin
    p_distribution, psi = _distribution_test(counts, window, reference.dispersion, phi2)
    rows_eff = _harmonic(reference.rows, rows) / reference.missing_dispersion
    p_missing = _share_test(missing, rows, rows_eff, reference.missing / max(reference.rows, 1), two_sided=True)
    present = rows - missing
    expected_unseen = reference.once / max(reference.present, 1)
    p_unseen = _share_test(unseen, present, present / reference.dispersion, expected_unseen, two_sided=False)
    found = FeatureDrift(
        rows=rows,
        p=min(1.0, *_weighted(p_distribution, p_missing, p_unseen).values()),
        p_distribution=p_distribution,
        p_missing=p_missing,
        p_unseen=p_unseen,
        psi=psi,
        wasserstein_sd=_wasserstein_sd(reference, values),
        missing_share=missing / max(rows, 1),
        unseen_share=unseen / max(present, 1),
        flagged=False,
        causes=(),
    )
    return _flag(found, level) if found.p <= level else found


def judge_window(
    references: Mapping[str, Reference], values: Mapping[str, Values], *, phi2: float = PHI2, fdr: float = FDR
) -> DriftReport:
    """Test one window of all features, and decide over them together (Benjamini-Hochberg at ``fdr``).

    Args:
        references: By feature, or by feature and slice.
        values: The window, by the same names.
        phi2: Tolerated distance.
        fdr: Expected share of false ones among the flagged.

    Raises:
        ContractError: ``MS-R202`` if a feature has no values.
    """
    absent = sorted(set(references) - set(values))
    if absent:
        raise ContractError(
            "MS-R202", f"the window has no column {absent[0]!r}", why="every feature with a reference is judged"
        )
    tested = {name: window_test(ref, values[name], phi2=phi2, level=0.0) for name, ref in references.items()}
    if not tested:
        return DriftReport({}, (), 1.0)
    p = np.array([found.p for found in tested.values()])
    rejected = dict(zip(tested, stats.false_discovery_control(p) <= fdr, strict=True))
    # The largest p that was rejected is the level that each rejected feature has passed.
    level = float(max((found.p for name, found in tested.items() if rejected[name]), default=0.0))
    features = {name: _flag(found, level) if rejected[name] else found for name, found in tested.items()}
    flagged = sorted((name for name in features if rejected[name]), key=lambda name: (features[name].p, name))
    return DriftReport(features, tuple(flagged), average_e(p))


def _distribution_test(ref: FloatArray, window: FloatArray, dispersion: float, phi2: float) -> tuple[float, float]:
    """p-value and PSI."""
    n, m = ref.sum(), window.sum()
    if n == 0 or m == 0:
        return 1.0, 0.0
    groups = merged_groups((ref + window) * min(n, m) / (n + m) / dispersion)
    r, w = np.bincount(groups, weights=ref), np.bincount(groups, weights=window)
    if len(r) < 2:
        return 1.0, 0.0
    x2 = np.sum(np.square(np.sqrt(m / n) * r - np.sqrt(n / m) * w) / (r + w))
    n_eff = _harmonic(n, m) / dispersion
    p_value = float(stats.ncx2.sf(x2 / dispersion, len(r) - 1, n_eff * phi2))
    a, b = (r + 0.5) / (n + 0.5 * len(r)), (w + 0.5) / (m + 0.5 * len(r))
    return p_value, float(np.sum((b - a) * np.log(b / a)))


def _share_test(k: int, rows: int, rows_eff: float, share: float, *, two_sided: bool) -> float:
    """Binomial p-value of k in rows against ``share`` with `SHARE_TOLERANCE`, with as much weight as ``rows_eff`` rows.

    The binomial tail as an incomplete beta function, which takes a number of rows that is not whole.
    """
    if rows == 0 or rows_eff <= 0.0:
        return 1.0
    k_eff = k / rows * rows_eff
    high, low = min(share + SHARE_TOLERANCE, 1.0), max(share - SHARE_TOLERANCE, 0.0)
    more = float(special.betainc(k_eff, rows_eff - k_eff + 1.0, high)) if k_eff > 0.0 else 1.0
    if not two_sided:
        return more
    less = float(special.betaincc(k_eff + 1.0, rows_eff - k_eff, low)) if k_eff < rows_eff else 1.0
    return min(1.0, 2.0 * min(more, less))


def _wasserstein_sd(reference: Reference, values: Values) -> float | None:
    if reference.kind == "categorical" or reference.sd == 0.0:
        return None
    x = finite_values(np.asarray(values, dtype=np.float64))
    if not len(x):
        return None
    distance = float(np.mean(np.abs(np.quantile(x, QUANTILES) - np.asarray(reference.quantiles))))
    return distance / reference.sd if distance < 1e9 * reference.sd else 1e9


def _weighted(p_distribution: float, p_missing: float, p_unseen: float) -> dict[str, float]:
    """p-values divided by their weights, by cause."""
    p_values = {"distribution": p_distribution, "missing": p_missing, "unseen": p_unseen}
    return {cause: p / CAUSE_WEIGHTS[cause] for cause, p in p_values.items()}


def _flag(found: FeatureDrift, level: float) -> FeatureDrift:
    """The same, flagged, with every cause that passes the level by itself."""
    by_cause = _weighted(found.p_distribution, found.p_missing, found.p_unseen)
    return replace(found, flagged=True, causes=tuple(cause for cause, p in by_cause.items() if p <= level))


def _harmonic(n: float, m: float) -> float:
    """Effective sample size of a comparison of n with m rows."""
    return n * m / (n + m) if n + m else 0.0
