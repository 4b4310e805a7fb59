"""SQL over lake and log: each event once, as of any moment, read-only, within bounds."""

import threading
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mainspring.core.errors import ConfigError, DeadlineError, RefusedError, UnavailableError
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events import Draft, Log
from mainspring.events import lake as lake_module
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.sql import Sql
from mainspring.events.tables import AsOf

MAP = 1 << 26


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log", MAP, writable=True) as found:
        yield found


@pytest.fixture
def add(log, arrived, weather, clock):
    """Appends n flights and one weather row, numbered on."""
    numbers = iter(range(10**6))

    def run(n):
        now = clock.now_us()
        drafts = [Draft(arrived, (f"f{i}", "UA", i / 2, i, now)) for i in (next(numbers) for _ in range(n))]
        log.append([*drafts, Draft(weather, ("EWR", 1.5, True, now - 10, now))], clock)

    return run


@pytest.fixture
def ask(project, log, tmp_path):
    """Runs a query and answers its rows as tuples; with ``of=`` another project's."""

    def run(query, as_of=None, of=None, **limits):
        with Sql(of or project, log, Lake(tmp_path / "lake"), as_of or AsOf(), **limits) as session:
            return [tuple(row.values()) for batch in session.run(query).batches for row in batch.to_pylist()]

    return run


@pytest.fixture
def flush(project, log, tmp_path):
    """Writes what is known to the lake."""
    history = History(project, log, Lake(tmp_path / "lake"))

    def run():
        history.catch_up()
        return history.flush()

    return run


def test_events_of_the_lake_and_of_the_log_are_one_table(add, flush, ask):
    add(3)
    flush()
    add(2)
    rows = ask("select flight_id, delay_min, seats, arrived_at, _offset from arrived order by _offset")
    assert [row[0] for row in rows] == ["f0", "f1", "f2", "f3", "f4"]
    assert rows[4] == ("f4", 2.0, 4, datetime(2013, 3, 1, 12, tzinfo=UTC), 6)
    assert ask("select count(*), max(wind_mph) from weather") == [(2, 1.5)]


@pytest.mark.parametrize("kept", ["flushed", "compacted", "with string views", "of both kinds"])
def test_text_of_the_lake_can_be_filtered(add, flush, ask, tmp_path, monkeypatch, kept):
    written = lake_module._as_arrow
    if kept in ("with string views", "of both kinds"):  # as earlier releases wrote them
        monkeypatch.setattr(
            lake_module, "_as_arrow", lambda frame: frame.to_arrow(compat_level=pl.CompatLevel.newest())
        )
    add(4)
    flush()
    files = list((tmp_path / "lake" / "arrived").glob("*.parquet"))
    has_views = pq.read_schema(files[0]).field("flight_id").type == pa.string_view()
    assert has_views == (kept in ("with string views", "of both kinds"))
    if kept != "with string views":
        monkeypatch.setattr(lake_module, "_as_arrow", written)
    add(4)
    flush()
    if kept == "compacted":
        assert Lake(tmp_path / "lake").compact("arrived") == 2
    add(1)
    for column in ("flight_id", "_id"):
        for condition, n in (
            ("= 'f1'", 1),
            ("in ('f1', 'f6', 'f8')", 3),
            (">= 'f2'", 7),
            ("<> 'f3'", 8),
            ("between 'f1' and 'f4'", 4),
            ("is null", 0),
        ):
            assert ask(f"select count(*) from arrived where {column} {condition}") == [(n,)], (column, condition)
    joined = "from arrived join (select 'f5' as flight_id) as wanted using (flight_id)"
    assert ask(f"select count(*) {joined} where carrier = 'UA'") == [(1,)]


def test_sql_answers_what_history_has_for_every_column_of_an_evolved_source(project, log, add, flush, ask, tmp_path):
    add(3)
    flush()
    old = project.sources["weather"]
    fields = (
        *(f for f in old.fields if f.name != "is_wet"),
        replace(old.columns["is_wet"], nullable=True, default=True),
        Field("place", "str", default="it's", has_default=True),
        Field("seen_at", "datetime", default=datetime(2020, 1, 1, tzinfo=UTC), has_default=True),
        Field("clouds", "int", nullable=True),
        Field("embedding", "vector", nullable=True, constraints=(Constraint("dim", (2,)),)),
    )
    evolved = Project({"arrived": project.sources["arrived"], "weather": replace(old, fields=fields)}, {}, {})
    history = History(evolved, log, Lake(tmp_path / "lake"))
    history.catch_up()
    expected = history.frame("weather").with_columns(pl.col("embedding").arr.to_list())
    names = ", ".join(expected.columns)
    assert ask(f"select {names} from weather order by _offset", of=evolved) == expected.rows()
    assert expected["place"].to_list() == ["it's"]


def test_every_event_is_there_once_while_the_lake_is_written(project, log, add, ask, tmp_path):
    add(1)
    stop = threading.Event()
    failed = []

    def write():
        history = History(project, log, Lake(tmp_path / "lake"))
        while not stop.is_set():
            try:
                add(7)
                history.catch_up()
                history.flush()
            except Exception as error:  # noqa: BLE001  raised below, in the test's own thread
                failed.append(error)
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = 0
        for _ in range(8):
            ((n, ids, newest, offsets),) = ask(
                "select count(*), count(distinct _id), max(_offset), count(distinct _offset) from arrived"
            )
            assert n == ids == offsets
            assert n >= seen
            assert n + ask("select count(*) from weather", AsOf(offset=newest))[0][0] >= newest - 1
            seen = n
    finally:
        stop.set()
        writer.join()
    assert not failed
    assert seen > 1


def test_a_query_as_of_an_offset_answers_the_same_again(add, flush, ask, project, log, tmp_path):
    add(4)
    with Sql(project, log, Lake(tmp_path / "lake")) as session:
        offset = session.run("select 1").offset
    before = ask("select sum(seats), count(*) from arrived")
    add(3)
    flush()
    add(1)
    assert offset == 5
    assert ask("select sum(seats), count(*) from arrived", AsOf(offset=offset)) == before == [(6, 4)]


def test_a_query_as_of_a_moment_sees_what_was_known_before_it(add, ask, clock):
    add(2)
    at = clock.now_us() + 60_000_000
    clock.set(at)
    add(2)
    assert ask("select count(*) from arrived", AsOf(before_us=at)) == [(2,)]
    assert ask("select count(*) from arrived", AsOf(before_us=at + 1)) == [(3,)]


def test_a_source_with_corrections_is_its_rows_as_they_are_now_and_its_versions_are_beside_it(log, clock, ask):
    fields = (Field("key", "str"), Field("x", "int", nullable=True), Field("at", "datetime"), Field("op", "str"))
    paid = SourceDef("paid", fields, time="at", id="key", corrects="op")
    t = clock.now_us()
    rows = [("a", 1, t, "insert"), ("b", 2, t, "insert"), ("a", 3, t, "update"), ("b", None, t, "delete")]
    for row in rows:
        log.append([Draft(paid, row)], clock)
    project = Project({"paid": paid}, {}, {})
    assert ask("select key, x from paid", of=project) == [("a", 3)]
    assert ask("select key, x from paid order by key", AsOf(offset=2), of=project) == [("a", 1), ("b", 2)]
    assert ask("select count(*) from paid__versions", of=project) == [(4,)]


def test_quarantine_is_a_table(log, clock, ask):
    log.quarantine("arrived", b'{"delay_min": "x"}', "MS-E102", "Expected float", clock, path="$.delay_min")
    assert ask("select source, status, code, path, record from quarantine") == [
        ("arrived", "open", "MS-E102", "$.delay_min", '{"delay_min": "x"}')
    ]


@pytest.mark.parametrize(
    "query",
    [
        "insert into arrived values (1)",
        "create table t as select 1",
        "drop view arrived",
        "select 1; drop view arrived",
        "copy (select 1) to 'x.csv'",
        "attach 'x.db'",
        "install httpfs",
        "load httpfs",
        "set memory_limit = '99GB'",
        "pragma database_list",
        "export database 'x'",
        "",
    ],
)
def test_only_one_select_is_run(add, ask, query):
    add(1)
    with pytest.raises(RefusedError, match="MS-E451"):
        ask(query)


@pytest.mark.parametrize(
    "table",
    ["read_csv('{0}')", "read_text('{0}')", "'{0}'", "glob('{0}')", "read_parquet('{0}')", "sqlite_scan('{0}', 'x')"],
)
def test_no_file_is_reached(tmp_path, ask, table):
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="MS-E450"):
        ask("select * from " + table.format(secret))


def test_variables_of_the_calling_python_are_no_tables(ask):
    frame = pl.DataFrame({"x": [1]})
    with pytest.raises(ConfigError, match="frame does not exist"):
        ask("select * from frame")
    assert frame.height == 1


@pytest.mark.parametrize(
    ("query", "place", "hint"),
    [
        ("selec 1", "line 1, column 1", ""),
        ("select *\nfrom arived", "line 2, column 6", "did you mean 'arrived'?"),
        ("select 'ü', dely_min from arrived", "line 1, column 13", "did you mean 'delay_min'?"),
        ("select flight_id::int from arrived", "line 1, column 17", ""),
    ],
)
def test_an_error_says_where_it_is_and_what_was_meant(add, ask, query, place, hint):
    add(1)
    with pytest.raises(ConfigError, match="MS-E450") as raised:
        ask(query)
    assert raised.value.where.startswith(place)
    assert raised.value.where.splitlines()[-1].index("^") == int(place.split()[-1]) - 1
    assert hint in raised.value.hint


def test_a_column_that_is_called_as_a_word_of_sql_is_said_to_need_quotes(ask):
    source = SourceDef("ride", (Field("at", "datetime"), Field("km", "float")), time="at")
    rides = Project({"ride": source}, {}, {})
    for query in ("select at from ride", "select km from ride where at > 3", "select max(at) from ride"):
        with pytest.raises(ConfigError) as caught:
            ask(query, of=rides)
        assert caught.value.hint == 'a column that is called as a word of SQL is written in quotes: "at"'
    assert ask('select "at" from ride', of=rides) == []
    with pytest.raises(ConfigError) as caught:
        ask("select km km km from ride", of=rides)
    assert "quotes" not in caught.value.hint


def test_a_query_that_takes_too_long_is_stopped(ask):
    endless = "select sum(x) from range(100000000000) t(x) where x * x % 7 = 3"
    with pytest.raises(DeadlineError, match="MS-E453: the query takes longer than 200ms"):
        ask(endless, time_us=200_000)


def test_a_query_whose_rows_nobody_takes_leaves_no_clock_running(project, log, add, tmp_path):
    add(3)
    before = threading.enumerate()
    with Sql(project, log, Lake(tmp_path / "lake")) as session:
        session.run("select count(*) from arrived")
    clocks = [thread for thread in threading.enumerate() if thread not in before]
    for clock in clocks:
        clock.join(timeout=10)
    assert [clock for clock in clocks if clock.is_alive()] == []


def test_a_query_that_takes_too_much_memory_is_stopped(ask):
    with pytest.raises(UnavailableError, match="MS-E454"):
        ask("select list(x) from range(30000000) t(x)", memory="64MB")


def test_a_sort_beyond_the_memory_spills_to_the_disk(ask):
    found = ask("select x from (select hash(x) x from range(3000000) t(x)) order by x offset 2999999", memory="40MB")
    assert len(found) == 1


def test_a_size_of_memory_that_is_none_is_an_error(ask):
    with pytest.raises(ConfigError, match="MS-E452: 'much' is no size of memory"):
        ask("select 1", memory="much")


@pytest.mark.parametrize("column", ["_known_at", "_time", "arrived_at", "_offset"])
def test_a_query_that_names_its_time_reads_only_the_files_of_that_time(add, flush, ask, clock, tmp_path, column):
    """A file that it does not have to read may be anything: there are no partitions, and none are needed."""
    for _ in range(3):
        add(2)
        flush()
        clock.set(clock.now_us() + 86_400_000_000)
    (newest,) = ask(f"select max({column}) from arrived")[0]
    bound = newest if column == "_offset" else f"timestamptz '{newest.isoformat()}'"
    for older in sorted((tmp_path / "lake" / "arrived").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)[
        :2
    ]:
        older.write_bytes(b"cannot be read")
    assert ask(f"select max(seats) from arrived where {column} >= {bound}") == [(5,)]
