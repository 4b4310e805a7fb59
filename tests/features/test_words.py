"""Words of texts: the same for ever, kept beside as texts, and numbers that stay different."""

import numpy as np
import polars as pl
import pytest
from streams import feature, fold_all, frame, keys_frame, make_view, record

from mainspring.features.reader import Reader
from mainspring.features.replay import replay
from mainspring.features.words import identities_of, key_of, texts_of, words_of, xxh64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0xEF46DB3751D8E999),
        ("a", 0xD24EC4F1A98C6E5B),
        ("abc", 0x44BC2CF5AD770999),
        ("Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_the_hash_is_xxh64_as_published(text, expected):
    data = np.frombuffer(b"x" + text.encode(), np.uint8)
    assert int(xxh64(data, 1, len(data))) == expected
    assert words_of(pl.Series([text])).to_list() == [float(expected >> 12)]


def test_words_of_a_column_are_those_of_its_texts_and_null_of_null():
    texts = [None, "ключ", "", None, "a", "x" * 1000, "ключ"]
    words = words_of(pl.Series(texts, dtype=pl.String))
    assert words.to_list() == [None if t is None else words_of(pl.Series([t]))[0] for t in texts]
    assert words[1] == words[6]
    assert words_of(pl.Series([], dtype=pl.String)).to_list() == []
    assert all(0 <= w < 2**52 and key_of(w) == int(w).to_bytes(8, "big") for w in words.drop_nulls())


def test_whole_numbers_beyond_what_a_float_tells_apart_stay_different():
    numbers = [2**60 + i for i in range(300)] + [-(2**63), 2**63 - 1, 2**53, 2**53 + 1, 0, -1]
    assert len(set(identities_of(pl.Series(numbers)).to_list())) == len(numbers)
    assert identities_of(pl.Series([None, 7, 2**53])).to_list() == [None, 7.0, 2.0**53]
    view = make_view(feature("d", "distinct", "n"), feature("a", "approx_distinct", "n"))
    history = frame([record(i + 1, "a", None, i, n=n) for i, n in enumerate(numbers)])
    values, _ = replay(view, history, keys_frame([("a",)]), np.array([9_999]), known_us=9_999)
    assert values[0, 0] == len(numbers)
    assert abs(values[0, 1] - len(numbers)) <= 8


def test_the_texts_of_what_a_view_may_answer_are_kept_and_no_others(store):
    view = make_view(feature("last", "last", "s"), feature("n", "distinct", "k"))
    records = [record(i + 1, "a", None, i, s=s) for i, s in enumerate(["one", None, "two", "one"])]
    fold_all(store, [view], records, (2,))
    with Reader([view], store).snapshot() as snap:
        values, _ = snap.read(view, [("a",)], np.array([2]))
        unknown = words_of(pl.Series(["a"]))[0]
        assert snap.texts(np.array([values[0, 0], np.nan, unknown])) == ["one", None, None]
        found = texts_of(view, frame(records))  # once: the order of its words is nobody's promise
        assert snap.texts(np.array(list(found))) == list(found.values())
    assert sorted(texts_of(view, frame(records)).values()) == ["one", "two"]
