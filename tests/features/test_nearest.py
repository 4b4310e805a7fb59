"""Nearest neighbours are those that a search of every vector finds, live and at any moment of history."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import HOUR_US, feature, fold_all, frame, make_view, record

from mainspring.core.errors import ConfigError, UnavailableError
from mainspring.features.keys import decode_key, encode_key
from mainspring.features.nearest import METRICS, Nearest, nearest_then

VIEW = make_view(
    feature("n", "count"), feature("late", "last", "v", 2 * HOUR_US, ttl=HOUR_US), feature("ever", "last", "v")
)


def brute_force(records, query, n, t, metric, window=math.inf, ttl=math.inf):
    """Keys and scores by definition: the latest vector of each key, all compared."""
    latest = {}
    for r in sorted(records, key=lambda r: (r.time_us, r.known_at_us, r.offset)):
        key, vector = r.values[0], r.values[5]
        if key is not None and vector is not None and t - window <= r.time_us < t:
            latest[key] = (vector, r.time_us)
    found = []
    for key, (vector, when) in latest.items():
        if t - when <= ttl:
            dot = math.fsum(a * b for a, b in zip(vector, query, strict=True))
            sizes = math.hypot(*vector) * math.hypot(*query)
            score = {
                "dot": dot,
                "cosine": dot / sizes if sizes else 0.0,
                "euclidean": math.dist(vector, query),
            }[metric]
            found.append((score if metric == "euclidean" else -score, encode_key((key,)), key))
    return [(key, abs(score) if metric == "euclidean" else -score) for score, _, key in sorted(found)[:n]]


def assert_same(found, expected):
    """Equal scores, and equal keys but where scores are equal to a rounding."""
    assert [n.score for n in found] == pytest.approx([score for _, score in expected], abs=1e-12)
    for neighbour, (key, score) in zip(found, expected, strict=True):
        tied = [k for k, other in expected if abs(other - score) < 1e-12]
        assert neighbour.key[0] == key or len(tied) > 1 or abs(score - expected[-1][1]) < 1e-12


@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_are_those_of_brute_force_as_the_store_is_folded(store, metric):
    rng = np.random.default_rng(2)
    records = [
        record(
            i + 1,
            f"k{rng.integers(40)}",
            None,
            i * HOUR_US // 100,
            v=None if i % 9 == 0 else rng.normal(size=3).tolist(),
        )
        for i in range(600)
    ]
    live = {name: Nearest(store, VIEW, name, metric) for name in ("late", "ever")}
    reach = {"late": {"window": 2 * HOUR_US, "ttl": HOUR_US}, "ever": {}}
    queries = rng.normal(size=(3, 3))
    for a, b in ((0, 250), (250, 251), (251, 600)):
        fold_all(store, [VIEW], records[a:b])
        for t in (
            records[b - 1].time_us + 1,
            records[b - 1].time_us - 5 * HOUR_US // 10,
            records[b - 1].time_us + HOUR_US,
        ):
            for name, nearest in live.items():
                found = nearest.search(queries, 5, t)
                history = frame(records[:b])
                assert nearest_then(VIEW, name, history, queries, 5, t, known_offset=b, metric=metric) == found
                for query, one in zip(queries, found, strict=True):
                    assert_same(one, brute_force(records[:b], query, 5, t, metric, **reach[name]))


def test_equal_scores_are_ordered_by_key_and_fewer_are_found_than_asked_for(store):
    records = [record(i + 1, k, None, i, v=[1.0, 0.0, 0.0]) for i, k in enumerate(["b", "a", "c", None])]
    fold_all(store, [VIEW], records)
    ((*found,),) = Nearest(store, VIEW, "ever").search(np.array([[2.0, 0.0, 0.0]]), 9, 10)
    assert [(n.key, n.score) for n in found] == [(("a",), 1.0), (("b",), 1.0), (("c",), 1.0)]
    assert Nearest(store, VIEW, "ever").search(np.zeros((1, 3)), 9, 0) == [[]]


def test_a_view_that_is_not_caught_up_and_a_moment_too_long_ago_are_unavailable(store):
    with pytest.raises(UnavailableError, match="MS-F311"):
        Nearest(store, VIEW, "ever").search(np.zeros((1, 3)), 1, 0)
    fold_all(store, [VIEW], [record(1, "a", None, 5 * HOUR_US, v=[1.0, 2.0, 3.0])])
    with pytest.raises(UnavailableError, match="MS-F311"):
        Nearest(store, VIEW, "ever").search(np.zeros((1, 3)), 1, 0)


def test_only_a_latest_vector_has_neighbours_and_only_by_a_known_metric(store):
    for name, metric in (("n", "cosine"), ("nothing", "cosine"), ("ever", "manhattan")):
        with pytest.raises(ConfigError, match="MS-F120"):
            Nearest(store, VIEW, name, metric)


@given(st.lists(st.one_of(st.text(), st.integers(), st.booleans()), min_size=1, max_size=3))
def test_a_key_is_read_back_from_its_bytes_unless_it_is_a_hash(parts):
    key = encode_key(parts)
    assert decode_key(key) == (tuple(parts) if len(key) <= 400 and key[:1] != b"#" else key)
