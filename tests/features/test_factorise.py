"""Words of entities: equal exactly where the entities are."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.features import crew as crews
from mainspring.features.crew import ALONE, crew
from mainspring.features.factorise import hashes_of, number_pairs, words_of
from mainspring.features.grouping import mixed, sort_keys

TEXTS = st.sampled_from(["", "a", "b", "ab", "a\x00", "\x00", "ключ", "a longer text than a view holds in itself"])
ROWS = st.tuples(TEXTS, st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2), st.booleans())
SCHEMA = {"k": pl.String, "n": pl.Int64, "b": pl.Boolean}


def frame(rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@given(
    st.lists(ROWS, max_size=40),
    st.lists(ROWS, max_size=10),
    st.lists(st.sampled_from("knb"), min_size=1, max_size=3, unique=True),
)
def test_words_are_equal_where_entities_are_and_so_are_hashes(rows, asked, columns):
    one, two = frame(rows).select(columns), frame(asked).select(columns)
    words = np.concatenate(words_of(one, two, ALONE)).tolist()
    hashes = np.concatenate([hashes_of(one), hashes_of(two)]).tolist()
    entities = [*one.rows(), *two.rows()]
    for i, a in enumerate(entities):
        for j, b in enumerate(entities):
            assert (words[i] == words[j]) == (a == b)
            assert hashes[i] == hashes[j] or a != b


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_that_number_rows_of_their_own_agree(monkeypatch, threads):
    monkeypatch.setattr(crews, "WORTH_A_THREAD", 100)
    rng = np.random.default_rng(1)
    one = pl.DataFrame({"k": [f"key {i}" for i in rng.zipf(1.2, 20_000) % 5_000], "n": rng.integers(0, 4, 20_000)})
    with crew(threads) as hands:
        words, asked = words_of(one, one[::7], hands)
    assert (words[::7] == asked).all()
    named = one.with_columns(word=words)
    assert named.unique().height == one.unique().height == named["word"].n_unique()


def test_pairs_whose_hashes_are_the_same_stay_apart():
    """h(a, b) = mix(mix(a) + b): for any other a there is a b with the same hash."""
    a = np.arange(1_000)
    b = np.array([(int(mixed(0)) + 5 - int(mixed(int(x)))) % 2**64 for x in a], np.uint64).view(np.int64)
    codes, firsts = np.empty(1_000, np.int64), np.empty(1_000, np.int64)
    assert number_pairs(a, b, a[:0], 0, 1_000, codes, firsts) == 1_000
    assert len(set(codes.tolist())) == 1_000


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=80), st.data())
def test_rows_of_a_key_are_sorted_stably_by_time_then_known_at_then_offset(rows, data):
    n = len(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    starts = np.array([0, *cuts, n], np.int64)
    columns = np.array([*zip(*rows, strict=True), range(n)] if rows else np.zeros((4, 0)), np.int64)
    wanted = columns.copy()
    for low, high in pairwise(starts):
        order = np.lexsort(columns[2::-1, low:high])
        wanted[:, low:high] = columns[:, low:high][:, order]
    sort_keys(columns, starts, 0, len(starts) - 1)
    assert columns.tolist() == wanted.tolist()


@pytest.mark.parametrize("n", [15, 16, 17, 1_000, 4_097])
@pytest.mark.parametrize("late", [0.0, 0.01, 1.0])
def test_long_keys_are_merge_sorted(n, late):
    rng = np.random.default_rng(n)
    times = np.where(rng.random(n) < late, rng.integers(0, n, n), np.arange(n))
    columns = np.stack([times, rng.integers(0, 2, n), rng.integers(0, 2, n), np.arange(n)])
    wanted = columns[:, np.lexsort(columns[2::-1])]
    sort_keys(columns, np.array([0, n]), 0, 1)
    assert (columns == wanted).all()
