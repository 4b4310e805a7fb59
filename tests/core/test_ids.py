"""Ids and hashes: the same content has the same name, other content another."""

from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.ids import content_hash, hash128, prediction_id

parts = st.lists(st.binary(max_size=6), max_size=4)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=5))
def test_the_order_of_keys_does_not_name_content(value):
    assert content_hash(value) == content_hash(dict(reversed(value.items())))


@given(parts, parts)
def test_two_lists_of_parts_hash_alike_only_when_they_are_equal(one, other):
    assert (hash128(*one) == hash128(*other)) == (one == other)


def test_a_hash_is_the_same_in_every_release():
    assert content_hash({"a": [1, "ü", None]}) == "16e32e366190"
    assert content_hash("x", length=20)[:12] == content_hash("x")
    assert hash128(b"a", b"bc").hex() == "e88560e56e6241afeb2dfa841791b26b"


def test_a_prediction_is_named_by_epoch_and_sequence():
    assert prediction_id("k3f9", 12) == "k3f9-12"
