"""Drift over time: an e-detector that catches a slow small change which no single window shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Detector:
    """Where the detector stands.

    Attributes:
        alarm_at: A: the mean number of windows between false alarms is at least this.
        m: Evidence gathered since the last alarm.
        windows: Windows seen since the last alarm.
    """

    alarm_at: float = 1_000.0
    m: float = 0.0
    windows: int = 0

    def advance(self, e: float) -> tuple[Detector, bool]:
        """Take one window's e-value: ``M <- (1 + M) e``. Returns the next state, and whether this is an alarm."""
        m = (1.0 + self.m) * e
        if m >= self.alarm_at:
            return replace(self, m=0.0, windows=0), True
        return replace(self, m=m, windows=self.windows + 1), False


def calibrated_e(p: ArrayLike) -> NDArray[np.float64]:
    """E-values from p-values: ``(1 - p + p ln p) / (p ln^2 p)``, with p clipped to [1e-15, 1 - 1e-9].

    The mixture of ``k p^(k - 1)`` over k in (0, 1), whose mean under a valid p is at most 1 (Vovk and Wang 2021).

    >>> calibrated_e([0.5, 1e-6]).round(2).tolist()
    [0.64, 5239.14]
    """
    x = np.clip(np.asarray(p, dtype=np.float64), 1e-15, 1.0 - 1e-9)
    log_x = np.log(x)
    return np.asarray((1.0 - x + x * log_x) / (x * np.square(log_x)), dtype=np.float64)


def average_e(p: ArrayLike) -> float:
    """The average of the calibrated e-values: an e-value under any dependence between the p-values; 1 for none."""
    e = calibrated_e(p)
    return float(e.mean()) if e.size else 1.0
