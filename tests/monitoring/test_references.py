"""References: bins, counts, dispersion."""

import json
import math
from collections import Counter
from dataclasses import asdict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ContractError
from mainspring.monitoring import Reference, reference
from mainspring.monitoring.references import MAX_RARE, MISSING, UNSEEN, bin_codes, merged_groups

numbers = st.lists(st.one_of(st.floats(allow_nan=True), st.sampled_from([0.0, 1.0, -1.0])), max_size=60)
texts = st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), min_size=1, max_size=60)


@given(numbers)
def test_every_number_has_one_bin_and_bins_hold_what_their_edges_say(values):
    made = reference(np.array(values, dtype=np.float64))
    codes = bin_codes(made, np.array(values, dtype=np.float64))
    low, high = (-math.inf, *made.edges), (*made.edges, math.inf)
    for value, code in zip(values, codes.tolist(), strict=True):
        if math.isnan(value):
            assert code == MISSING
        else:
            assert low[code] <= value
            assert value < high[code] or high[code] == math.inf
    assert sum(made.counts) + made.missing == made.rows == len(values)
    assert list(made.counts) == [codes.tolist().count(i) for i in range(len(made.counts))]


@given(numbers, numbers)
def test_counts_over_fixed_bins_merge_exactly(one, other):
    made = reference(np.linspace(-1, 1, 100))
    count = lambda values: np.bincount(bin_codes(made, np.array(values)) + 2, minlength=15)  # noqa: E731
    assert (count(one) + count(other)).tolist() == count(one + other).tolist()


@given(texts.filter(any))
def test_every_text_is_counted_by_name_or_among_the_rare_ones(values):
    made = reference(np.array(values, dtype=object))
    count = Counter(value for value in values if value is not None)
    assert dict(zip(made.categories, made.counts, strict=False)) == {text: n for text, n in count.items() if n >= 5}
    assert made.counts[-1] == sum(n for n in count.values() if n < 5)
    assert set(made.rare) | set(made.categories) == set(count)
    assert made.once == sum(n == 1 for n in count.values())
    assert (made.missing, made.present) == (values.count(None), sum(count.values()))


def test_a_value_that_holds_a_bin_by_itself_gets_one():
    made = reference([0.0] * 800 + list(np.linspace(0.001, 1, 200)))
    codes = bin_codes(made, [0.0, 0.0005, -0.1])
    assert len(set(codes.tolist())) == 3
    assert made.counts[codes[0]] == 800


def test_deciles_hold_a_tenth_each():
    made = reference(np.random.default_rng(0).normal(size=10_000))
    assert len(made.counts) == 10
    assert min(made.counts) >= 990


def test_unknown_categories_are_unseen_until_there_are_too_many_rare_ones_to_keep():
    few = reference(["a"] * 5 + ["b"])
    assert bin_codes(few, ["a", "b", "z", None]).tolist() == [0, 1, UNSEEN, MISSING]
    many = reference([f"c{i}" for i in range(MAX_RARE + 1)] + ["a"] * 50)
    assert (many.categories, many.counts) == (("a",), (50, MAX_RARE + 1))
    assert bin_codes(many, ["z", "c1"]).tolist() == [1, 1]


def test_booleans_and_integers_are_numbers():
    assert reference(np.array([True, False])).kind == "numeric"
    assert reference(np.array([1, 2, 3])).kind == "numeric"


@pytest.mark.parametrize("values", [[1.0, 2.0, math.nan, 0.0, 0.0, 0.0], ["a", None, "b"], np.empty(0)], ids=str)
def test_a_reference_survives_json(values):
    made = reference(values)
    text = msgspec.json.encode(made)
    assert msgspec.json.decode(text, type=Reference) == made
    assert json.loads(json.dumps(asdict(made), allow_nan=False)) == json.loads(text)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=30))
def test_merged_groups_are_neighbours_and_expect_five_each_if_anything_does(expected):
    groups = merged_groups(np.array(expected))
    assert groups[0] == 0
    assert set(np.diff(groups).tolist()) <= {0, 1}
    sums = np.bincount(groups, weights=expected)
    assert len(sums) == 1 or sums.min() >= 5.0


def test_rows_in_clusters_count_for_fewer():
    """Ten copies of each row: Pearson's X^2 between windows is ten times its degrees of freedom."""
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(50), 100)
    single = rng.normal(size=5_000)
    assert reference(single, day).dispersion == pytest.approx(1.0, abs=0.15)
    assert reference(np.repeat(single, 10), np.repeat(day, 10)).dispersion == pytest.approx(10.0, rel=0.15)
    gaps = np.where(rng.random(5_000) < 0.2, np.nan, single)
    clustered = reference(np.repeat(gaps, 10), np.repeat(day, 10))
    assert clustered.missing_dispersion == pytest.approx(10.0, rel=0.6)


def test_windows_of_another_length_are_refused():
    with pytest.raises(ContractError, match="MS-R201"):
        reference([1.0, 2.0], [1])
