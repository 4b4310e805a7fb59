"""Views that one replay answers together: the answers of each alone, and how often events are read."""

import numpy as np
import polars as pl
import pytest
from streams import EVENTS, HOUR_US, OVER_TEN, every_aggregate, feature, make_view, owners_of

from mainspring.definitions import SourceDef
from mainspring.definitions.features import AGGREGATES
from mainspring.features import replay as replays
from mainspring.features import together as joining
from mainspring.features.moments import replay_view, replay_views
from mainspring.features.together import narrowed, together

ALL = make_view(*every_aggregate(HOUR_US), name="near")
LONG = make_view(*every_aggregate(30 * HOUR_US), *every_aggregate(None, suffix="_ever"), name="far")
WORDS = make_view(
    feature("shops", "last_k", "s", HOUR_US, k=2),
    feature("shop", "last", "s"),
    feature("shapes", "last", "v"),
    feature("over", "mean", "x", 7 * HOUR_US, where=OVER_TEN),
    name="words",
)
SAW = make_view(*every_aggregate(5 * HOUR_US), name="saw", hop_us=HOUR_US // 4)
SAME_SAW = make_view(feature("n", "count", "n", 9 * HOUR_US), name="same_saw", hop_us=HOUR_US // 4)
USING = make_view(feature("n", "sum", "x", HOUR_US), name="uses", using=(SAW,))
VIEWS = (ALL, LONG, WORDS, SAW, SAME_SAW, USING)


@pytest.fixture
def history():
    rng = np.random.default_rng(11)
    n = 2_000
    t = rng.integers(-40 * HOUR_US, 40 * HOUR_US, n)
    known = t + rng.choice([0, HOUR_US // 3, 30 * HOUR_US], n)
    keys = [f"key{i}" for i in rng.geometric(0.2, n)]
    vectors = [None if i % 5 == 0 else [1.0, float(i), 3.0] for i in range(n)]
    return pl.DataFrame(
        {
            "k": [None if i % 97 == 0 else key for i, key in enumerate(keys)],
            "x": pl.Series(rng.lognormal(0, 3, n)).set(pl.arange(n, eager=True) % 13 == 0, None),
            "n": pl.int_range(n, eager=True),
            "at": t,
            "s": [None if i % 7 == 0 else f"shop {i % 11}" for i in range(n)],
            "v": pl.Series(vectors, dtype=pl.Array(pl.Float64, 3)),
            "_offset": pl.int_range(1, n + 1, eager=True),
            "_time": t,
            "_known_at": known,
        }
    ).with_columns(pl.col("at", "_time", "_known_at").cast(pl.Datetime("us", "UTC")))


@pytest.fixture
def asked():
    rng = np.random.default_rng(12)
    keys = [f"key{i}" for i in rng.geometric(0.2, 300)]
    t = rng.integers(-45 * HOUR_US, 45 * HOUR_US, 300)
    return pl.DataFrame({"k": [None if i % 50 == 0 else key for i, key in enumerate(keys)]}), t, t + HOUR_US


def test_each_view_answers_as_it_does_alone(history, asked):
    keys, t_us, known_us = asked
    found = replay_views(VIEWS, keys, lambda _: history, t_us, known_us=known_us)
    assert set(found) == {view.name for view in VIEWS}
    for view in VIEWS:
        own, alone = found[view.name], replay_view(view, keys, lambda _: history, t_us, known_us=known_us)
        assert own.view is view
        np.testing.assert_array_equal(own.status, alone.status, err_msg=view.name)
        assert {n: c.to_list() for n, c in own.texts.items()} == {n: c.to_list() for n, c in alone.texts.items()}
        for place, aggregate in enumerate(owners_of(view)):
            a, b = own.values[:, place], alone.values[:, place]
            if AGGREGATES[aggregate.function].tolerance:
                np.testing.assert_allclose(a, b, rtol=1e-12, err_msg=aggregate.name)
            else:
                assert a.tobytes() == b.tobytes(), (view.name, aggregate.name)


def test_views_of_the_same_events_are_one_replay_and_others_are_not(history, asked, monkeypatch):
    replayed = []
    real = replays.replay
    monkeypatch.setattr(
        replays, "replay", lambda view, *rest, **more: replayed.append(view) or real(view, *rest, **more)
    )
    keys, t_us, known_us = asked
    told = []
    replay_views(
        VIEWS, keys, lambda _: history, t_us, known_us=known_us, progress=lambda *how_far: told.append(how_far)
    )
    saw_at_each_event = 1
    assert len(replayed) == 3 + saw_at_each_event  # to the microsecond; in hops; with features of a used view
    assert told[-1] == (3 * len(history), 3 * len(history))


def test_other_sources_entities_hops_and_used_views_are_other_groups():
    other = SourceDef("other", EVENTS.fields, time="at")
    views = [
        make_view(feature("n", "count"), name="a"),
        make_view(feature("n", "count"), name="b", entity=("n",)),
        make_view(feature("n", "count"), name="c", entity=("k", "n")),
        make_view(feature("n", "count"), name="d", hop_us=10),
        make_view(feature("n", "count"), name="e", using=(SAW,)),
        make_view(feature("n", "sum", "x"), name="f"),
    ]
    views.append(type(views[0])("g", (other,), ("k",), views[0].features))
    groups = [[view.name for view, _ in group.parts] for group in together(views, [1] * len(views))]
    assert sorted(groups) == [["a", "f"], ["b"], ["c"], ["d"], ["e"], ["g"]]


def test_views_are_together_as_long_as_their_columns_fit(monkeypatch):
    views = [make_view(feature("a", "sum", of), name=f"view_{i}") for i, of in enumerate(("x", "n", "x", "at"))]
    monkeypatch.setattr(joining, "MOST_BYTES", 2 * 16 * 100)
    groups = [[view.name for view, _ in group.parts] for group in together(views, [100] * 4)]
    assert groups == [["view_0", "view_1", "view_2"], ["view_3"]]
    monkeypatch.setattr(joining, "MOST_BYTES", 0)
    groups = [[view.name for view, _ in group.parts] for group in together(views, [100] * 4)]
    assert groups == [["view_0", "view_2"], ["view_1"], ["view_3"]]


def test_a_view_is_narrowed_to_what_its_columns_are_made_of():
    small = narrowed(WORDS, {"words__shops_2", "words__over", "elsewhere__shop"})
    assert [f.name for f in small.features] == ["shops", "over"]
    assert small.column_names == ("words__shops_1", "words__shops_2", "words__over")
    assert narrowed(WORDS, WORDS.column_names) is WORDS
