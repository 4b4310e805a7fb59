"""False alarms of checks on clean days, and how soon faults are found: `python bench/checks.py [DAYS]`.

A feed of arrivals (about 250 a day, with nights, weekends and storms) is looked at by every check that is usual, day
after day, as the worker does it; then each fault on a day of its own, and a small shift that lasts. Printed: clean
days on which any check failed or a lasting shift was seen, and after how many days a real one is.
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
from mainspring.monitoring.checks import Finding, Window, decide, evaluate, look_back_us
from mainspring.monitoring.shifts import ALARM_AT, gathered

COLUMNS = ("flight_id", "carrier", "delay_min", "air_min", "wind_mph", "_time")
WARM_UP = 63
PATIENCE = 28
FAULTS = ("units", "nulls", "frozen", "silence")


def frame(rows: list[tuple[int, tuple[object, ...]]]) -> pl.DataFrame:
    """Rows of the feed as history shows them."""
    made = pl.DataFrame([row for _, row in rows], schema=COLUMNS, orient="row")
    return made.with_columns(pl.col("_time").cast(UTC_US), pl.col("_time").cast(UTC_US).alias("_known_at"))


def looked(days: list[pl.DataFrame], at_us: int) -> dict[str, Finding]:
    """What the checks say of the day that ends at ``at_us``."""
    checks = [c for c in collect(feed_module()).checks.values() if c.kind != "duplicates"]
    found = {}
    for check in checks:
        events = pl.concat(days[-(look_back_us(check) // DAY_US + 1) :])
        found[check.name] = evaluate(check, Window(at_us, DAY_US, events))
    return decide(found)


def failing(findings: dict[str, Finding]) -> list[str]:
    """Names of the checks that fail."""
    return [name for name, one in findings.items() if one.state == "fail"]


def main() -> None:
    """Look at clean days, then at faults."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    feed, days, alarms, shifts = Feed(seed=7), [], [], []
    evidence: dict[str, float] = {}
    started_s = time.process_time()
    for day in range(WARM_UP + n):
        days.append(frame(feed.day()))
        if day >= WARM_UP:
            found = looked(days, feed.until_us)
            alarms += [(day, name) for name in failing(found)]
            after = gathered(evidence, found)
            shifts += [(day, name) for name, one in after.items() if one.is_alarm]
            evidence = {name: one.m for name, one in after.items()}
    took_s = time.process_time() - started_s
    bad = len({day for day, _ in alarms})
    print(f"{n} clean days: {bad} with an alarm {alarms}; {took_s / n * 1e3:.0f} ms of CPU a day")
    print(f"{n} clean days: {len(shifts)} lasting shifts {shifts}; one in {ALARM_AT:,.0f} days may be")
    for fault in FAULTS:
        names = failing(looked([*days, frame(feed.day(fault))], feed.until_us))
        print(f"{fault}: {', '.join(names) or 'not found'}")
        days.append(frame(feed.day()))
    for day in range(1, PATIENCE + 1):
        days.append(frame(feed.day("shift")))
        found = looked(days, feed.until_us)
        after = gathered(evidence, found)
        evidence = {name: one.m for name, one in after.items()}
        names = [*failing(found), *(name for name, one in after.items() if one.is_alarm)]
        if names:
            print(f"a shift by a quarter of a deviation: after {day} days by {', '.join(names)}")
            break


if __name__ == "__main__":
    main()
