"""False alarms of checks on clean days, and how soon faults are found: `python bench/checks.py [DAYS]`.

A feed of arrivals (about 250 a day, with nights, weekends and storms) is looked at by every check that is usual, day
after day, as the worker does it; then each fault on a day of its own. Printed: clean days on which any check failed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "loop"))

from feed import DAY_US, Feed, feed_module

from mainspring.definitions.expressions import UTC_US
from mainspring.definitions.project import collect
from mainspring.monitoring.checks import Window, decide, evaluate, look_back_us

COLUMNS = ("flight_id", "carrier", "delay_min", "air_min", "wind_mph", "_time")
WARM_UP = 35
FAULTS = ("units", "nulls", "frozen", "silence")


def frame(rows: list[tuple[int, tuple[object, ...]]]) -> pl.DataFrame:
    """Rows of the feed as history shows them."""
    made = pl.DataFrame([row for _, row in rows], schema=COLUMNS, orient="row")
    return made.with_columns(pl.col("_time").cast(UTC_US), pl.col("_time").cast(UTC_US).alias("_known_at"))


def failing(days: list[pl.DataFrame], at_us: int) -> list[str]:
    """Names of the checks that fail for the day that ends at ``at_us``."""
    checks = [c for c in collect(feed_module()).checks.values() if c.kind != "duplicates"]
    found = {}
    for check in checks:
        events = pl.concat(days[-(look_back_us(check) // DAY_US + 1) :])
        found[check.name] = evaluate(check, Window(at_us, DAY_US, events))
    return [name for name, one in decide(found).items() if one.state == "fail"]


def main() -> None:
    """Look at clean days, then at faults."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    feed, days, alarms = Feed(seed=7), [], []
    started_s = time.process_time()
    for day in range(WARM_UP + n):
        days.append(frame(feed.day()))
        if day >= WARM_UP:
            alarms += [(day, name) for name in failing(days, feed.until_us)]
    took_s = time.process_time() - started_s
    bad = len({day for day, _ in alarms})
    print(f"{n} clean days: {bad} with an alarm {alarms}; {took_s / n * 1e3:.0f} ms of CPU a day")
    for fault in FAULTS:
        found = failing([*days, frame(feed.day(fault))], feed.until_us)
        print(f"{fault}: {', '.join(found) or 'not found'}")
        days.append(frame(feed.day()))


if __name__ == "__main__":
    main()
