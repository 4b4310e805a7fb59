import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mainspring.serving.table import Table, column_of, joined

FLOATS = st.none() | st.floats(allow_nan=False)
ROWS = st.lists(st.tuples(FLOATS, st.text(max_size=2), FLOATS, st.none()), max_size=5)
PLACES = (0, 2)


def tables(rows):
    """The same rows, known in every way that they may be."""
    columns = list(zip(*rows, strict=True))
    arrays = [np.array(c, np.float64) if at == 2 else c for at, c in enumerate(columns)]
    known = [Table(columns=columns), Table.split(columns, PLACES), Table.split(arrays, PLACES)] if rows else []
    return [Table(rows), *known, rows]


@given(ROWS, st.slices(5))
def test_rows_are_the_same_however_they_came(rows, some):
    for found in tables(rows):
        assert (len(found), list(found)) == (len(rows), rows)
        assert list(found[some]) == rows[some]
        assert [found[i] for i in range(len(rows))] == rows
        for place in range(4):
            assert list(column_of(found, place)) == [row[place] for row in rows]
        assert [list(column) for column in Table.of(found).columns] == [list(one) for one in zip(*rows, strict=True)]


@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_rows_of_several_requests_follow_one_another(parts, data):
    whole = joined([data.draw(st.sampled_from(tables(rows))) for rows in parts])
    rows = [row for rows in parts for row in rows]
    assert (len(whole), list(whole)) == (len(rows), rows)
    for places in ((0, 2), (2, 0), (2,)):
        columns = [[math.nan if row[i] is None else row[i] for row in rows] for i in places]
        found = Table.of(whole).floats(places)
        assert (found.dtype, found.shape, repr(found.tolist())) == (np.float64, (len(places), len(rows)), repr(columns))


def test_no_rows_can_be_columns_too():
    for empty in (Table(columns=[(), (), ()]), Table.split([(), (), ()], (0, 2))):
        assert (len(empty), list(empty), list(column_of(empty, 1))) == (0, [], [])
        assert list(joined([empty, [(1.0, "a", None)]])) == [(1.0, "a", None)]
