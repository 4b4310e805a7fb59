from hypothesis import given
from hypothesis import strategies as st

from mainspring.serving.breaker import BAD_SHARE, LATE_US, MIN_RUNS, OPEN_S, WINDOW_S, Breaker
from mainspring.serving.shared import LaneLimits


def test_it_opens_when_half_of_what_was_asked_lately_failed_and_not_before_five_runs():
    breaker = Breaker()
    for i in range(MIN_RUNS - 1):
        breaker.record(float(i), 10, 10, 5, 10)
        assert breaker.allows(float(i))
    breaker.record(4.0, 10, 0, 5, 10)
    assert breaker.state == "open"  # 40 of 50
    assert not breaker.allows(4.0 + OPEN_S[0] - 0.01)


def test_slow_runs_count_as_failed_ones():
    breaker = Breaker(slow_us=1_000)
    for i in range(MIN_RUNS):
        breaker.record(float(i), 1, 0, 1_001, 1)
    assert breaker.state == "open"


def test_a_list_may_take_as_long_as_its_rows_would_and_is_one_of_what_was_asked():
    breaker = Breaker(slow_us=1_000)
    for i in range(4 * MIN_RUNS):
        breaker.record(float(i), 1_000, 0, 1_000_000, 1)  # a millisecond a row
    assert breaker.state == "closed"
    for i in range(MIN_RUNS):
        breaker.record(100.0 + i, 1_000, 0, 1_000_001, 1)
    assert breaker.state == "open"  # more than that


def test_the_lists_of_some_do_not_hide_that_the_model_is_slow_for_all_others():
    breaker = Breaker(slow_us=1_000)
    for i in range(MIN_RUNS):
        assert breaker.state == "closed"
        breaker.record(float(i), (1_000, 1)[i % 2 == 0], 0, 5_000, 1)  # 5 us a row of a list, and 5 ms for one alone
    assert breaker.state == "open"


def test_of_a_batch_of_single_rows_and_a_list_the_list_is_one_row():
    breaker = Breaker(slow_us=1_000)
    for i in range(2 * MIN_RUNS):
        breaker.record(float(i), 1_009, 0, 90_000, 10)  # ten rows of 89 us would have taken 892 us
    assert breaker.state == "closed"


def test_a_model_that_hangs_for_every_list_is_found_by_what_lists_took_before():
    breaker, now_s = Breaker(), 0.0
    assert LaneLimits.deadline_s * 1e6 == LATE_US
    for _ in range(100):
        now_s += 0.1
        breaker.record(now_s, 1_000, 0, 10_000, 1)
    for hung_us in (4_000_000, 9_000_000):  # answered before anybody's time is up, and not
        for _ in range(2 * MIN_RUNS):
            assert breaker.state == "closed"
            now_s += hung_us * 1e-6
            breaker.record(now_s, 1_000, 0, hung_us, 1)
            if breaker.state == "open":
                break
        assert (breaker.state == "open") == (hung_us > LATE_US)
    now_s += OPEN_S[0]
    assert breaker.allows(now_s)
    breaker.record(now_s + 9, 1_000, 0, 9_000_000, 1)  # the trial hangs too
    assert breaker.state == "open"


def test_lists_of_a_model_that_always_takes_long_for_them_hang_nothing():
    breaker, now_s = Breaker(), 0.0
    for took_us in (6_000_000, 9_000_000, 20_000_000):  # 6 to 20 ms a row, and a budget of a second
        for _ in range(2 * MIN_RUNS):
            now_s += took_us * 1e-6
            breaker.record(now_s, 1_000, 0, took_us, 1)
            assert breaker.state == "closed"


def test_a_model_that_takes_so_long_that_few_runs_have_room_in_the_window_is_found_too():
    breaker = Breaker()
    for i in range(MIN_RUNS):
        assert breaker.state == "closed"
        breaker.record(20.0 * i, 1, 0, 20_000_000, 1)
    assert breaker.state == "open"


def slow_for_single_rows(slow_us=1_000):
    """A breaker that a model has opened that takes 5 ms a run, and when."""
    breaker = Breaker(slow_us)
    for i in range(MIN_RUNS):
        breaker.record(float(i), 1, 0, 5_000, 1)
    assert breaker.state == "open"
    now_s = MIN_RUNS - 1 + OPEN_S[0]
    assert breaker.allows(now_s)
    return breaker, now_s


def test_a_list_as_a_trial_does_not_close_it_on_a_model_that_is_slow_for_one_row():
    breaker, now_s = slow_for_single_rows()
    for _ in range(MIN_RUNS - 1):
        breaker.record(now_s, 1_000, 0, 5_010, 1)
        assert breaker.state == "half_open"
        assert breaker.allows(now_s)  # whoever comes next is the next trial
    breaker.record(now_s, 1, 0, 5_000, 1)
    assert breaker.state == "open"
    assert not breaker.allows(now_s + 2 * OPEN_S[0] - 0.01)


def test_a_list_closes_it_that_is_as_quick_as_one_row_may_be_and_so_do_five_that_are_not():
    breaker, now_s = slow_for_single_rows()
    breaker.record(now_s, 1_000, 0, 900, 1)
    assert breaker.state == "closed"
    breaker, now_s = slow_for_single_rows()
    for _ in range(MIN_RUNS):
        assert breaker.state == "half_open"
        breaker.record(now_s, 1_000, 0, 100_000, 1)
        breaker.allows(now_s)
    assert breaker.state == "closed"


def test_a_list_as_a_trial_is_enough_of_a_model_that_failed():
    breaker = Breaker(slow_us=1_000)
    for i in range(MIN_RUNS):
        breaker.record(float(i), 1, 1, 5, 1)
    assert breaker.allows(100.0)
    breaker.record(100.0, 1_000, 0, 5_000, 1)
    assert breaker.state == "closed"


def test_a_list_failed_if_half_of_its_rows_did():
    for failed, state in ((499, "closed"), (500, "open")):
        breaker = Breaker()
        for i in range(MIN_RUNS):
            breaker.record(float(i), 1_000, failed, 5, 1)
        assert breaker.state == state


def test_after_a_while_one_trial_decides_and_each_that_fails_doubles_the_wait():
    breaker = Breaker()
    now_s = 0.0
    for _ in range(MIN_RUNS):
        breaker.record(now_s, 1, 1, 5, 1)
    for wait_s in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
        assert not breaker.allows(now_s + wait_s - 0.001)
        now_s += wait_s
        assert breaker.allows(now_s)
        assert breaker.state == "half_open"
        assert not breaker.allows(now_s)  # the trial is under way
        breaker.record(now_s, 1, 1, 5, 1)
        assert breaker.state == "open"
    now_s += 60.0
    assert breaker.allows(now_s)
    breaker.record(now_s, 4, 1, 5, 4)
    assert breaker.state == "closed"
    assert breaker.allows(now_s)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50), st.floats(0, 1)), max_size=40))
def test_it_is_open_exactly_when_the_window_says_so(runs):
    breaker, now_s, seen = Breaker(), 0.0, []
    for gap_s, rows, share in runs:
        now_s += gap_s
        failed = round(rows * share)
        breaker.record(now_s, rows, failed, 5, rows)
        seen = [run for run in seen if run[0] >= now_s - WINDOW_S] + [(now_s, rows, failed)]
        is_bad = len(seen) >= MIN_RUNS and sum(r[2] for r in seen) >= BAD_SHARE * sum(r[1] for r in seen)
        assert (breaker.state == "open") == is_bad
        if is_bad:
            return
