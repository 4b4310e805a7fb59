"""No label leaks over the boundary in time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import RefusedError
from mainspring.training.split import temporal


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=60).map(sorted),
    st.integers(0, 20),
    st.floats(0.05, 0.6),
)
def test_training_rows_lie_before_the_cut_with_labels_known_at_it(times, horizon, share):
    t = np.array(times)
    try:
        split = temporal(t, t + horizon, test_share=share)
    except RefusedError:
        cut = t[min(len(t) - 1, int(len(t) * (1 - share)))]
        assert not np.any(t + horizon <= cut) or not np.any(t < cut)
        return
    assert np.all(t[split.test] >= split.cut_us)
    assert np.all(t[split.train] < split.cut_us)
    assert np.all((t + horizon)[split.train] <= split.cut_us)
    assert split.train.sum() + split.purged + split.test.sum() == len(t)


def test_rows_whose_label_was_not_known_at_the_cut_are_purged():
    t = np.arange(100)
    split = temporal(t, t + 10, test_share=0.2)
    assert split.cut_us == 80
    assert np.flatnonzero(split.train).tolist() == list(range(71))
    assert split.purged == 9


def test_a_held_label_is_purged_by_when_it_became_known():
    t = np.arange(100)
    mature = t + 1
    mature[:50] = 90
    assert not temporal(t, mature).train[:50].any()


def test_the_cut_moves_behind_what_the_champion_has_seen_while_enough_rows_remain():
    t = np.arange(1_000)
    assert temporal(t, t, not_before_us=900, least_test_rows=50).cut_us == 900
    assert temporal(t, t, not_before_us=980, least_test_rows=50).cut_us == 800
    assert temporal(t, t, not_before_us=100, least_test_rows=50).cut_us == 800


def test_rows_of_one_moment_stay_together_and_too_few_are_refused():
    same = np.zeros(10, np.int64)
    with pytest.raises(RefusedError, match="MS-T101"):
        temporal(same, same)
    with pytest.raises(RefusedError, match="MS-T101"):
        temporal(np.empty(0, np.int64), np.empty(0, np.int64))
