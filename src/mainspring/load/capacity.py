"""How much a server can take: the greatest rate that still keeps a latency, and what several of it would take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mainspring.load.measure import Level

STEP = 2.0
CLOSE = 1.1
"""The search ends when the rate that passed and the one that did not are as near."""
LATE_SHARE = 0.5
"""A sender that is itself later than this share of the target cannot judge a server."""
_MOST_RUNS = 24

Verdict = Literal["kept", "too slow", "errors", "the sender was late"]


@dataclass(frozen=True)
class Limit:
    """What a rate must keep to count.

    Attributes:
        quantile: Of the latency.
        under_ms: It must not be more.
        errors: Share of requests that may fail.
    """

    quantile: float = 0.99
    under_ms: float = 20.0
    errors: float = 0.001

    def verdict(self, level: Level) -> Verdict:
        """What a level shows of its rate."""
        if level.error_share > self.errors:
            return "errors"
        if level.at(self.quantile) <= self.under_ms:
            return "kept"
        return "the sender was late" if level.late_ms > self.under_ms * LATE_SHARE else "too slow"


@dataclass(frozen=True)
class Capacity:
    """The greatest rate that kept the limit, and all that was tried, in order.

    Attributes:
        rate: Requests a second; 0 if even the least was too much.
        ended_by: Why the next one up did not: what it showed, or ``most`` when the search was not to go further.
    """

    rate: float
    ended_by: str
    tried: tuple[tuple[Level, Verdict], ...]


def search(measure: Callable[[float], Level], limit: Limit, *, start: float = 200.0, most: float = 1e6) -> Capacity:
    """Double the rate until it does not keep the limit, then halve the distance (in proportion) until it is small.

    On the way up a rate that does not keep it is tried a second time: a machine that was busy once would bound all.

    Args:
        measure: Runs one rate.
        limit: To be kept.
        start: The first rate.
        most: No rate above this is tried.
    """
    tried: list[tuple[Level, Verdict]] = []
    low, high, ended_by = 0.0, math.inf, "most"
    rate = min(start, most)
    while len(tried) < _MOST_RUNS:
        level = measure(rate)
        verdict = limit.verdict(level)
        again = verdict != "kept" and math.isinf(high) and (not tried or tried[-1][0].stage.high != rate)
        tried.append((level, verdict))
        if again:
            continue
        if verdict == "kept":
            low = rate
        else:
            high, ended_by = rate, verdict
        if low >= most or (low and high / low < CLOSE) or high < 1.0:
            break
        rate = min(low * STEP, most) if math.isinf(high) else math.sqrt(low * high) if low else high / STEP**2
    return Capacity(low, ended_by, tuple(tried))


@dataclass(frozen=True)
class Replicas:
    """What so many replicas take.

    Attributes:
        all_up: Requests a second with all of them up, at the limit.
        planned: What to plan for: with the headroom kept free.
        one_lost: At the limit, with one of them lost.
    """

    count: int
    all_up: float
    planned: float
    one_lost: float


def plan(rate: float, counts: Iterable[int], *, headroom: float = 0.3) -> list[Replicas]:
    """What replicas take together, each on cores of its own as the measured one had, behind an even balancer.

    Args:
        rate: Capacity of one.
        counts: How many replicas, each a line.
        headroom: Share of the capacity to be left free: for bursts, and because queues grow long near the limit.
    """
    return [Replicas(n, n * rate, n * rate * (1 - headroom), (n - 1) * rate) for n in counts]


def needed(rate: float, need: float, *, headroom: float = 0.3) -> int:
    """Replicas for ``need`` requests a second: with the headroom kept, and still enough when one is lost.

    >>> needed(1000, 2800)
    4
    >>> needed(1000, 500)
    2
    """
    return max(math.ceil(need / (rate * (1 - headroom))), math.ceil(need / rate) + 1)
