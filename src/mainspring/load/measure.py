"""What a run tells: latencies by rate, errors by kind, and whether the sender kept up with its own schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mainspring.load.sender import ANSWERED, NOT_SENT, TIMEOUT, Sent
from mainspring.load.shape import Stage

QUANTILES = (0.5, 0.95, 0.99, 0.999)
_TIMED = (ANSWERED, TIMEOUT, NOT_SENT)


@dataclass(frozen=True)
class Level:
    """One rate, and how it was answered.

    Attributes:
        stage: What was meant to be sent.
        sent: How many requests that were.
        answered_per_s: Answers a second of the stage, whenever they came.
        quantiles_ms: Latency by quantile, from when a request was meant to be sent. One that had no answer in time
            counts as long as was waited; one that was refused or broke off counts as an error alone. NaN if none.
        most_ms: The greatest.
        errors: How many, by kind.
        late_ms: The 99 % quantile of how far behind its schedule the sender itself was; part of every latency.
        fallbacks: Of the answers of the run.
    """

    stage: Stage
    sent: int
    answered_per_s: float
    quantiles_ms: dict[float, float]
    most_ms: float
    errors: dict[str, int] = field(default_factory=dict)
    late_ms: float = 0.0
    fallbacks: int = 0

    @property
    def error_share(self) -> float:
        """Errors of all that was sent."""
        return sum(self.errors.values()) / self.sent if self.sent else 0.0

    def at(self, quantile: float) -> float:
        """Latency in ms at one of ``QUANTILES``."""
        return self.quantiles_ms[quantile]


def levels(stages: Sequence[Stage], numbers: npt.NDArray[np.int16], sent: Sent) -> list[Level]:
    """What became of the requests of each stage.

    Args:
        stages: Of the run.
        numbers: Stage of each request.
        sent: What became of each.
    """
    return [_level(stage, numbers == number, sent) for number, stage in enumerate(stages)]


def _level(stage: Stage, own: npt.NDArray[np.bool_], sent: Sent) -> Level:
    kinds, counts = np.unique(sent.kind[own], return_counts=True)
    found = {sent.kinds[kind]: int(count) for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)}
    answered = found.pop(ANSWERED, 0)
    timed = [place for place, kind in enumerate(sent.kinds) if kind in _TIMED]
    latency_ms = np.sort(sent.latency_s[own & np.isin(sent.kind, timed)]) * 1e3
    late_ms = np.sort(sent.late_s[own]) * 1e3
    return Level(
        stage,
        int(own.sum()),
        answered / stage.seconds,
        {q: quantile(latency_ms, q) for q in QUANTILES},
        quantile(latency_ms, 1.0),
        found,
        quantile(late_ms, 0.99),
        sent.fallbacks,
    )


def quantile(ordered: npt.NDArray[np.float64], q: float) -> float:
    """The least value that a share ``q`` of all does not exceed; NaN if there is none.

    >>> quantile(np.arange(1.0, 101.0), 0.99)
    99.0
    """
    if not len(ordered):
        return float("nan")
    return float(ordered[max(int(np.ceil(q * len(ordered) - 1e-9)) - 1, 0)])
