"""Rows behind a watermark: ties, late commits, rows that break the contract, databases' own types."""

from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import ConfigError, UnavailableError

TABLE = "create table rides (ride text primary key, km real, city text, at text, changed integer)"


def insert(ride, changed, km=1.0):
    return ("insert into rides values (?, ?, ?, ?, ?)", ride, km, "graz", "2026-01-02T03:04:05", changed)


def rides(feed, **more):
    table = {"kind": "sql", "source": "ride", "url": "sqlite:///rides.db", "table": "rides", "watermark": "changed"}
    return feed(**table | {"pick": True} | more)


def test_what_is_new_comes_in_and_nothing_comes_twice(feed, sqlite):
    sqlite(TABLE, insert("a", 1), insert("b", 2))
    one = rides(feed)
    assert one.once() == ["accepted", "accepted"]
    assert one.once() == []
    sqlite(insert("c", 3))
    assert one.once() == ["accepted"]
    assert one.ids() == ["a", "b", "c"]
    assert one.records()[0] == {"ride": "a", "km": 1.0, "city": "graz", "at": 1_767_323_045_000_000}
    assert (one.position().cursor, one.position().rows) == ([3, "c"], 3)


def test_rows_that_share_a_watermark_are_all_brought_wherever_a_batch_ends(feed, sqlite):
    sqlite(TABLE, *(insert(f"r{i}", i // 5) for i in range(23)))
    one = rides(feed, batch=3)
    assert one.once() == ["accepted"] * 23
    sqlite(insert("r99", 4))  # the same watermark as the last one, and a greater key
    assert one.once() == ["accepted"]
    assert sorted(one.ids()) == sorted([*(f"r{i}" for i in range(23)), "r99"])


@settings(max_examples=20)
@given(marks=st.lists(st.integers(0, 3), min_size=1, max_size=12), batch=st.integers(1, 5))
def test_any_batch_and_any_ties_bring_every_row_once(tmp_path_factory, marks, batch):
    import sqlite3

    from mainspring.events.connectors import Site
    from mainspring.events.connectors.sql import Query, QuerySettings

    root = tmp_path_factory.mktemp("ties")
    with sqlite3.connect(root / "t.db") as database:
        database.execute("create table t (k integer primary key, w integer)")
        database.executemany("insert into t values (?, ?)", enumerate(marks))
    database.close()
    from mainspring.definitions.values import Field, SourceDef

    source = SourceDef("t", (Field("k", "int"), Field("at", "datetime")), time="at", id="k")
    asked = QuerySettings(kind="sql", source="t", url="sqlite:///t.db", table="t", watermark="w")
    query = Query(asked, Site("t", root, source))
    cursor, found = None, []
    while (one := query.read(cursor, batch)).rows:
        found += [row.fields["k"] for row in one.rows]
        cursor = one.cursor
    query.close()
    assert found == sorted(range(len(marks)), key=lambda k: (marks[k], k))


def test_a_row_that_breaks_the_contract_waits_in_quarantine_and_the_others_come_in(feed, sqlite):
    sqlite(TABLE, insert("a", 1), insert("far", 2, km=5_000), insert("c", 3))
    one = rides(feed)
    assert one.once() == ["accepted", "quarantined", "accepted"]
    assert one.once() == []
    ((code, reason, sender),) = one.held()
    assert code == "MS-E103"
    assert "5000.0" in reason
    assert sender == "connect feed ride far"


def test_another_column_is_a_reason_for_quarantine_unless_one_picks(feed, sqlite):
    sqlite(TABLE, insert("a", 1))
    assert rides(feed, pick=False).once() == ["quarantined"]
    query = "select ride, km, city, at from rides"
    assert rides(feed, name="other", pick=False, table="", query=query, watermark="at", settle="0s").once() == [
        "accepted"
    ]


def test_columns_are_mapped_and_a_number_for_a_time_is_refused(feed, sqlite):
    sqlite("create table t (id integer primary key, dist real, at)", ("insert into t values (1, 2.5, 1700000000)",))
    sqlite(("insert into t values (2, 2.5, '2026-01-02 03:04:05')",))
    columns = {"ride": "name", "km": "dist"}
    query = "select 'r' || id as name, dist, at, id from t;"
    one = feed(
        kind="sql", source="ride", url="sqlite:///rides.db", query=query, watermark="id", columns=columns, pick=True
    )
    assert one.once() == ["quarantined", "accepted"]
    assert one.ids() == ["r2"]
    assert one.held()[0][0] == "MS-E102"


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"query": "select 1"}, "query or table"),
        ({"source": "tick"}, "needs key"),
        ({"url": "nonsense"}, "no database URL"),
        ({"watermark": "changd"}, "no such column"),
        ({"table": "nowhere"}, "no such table"),
    ],
)
def test_what_cannot_be_is_said(feed, sqlite, table, error):
    sqlite(TABLE, insert("a", 1))
    with pytest.raises((ConfigError, UnavailableError), match=error):
        rides(feed, **table).once()


def test_postgres_types_become_the_columns_types(feed, database):
    database.execute(
        "create table rides"
        " (id uuid primary key default gen_random_uuid(), km numeric(9,3), city varchar, at timestamptz)"
    )
    database.execute("insert into rides values (default, 1.125, null, '2026-01-02 03:04:05.000006+01')")
    one = feed(
        kind="sql", source="ride", url=database.url, table="public.rides", watermark="at", columns={"ride": "id"}
    )
    assert one.once() == ["accepted"]
    (row,) = one.records()
    at = datetime(2026, 1, 2, 2, 4, 5, 6, tzinfo=UTC)
    assert (row["km"], row["city"], row["at"]) == (1.125, None, int(at.timestamp()) * 1_000_000 + 6)
    assert len(row["ride"]) == 36
    assert one.once() == []
    assert "ms-pw" not in one.one.url


def test_a_row_that_is_committed_late_is_not_missed(feed, database):
    database.execute("create table rides (ride text primary key, km real, city text, at timestamptz)")
    one = feed(kind="sql", source="ride", url=database.url, table="rides", watermark="at", settle="1h")
    with psycopg.connect(database.url.replace("${PG_SECRET}", "ms-pw")) as slow:
        slow.execute("insert into rides values ('early', 1, null, now() - interval '10 minutes')")
        database.execute("insert into rides values ('late', 1, null, now() - interval '5 minutes')")
        database.execute("insert into rides values ('old', 1, null, now() - interval '2 hours')")
        assert one.once() == ["accepted"]  # the young ones wait, and with them what is not committed yet
        slow.commit()
    database.execute("update rides set at = at - interval '1 hour' where ride <> 'old'")
    assert one.once() == ["accepted", "accepted"]
    assert one.ids() == ["old", "early", "late"]


def test_a_database_that_is_away_is_an_error_without_the_password(feed, monkeypatch):
    monkeypatch.setenv("PG_SECRET", "ms-pw")
    url = "postgresql://me:${PG_SECRET}@127.0.0.1:1/x"
    one = feed(kind="sql", source="ride", url=url, table="rides", watermark="at")
    with pytest.raises(UnavailableError, match="MS-E433") as caught:
        one.once()
    assert "ms-pw" not in str(caught.value)
