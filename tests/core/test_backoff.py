import random

import pytest

from mainspring.core.backoff import Backoff, retry_after_s


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_reset():
    backoff = Backoff(1.0, 8.0, random.Random(1))
    for most in (1, 2, 4, 8, 8, 8):
        assert most / 2 <= backoff.wait_s() <= most
    backoff.reset()
    assert backoff.wait_s() <= 1.0


def test_waits_of_two_senders_are_not_the_same():
    first, second = (Backoff(1.0, 8.0, random.Random(seed)) for seed in (1, 2))
    assert first.wait_s() != second.wait_s()


def test_what_the_server_asks_for_is_waited_for_and_at_most_a_quarter_more():
    backoff = Backoff(0.1, 8.0, random.Random(1))
    assert all(20.0 <= backoff.wait_s(20.0) <= 25.0 for _ in range(20))


@pytest.mark.parametrize(("text", "seconds"), [("3", 3.0), (" 10 ", 10.0), ("soon", 0.0), ("-1", 0.0), ("9" * 9, 0.0)])
def test_only_whole_seconds_of_retry_after_are_read(text, seconds):
    assert retry_after_s({"retry-after": text}) == seconds
    assert retry_after_s({}) == 0.0
