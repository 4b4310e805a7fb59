"""Statistics kept by the fold: exact where they can be, within their bound else, and the same in a replay."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import feature, fold_all, frame, make_view, record

from mainspring import col
from mainspring.definitions.values import DAY_US
from mainspring.features.fold import Folder
from mainspring.features.layout import compile_view
from mainspring.features.statistics import (
    KEEP_DAYS,
    QUANTILE_ERROR,
    ColumnStatistics,
    by_feature,
    exact_units,
    merged,
    read_days,
    read_feeds,
)
from mainspring.features.store import OnlineStore

VIEW = make_view(
    feature("mean", "mean", "x", 10),
    feature("rides", "count", None, 10),
    feature("big", "sum", "x", 10, where=col("x") > 10),
    feature("n", "last", "n", 10),
)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)


def days_of(store, view=VIEW):
    with store.env.begin() as txn:
        return read_days(txn, store.statistics, store.root(txn).views[f"{view.name}@{view.version}"].id)


def raw_of(store):
    """What is kept of every view, byte for byte, without the view's own number."""
    with store.env.begin() as txn, txn.cursor(store.statistics) as cursor:
        return {bytes(key)[4:]: bytes(raw) for key, raw in cursor}


RECORDS = [
    record(i + 1, "abc"[i % 3] if i % 7 else None, None if i % 5 == 0 else x, i * DAY_US // 3, n=i)
    for i, x in enumerate([1e16, 1.0, -1e16, 0.1, 25.0, -0.0, 3.5, 1e-300, 12.0, 11.0, 0.2, 7.0, 1e300, 2.0, 9.0] * 3)
]


@given(st.sets(st.integers(1, len(RECORDS) - 1), max_size=6))
@settings(max_examples=15, deadline=None)
def test_what_is_kept_does_not_depend_on_batches_or_restarts_and_is_that_of_a_backfill(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("states")
    kept = []
    for name, how in (("live", cuts), ("at_once", ())):
        with OnlineStore.open(folder / name, 1 << 26, writable=True) as store:
            fold_all(store, [VIEW], RECORDS, how)
            kept.append(raw_of(store))
    with OnlineStore.open(folder / "replay", 1 << 26, writable=True) as store:
        Folder([VIEW], store).backfill(VIEW, frame(RECORDS), len(RECORDS))
        kept.append(raw_of(store))
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 16  # fifteen days and one source


def test_each_column_is_counted_by_itself(store):
    fold_all(store, [VIEW], RECORDS)
    seen = [(r.values[1], r.values[2]) for r in RECORDS if r.values[0] is not None]
    found = by_feature(compile_view(VIEW), merged(days_of(store).values()))
    xs = [x for x, _ in seen if x is not None]
    assert (found["mean"].values, found["mean"].nulls) == (len(xs), len(seen) - len(xs))
    assert (found["mean"].low, found["mean"].high) == (min(xs), max(xs))
    assert found["mean"].mean == math.fsum(xs) / len(xs)
    assert found["big"].values == sum(x > 10 for x in xs)
    assert found["n"].quantile(0.5) == pytest.approx(
        sorted(n for _, n in seen)[(len(seen) - 1) // 2], rel=QUANTILE_ERROR
    )
    assert found["rides"].to_dict() == {
        "values": len(seen), "nulls": 0, "min": None, "max": None, "mean": None,
        "p01": None, "p25": None, "p50": None, "p75": None, "p99": None,
    }  # fmt: skip


@given(st.lists(FINITE, min_size=1, max_size=60))
def test_sums_are_exact(numbers):
    assert exact_units(np.array(numbers)) == sum(_units(n) for n in numbers)


def _units(x):
    """A float as a whole number of 2^-1074, by Python's own fractions."""
    from fractions import Fraction

    return int(Fraction(x) * 2**1074)


@given(st.lists(FINITE, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_its_bound(numbers, q):
    one = ColumnStatistics()
    one.add(np.array(numbers), measured=True)
    want = sorted(numbers)[int(q * (len(numbers) - 1))]
    smallest_normal = 2.3e-308  # below it floats themselves are that far apart
    assert abs(one.quantile(q) - want) <= abs(want) * QUANTILE_ERROR + smallest_normal


@given(st.lists(st.lists(FINITE, max_size=20), min_size=2, max_size=5))
def test_merging_is_adding(parts):
    merged_parts, whole = ColumnStatistics(), ColumnStatistics()
    for part in parts:
        one = ColumnStatistics()
        one.add(np.array(part), measured=True)
        merged_parts.merge(one)
        whole.add(np.array(part), measured=True)
    assert merged_parts.to_dict() == whole.to_dict()
    assert merged_parts.units == whole.units


def test_days_that_lie_far_back_are_let_go_of(store):
    old = [record(1, "a", 1.0, 0), record(2, "a", 2.0, KEEP_DAYS * DAY_US)]
    fold_all(store, [VIEW], old)
    assert list(days_of(store)) == [KEEP_DAYS]
    fold_all(store, [VIEW], [*old, record(3, "a", 3.0, 5, known_us=KEEP_DAYS * DAY_US + 1)])
    assert days_of(store)[KEEP_DAYS][0].values == 2  # by when it became known, not by its event time


def test_a_fold_that_fails_leaves_nothing_behind(store):
    fold_all(store, [VIEW], RECORDS[:10])
    before = raw_of(store)
    folder = Folder([VIEW], store)
    folder.fold(RECORDS[10:12])
    with pytest.raises(AttributeError):
        folder.fold([RECORDS[12], object()])
    folder.fold(RECORDS[12:])
    assert raw_of(store) != before
    with OnlineStore.open(store.path.parent / "other", 1 << 26, writable=True) as other:
        fold_all(other, [VIEW], RECORDS)
        assert raw_of(store) == raw_of(other)


def test_a_view_knows_what_it_had_of_its_sources(store):
    fold_all(store, [VIEW], RECORDS)
    named = [r for r in RECORDS if r.values[0] is not None]
    with store.env.begin() as txn:
        feeds = read_feeds(txn, store.statistics, store.root(txn).views[f"view@{VIEW.version}"].id)
    (feed,) = feeds.values()
    assert (feed.events, feed.newest_known_us) == (len(named), named[-1].known_at_us)


def test_dropping_a_view_drops_its_statistics(store):
    folder = Folder([VIEW], store)
    folder.fold(RECORDS)
    folder.drop(f"view@{VIEW.version}")
    assert raw_of(store) == {}


def test_words_are_counted_and_not_measured(store):
    named = make_view(feature("who", "last", "k", 10), feature("least", "min", "x", 10))
    fold_all(store, [named], RECORDS)
    found = by_feature(compile_view(named), merged(days_of(store, named).values()))
    assert found["who"].values == sum(r.values[0] is not None for r in RECORDS)
    assert (found["who"].to_dict()["p50"], found["who"].to_dict()["max"]) == (None, None)
    assert found["least"].to_dict()["p50"] is not None
