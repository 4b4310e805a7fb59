"""Many JSON arrays at once are the texts of each."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.events.cells import Cells
from mainspring.events.json_arrays import array_texts

LIKELY = st.one_of(st.floats(-1e15, 1e15), st.integers(-9, 9).map(float), st.sampled_from([np.nan, -0.0, 1e-7, 5e-324]))


@st.composite
def parts(draw):
    """A part of a column, with the number of its rows."""
    n = draw(st.integers(1, 5))
    each = {"min_size": n, "max_size": n}
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from([Cells.same("[]"), Cells.of([f"[{i}.5]" for i in range(n)])])), n
    width = draw(st.integers(0, 4))
    cell = draw(st.sampled_from([LIKELY, LIKELY, st.floats()]))
    values = draw(st.lists(st.lists(cell, min_size=width, max_size=width), **each))
    at = draw(st.sets(st.integers(0, width - 1))) if width else set()
    texts = {place: draw(st.lists(st.none() | st.text(max_size=4), **each)) for place in at}
    return Cells.arrays(np.array(values, np.float64).reshape(n, width), texts), n


@given(st.lists(parts(), min_size=1, max_size=5))
def test_arrays_of_any_numbers_texts_and_widths_are_the_same_texts_as_one_by_one(made):
    found = array_texts(made)
    assert found.dtype == pl.String
    assert found.to_list() == [text for cells, n in made for text in cells.values(n)]


@pytest.mark.parametrize("size", [1e16, -1e16, np.inf, -np.inf, np.finfo(float).max])
def test_a_number_that_polars_says_in_other_words_is_said_as_ever(size):
    made = Cells.arrays(np.array([[size, 0.5], [1.0, np.nan]]), {})
    assert array_texts([(made, 2)]).to_list() == made.values(2)
    assert made.values(2)[1] == "[1.0,null]"
