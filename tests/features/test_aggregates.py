"""Every aggregate against the oracle: in replay, over drawn streams and definitions, and by name at its edges."""

import itertools
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import (
    HOUR_US,
    OVER_TEN,
    assert_frame_is_oracle,
    assert_is_oracle,
    every_aggregate,
    feature,
    frame,
    keys_frame,
    make_view,
    owners_of,
    record,
    stamp,
    word,
)

from mainspring import col
from mainspring.definitions.features import AGGREGATES, NUMERIC
from mainspring.features.fold import Folder
from mainspring.features.reader import Reader
from mainspring.features.replay import replay
from mainspring.features.status import Status
from mainspring.features.store import OnlineStore
from mainspring.features.words import texts_of

NUMBERS = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 15.0, 1e16, -1e16, 1e300, -1e300, 5e-324, 1e-170]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-3, 3).map(float),
)
WHOLE = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1, 2**53]))
TEXTS = st.sampled_from([None, "", "a", "b", "ключ", "a rather longer text than thirty-two bytes"])
VECTORS = st.one_of(st.none(), st.lists(st.floats(-2, 2), min_size=3, max_size=3))
KEYS = st.sampled_from(["a", "a", "b", None])
TIMES = st.integers(-60, 60)
VALUES = {"float": "x", "int": "n", "str": "s", "datetime": "at", "vector": "v"}


@st.composite
def aggregates(draw):
    """A view of a few aggregates over one of a few windows, of any value that they take."""
    found = []
    for i in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(sorted(AGGREGATES)))
        takes = AGGREGATES[name].takes
        of = draw(st.sampled_from([VALUES[kind] for kind in takes if kind in VALUES])) if takes else None
        if takes == NUMERIC and draw(st.booleans()):
            of = OVER_TEN  # a bool
        if AGGREGATES[name].optional and draw(st.booleans()):
            of = None
        window = draw(st.sampled_from([None, 1, 20, 40] if name != "rate" else [1, 20, 40]))
        rest = {
            "last_k": lambda: {"k": draw(st.integers(1, 4))},
            "top_k": lambda: {"k": draw(st.integers(1, 4))},
            "quantile": lambda: {"q": draw(st.sampled_from([0.0, 0.25, 0.5, 0.99, 1.0]))},
            "ewma": lambda: {"half_life_us": draw(st.sampled_from([1, 7, 1000]))},
            "trend": lambda: {"per_us": draw(st.sampled_from([1, 3_600_000_000]))},
        }.get(name, dict)()
        ttl = draw(st.sampled_from([None, 7])) if name in ("last", "last_k") else None
        where = draw(st.sampled_from([None, None, OVER_TEN, col("s") == "a"]))
        found.append(feature(f"f{i}", name, of, window, ttl, where, **rest))
    return make_view(*found, hop_us=draw(st.sampled_from([None, None, 1, 10])))


@st.composite
def events(draw):
    """Events in the order of the log: late, simultaneous, with null keys and values, known in any order."""
    rows = st.tuples(KEYS, NUMBERS, TIMES, st.integers(0, 30), WHOLE, TEXTS, VECTORS)
    found = draw(st.lists(rows, max_size=30))
    return [record(i + 1, k, x, t, t + d, n, s, v) for i, (k, x, t, d, n, s, v) in enumerate(found)]


@given(aggregates(), events(), st.lists(st.tuples(KEYS, TIMES, st.integers(-60, 90)), min_size=1, max_size=8))
def test_replay_of_any_aggregates_is_the_oracle(view, records, moments):
    keys, t_us, known = [(k,) for k, _, _ in moments], [t for _, t, _ in moments], [u for _, _, u in moments]
    values, status = replay(view, frame(records), keys_frame(keys), np.array(t_us), known_us=np.array(known))

    def is_known(i):
        return lambda row: row["_known_at"] < known[i]

    assert_is_oracle(view, records, keys, t_us, values, status, known=is_known)


@given(
    aggregates(),
    events(),
    st.lists(st.one_of(st.none(), st.integers(0, 40)), min_size=30, max_size=30),
    st.lists(st.tuples(KEYS, TIMES, st.integers(0, 40)), min_size=1, max_size=8),
)
def test_a_corrected_event_counts_until_its_correction_is_known(view, records, untils, moments):
    history = frame(records).with_columns(pl.Series("_until_offset", untils[: len(records)], pl.Int64))
    keys, t_us, folded = [(k,) for k, _, _ in moments], [t for _, t, _ in moments], [o for _, _, o in moments]
    values, status = replay(view, history, keys_frame(keys), np.array(t_us), known_offset=np.array(folded))

    def is_known(i):
        never = math.inf
        return lambda row: (
            row["_offset"] <= folded[i] < (never if row["_until_offset"] is None else row["_until_offset"])
        )

    assert_frame_is_oracle(view, history, keys, t_us, values, status, known=is_known)


@given(
    st.data(),
    st.lists(aggregates(), min_size=1, max_size=2),
    st.lists(st.integers(1, 30), max_size=4),
)
def test_live_aggregates_are_those_of_replay_and_the_oracle_for_any_batches(tmp_path_factory, data, views, cuts):
    """With hours between events, so that some are let go of; every batch is folded by a new worker."""
    hours = st.sampled_from([0, 1, 2, 30 * 60_000_000, HOUR_US, HOUR_US + 30, 3 * HOUR_US])
    records, at = [], 0
    for i, (k, x, ahead, late, n, s, v) in enumerate(
        data.draw(st.lists(st.tuples(KEYS, NUMBERS, hours, hours, WHOLE, TEXTS, VECTORS), min_size=1, max_size=30))
    ):
        at += ahead + 1
        records.append(record(i + 1, k, x, at - late, at, n, s, v))
    views = [replace(view, name=f"view_{i}") for i, view in enumerate(views)]
    edges = sorted({0, len(records), *(c for c in cuts if c < len(records))})
    with OnlineStore.open(tmp_path_factory.mktemp("state"), 1 << 26, writable=True) as store:
        reader = Reader(views, store)
        for a, b in itertools.pairwise(edges):
            Folder(views, store).fold(records[a:b])
            clock = records[b - 1].known_at_us
            moments = [(k, clock + away) for k in ("a", "b", None) for away in (-HOUR_US, -7, 0, 1, 20)]
            keys, t_us = [(k,) for k, _ in moments], np.array([t for _, t in moments])
            for view in views:
                with reader.snapshot() as snap:
                    values, status = snap.read(view, keys, t_us)
                    texts = {w: snap.texts(np.array([w]))[0] for w in texts_of(view, frame(records[:b]))}
                assert texts == texts_of(view, frame(records[:b]))

                def is_known(_, b=b):
                    return lambda row: row["_offset"] <= b

                assert_is_oracle(view, records, keys, t_us.tolist(), values, status, known=is_known)
                again, codes = replay(view, frame(records), keys_frame(keys), t_us, known_offset=b)
                exact = [i for i, f in enumerate(owners_of(view)) if f.function not in ("var", "std")]
                assert np.ascontiguousarray(values[:, exact]).tobytes() == again[:, exact].tobytes()
                assert np.array_equal(status, codes)


def one(view, records, t, key="a"):
    """(value, status) of each slot at one moment, by its name, with everything known."""
    values, status = replay(view, frame(records), keys_frame([(key,)]), np.array([t]), known_offset=1 << 60)
    return {
        name.removeprefix("view__"): (None if np.isnan(v) else v, Status(s))
        for name, v, s in zip(view.column_names, values[0], status[0], strict=True)
    }


def only(function, *xs, of="x", t=None, **rest):
    """The answers of one aggregate, without an end, over values at 0, 1, 2 … microseconds."""
    records = [record(i + 1, "a", **{"x": None, of: x}, at_us=i) for i, x in enumerate(xs)]
    return [
        v for v, _ in one(make_view(feature("f", function, of, **rest)), records, len(xs) if t is None else t).values()
    ]


@pytest.mark.parametrize("window", [10, None])
def test_of_nothing_counts_are_zero_and_present_and_all_else_is_null_and_missing(window):
    view = make_view(*every_aggregate(window))
    for records, key in (([], "a"), ([record(1, "a", 1.0, 0)], "b"), ([record(1, "a", None, 0)], "a")):
        for f, (value, status) in zip(view.features, one(view, records, 5, key).values(), strict=True):
            seen = f.value is None and key == "a" and bool(records)
            counts = f.function in ("count", "rate", "distinct", "approx_distinct")
            assert (value, status) == ((0.0, Status.PRESENT) if counts else (None, Status.MISSING)) or seen, f.name


def test_last_k_gives_the_latest_first_and_null_where_there_are_fewer():
    assert only("last_k", 1.0, 2.0, None, 3.0, 4.0) == [4.0, 3.0, 2.0]
    assert only("last_k", 7.0) == [7.0, None, None]


def test_each_of_the_last_k_values_expires_by_its_own_age():
    view = make_view(feature("f", "last_k", "x", ttl=10))
    got = one(view, [record(1, "a", 1.0, 0), record(2, "a", 2.0, 8)], 15)
    assert list(got.values()) == [(2.0, Status.PRESENT), (None, Status.EXPIRED), (None, Status.MISSING)]


def test_the_most_frequent_values_come_first_and_ties_by_value():
    assert only("top_k", 5.0, -1.0, 2.0, 2.0, -1.0, 9.0) == [-1.0, 2.0, 5.0]
    texts = only("top_k", "b", "a", "b", "c", of="s", k=2)
    assert texts == [word("b"), min(word("a"), word("c"))]


def test_distinct_counts_values_and_minus_zero_is_zero():
    assert only("distinct", 0.0, -0.0, 1.0, None, math.nan, 1.0) == [2.0]
    assert only("distinct", "", "a", "A", "a", of="s") == [3.0]


def test_a_quantile_takes_negative_values_and_zero():
    assert only("quantile", -8.0, 0.0, 1e-320, q=0.5) == [0.0]
    (least,) = only("quantile", 3.0, -8.0, 0.0, q=0.0)
    assert abs(least + 8.0) <= 8.0 / 128


def test_an_event_weighs_half_as_much_for_each_half_life_of_its_age():
    assert only("ewma", 0.0, 1.0, half_life_us=1) == [2 / 3]
    assert only("ewma", 3.0, 3.0, 3.0, half_life_us=7) == [3.0]
    assert only("ewma", 1.0, -1.0, half_life_us=1, t=10**9) == only("ewma", 1.0, -1.0, half_life_us=1)


def test_an_event_a_thousand_half_lives_older_still_counts_and_one_beyond_does_not():
    view = make_view(feature("f", "ewma", "x", half_life_us=10))
    for age, share in ((10_230, 2.0**-1023), (10_250, 0.0)):
        records = [record(1, "a", 1.0, 0), record(2, "a", 0.0, age)]
        assert one(view, records, age + 1)["f"] == (pytest.approx(share, rel=1e-12, abs=0), Status.PRESENT)


def test_a_trend_is_the_slope_per_unit_of_time_and_null_at_one_instant():
    view = make_view(feature("f", "trend", "x", per_us=1_000_000))
    line = [record(i + 1, "a", 1e9 + 0.25 * i, -(10**15) + i * 500_000) for i in range(5)]
    assert one(view, line, 0)["f"] == (0.5, Status.PRESENT)
    assert one(view, [record(1, "a", 1.0, 3), record(2, "a", 2.0, 3)], 9)["f"] == (None, Status.MISSING)
    assert one(view, line[:1], 0)["f"] == (None, Status.MISSING)


def test_a_rate_is_the_count_over_the_window_and_not_over_what_is_in_it():
    view = make_view(feature("f", "rate", None, window=4 * HOUR_US, per_us=HOUR_US))
    assert one(view, [record(1, "a", None, 0), record(2, "a", None, 1)], 9)["f"] == (0.5, Status.PRESENT)


def test_a_vector_is_answered_whole_or_not_at_all():
    view = make_view(feature("first", "first", "v"), feature("last", "last", "v", 10, ttl=4))
    records = [record(1, "a", None, 0, v=[1.0, 2.0, 3.0]), record(2, "a", None, 5, v=[4.0, math.nan, 6.0])]
    got = list(one(view, records, 4).values())
    assert got == [(float(i), Status.PRESENT) for i in (1, 2, 3)] * 2
    assert list(one(view, records, 9).values())[3:] == [(None, Status.EXPIRED)] * 3


def test_instants_are_answered_as_microseconds():
    records = [record(i + 1, "a", None, t) for i, t in enumerate((-(10**15), 5, 10**15 + 1))]
    view = make_view(*(feature(f, f, "at") for f in ("min", "max", "first", "last")))
    assert [v for v, _ in one(view, records, 10**16).values()] == [-1e15, 1e15 + 1, -1e15, 1e15 + 1]


def test_a_hop_begins_windows_at_its_multiples_also_before_1970():
    view = make_view(feature("n", "count", None, 10), feature("d", "distinct", "x", 10), hop_us=8)
    for t, floor in ((20, 8), (17, 0), (-3, -16), (10, 0)):
        records = [record(1, "a", 1.0, floor - 1), record(2, "a", 2.0, floor), record(3, "a", 3.0, t)]
        assert [v for v, _ in one(view, records, t).values()] == [1.0, 1.0], t


def test_one_key_with_all_the_events_slides_as_it_would_be_read_afresh():
    """Corrected, late and known in any order; moments that rise and moments that do not."""
    rng = np.random.default_rng(8)
    n = 400
    records = [
        record(i + 1, "a", float(x), int(t), int(t + d), n=int(x * 3) % 5, s="abcdefg"[int(x * 5) % 7], v=[1.0, x, 2.0])
        for i, (x, t, d) in enumerate(
            zip(rng.normal(0, 5, n), rng.integers(0, 3_000, n), rng.integers(0, 200, n), strict=True)
        )
    ]
    untils = [stamp(int(rng.integers(0, 4_000))) if rng.random() < 0.2 else None for _ in range(n)]
    history = frame(records).with_columns(pl.Series("_until_known_at", untils, pl.Datetime("us", "UTC")))
    functions = ("last_k", "ewma", "trend", "distinct", "approx_distinct", "quantile", "top_k")
    view = make_view(
        *every_aggregate(300, suffix="_300", functions=functions),
        *every_aggregate(None, suffix="_ever", functions=functions),
        feature("s", "top_k", "s", 500),
        feature("v", "last", "v", 500),
    )
    t_us = np.concatenate((np.sort(rng.integers(0, 3_300, 24)), rng.integers(0, 3_300, 6)))
    known = t_us + rng.integers(0, 150, 30)
    values, status = replay(view, history, keys_frame([("a",)] * 30), t_us, known_us=known)

    def is_known(i):
        def seen(row):
            until = row["_until_known_at"]
            return row["_known_at"] < known[i] and (until is None or until > stamp(int(known[i]) - 1))

        return seen

    assert_frame_is_oracle(view, history, [("a",)] * 30, t_us.tolist(), values, status, known=is_known)
