"""Change data capture from a real server: the copy, changes as corrections, large transactions, and what is refused."""

import polars as pl
import psycopg
import pytest
from services import postgres

from mainspring.core.errors import ConfigError, UnavailableError
from mainspring.events.history import History
from mainspring.events.lake import Lake

PRICES = "create table prices (sku text primary key, price numeric, at timestamptz not null default now())"


@pytest.fixture
def prices(feed, database):
    """A table of prices, its connector, and statements on it."""
    database.execute(PRICES)

    def make(**more):
        table = {"kind": "postgres", "source": "price", "url": database.url, "table": "prices"}
        return feed(**table | {"columns": {"at": "$committed_at"}, "pick": True} | more)

    yield make
    database.execute(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()"
    )


def told(one):
    return [(r["sku"], r["price"], r["op"]) for r in one.records()]


def holding(one):
    """What the table holds now, by what has come of it."""
    with one.log() as log:
        history = History(one.project, log, Lake(one.config.lake_path))
        history.catch_up()
        frame = history.frame("price").filter(pl.col("_until_offset").is_null())
    return sorted(frame.select("sku", "price").rows())


def test_the_table_comes_first_and_then_what_changes_as_corrections(prices, database):
    database.execute("insert into prices values ('a', 1), ('b', 2)")
    one = prices()
    assert one.once() == ["accepted"] * 2
    assert one.once() == []
    database.execute("insert into prices values ('c', 3)")
    database.execute("update prices set price = 1.5 where sku = 'a'")
    database.execute("delete from prices where sku = 'b'")
    assert one.once() == ["accepted"] * 3
    assert told(one) == [
        ("a", 1.0, "update"),
        ("b", 2.0, "update"),
        ("c", 3.0, "insert"),
        ("a", 1.5, "update"),
        ("b", None, "delete"),
    ]
    assert one.once() == []
    assert holding(one) == [("a", 1.5), ("c", 3.0)]


def test_a_value_that_goes_back_is_a_change_too_and_another_id_is_another_row(prices, database):
    database.execute("insert into prices values ('a', 1)")
    one = prices(snapshot=False)
    one.once()
    for price in (2, 1, 2, 1):
        database.execute("update prices set price = %s where sku = 'a'", (price,))
    database.execute("update prices set sku = 'z' where sku = 'a'")
    assert one.once() == ["accepted"] * 6
    assert told(one)[-3:] == [("a", 1.0, "update"), ("a", None, "delete"), ("z", 1.0, "insert")]
    assert holding(one) == [("z", 1.0)]


def test_a_change_between_slot_and_copy_comes_once(prices, database):
    database.execute("insert into prices values ('a', 1)")
    one = prices(batch=1)
    connector, settings = one.one.open(), one.one.settings()
    assert settings.snapshot
    begun = connector.read(None, 1)  # publication and slot are there now
    database.execute("insert into prices values ('b', 2)")
    database.execute("update prices set price = 9 where sku = 'a'")
    rows, cursor, more = [], begun.cursor, True
    while more:
        batch = connector.read(cursor, 1)
        if "seen" in batch.cursor and "copied" in cursor:
            database.execute("insert into prices values ('c', 3)")  # behind the copy
        rows += [(row.fields["sku"], float(row.fields["price"]), row.fields["op"]) for row in batch.rows]
        cursor, more = batch.cursor, batch.more
    connector.close()
    assert sorted(rows) == [("a", 9.0, "update"), ("b", 2.0, "update"), ("c", 3.0, "insert")]


def test_a_transaction_larger_than_a_batch_comes_whole_also_after_a_stop_in_its_middle(prices, database):
    one = prices(batch=7)
    one.once()
    database.execute("insert into prices select 's' || i, i from generate_series(1, 50) i")
    database.execute("insert into prices values ('last', 1)")
    connector = one.one.open()
    cursor, rows = one.position().cursor, []
    for _ in range(3):  # each time as if it had just been started
        batch = connector.read(cursor, 7)
        rows += [row.fields["sku"] for row in batch.rows]
        cursor = batch.cursor
        connector.close()
    more = True
    while more:  # and in one go
        batch = connector.read(cursor, 7)
        rows += [row.fields["sku"] for row in batch.rows]
        cursor, more = batch.cursor, batch.more
    connector.close()
    assert rows == [*(f"s{i}" for i in range(1, 51)), "last"]


def test_the_server_may_forget_what_is_durable_also_while_only_others_write(prices, database):
    one = prices()
    one.once()

    def kept():
        query = """select pg_current_wal_flush_lsn() - confirmed_flush_lsn from pg_replication_slots
            where database = current_database()"""
        return database.execute(query).fetchone()[0]

    database.execute("create table others as select i from generate_series(1, 20000) i")
    assert kept() > 500_000
    one.once()
    assert kept() < 100_000
    database.execute("insert into prices values ('a', 1)")
    assert one.once() == ["accepted"]


def test_a_row_that_breaks_the_contract_and_a_truncate_wait_in_quarantine(prices, database):
    one = prices()
    one.once()
    database.execute("insert into prices values ('dear', 5000), ('a', 1)")
    database.execute("truncate prices")
    assert one.once() == ["quarantined", "accepted", "quarantined"]
    assert [code for code, *_ in one.held()] == ["MS-E103", "MS-E439"]
    assert one.once() == []


def test_a_source_without_corrections_takes_inserts_alone(feed, database):
    database.execute("create table rides (ride text primary key, km float8, city text, at timestamp)")
    database.execute("insert into rides values ('a', 1, null, '2026-01-02 03:04:05')")
    one = feed(kind="postgres", source="ride", url=database.url, table="public.rides")
    assert one.once() == ["accepted"]
    database.execute("update rides set km = 2")
    database.execute("insert into rides values ('b', 'nan', 'graz', '2026-01-02 03:04:05.25')")
    database.execute("insert into rides values ('c', 3, 'graz', '2026-01-02 03:04:05.25')")
    assert one.once() == ["quarantined", "quarantined", "accepted"]
    assert one.ids() == ["a", "c"]
    database.execute("select pg_drop_replication_slot('mainspring_feed')")


def test_a_large_value_that_the_server_does_not_tell_is_not_taken_for_none(feed, database, prices):
    database.execute("alter table prices add column note text")
    database.execute("alter table prices alter column note set storage external")
    one = prices(source="note", columns={"at": "$committed_at"})
    one.once()
    database.execute("insert into prices values ('a', 1, now(), repeat('x', 10000))")
    database.execute("update prices set price = 2")
    assert one.once() == ["accepted", "quarantined"]
    ((code, reason, _),) = one.held()
    assert (code, "alter table prices replica identity full" in reason) == ("MS-E439", True)
    database.execute("alter table prices replica identity full")
    database.execute("update prices set price = 3")
    assert one.once() == ["accepted"]
    assert [(row["op"], len(row["note"])) for row in one.records()] == [("insert", 10_000), ("update", 10_000)]


def test_a_copy_that_is_begun_anew_corrects_what_changed_meanwhile(prices, database):
    database.execute("insert into prices values ('a', 1), ('b', 2)")
    one = prices()
    one.once()
    database.execute("select pg_drop_replication_slot('mainspring_feed')")
    database.execute("update prices set price = 7 where sku = 'b'")
    with one.inlet() as inlet:
        inlet.advance("feed", one.position().sequence, None, [])
    assert one.once() == ["accepted"] * 2
    assert holding(one) == [("a", 1.0), ("b", 7.0)]
    assert one.held() == []


def test_a_server_that_is_started_again_goes_on_where_it_was(feed):
    with postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(PRICES)
            one = feed(
                kind="postgres",
                source="price",
                url=server.url,
                table="prices",
                columns={"at": "$committed_at"},
                pick=True,
            )
            assert one.once() == []
            connection.execute("insert into prices values ('a', 1)")
        server.stop()
        with pytest.raises(UnavailableError, match="MS-E433"):
            one.once()
        server.start()
        assert one.once() == ["accepted"]
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("insert into prices values ('b', 1)")
        assert one.once() == ["accepted"]
        assert [sku for sku, *_ in told(one)] == ["a", "b"]


def test_a_url_that_is_none_is_said_without_it(prices):
    with pytest.raises(ConfigError, match="MS-C088") as caught:
        prices(url="postgresql//me:pl@in@h").once()
    assert "pl@in" not in str(caught.value)


def test_check_shows_rows_and_makes_nothing(prices, database):
    database.execute("insert into prices values ('a', 1)")
    connector = prices().one.open()
    assert [row.fields["sku"] for row in connector.check()] == ["a"]
    connector.close()
    assert database.execute(
        "select count(*) from pg_replication_slots where database = current_database()"
    ).fetchone() == (0,)
    assert database.execute("select count(*) from pg_publication").fetchone() == (0,)


def test_a_slot_that_is_gone_is_said_with_the_command_that_begins_anew(prices, database):
    one = prices()
    one.once()
    database.execute("select pg_drop_replication_slot('mainspring_feed')")
    with pytest.raises(UnavailableError, match="mainspring connect reset feed"):
        one.once()


def test_what_was_committed_while_it_was_stopped_comes_when_it_is_started(prices, database):
    one = prices()
    one.once()
    with psycopg.connect(database.url.replace("${PG_SECRET}", "ms-pw")) as other:
        other.execute("insert into prices values ('open', 1)")
        database.execute("insert into prices values ('a', 1)")
        assert one.once() == ["accepted"]
        other.commit()
    assert one.once() == ["accepted"]
    assert [sku for sku, *_ in told(one)] == ["a", "open"]
