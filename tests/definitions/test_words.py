"""The words of `import mainspring as ms`, and those that are none."""

import pytest

import mainspring as ms
from mainspring.definitions import AGGREGATES


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("median", "did you mean 'mean'?"),
        ("featureview", "did you mean 'feature_view'?"),
        ("zzz", "aggregates are " + ", ".join(sorted(AGGREGATES))),
    ],
)
def test_a_word_that_there_is_not_is_answered_with_the_nearest_or_the_aggregates(word, hint):
    with pytest.raises(AttributeError, match=f"module 'mainspring' has no attribute '{word}'") as caught:
        getattr(ms, word)
    assert str(caught.value).endswith("; " + hint)


def test_what_python_itself_asks_for_gets_no_hint():
    with pytest.raises(AttributeError) as caught:
        getattr(ms, "__wrapped__")  # noqa: B009  the import machinery asks so
    assert str(caught.value) == "module 'mainspring' has no attribute '__wrapped__'"
