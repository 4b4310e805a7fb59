"""A feed of arrivals, day after day, clean or with a fault: what checks are tried on here and in bench/checks.py."""

from types import ModuleType
from typing import Annotated

import numpy as np

import mainspring as ms

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
CARRIERS = ("UA", "AA", "DL")
# More by day than by night, fewer on Saturdays.
HOURLY = np.concatenate([np.full(6, 4.0), np.full(16, 16.0), np.full(2, 6.0)])
WEEKLY = np.array([1.0, 0.95, 1.0, 1.05, 1.05, 0.75, 0.9])


class Feed:
    """Rows of ``Arrived`` by the day; days differ from one another as storms make them."""

    START_US = 1_356_998_400_000_000  # 2013-01-01

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.until_us = self.START_US
        self.number = 0

    def day(self, fault: str | None = None) -> list[tuple[int, tuple[object, ...]]]:
        """When each row becomes known, and the row."""
        start_us, self.until_us = self.until_us, self.until_us + DAY_US
        weekday = start_us // DAY_US % 7
        rate = HOURLY * WEEKLY[weekday] * self.rng.gamma(60.0, 1 / 60.0)
        if fault == "silence":
            rate = rate * (np.arange(24) < 4)
        storm = self.rng.normal(0.0, 3.0)
        hours = np.repeat(np.arange(24), self.rng.poisson(rate))
        n = len(hours)
        at = np.sort(start_us + hours * HOUR_US + self.rng.integers(0, HOUR_US, n))
        delay = np.round(self.rng.normal(5.0 + storm, 30.0, n))
        air = np.round(self.rng.gamma(8.0, 15.0, n))
        is_null = self.rng.random(n) < 0.02
        wind = np.round(self.rng.normal(10.0, 4.0, n), 1)
        if fault == "units":
            delay = delay * 60.0
        if fault == "shift":
            wind = wind + 1.0
        if fault == "nulls":
            is_null |= self.rng.random(n) < 0.5
        if fault == "frozen":
            wind[n // 4 :] = wind[n // 4]
        if fault == "negative":
            air[0], is_null[0] = -5.0, False
        carriers = self.rng.choice(CARRIERS, n, p=(0.5, 0.3, 0.2))
        rows = []
        for i in range(n):
            self.number += 1
            air_min = None if is_null[i] else float(air[i])
            row = (f"f{self.number}", str(carriers[i]), float(delay[i]), air_min, float(wind[i]), int(at[i]))
            rows.append((int(at[i]), row))
        return rows


def feed_module() -> ModuleType:
    """Definitions: the source, and the checks that are usual."""
    from datetime import datetime

    module = ModuleType("feed")

    class Arrived(ms.Source, id="flight_id", time="arrived_at"):
        flight_id: str
        carrier: Annotated[str, ms.one_of(*CARRIERS)]
        delay_min: float
        air_min: float | None
        wind_mph: float
        arrived_at: datetime

    module.Arrived = Arrived
    module.checks = ms.check.usual(Arrived, within="8h")
    return module
