"""Features of features: each event carries what the views that it uses answered, as they were at it."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import HOUR_US, expected, fold, frames, lives, read, record, shown, source, stream_of, view

from mainspring import col
from mainspring.features import OnlineStore
from mainspring.features import replay as replays
from mainspring.features.fold import Folder
from mainspring.features.history import stream
from mainspring.features.replay import replay

PAID, BOUGHT = source("paid", "x"), source("bought", "z")
CARD = view("card", (PAID,), ("mean_20", "mean", "x", 20), ("n", "count"), ("last", "last", "x", 30))
RATIO = view(
    "ratio",
    (PAID,),
    ("most", "max", col("x") / col("card__mean_20"), 40),
    ("unusual", "count", None, 40, col("x") > 2 * col("card__mean_20")),
    ("first_times", "sum", col("card__n") == 0),
    using=(CARD,),
)
DEEP = view(
    "deep",
    (PAID, BOUGHT),
    ("worst", "max", "ratio__most", 50),
    ("calm", "mean", col("ratio__unusual") == 0, 50),
    ("before", "last", "card__last"),
    using=(RATIO, CARD),
)
SOURCES = (PAID, BOUGHT)
KEYS = st.sampled_from(["a", "b", None])
NUMBERS = st.none() | st.sampled_from([1.0, 2.0, 4.0, 16.0])


A_LITTLE = st.integers(0, 9)


@st.composite
def streams(draw, late=A_LITTLE, most=14):
    """Records of both sources in the order of the log, some late and some more late than the grace."""
    rows = draw(st.lists(st.tuples(st.booleans(), KEYS, NUMBERS, st.integers(0, 60), late), max_size=most))
    return [
        record(n, PAID if of else BOUGHT, f"i{n}", k, (x,), t, t + delay)
        for n, (of, k, x, t, delay) in enumerate(rows, 1)
    ]


@given(streams(late=st.sampled_from([0, 1, 5, HOUR_US, HOUR_US + 1])))
def test_the_stream_of_a_view_has_the_features_that_it_uses_at_each_event(records):
    made = stream(DEEP, frames(SOURCES, records).__getitem__).sort("_offset")
    want = stream_of(DEEP, SOURCES, records).sort("_offset")
    names = [*RATIO.column_names, *CARD.column_names]
    assert made.select(names).rows() == want.select(names).rows()


@given(streams(), st.sampled_from([CARD, RATIO, DEEP]), KEYS, st.integers(0, 80), st.integers(0, 80))
def test_replay_of_features_of_features_is_the_oracle(records, of, key, t, known):
    events = stream(of, frames(SOURCES, records).__getitem__)
    asked = pl.DataFrame({"k": [key]}, schema={"k": pl.String})
    values, status = replay(of, events, asked, np.array([t]), known_us=np.array([known]))
    assert shown(values[0], status[0]) == expected(of, SOURCES, records, key, t, known - 1)


def test_an_event_does_not_see_itself_nor_what_became_known_later():
    rows = [(10, 10, 1.0), (20, 20, 2.0), (15, 25, 100.0), (30, 30, 3.0)]
    records = [record(n, PAID, f"i{n}", "a", (x,), t, known) for n, (t, known, x) in enumerate(rows, 1)]
    made = stream(RATIO, frames(SOURCES, records).__getitem__)
    assert made["card__n"].to_list() == [0.0, 1.0, 1.0, 3.0]
    assert made["card__last"].to_list() == [None, 1.0, 1.0, 2.0]


def test_used_views_of_the_same_events_are_replayed_together(monkeypatch):
    near, far = (
        view(name, (PAID,), ("n", "count", "x", us), ("last", "last", "x")) for name, us in (("a", 9), ("b", 50))
    )
    both = view("both", (PAID,), ("far_only", "count", None, None, col("b__n") > col("a__n")), using=(near, far))
    records = [record(n, PAID, f"i{n}", "a", (float(n),), t, t) for n, t in enumerate((10, 17, 50), 1)]
    replayed = []
    monkeypatch.setattr(replays, "replay", lambda of, *rest, **more: replayed.append(of) or replay(of, *rest, **more))
    made = stream(both, frames(SOURCES, records).__getitem__)
    assert made["a__n"].to_list() == [0.0, 1.0, 0.0]
    assert made["b__n"].to_list() == [0.0, 1.0, 2.0]
    assert made["a__last"].to_list() == made["b__last"].to_list() == [None, 1.0, 2.0]
    assert len(replayed) == 1


def test_an_instant_of_a_used_view_is_a_datetime_and_a_text_is_left_out():
    seen = view("seen", (PAID,), ("at", "last", "at"), ("who", "last", "id"))
    gaps = view("gaps", (PAID,), ("gap", "max", (col("at") - col("seen__at")).dt.total_microseconds()), using=(seen,))
    records = [record(n, PAID, f"i{n}", "a", (1.0,), t, t) for n, t in enumerate((10, 17, 50), 1)]
    made = stream(gaps, frames(SOURCES, records).__getitem__)
    assert made.schema["seen__at"] == pl.Datetime("us", "UTC")
    assert "seen__who" not in made.columns
    values, _ = replay(gaps, made, pl.DataFrame({"k": ["a"]}), np.array([60]), known_us=np.array([60]))
    assert values.tolist() == [[33.0]]


# --- live -------------------------------------------------------------------------------------------------------------

CORRECTED = source("corrected", "x", corrects=True)
PLAIN = source("plain", "x")
HOURS = view(
    "hours",
    (CORRECTED, PLAIN),
    ("mean_2h", "mean", "x", 2 * HOUR_US),
    ("n_2h", "count", None, 2 * HOUR_US),
    ("last", "last", "x", HOUR_US),
)
EVER = view("ever", (PLAIN,), ("n", "count"), ("sum", "sum", "x"), ("last", "last", "x"))
ABOVE = view(
    "above",
    (CORRECTED,),
    ("sum_3h", "sum", col("x") - col("hours__mean_2h"), 3 * HOUR_US),
    ("n", "sum", "ever__n"),
    ("high", "count", None, None, col("x") > col("ever__last")),
    using=(HOURS, EVER),
)
BESIDE = view("beside", (PLAIN,), ("sum", "sum", "hours__n_2h"), ("most", "max", "ever__sum"), using=(HOURS, EVER))
TOP = view("top", (PLAIN,), ("sum", "sum", "above__n"), ("last", "last", "above__sum_3h"), using=(ABOVE, EVER))
LIVE = (CORRECTED, PLAIN)
OF_LIVE = (HOURS, EVER, ABOVE, BESIDE, TOP)


@settings(deadline=None, max_examples=40)
@given(lives(LIVE, most=20), st.lists(st.integers(1, 19), max_size=5), KEYS, st.sampled_from([-HOUR_US, -1, 0, 1]))
def test_live_features_of_features_in_any_batches_are_the_oracle(tmp_path_factory, records, cuts, key, after):
    if not records:
        return
    t_us = records[-1].known_at_us + after
    with OnlineStore.open(tmp_path_factory.mktemp("state"), 1 << 26, writable=True) as store:
        fold(store, [TOP, BESIDE], records, cuts)
        for of in OF_LIVE:
            want = expected(of, LIVE, records, key, t_us, len(records), "offset")
            assert close(read(store, of, key, t_us), want), of.name


def close(found, want):
    """Sums of means are of other numbers than halves: they may differ in their last digits in the oracle."""
    return [s for _, s in found] == [s for _, s in want] and [v for v, _ in found] == [
        None if v is None else pytest.approx(v, rel=1e-12) for v, _ in want
    ]


@settings(deadline=None, max_examples=40)
@given(lives(LIVE, most=16), st.integers(0, 16), st.integers(0, 16), KEYS)
def test_a_view_that_uses_others_is_backfilled_and_catches_up_as_if_it_had_been_there(
    tmp_path_factory, records, upto, stood, key
):
    upto, stood = sorted(min(n, len(records)) for n in (upto, stood))
    frame_of = frames(LIVE, records).__getitem__
    with OnlineStore.open(tmp_path_factory.mktemp("state"), 1 << 26, writable=True) as store:
        fold(store, [HOURS, EVER], records[:stood])
        folder = Folder([TOP], store)
        for of in (ABOVE, TOP):
            folder.backfill(of, stream(of, frame_of), upto)
            folder.catch_up(of, records[:stood], frame_of)
        assert folder.behind() == []
        folder.fold(records[stood:])
        t_us = max((r.known_at_us for r in records), default=0) + 1
        for of in (HOURS, EVER, ABOVE, TOP):
            want = expected(of, LIVE, records, key, t_us, len(records), "offset")
            assert close(read(store, of, key, t_us), want), of.name


AT = 20 * HOUR_US


def carried(store, records, cuts=()):
    """The features that the latest event of ``BESIDE`` carries, live; by replay they are the same."""
    fold(store, [BESIDE], records, cuts)
    t_us = records[-1].known_at_us + 1
    found = read(store, BESIDE, "a", t_us)
    assert found == expected(BESIDE, LIVE, records, "a", t_us, len(records), "offset")
    return [value for value, _ in found]


def test_an_event_sees_a_row_of_a_used_view_that_is_taken_back_after_it_in_the_same_batch(store):
    records = [
        record(1, CORRECTED, "i", "a", (1.0,), AT, AT),
        record(2, PLAIN, "p", "a", (2.0,), AT + 1, AT + 1),
        record(3, CORRECTED, "i", "a", (1.0,), AT, AT + 2, "delete"),
        record(4, PLAIN, "q", "a", (3.0,), AT + 3, AT + 3),
        record(5, CORRECTED, "j", "a", (1.0,), AT + 4, AT + 4),
        record(6, CORRECTED, "j", "b", (1.0,), AT + 4, AT + 5, "update"),
    ]
    assert carried(store, records) == [2.0, 2.0]  # p saw i; q saw p


def test_an_event_does_not_see_one_that_comes_after_it_and_goes_straight_into_what_is_let_go_of(store):
    records = [
        record(1, PLAIN, "p", "a", (1.0,), AT, AT),
        record(2, PLAIN, "q", "a", (2.0,), AT + 9 * HOUR_US, AT + 9 * HOUR_US),
        record(3, PLAIN, "r", "a", (4.0,), AT + 9 * HOUR_US + 1, AT + 9 * HOUR_US + 1),
        record(4, PLAIN, "late", "a", (100.0,), AT - 1, AT + 9 * HOUR_US + 2),
    ]
    assert carried(store, records, [2])[1] == 3.0  # r saw p and q


def test_two_versions_of_a_used_view_and_of_those_that_use_it_are_folded_side_by_side(store):
    newer = view("ever", (PLAIN,), ("sum", "sum", "x"), ("n", "count", "x", 3), ("last", "last", "x"))
    older = view("ever", (PLAIN,), ("sum", "sum", "x"), ("n", "count"), ("last", "last", "x"))
    users = [view("user", (PLAIN,), ("total", "sum", "ever__n"), using=(of,)) for of in (older, newer)]
    tops = [view("top", (PLAIN,), ("most", "max", "user__total"), using=(of,)) for of in users]
    records = [record(n, PLAIN, f"i{n}", "a", (1.0,), n, n) for n in range(1, 9)]
    fold(store, tops, records, [3])
    for of in (older, newer, *users, *tops):
        assert read(store, of, "a", 9) == expected(of, (PLAIN,), records, "a", 9, 8, "offset")
    assert len({read(store, of, "a", 9)[0] for of in tops}) == 2


def test_a_view_waits_while_one_that_it_uses_is_built_anew(store):
    records = [record(n, PLAIN, f"i{n}", "a", (1.0,), n, n) for n in range(1, 9)]
    frame_of = frames(LIVE, records).__getitem__
    fold(store, [TOP], records[:4])
    folder = Folder([TOP], store)
    steps = folder.building(EVER, stream(EVER, frame_of), 4)
    next(steps)
    folder.fold(records[4:6])
    assert {of.name for of, _ in folder.behind()} == {"ever", "above", "top"}
    for _ in steps:
        pass
    for of in (EVER, ABOVE, TOP):
        folder.catch_up(of, records[:6], frame_of)
    assert folder.behind() == []
    folder.fold(records[6:])
    assert read(store, EVER, "a", 20)[0] == (8.0, 0)
