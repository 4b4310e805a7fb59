"""When requests are meant to be sent: rates over time, and the arrivals that they make.

Arrivals are a Poisson process of the stage's rate: clients that know nothing of one another. They are fixed before the
first one is sent (an open loop), so a server that is slow is asked no less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

RAMP_STEPS = 8
"""A ramp is told in as many steps."""
SPIKE_SHARES = (0.4, 0.2, 0.4)
"""Of the time of a spike: before, during, after."""


@dataclass(frozen=True)
class Stage:
    """A stretch of time whose rate rises or falls evenly, or stays.

    Attributes:
        name: What a table calls it.
        low: Requests a second at its beginning.
        high: And at its end.
    """

    name: str
    low: float
    high: float
    seconds: float

    @property
    def rate(self) -> float:
        """Requests a second over the whole of it."""
        return (self.low + self.high) / 2


def steady(rate: float, seconds: float) -> tuple[Stage, ...]:
    """One rate."""
    return (Stage("steady", rate, rate, seconds),)


def ramp(low: float, high: float, seconds: float, steps: int = RAMP_STEPS) -> tuple[Stage, ...]:
    """From one rate to another, told in steps.

    >>> [(stage.low, stage.high) for stage in ramp(100, 300, 10, steps=2)]
    [(100.0, 200.0), (200.0, 300.0)]
    """
    at = [low + (high - low) * i / steps for i in range(steps + 1)]
    return tuple(Stage("ramp", a, b, seconds / steps) for a, b in pairwise(at))


def spike(base: float, peak: float, seconds: float) -> tuple[Stage, ...]:
    """A rate, all at once another, and the first one again: the last stage shows how fast the server recovers."""
    rates = (("before", base), ("spike", peak), ("after", base))
    return tuple(Stage(name, r, r, seconds * share) for (name, r), share in zip(rates, SPIKE_SHARES, strict=True))


def arrivals(stages: Sequence[Stage], seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int16]]:
    """When each request is meant to be sent, and in which stage.

    A Poisson process whose rate changes evenly is one of rate 1 seen through the inverse of the cumulated rate: with
    r₀ at the beginning and slope k, S = r₀ t + k t²/2 gives t = 2 S / (r₀ + √(r₀² + 2 k S)).

    Returns:
        Seconds from the beginning, rising, float64[n], and the stage's number, int16[n].
    """
    draw = np.random.default_rng(seed)
    times, numbers, begins = [], [], 0.0
    for number, stage in enumerate(stages):
        most = stage.rate * stage.seconds
        enough = int(most + 10 * most**0.5 + 20)
        at = np.cumsum(draw.exponential(size=enough))
        at = at[at < most]
        slope = (stage.high - stage.low) / stage.seconds
        times.append(begins + 2 * at / (stage.low + np.sqrt(np.maximum(stage.low**2 + 2 * slope * at, 0.0))))
        numbers.append(np.full(len(at), number, np.int16))
        begins += stage.seconds
    return np.concatenate(times), np.concatenate(numbers)
