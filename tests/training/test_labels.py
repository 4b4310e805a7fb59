"""A label is the first event on the key in its horizon, known in time; holds keep silence from meaning "no event"."""

from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mainspring as ms
from mainspring import col
from mainspring.training import held_until, outcomes

UTC_US = pl.Datetime("us", "UTC")


class Done(ms.Source, time="at"):
    key: str
    minutes: float | None
    at: datetime


def label(within="10us", late="0us", otherwise=ms.exclude):
    return ms.label(Done, on="key", value=col("minutes") > 5, within=within, late=late, otherwise=otherwise)


def events(*rows):
    """Rows of (key, time, known_at, minutes), in the order of their offsets."""
    return pl.DataFrame(
        {
            "key": pl.Series([r[0] for r in rows], dtype=pl.String),
            "minutes": pl.Series([r[3] for r in rows], dtype=pl.Float64),
            "_time": pl.Series([r[1] for r in rows], dtype=pl.Int64).cast(UTC_US),
            "_known_at": pl.Series([r[2] for r in rows], dtype=pl.Int64).cast(UTC_US),
            "_offset": pl.Series(range(1, len(rows) + 1), dtype=pl.Int64),
        }
    )


def units(*rows):
    """Rows of (key, t)."""
    return pl.DataFrame(
        {
            "unit": pl.Series([r[0] for r in rows], dtype=pl.String),
            "_t": pl.Series([r[1] for r in rows], dtype=pl.Int64),
        }
    )


def oracle(label, unit, t, rows, now, holds):
    """One unit, as semantics.md says it."""
    mature = t + label.within_us + label.late_us
    while True:
        holding = [closed for opened, closed in holds if opened <= mature and (closed is None or mature < closed)]
        if not holding:
            break
        if None in holding:
            return False, None, None, False, None
        mature = max(holding)
    if mature > now:
        return False, mature, None, False, None
    seen = [
        (time, known, offset, minutes)
        for offset, (key, time, known, minutes) in enumerate(rows, 1)
        if key == unit and unit is not None and t <= time < t + label.within_us and known < mature
    ]
    if seen:
        minutes = min(seen, key=lambda e: e[:3])[3]
        return True, mature, None if minutes is None else float(minutes > 5), True, min(seen, key=lambda e: e[:3])[2]
    otherwise = None if label.otherwise is ms.exclude else float(label.otherwise)
    return True, mature, otherwise, False, None


keys = st.sampled_from(["a", "b", None])
instants = st.integers(-30, 30)
rows = st.lists(st.tuples(keys, instants, st.integers(0, 25), st.sampled_from([None, 1.0, 9.0])), max_size=12)
spans = st.lists(st.tuples(instants, st.none() | st.integers(0, 30)), max_size=3)


@given(
    st.lists(st.tuples(keys, instants), min_size=1, max_size=6),
    rows,
    spans,
    st.integers(-20, 60),
    st.sampled_from([label(), label(late="7us"), label(otherwise=False), label(within="1us", otherwise=True)]),
)
def test_outcomes_are_what_the_oracle_says(asked, happened, incidents, now, definition):
    happened = [(key, time, time + delay, minutes) for key, time, delay, minutes in happened]
    holds = [(opened, None if length is None else opened + length) for opened, length in incidents]
    said = outcomes(definition, units(*asked), events(*happened), now, holds).rows()
    assert said == [oracle(definition, unit, t, happened, now, holds) for unit, t in asked]


@pytest.mark.parametrize(
    ("time", "found"),
    [(99, False), (100, True), (109, True), (110, False)],
    ids=["a microsecond before", "at t", "a microsecond before the end", "at the end"],
)
def test_the_horizon_begins_at_t_and_ends_before_t_plus_within(time, found):
    out = outcomes(label(late="5us"), units(("a", 100)), events(("a", time, time, 9.0)), 200)
    assert out["known"].item() is found


@pytest.mark.parametrize(("known", "found"), [(114, True), (115, False)])
def test_an_outcome_counts_if_it_is_known_before_the_label_is_mature(known, found):
    out = outcomes(label(late="5us"), units(("a", 100)), events(("a", 105, known, 9.0)), 200)
    assert out.row(0) == (True, 115, 1.0 if found else None, found, 1 if found else None)


# Versions of one event: (until, minutes) after (known, minutes), each superseding the one before it.
corrected = st.lists(
    st.tuples(keys, instants, st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, 1.0, 9.0]))))
)


@given(st.lists(st.tuples(keys, instants), min_size=1, max_size=6), corrected, st.integers(-20, 60))
def test_of_an_event_that_is_corrected_the_version_counts_that_was_known_when_the_label_matured(asked, rows, now):
    definition = label(late="7us")
    all_rows, untils = [], []
    for key, time, chain in rows:
        known = time
        for n, (delay, minutes) in enumerate(chain):
            known += delay
            all_rows.append((key, time, known, minutes))
            untils.append(known + chain[n + 1][0] if n + 1 < len(chain) else None)
    frame = events(*all_rows).with_columns(pl.Series("_until_known_at", untils, dtype=pl.Int64).cast(UTC_US))
    said = outcomes(definition, units(*asked), frame, now).rows()
    for row, (unit, t) in zip(said, asked, strict=True):
        mature = t + definition.horizon_us
        held = [
            (*r[:2], r[2] if until is None or until >= mature else 10**9, r[3])
            for r, until in zip(all_rows, untils, strict=True)
        ]
        assert row == oracle(definition, unit, t, held, now, [])


def test_an_outcome_that_was_taken_back_before_the_label_matured_is_none():
    happened = events(("a", 105, 105, 9.0), ("a", 105, 109, 1.0))
    taken_back = pl.Series("_until_known_at", [109, 109], dtype=pl.Int64).cast(UTC_US)  # the second is a delete
    out = outcomes(label(), units(("a", 100)), happened.with_columns(taken_back), 200)
    assert out.row(0) == (True, 110, None, False, None)


def test_an_outcome_that_is_corrected_after_the_label_matured_stays_what_it_was():
    happened = events(("a", 105, 105, 9.0), ("a", 105, 110, 1.0))
    untils = pl.Series("_until_known_at", [110, None], dtype=pl.Int64).cast(UTC_US)
    out = outcomes(label(), units(("a", 100)), happened.with_columns(untils), 200)
    assert out.row(0) == (True, 110, 1.0, True, 1)


def test_a_label_is_mature_at_its_moment_and_not_before():
    asked, happened = units(("a", 100)), events(("a", 105, 105, 9.0))
    assert outcomes(label(), asked, happened, 109).row(0) == (False, 110, None, False, None)
    assert outcomes(label(), asked, happened, 110).row(0) == (True, 110, 1.0, True, 1)


def test_the_first_event_wins_ties_go_to_the_earlier_known_then_the_earlier_in_the_log():
    happened = events(("a", 105, 109, 1.0), ("a", 105, 107, 9.0), ("a", 106, 106, 1.0), ("a", 105, 107, 1.0))
    assert outcomes(label(), units(("a", 100)), happened, 200).row(0) == (True, 110, 1.0, True, 2)


def test_an_event_known_too_late_gives_way_to_the_next():
    happened = events(("a", 101, 500, 9.0), ("a", 102, 501, 9.0), ("a", 103, 104, 1.0))
    assert outcomes(label(), units(("a", 100)), happened, 600).row(0) == (True, 110, 0.0, True, 3)


def test_a_unit_that_comes_of_age_in_an_incident_is_held_though_an_outcome_is_there():
    asked, happened = units(("a", 100), ("b", 100)), events(("a", 105, 105, 9.0))
    held = outcomes(label(otherwise=False), asked, happened, 150, [(108, None)])
    assert held["matured"].to_list() == [False, False]
    assert held["mature_at_us"].to_list() == [None, None]


def test_what_is_mended_before_the_incident_closes_counts():
    asked, happened = units(("a", 100), ("b", 100)), events(("a", 105, 140, 9.0))
    closed = outcomes(label(otherwise=False), asked, happened, 150, [(108, 145)])
    assert closed["y"].to_list() == [1.0, 0.0]
    assert closed["mature_at_us"].to_list() == [145, 145]


def test_incidents_before_or_after_the_label_came_of_age_hold_nothing():
    out = outcomes(label(), units(("a", 100)), events(("a", 105, 105, 9.0)), 200, [(90, 110), (111, None)])
    assert out.row(0) == (True, 110, 1.0, True, 1)


def test_incidents_that_overlap_or_touch_hold_until_the_last_closes():
    mature = np.array([5, 10, 19, 20, 29, 30])
    assert held_until(mature, [(20, 30), (10, 20), (12, 18)]).tolist() == [5, 30, 30, 30, 30, 30]


def test_an_outcome_without_a_value_is_excluded_and_not_otherwise():
    out = outcomes(label(otherwise=True), units(("a", 100)), events(("a", 105, 105, None)), 200)
    assert out.row(0) == (True, 110, None, True, 1)


def test_no_units_and_no_events_are_fine():
    assert outcomes(label(), units(), events(), 0).is_empty()
    assert outcomes(label(otherwise=False), units(("a", 100), (None, 3)), events(), 200)["y"].to_list() == [0.0, 0.0]


def test_one_key_with_all_the_events_and_all_the_units():
    n = 20_000
    happened = events(*[("a", 10 * i, 10 * i, 9.0 if i % 2 else 1.0) for i in range(n)])
    out = outcomes(label(), units(*[("a", 10 * i) for i in range(n)]), happened, 10 * n + 10)
    assert out["event_offset"].to_list() == list(range(1, n + 1))
    assert out["y"].sum() == n // 2
