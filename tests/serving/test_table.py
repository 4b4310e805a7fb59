from hypothesis import given
from hypothesis import strategies as st

from mainspring.serving.table import Table, column_of, joined

ROWS = st.lists(st.tuples(st.integers(0, 3), st.text(max_size=2), st.none()), max_size=5)


def tables(rows):
    """The same rows, known in every way that they may be."""
    return [Table(rows), *([Table(columns=list(zip(*rows, strict=True)))] if rows else []), rows]


@given(ROWS, st.slices(5))
def test_rows_are_the_same_however_they_came(rows, some):
    for found in tables(rows):
        assert (len(found), list(found)) == (len(rows), rows)
        assert list(found[some]) == rows[some]
        assert [found[i] for i in range(len(rows))] == rows
        for place in range(3):
            assert list(column_of(found, place)) == [row[place] for row in rows]
        assert [list(column) for column in Table.of(found).columns] == [list(one) for one in zip(*rows, strict=True)]


@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_rows_of_several_requests_follow_one_another(parts, data):
    whole = joined([data.draw(st.sampled_from(tables(rows))) for rows in parts])
    assert list(whole) == [row for rows in parts for row in rows]


def test_no_rows_can_be_columns_too():
    empty = Table(columns=[(), (), ()])
    assert (len(empty), list(empty), list(column_of(empty, 1))) == (0, [], [])
    assert list(joined([empty, [(1, "a", None)]])) == [(1, "a", None)]
