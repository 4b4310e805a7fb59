"""Corrections of events: a moment sees of each row the version that was known, live and in replay alike."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import (
    DELAYS,
    HOUR_US,
    KEYS,
    NUMBERS,
    OPERATIONS,
    expected,
    fold,
    frames,
    lives,
    read,
    record,
    shown,
    source,
    view,
)

from mainspring import col
from mainspring.features import OnlineStore
from mainspring.features.fold import Folder
from mainspring.features.history import stream
from mainspring.features.replay import replay

PAID, RETURNED = source("paid", "x", corrects=True), source("returned", "x", corrects=True)
PLAIN = source("plain", "x")
SOURCES = (PAID, RETURNED, PLAIN)
FEATURES = [
    (name, function, None if function in ("count", "age") else "x", window, None)
    for window in (2 * HOUR_US, None)
    for function in ("count", "sum", "mean", "min", "max", "last", "age")
    for name in [function if window is None else f"{function}_2h"]
]
ONE = view("one", (PAID,), *FEATURES)
WINDOWED = view("windowed", (PAID,), *FEATURES[: len(FEATURES) // 2], ("big", "count", None, HOUR_US, col("x") > 2))
SEVERAL = view("several", (PAID, RETURNED, PLAIN), *FEATURES, ("paid", "mean", col("_source") == "paid", HOUR_US))
LISTS = [
    (function if window is None else f"{function}_2h", function, "x", window, None, 1 + (function == "last_k"))
    for window in (2 * HOUR_US, None)
    for function in ("first", "distinct", "last_k")
]
SCANNED = view("scanned", (PAID, PLAIN), *LISTS, ("rate", "rate", None, HOUR_US, None, 1, 1_000_000))
VIEWS = (ONE, WINDOWED, SEVERAL, SCANNED)


@st.composite
def histories(draw):
    """Records of history: known in any order."""
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(SOURCES), st.integers(0, 3), KEYS, NUMBERS, OPERATIONS, DELAYS, st.integers(0, 9)
            ),
            max_size=16,
        )
    )
    return [
        record(n, of, f"i{ident}", k, (x,), 10 * HOUR_US + known - delay, 10 * HOUR_US + known, op)
        for n, (of, ident, k, x, op, delay, known) in enumerate(rows, 1)
    ]


def replayed(of, records, key, t_us, **limit):
    """One moment by replay, as the oracle shows it."""
    events = stream(of, frames(of.sources, records).__getitem__)
    asked = pl.DataFrame({"k": [key]}, schema={"k": pl.String})
    found, status = replay(of, events, asked, np.array([t_us]), **{k: np.array([v]) for k, v in limit.items()})
    return shown(found[0], status[0])


@given(
    lives(SOURCES) | histories(), st.sampled_from(VIEWS), KEYS, st.integers(0, 25), st.sampled_from([-1, 0, 1, 2_000])
)
def test_replay_at_an_offset_sees_the_versions_of_that_offset(records, of, key, offset, after):
    t_us = max((r.time_us for r in records), default=0) + after
    assert replayed(of, records, key, t_us, known_offset=offset) == expected(
        of, SOURCES, records, key, t_us, offset, "offset"
    )


@given(lives(SOURCES) | histories(), st.sampled_from(VIEWS), KEYS, st.integers(0, 24), st.sampled_from([0, 1]))
def test_replay_at_a_known_time_sees_the_versions_known_before_it(records, of, key, which, after):
    known = records[which % len(records)].known_at_us + after if records else 5
    t_us = max((r.time_us for r in records), default=0) + 1
    assert replayed(of, records, key, t_us, known_us=known) == expected(of, SOURCES, records, key, t_us, known - 1)


def values(of, row, *names):
    """Values of some features in a row of answers."""
    found = dict(zip((f.name for f in of.features), row, strict=True))
    return tuple(found[name][0] for name in names)


@settings(deadline=None, max_examples=40)
@given(
    lives(SOURCES),
    st.lists(st.integers(1, 23), max_size=6),
    st.lists(st.tuples(KEYS, st.sampled_from([-HOUR_US, -HOUR_US // 3, -2, 0, 1, 2])), min_size=1, max_size=3),
)
def test_the_live_fold_in_any_batches_is_the_oracle(tmp_path_factory, records, cuts, asked):
    if not records:
        return
    with OnlineStore.open(tmp_path_factory.mktemp("state"), 1 << 26, writable=True) as store:
        fold(store, VIEWS, records, cuts)
        clock_us = max(r.known_at_us for r in records)
        for of, (key, after) in itertools.product(VIEWS, asked):
            want = expected(of, SOURCES, records, key, clock_us + after, len(records), "offset")
            assert read(store, of, key, clock_us + after) == want, of.name


@settings(deadline=None, max_examples=40)
@given(lives(SOURCES), st.integers(0, 24), st.lists(st.integers(1, 23), max_size=4), KEYS)
def test_a_view_that_is_backfilled_and_catches_up_goes_on_as_if_it_had_been_there(
    tmp_path_factory, records, upto, cuts, key
):
    upto = min(upto, len(records))
    with OnlineStore.open(tmp_path_factory.mktemp("state"), 1 << 26, writable=True) as store:
        folder = Folder(VIEWS, store)
        for of in VIEWS:
            folder.backfill(of, stream(of, frames(SOURCES, records).__getitem__), upto)
        folder.skip_to(upto)
        edges = sorted({upto, len(records), *(c for c in cuts if upto < c < len(records))})
        for a, b in itertools.pairwise(edges):
            folder.fold(records[a:b])
        if not records:
            return
        t_us = max(r.known_at_us for r in records) + 1
        for of in VIEWS:
            want = expected(of, SOURCES, records, key, t_us, len(records), "offset")
            assert read(store, of, key, t_us) == want, of.name


# --- the named cases --------------------------------------------------------------------------------------------------

AT = 20 * HOUR_US


def of_paid(*rows):
    """Records of ``PAID`` a microsecond apart: (id, key, x, op[, minutes before])."""
    return [
        record(n, PAID, ident, k, (x,), AT + n - sum(before) * 60_000_000, AT + n, op)
        for n, (ident, k, x, op, *before) in enumerate(rows, 1)
    ]


def sums(store, records):
    """Count and sum over two hours and since the beginning of the keys a and b, live; by replay they are the same."""
    fold(store, VIEWS, records)
    out = {}
    for key in "ab":
        live = read(store, ONE, key, AT + 100)
        assert live == replayed(ONE, records, key, AT + 100, known_offset=len(records))
        count_2h, sum_2h, count, total = values(ONE, live, "count_2h", "sum_2h", "count", "sum")
        assert (count_2h, sum_2h) == (count, total)
        out[key] = (count, total)
    return out


@pytest.mark.parametrize(
    ("rows", "a", "b"),
    [
        ([("i", "a", 1.0, "insert"), ("i", "a", 5.0, "update")], (1, 5.0), (0, None)),
        ([("i", "a", 1.0, "insert"), ("i", "b", 5.0, "update")], (0, None), (1, 5.0)),
        ([("i", "a", 1.0, "insert"), ("j", "a", 2.0, "insert"), ("i", "b", 5.0, "delete")], (1, 2.0), (0, None)),
        ([("i", "a", 1.0, "update")], (1, 1.0), (0, None)),
        ([("i", "a", 1.0, "delete"), ("j", "a", 2.0, "insert")], (1, 2.0), (0, None)),
        ([("i", "a", 1.0, "insert"), ("i", "a", 1.0, "delete"), ("i", "b", 3.0, "update")], (0, None), (1, 3.0)),
        ([("i", "a", 1.0, "insert"), ("i", "a", 1.0, "delete"), ("i", "a", 4.0, "insert")], (1, 4.0), (0, None)),
        ([("i", "a", 1.0, "insert"), ("i", None, 9.0, "update")], (0, None), (0, None)),
        ([("i", None, 1.0, "insert"), ("i", "a", 9.0, "update")], (1, 9.0), (0, None)),
        (
            [("i", "a", 1.0, "insert"), ("i", "a", 2.0, "update", 30), ("i", "a", 3.0, "update", 10)],
            (1, 3.0),
            (0, None),
        ),
        ([("i", "a", 1.0, "insert"), ("i", "a", 1.0, "update"), ("i", "a", 1.0, "delete")], (0, None), (0, None)),
    ],
    ids=[
        "an update",
        "an update of the key",
        "a delete, of whatever else it says",
        "an update of an unknown id",
        "a delete of an unknown id",
        "an update after a delete",
        "an insert after a delete",
        "an update to no entity",
        "an update from no entity",
        "updates of the time",
        "a delete of what was updated",
    ],
)
@pytest.mark.parametrize("cut", [False, True], ids=["in one batch", "one by one"])
def test_what_a_correction_does(store, rows, a, b, cut):
    records = of_paid(*rows)
    if cut:
        fold(store, VIEWS, records[:-1], range(1, len(records)))
    assert sums(store, records) == {"a": a, "b": b}


def test_the_same_id_of_two_sources_is_two_rows(store):
    records = [
        record(1, PAID, "i", "a", (1.0,), AT, AT),
        record(2, RETURNED, "i", "a", (2.0,), AT, AT + 1),
        record(3, RETURNED, "i", "a", (5.0,), AT, AT + 2, "update"),
    ]
    fold(store, VIEWS, records)
    assert values(SEVERAL, read(store, SEVERAL, "a", AT + 10), "sum") == (6.0,)


def test_a_correction_finds_its_event_in_a_sealed_block_of_a_busy_key(store):
    records = of_paid(*((f"i{n}", "a", float(n), "insert") for n in range(2_000)))
    last = [("i7", "a", 0.5, "update"), ("i900", "b", 900.0, "update"), ("i1999", "a", 0.0, "delete")]
    n = len(records)
    records += [
        record(n + i, PAID, ident, k, (x,), AT + n + i, AT + n + i, op) for i, (ident, k, x, op) in enumerate(last, 1)
    ]
    fold(store, VIEWS, records, range(100, n, 100))
    whole = sum(range(2_000)) - 7 + 0.5 - 900 - 1_999
    row = read(store, ONE, "a", AT + 5_000)
    assert values(ONE, row, "sum", "mean", "min", "max", "last") == (whole, whole / 1_998, 0.0, 1_998.0, 0.5)
    assert values(ONE, row, "sum_2h", "mean_2h", "min_2h", "max_2h", "last_2h") == values(
        ONE, row, "sum", "mean", "min", "max", "last"
    )
    assert values(ONE, read(store, ONE, "b", AT + 5_000), "sum") == (900.0,)


def test_a_view_that_looks_back_to_the_beginning_can_take_back_what_is_years_old(store):
    old = record(1, PAID, "i", "a", (1.0,), AT, AT)
    kept = record(2, PAID, "j", "a", (2.0,), AT, AT + 1)
    years = [
        record(2 + n, PAID, f"k{n}", "a", (0.0,), AT + n * 1_000 * HOUR_US, AT + n * 1_000 * HOUR_US)
        for n in range(1, 30)
    ]
    last = years[-1].known_at_us
    records = [old, kept, *years, record(32, PAID, "i", "a", (1.0,), AT, last + 1, "delete")]
    fold(store, VIEWS, records, range(1, 32))
    assert values(ONE, read(store, ONE, "a", last + 10), "count", "sum") == (30.0, 2.0)


def test_what_is_behind_every_window_is_forgotten_and_not_counted_when_it_is_corrected(store):
    records = [record(n, PAID, f"i{n}", "a", (1.0,), AT + n * HOUR_US, AT + n * HOUR_US) for n in range(1, 400)]
    fold(store, [WINDOWED], records, range(10, 399, 10))
    with store.env.begin() as txn:
        assert 3 <= txn.stat(store.versions)["entries"] <= 100
    last = records[-1].known_at_us
    late = record(400, PAID, "i1", "a", (7.0,), last - 5, last + 1, "update")
    fold(store, [WINDOWED], [late])
    assert values(WINDOWED, read(store, WINDOWED, "a", last + 2), "count_2h", "sum_2h") == (3.0, 9.0)


def test_a_view_that_is_dropped_leaves_no_versions_behind(store):
    fold(store, VIEWS, of_paid(("i", "a", 1.0, "insert"), ("j", "b", 1.0, "insert")))
    folder = Folder(VIEWS, store)
    for of in VIEWS:
        folder.drop(f"{of.name}@{of.version}")
    with store.env.begin() as txn:
        assert txn.stat(store.versions)["entries"] == 0
