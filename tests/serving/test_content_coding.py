import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import MainspringError, TooLargeError
from mainspring.serving.content_coding import WORTH_BYTES, CodingError, coding_for, decoded, encoded


@given(st.binary(max_size=2_000), st.sampled_from(["gzip", "deflate"]))
def test_what_is_encoded_is_decoded(body, coding):
    assert decoded(encoded(body, coding), coding, 2_000) == body


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "GZIP "]))
def test_any_bytes_are_a_whole_body_or_refused(body, coding):
    try:
        decoded(body, coding, 1_000)
    except MainspringError as error:
        assert isinstance(error, (CodingError, TooLargeError))  # noqa: PT017


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_body_over_the_limit_is_refused_and_one_at_it_is_not(pack):
    coding = "gzip" if pack is gzip.compress else "deflate"
    assert len(decoded(pack(b"x" * 10_000), coding, 10_000)) == 10_000
    with pytest.raises(TooLargeError, match="at most 9999 bytes"):
        decoded(pack(b"x" * 10_000), coding, 9_999)


def test_a_body_that_ends_early_or_goes_on_is_refused():
    for body in (gzip.compress(b"x" * 99)[:-1], gzip.compress(b"x") + b"y", b""):
        with pytest.raises(CodingError):
            decoded(body, "gzip", 1_000)


@pytest.mark.parametrize(
    ("accepted", "length", "coding"),
    [
        ("gzip", WORTH_BYTES, "gzip"),
        ("gzip", WORTH_BYTES - 1, ""),
        ("deflate, br", 10_000, "deflate"),
        ("br, zstd", 10_000, ""),
        ("gzip;q=0, deflate;q=0.1", 10_000, "deflate"),
        ("GZIP; q=1.0", 10_000, "gzip"),
        ("gzip;q=often", 10_000, ""),
        ("", 10_000, ""),
    ],
)
def test_an_answer_has_a_coding_that_the_client_takes_if_it_is_worth_it(accepted, length, coding):
    assert coding_for(accepted, length) == coding
