"""Small lasting shifts of a column that no single window shows: a detector over time for each check, decided together.

Each detector gathers ``M <- (1 + M) e`` over its windows (`detector.Detector`). With k of them one acts at k times the
threshold, so that false alarms of all together come at least ``ALARM_AT`` windows apart on average, whatever depends on
what. That one acts by itself says which column it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mainspring.monitoring.checks import Finding
from mainspring.monitoring.detector import Detector, calibrated_e

ALARM_AT = 1_000.0


@dataclass(frozen=True)
class Evidence:
    """What a check's detector says after a window.

    Attributes:
        m: Gathered since it acted last; below 1 there is none.
        is_alarm: It acts now.
    """

    m: float
    is_alarm: bool = False


def gathered(before: Mapping[str, float], findings: Mapping[str, Finding]) -> dict[str, Evidence]:
    """Evidence after a window, by check.

    A window that failed, or of which too little is known, changes nothing: the first is an incident already.

    Args:
        before: Evidence so far, by check.
        findings: What the checks said of the window.
    """
    followed = {name for name, one in findings.items() if one.slow_p is not None} | before.keys()
    detector = Detector(ALARM_AT * max(len(followed), 1))
    out = {}
    for name in sorted(followed):
        m, one = before.get(name, 0.0), findings.get(name)
        if one is None:  # no longer defined
            continue
        if one.slow_p is None or one.state == "fail":
            out[name] = Evidence(m)
            continue
        after, is_alarm = Detector(detector.alarm_at, m).advance(float(calibrated_e(one.slow_p)))
        out[name] = Evidence(after.m, is_alarm)
    return out
