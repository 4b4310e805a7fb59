"""The detectors of lasting shifts: quiet while nothing is wrong, each column by itself, remembered over windows."""

import numpy as np

from mainspring.monitoring.checks import Finding
from mainspring.monitoring.shifts import ALARM_AT, gathered


def said(state="pass", **p):
    return {name: Finding(state, "", p=value, slow_p=value) for name, value in p.items()}


def run(days):
    """Evidence after some windows, and when each check acted."""
    m, acted = {}, {}
    for day, findings in enumerate(days):
        found = gathered(m, findings)
        acted |= {name: day for name, one in found.items() if one.is_alarm and name not in acted}
        m = {name: one.m for name, one in found.items()}
    return m, acted


def test_a_small_shift_of_one_column_acts_within_a_fortnight_and_says_which():
    m, acted = run([said(a=1 / 29, b=0.8, c=0.5)] * 14)
    assert acted.keys() == {"a"}
    assert acted["a"] <= 12
    assert m["a"] < 3 * ALARM_AT


def test_a_single_storm_is_not_enough_whatever_its_rank():
    _, acted = run([said(a=1 / 29)] * 3 + [said(a=0.6)] * 30 + [said(a=1 / 29)] * 3)
    assert acted == {}


def test_uniform_p_values_act_at_most_once_in_a_thousand_windows():
    rng = np.random.default_rng(1)
    alarms, m = 0, {}
    for _ in range(4_000):
        p = float(rng.random())
        found = gathered(m, said(a=p, b=p, c=float(rng.random())))
        alarms += sum(one.is_alarm for one in found.values())
        m = {name: one.m for name, one in found.items()}
    assert alarms <= 4


def test_what_failed_or_is_not_known_changes_nothing_and_what_is_gone_is_forgotten():
    before = {"a": 7.0, "b": 3.0, "gone": 9.0}
    findings = said("fail", a=1e-9) | {"b": Finding("unknown", "")}
    assert {name: one.m for name, one in gathered(before, findings).items()} == {"a": 7.0, "b": 3.0}


def test_with_more_columns_each_needs_more():
    one = run([said(a=1 / 29)] * 14)[1]["a"]
    many = run([said(a=1 / 29, **{f"x{i}": 0.9 for i in range(40)})] * 20)[1]["a"]
    assert one < many
