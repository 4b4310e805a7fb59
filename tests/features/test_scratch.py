"""Memory to work in: arrays that do not overlap, and what is kept from one use to the next."""

import threading

import numpy as np
import pytest

from mainspring.features import scratch as memory
from mainspring.features.scratch import bytes_of, let_go, scratch


@pytest.fixture(autouse=True)
def nothing_kept():
    let_go()
    yield
    let_go()


def at(array):
    return array.__array_interface__["data"][0]


def test_arrays_lie_one_after_the_other_and_begin_on_lines():
    wanted = [(3, np.uint32), (0, np.int64), (1_001, np.float64), (17, np.uint8)]
    with scratch(sum(bytes_of(*one) for one in wanted)) as room:
        found = [room.empty(*one) for one in wanted]
        for number, array in enumerate(found):
            array[:] = number
        for number, (array, (n, dtype)) in enumerate(zip(found, wanted, strict=True)):
            assert array.dtype == dtype
            assert array.shape == (n,)
            assert array.flags.c_contiguous
            assert at(array) % 64 == 0
            assert (array == number).all()


@pytest.mark.skipif(not memory._CAN_KEEP, reason="no memory can be marked as free here")
def test_what_was_used_is_used_again_by_what_fits_into_it():
    with scratch(1 << 20) as room:
        first = at(room.empty(8, np.int64))
    with scratch(1 << 19) as room:
        assert at(room.empty(8, np.int64)) == first
        with scratch(1 << 19) as other:  # at the same time
            a, b = room.empty(1_000, np.int64), other.empty(1_000, np.int64)
            a[:], b[:] = 1, 2
            assert a.sum() == 1_000
    with scratch(1 << 21) as room:
        room.empty(1 << 18, np.int64)[:] = 3
    assert len(memory._kept) == 1
    assert len(memory._kept[0]) == 1 << 21


def test_more_than_is_kept_is_given_and_given_back(monkeypatch):
    monkeypatch.setattr(memory, "MOST_BYTES", 1 << 12)
    with scratch(1 << 13) as room:
        room.empty(1 << 10, np.int64)[:] = 1
    assert memory._kept == []


def test_nothing_is_kept_of_a_use_that_fails_for_its_threads_may_still_be_at_work():
    with pytest.raises(ValueError, match="in the middle"), scratch(1 << 12):
        raise ValueError("in the middle")
    assert memory._kept == []


def test_threads_never_share_a_piece():
    wrong = []

    def work(number):
        for _ in range(50):
            with scratch(1 << 14) as room:
                array = room.empty(1 << 11, np.int64)
                array[:] = number
                if (array != number).any():
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
