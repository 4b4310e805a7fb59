"""Bounded losses and their differences."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import DefinitionError
from mainspring.rollout import LOSSES, loss_named

probabilities = st.floats(0.0, 1.0)


def test_losses_computed_by_hand():
    p, y = np.array([0.2, 0.5, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])
    assert LOSSES["log_loss"].function(p, y) == pytest.approx(
        [-math.log(0.8), math.log(2), -math.log(0.01), -math.log(0.99)]
    )
    assert LOSSES["brier"].function(p, y) == pytest.approx([0.04, 0.25, 1.0, 0.0])
    assert LOSSES["zero_one"].function(p, y).tolist() == [0.0, 0.0, 1.0, 0.0]
    assert loss_named("absolute_error", 3.0).function(np.array([1.0, 9.0]), np.array([2.0, 2.0])).tolist() == [1.0, 3.0]


@given(
    st.sampled_from([*LOSSES]),
    st.lists(st.tuples(probabilities, probabilities, st.booleans()), min_size=1, max_size=30),
)
def test_no_difference_of_losses_exceeds_the_bound_that_the_loss_declares(name, rows):
    a, b, y = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    loss = LOSSES[name]
    d = loss.difference(a, b, y)
    assert np.all(np.abs(d) <= loss.bound * (1 + 1e-12))
    assert d == pytest.approx(-loss.difference(b, a, y))


def test_the_bound_of_log_loss_is_reached_by_opposite_certainties():
    loss = LOSSES["log_loss"]
    assert loss.difference(np.array([0.0]), np.array([1.0]), np.array([1.0]))[0] == pytest.approx(loss.bound)


def test_an_unknown_loss_is_refused_with_the_nearest_name():
    with pytest.raises(DefinitionError, match=r"MS-R101.*log_los(?s:.*)did you mean 'log_loss'"):
        loss_named("log_los")


def test_absolute_error_without_a_bound_is_refused():
    with pytest.raises(DefinitionError, match="MS-R102"):
        loss_named("absolute_error")
