"""What a query reads, whatever it is hidden in."""

import pytest

from mainspring.events.sql_reads import reads_of

TABLES = {
    "paid": [("ride", "VARCHAR"), ("amount", "DOUBLE"), ("paid_at", "TIMESTAMPTZ"), ("_offset", "BIGINT")],
    "asked": [("ride", "VARCHAR"), ("km", "DOUBLE")],
}


@pytest.mark.parametrize(
    ("query", "reads"),
    [
        ("select sum(amount) from paid", {"paid": {"amount"}}),
        ("select sum(amount) from paid where paid_at > now()", {"paid": {"amount", "paid_at"}}),
        ("from paid", {"paid": {"ride", "amount", "paid_at", "_offset"}}),
        ("select * exclude (amount) from paid", {"paid": {"ride", "paid_at", "_offset"}}),
        ("select count(*) from paid", {"paid": set()}),
        (
            "select p.amount, a.km from paid p join asked a using (ride)",
            {"paid": {"ride", "amount"}, "asked": {"ride", "km"}},
        ),
        ("with x as (select * from paid) select paid_at from x", {"paid": {"paid_at"}}),
        ("select 1 where exists (select 1 from asked where km > 3)", {"asked": {"km"}}),
        ("select (select max(km) from asked), 2", {"asked": {"km"}}),
        ("select sum(amount) over (order by paid_at) from paid", {"paid": {"amount", "paid_at"}}),
        ("select amount from paid union all select km from asked", {"paid": {"amount"}, "asked": {"km"}}),
        ("select 1", {}),
        ("explain select amount from paid", {}),
        ("select nothing from nowhere", {}),
    ],
)
def test_the_columns_of_a_query_are_those_that_it_looks_at(query, reads):
    assert reads_of(query, TABLES) == {table: frozenset(columns) for table, columns in reads.items()}
