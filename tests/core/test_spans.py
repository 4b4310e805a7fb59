"""Spans of time and instants, in whole microseconds."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import DefinitionError
from mainspring.core.spans import LONGEST_US, format_span, parse_span
from mainspring.core.times import from_datetime, parse_time, to_datetime, to_iso

instants = st.integers(from_datetime(datetime.min.replace(tzinfo=UTC)), from_datetime(datetime.max.replace(tzinfo=UTC)))


@given(st.integers(0, LONGEST_US))
def test_a_span_comes_back_from_its_text(span_us):
    assert parse_span(format_span(span_us)) == span_us


@pytest.mark.parametrize(
    ("text", "span_us"),
    [
        ("3h", 10_800_000_000),
        ("1w", 604_800_000_000),
        ("1h30m", 5_400_000_000),
        ("250ms", 250_000),
        ("7us", 7),
    ],
)
def test_a_span_is_exact(text, span_us):
    assert parse_span(text) == span_us


@pytest.mark.parametrize("text", ["", "3", "h", "3 h", "-3h", "3H", "1.5h", "3h ", "three hours", True, None, 3])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(DefinitionError, match=r"MS-D001: .* is not a span of time"):
        parse_span(text)


@pytest.mark.parametrize("text", [format_span(LONGEST_US + 1), "9" * 40 + "d", "9" * 5_000 + "d"])
def test_a_span_beyond_all_use_is_refused(text):
    with pytest.raises(DefinitionError, match=r"MS-D001: .* is longer than 100 years"):
        parse_span(text)


@given(instants)
def test_an_instant_comes_back_to_the_microsecond_also_before_1970(time_us):
    assert from_datetime(to_datetime(time_us)) == time_us
    assert parse_time(to_iso(time_us)) == time_us


def test_a_time_without_an_offset_is_read_as_utc_and_one_with_it_is_moved():
    assert parse_time("1970-01-01T00:00:01") == 1_000_000
    assert parse_time("1970-01-01 01:00:00+01:00") == 0
    assert from_datetime(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == 0


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "01/02/2024"])
def test_what_is_no_instant_is_refused(text):
    with pytest.raises(ValueError, match=r"isoformat|month"):
        parse_time(text)


def test_an_instant_out_of_all_years_is_an_error():
    with pytest.raises(OverflowError):
        to_datetime(2**62)
