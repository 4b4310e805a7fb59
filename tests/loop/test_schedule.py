"""When things are due."""

from hypothesis import given
from hypothesis import strategies as st

from mainspring.loop.schedule import boundaries, retrain_is_due


def test_a_boundary_that_was_reached_is_not_due_again() -> None:
    assert boundaries(20, 30, 10) == [30]
    assert boundaries(30, 39, 10) == []


def test_boundaries_before_1970_are_multiples_too() -> None:
    assert boundaries(-25, 5, 10) == [-20, -10, 0]


@given(st.integers(-1000, 1000), st.lists(st.integers(0, 300), max_size=8), st.integers(1, 50))
def test_however_often_the_clock_is_looked_at_each_boundary_is_due_once(
    start: int, steps: list[int], every: int
) -> None:
    looked, now, seen = start, start, []
    for step in steps:
        now += step
        due = boundaries(looked, now, every)
        seen += due
        looked = due[-1] if due else looked
    assert seen == boundaries(start, now, every)


def test_a_schedule_asks_once_its_span_has_passed_and_no_schedule_never_asks() -> None:
    assert not retrain_is_due(100, 109, 10)
    assert retrain_is_due(100, 110, 10)
    assert not retrain_is_due(0, 10**15, None)
