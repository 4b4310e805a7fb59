"""Names are safe wherever they are put, and a wrong one is answered with the nearest right one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ConfigError
from mainspring.core.names import check_name, did_you_mean, is_name, snake_case


@given(st.text(max_size=12))
def test_a_name_has_nothing_that_a_path_a_url_or_sql_could_trip_over(text):
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert is_name(text) == (0 < len(text) <= 100 and set(text) <= allowed)


@pytest.mark.parametrize("text", ["", "Late", "a b", "a/b", "a\n", "ü", "a" * 101, "..", "a;drop"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ConfigError, match="MS-C001"):
        check_name(text)


def test_the_nearest_known_word_is_offered():
    assert did_you_mean("caunt", ["count", "sum"]) == "did you mean 'count'?"
    assert did_you_mean("zzz", ["count", "sum"]) == "known are count, sum"
    assert did_you_mean("zzz", []) == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [("CarrierDelays", "carrier_delays"), ("HTTPDoor", "http_door"), ("A1", "a1"), ("already_so", "already_so")],
)
def test_a_class_name_becomes_a_name(text, name):
    assert snake_case(text) == name
