"""The garbage collector stays out of the way, and comes back."""

import gc
import weakref

import pytest

from mainspring.core.collector import paused, rest_what_is_loaded


class Node:
    """Refers to itself: only the collector frees it."""

    def __init__(self):
        self.me = self


def test_nothing_is_collected_while_it_is_paused_and_everything_is_afterwards():
    collections = []
    gc.callbacks.append(seen := lambda phase, _: collections.append(phase))
    try:
        with paused():
            kept = [Node() for _ in range(20_000)]
            assert not collections
        more = [Node() for _ in range(20_000)]
        assert collections
        assert len(kept) == len(more)
    finally:
        gc.callbacks.remove(seen)


def test_a_pause_ends_with_an_error_and_leaves_a_collector_that_was_off_alone():
    with pytest.raises(ValueError, match="within"), paused():
        raise ValueError("within")
    assert gc.isenabled()
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_loaded_is_left_out_of_later_collections():
    try:
        rest_what_is_loaded()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    assert gc.get_freeze_count() == 0


def test_a_batch_is_not_looked_through_for_cycles_and_cycles_are_found_all_the_same():
    collections, threshold = [], gc.get_threshold()
    try:
        rest_what_is_loaded()
        gc.callbacks.append(seen := lambda phase, _: collections.append(phase))
        batch = [[i] for i in range(5_000)]
        assert not collections
        first = weakref.ref(Node())
        for _ in range(20_000):
            Node()
        assert first() is None
        assert len(batch) == 5_000
    finally:
        gc.callbacks.remove(seen)
        gc.set_threshold(*threshold)
        gc.unfreeze()
