"""Replay against the oracle, and every named edge of a window."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import (
    HOUR_US,
    OVER_TEN,
    assert_is_oracle,
    every_aggregate,
    feature,
    frame,
    keys_frame,
    make_view,
    record,
)

from mainspring import col
from mainspring.core.errors import ConfigError
from mainspring.features.replay import replay
from mainspring.features.status import Status

NUMBERS = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 15.0, 1e16, -1e16, 1e300, -1e300, 5e-324, 1e-170]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-100, 100),
)
KEYS = st.sampled_from(["a", "b", "", "ключ", None])
TIMES = st.integers(-60, 60)
VIEW = make_view(
    *every_aggregate(10, suffix="_10"),
    *every_aggregate(40, suffix="_40"),
    *every_aggregate(None, suffix="_ever"),
    feature("rows", "count", window=25),
    feature("share", "mean", OVER_TEN, 40),
    feature("big", "sum", "x", 40, where=OVER_TEN),
    feature("rows_over", "count", window=40, where=OVER_TEN),
    feature("age_over", "age", window=40, where=OVER_TEN),
    feature("fresh", "last", "x", ttl=7),
    feature("fresh_in_window", "last", "x", 20, ttl=7),
    feature("n_rows", "count", "n", 40),
    feature("keyed", "count", "k", 40),
)


@st.composite
def events(draw):
    """Events in the order of the log: late, simultaneous, with null keys and values, known in any order."""
    rows = draw(st.lists(st.tuples(KEYS, NUMBERS, TIMES, st.integers(0, 30)), max_size=40))
    return [record(i + 1, k, x, t, t + d, n=i if i % 3 else None) for i, (k, x, t, d) in enumerate(rows)]


@given(events(), st.lists(st.tuples(KEYS, TIMES, st.integers(-60, 90)), min_size=1, max_size=6))
def test_replay_at_a_known_time_is_the_oracle(records, moments):
    keys, t_us, known = [(k,) for k, _, _ in moments], [t for _, t, _ in moments], [u for _, _, u in moments]
    values, status = replay(VIEW, frame(records), keys_frame(keys), np.array(t_us), known_us=np.array(known))

    def is_known(i):
        return lambda row: row["_known_at"] < known[i]

    assert_is_oracle(VIEW, records, keys, t_us, values, status, known=is_known)


@given(events(), st.lists(st.tuples(KEYS, TIMES, st.integers(0, 40)), min_size=1, max_size=6))
def test_replay_at_a_log_offset_is_the_oracle(records, moments):
    keys, t_us, folded = [(k,) for k, _, _ in moments], [t for _, t, _ in moments], [o for _, _, o in moments]
    values, status = replay(VIEW, frame(records), keys_frame(keys), np.array(t_us), known_offset=np.array(folded))

    def is_known(i):
        return lambda row: row["_offset"] <= folded[i]

    assert_is_oracle(VIEW, records, keys, t_us, values, status, known=is_known)


def test_the_order_of_the_history_frame_changes_nothing():
    rng = np.random.default_rng(3)
    records = [
        record(i + 1, "ab"[i % 2], float(x), int(t))
        for i, (x, t) in enumerate(zip(rng.lognormal(0, 9, 900), rng.integers(0, 300, 900), strict=True))
    ]
    keys, t_us = keys_frame([("a",), ("b",)] * 150), np.arange(300)
    view = make_view(*every_aggregate(50, suffix="_50"), *every_aggregate(200, suffix="_200"), *every_aggregate(None))
    history = frame(records)
    first = replay(view, history, keys, t_us, known_us=1000)
    for seed in range(3):
        shuffled = history.sample(fraction=1.0, shuffle=True, seed=seed)
        for a, b in zip(first, replay(view, shuffled, keys, t_us, known_us=1000, threads=1), strict=True):
            assert a.tobytes() == b.tobytes()


def test_long_keys_are_read_through_summaries_and_stay_the_oracle():
    rng = np.random.default_rng(4)
    n = 700
    rows = zip(
        rng.choice(["a", "b"], n),
        rng.normal(1e6, 1.0, n),
        np.sort(rng.integers(-5_000, 5_000, n)),
        rng.integers(0, 900, n),
        strict=True,
    )
    records = [
        record(i + 1, k, None if i % 11 == 0 else float(x), int(t), int(t + d)) for i, (k, x, t, d) in enumerate(rows)
    ]
    view = make_view(
        *every_aggregate(900, suffix="_900"),
        *every_aggregate(4_000, suffix="_4000"),
        *every_aggregate(None),
        feature("over", "last", "x", 2_000, where=OVER_TEN),
    )
    keys, t_us = [("a",), ("b",)] * 12, rng.integers(-5_000, 6_000, 24).tolist()
    values, status = replay(view, frame(records), keys_frame(keys), np.array(t_us), known_us=np.array(t_us) + 200)
    assert_is_oracle(
        view, records, keys, t_us, values, status, known=lambda i: lambda row: row["_known_at"] < t_us[i] + 200
    )


def one(view, records, t, key="a", **moment):
    """Values and statuses by feature name at one moment, with everything known unless said."""
    values, status = replay(
        view, frame(records), keys_frame([(key,)]), np.array([t]), **(moment or {"known_offset": 1 << 60})
    )
    return {
        f.name: (None if np.isnan(v) else v, Status(s))
        for f, v, s in zip(view.features, values[0], status[0], strict=True)
    }


COUNT = make_view(feature("n", "count", window=10), feature("last", "last", "x", 10))


@pytest.mark.parametrize(
    "start", [0, -1_000_000_007, 1_700_000_000_000_000, -(60 * 365 * 86_400_000_000), 32_472_144_000_000_000]
)
@pytest.mark.parametrize(
    ("away", "inside"), [(0, False), (-1, True), (1, False), (-10, True), (-11, False), (-9, True)]
)
def test_a_window_holds_its_begin_and_not_its_end_to_the_microsecond_in_any_year(start, away, inside):
    got = one(COUNT, [record(1, "a", 7.0, start + away)], start)
    assert got == (
        {"n": (1.0, Status.PRESENT), "last": (7.0, Status.PRESENT)}
        if inside
        else {"n": (0.0, Status.PRESENT), "last": (None, Status.MISSING)}
    )


def test_an_event_known_exactly_at_k_is_not_yet_known():
    records = [record(1, "a", 1.0, 0, known_us=50)]
    assert one(COUNT, records, 5, known_us=50)["n"][0] == 0.0
    assert one(COUNT, records, 5, known_us=51)["n"][0] == 1.0


def test_an_offset_that_was_folded_is_known():
    records = [record(4, "a", 1.0, 0)]
    assert one(COUNT, records, 5, known_offset=3)["n"][0] == 0.0
    assert one(COUNT, records, 5, known_offset=4)["n"][0] == 1.0


def test_simultaneous_events_are_ordered_by_known_at_then_by_offset():
    same_time = [record(1, "a", 1.0, 0, 30), record(2, "a", 2.0, 0, 20), record(3, "a", 3.0, 0, 30)]
    assert one(COUNT, same_time, 5)["last"][0] == 3.0
    assert one(COUNT, same_time[:2], 5)["last"][0] == 1.0


def test_an_event_at_the_moment_does_not_count_itself():
    assert one(COUNT, [record(1, "a", 1.0, 5)], 5)["n"][0] == 0.0


def test_a_key_that_was_never_seen_and_a_null_key_count_zero_and_are_missing():
    records = [record(1, "a", 1.0, 0), record(2, None, 2.0, 0)]
    for key in ("b", None):
        assert one(COUNT, records, 5, key) == {"n": (0.0, Status.PRESENT), "last": (None, Status.MISSING)}


def test_an_empty_source_answers_everything():
    assert one(COUNT, [], 5) == {"n": (0.0, Status.PRESENT), "last": (None, Status.MISSING)}
    values, status = replay(COUNT, frame([]), keys_frame([]), np.array([], np.int64), known_us=1)
    assert values.shape == status.shape == (0, 2)


def test_a_latest_value_expires_once_it_is_older_than_its_ttl():
    view = make_view(feature("last", "last", "x", ttl=10))
    records = [record(1, "a", 1.0, 0), record(2, "a", None, 8)]
    assert one(view, records, 10)["last"] == (1.0, Status.PRESENT)
    assert one(view, records, 11)["last"] == (None, Status.EXPIRED)
    assert one(view, [], 11)["last"] == (None, Status.MISSING)


def test_one_key_with_all_the_events_is_answered_like_any_other():
    records = [record(i + 1, "a", 0.1, i) for i in range(5_000)]
    got = one(make_view(feature("sum", "sum", "x"), feature("n", "count", window=4_000)), records, 5_000)
    assert got == {"sum": (500.0, Status.PRESENT), "n": (4_000.0, Status.PRESENT)}


def test_a_composite_entity_joins_all_its_parts_and_none_that_is_null():
    view = make_view(feature("n", "count", window=100), entity=("k", "n"))
    records = [
        record(1, "a", 1.0, 0, n=1),
        record(2, "a", 1.0, 0, n=2),
        record(3, "a", 1.0, 0, n=None),
        record(4, None, 1.0, 0, n=1),
    ]
    keys = [("a", 1), ("a", 2), ("a", 3), ("a", None), (None, 1)]
    values, _ = replay(view, frame(records), keys_frame(keys, ("k", "n")), np.full(5, 5), known_us=9)
    assert values[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_where_is_part_of_its_aggregate_and_a_null_condition_does_not_hold():
    view = make_view(feature("n", "count", window=100, where=col("x") > 1), feature("age", "age", where=col("x") > 1))
    records = [record(1, "a", 2.0, 0), record(2, "a", None, 1_000_000), record(3, "a", 0.5, 2_000_000)]
    assert one(view, records, 3_000_000)["age"] == (3.0, Status.PRESENT)
    assert one(view, records, 90)["n"] == (1.0, Status.PRESENT)


def test_what_is_not_finite_is_null_and_minus_zero_is_zero():
    view = make_view(
        feature("ratio", "sum", col("x") / col("n"), 100),
        feature("least", "min", "x", 100),
        feature("n", "count", "x", 100),
    )
    records = [
        record(1, "a", 1.0, 0, n=0),
        record(2, "a", 6.0, 0, n=2),
        record(3, "a", -0.0, 0, n=1),
        record(4, "a", float("nan"), 0, n=1),
    ]
    got = one(view, records, 5)
    assert got["ratio"][0] == 3.0
    assert got["n"][0] == 3.0
    assert np.float64(got["least"][0]).tobytes() == np.float64(0.0).tobytes()


def test_integers_at_the_ends_of_int64_are_summed_as_the_nearest_floats():
    view = make_view(feature("sum", "sum", "n"), feature("max", "max", "n"), feature("min", "min", "n"))
    records = [record(1, "a", 0.0, 0, n=2**63 - 1), record(2, "a", 0.0, 0, n=-(2**63)), record(3, "a", 0.0, 0, n=3)]
    assert [v for v, _ in one(view, records, 5).values()] == [3.0, 2.0**63, -(2.0**63)]


def test_a_window_longer_than_time_itself_is_answered():
    view = make_view(feature("n", "count", window=2**62 + 7), feature("m", "count", window=10**26))
    assert [v for v, _ in one(view, [record(1, "a", 0.0, -(6 * 10**16))], 2 * 10**17).values()] == [1.0, 1.0]


def test_a_literal_is_aggregated_once_an_event():
    view = make_view(feature("sum", "sum", pl.lit(2.5), 100))
    assert one(view, [record(1, "a", None, 0), record(2, "a", None, 1)], 5)["sum"][0] == 5.0


def test_read_only_and_strided_inputs_are_taken_as_they_are():
    t_us = np.arange(20)[::2]
    t_us.flags.writeable = False
    values, _ = replay(
        COUNT, frame([record(1, "a", 1.0, 0)]), keys_frame([("a",)] * 10), t_us, known_us=pl.Series([99] * 10)
    )
    assert values[:, 0].sum() == 5.0


def test_a_moment_needs_one_way_to_say_what_was_known():
    for moment in ({}, {"known_us": 1, "known_offset": 1}):
        with pytest.raises(ConfigError, match="MS-F102"):
            replay(COUNT, frame([]), keys_frame([]), np.array([], np.int64), **moment)


def test_hours_and_days_are_exact_spans():
    view = make_view(feature("day", "count", window=24 * HOUR_US))
    assert one(view, [record(1, "a", 1.0, 0)], 24 * HOUR_US)["day"][0] == 1.0
    assert one(view, [record(1, "a", 1.0, 0)], 24 * HOUR_US + 1)["day"][0] == 0.0
