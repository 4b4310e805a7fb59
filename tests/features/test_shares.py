"""How far several parts have come, told as one."""

from hypothesis import given
from hypothesis import strategies as st

from mainspring.features.shares import shares


@given(st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 50)), max_size=5))
def test_a_whole_rises_from_nothing_to_the_sum_of_its_parts(parts):
    told = []
    sizes = [size for size, _ in parts]
    for (_, steps), share in zip(parts, shares(lambda *one: told.append(one), sizes), strict=True):
        for done in range(steps + 1):
            share(done, steps)
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert {every for _, every in told} <= {sum(sizes)}
    assert not told or (done[0], done[-1]) == (0, sum(sizes))


def test_nobody_is_told_when_nobody_asks():
    assert shares(None, [1, 2]) == [None, None]
