"""``mainspring sql``: rows as text, JSON, CSV and files; errors as errors."""

import json

import polars as pl
import pytest

from mainspring.core import load_config
from mainspring.definitions import load_project
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Log


@pytest.fixture
def asked(cli, project, rides, lines):
    """The project with twenty rides asked for."""
    path = lines("asked.jsonl", rides(20)[0])
    assert cli("ingest", path, "--source", "asked", at=project).code == 0
    return project


def test_without_a_query_the_tables_are_listed(cli, asked):
    found = cli("sql", "--json", at=asked).json
    assert list(found["tables"]) == ["asked", "decisions", "done", "predictions", "quarantine"]
    assert {"name": "km", "type": "DOUBLE"} in found["tables"]["asked"]
    assert "city, km" in cli("sql", at=asked).out


def test_rows_are_shown_as_text_json_and_csv(cli, asked):
    query = "select city, count(*) n, min(asked_at) first from asked group by city order by city"
    shown = cli("sql", query, at=asked)
    assert shown.code == 0
    assert "2024-01-01T00:00:00Z" in shown.out
    assert "2 rows; as of offset 21" in shown.err
    found = cli("sql", query, "--json", at=asked).json
    assert found["offset"] == 21
    assert found["columns"][1] == {"name": "n", "type": "BIGINT"}
    assert found["rows"][0] == {"city": "graz", "n": 10, "first": "2024-01-01T00:00:00Z"}
    assert cli("sql", query, "--csv", at=asked).out.splitlines()[:2] == ["city,n,first", "graz,10,2024-01-01T00:00:00Z"]


def test_only_so_many_rows_are_shown_and_it_says_that_there_are_more(cli, asked):
    shown = cli("sql", "from asked", "--rows", "3", at=asked)
    assert "3 rows, and more" in shown.err
    assert "r3" not in shown.out
    assert len(cli("sql", "from asked", "--rows", "3", "--json", at=asked).json["rows"]) == 20


def test_what_json_cannot_say_is_text(cli, asked):
    query = "select 'nan'::double a, 'inf'::double b, 1.5::decimal(3,1) c, interval 1 day d, [now() < now()] e"
    assert cli("sql", query, "--json", at=asked).json["rows"] == [
        {"a": "nan", "b": "inf", "c": 1.5, "d": "P0M1DT0S", "e": [False]}
    ]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_rows_are_written_to_a_file_that_is_not_overwritten_unasked(cli, asked, suffix):
    out = asked / f"out.{suffix}"
    assert cli("sql", "from asked order by km", "--out", out, "--json", at=asked).json["rows"] == 20
    readers = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}
    assert readers[suffix](out)["km"].sort().to_list() == readers[suffix](out)["km"].to_list()
    refused = cli("sql", "select 1", "--out", out, "--json", at=asked)
    assert (refused.code, refused.error["code"]) == (5, "MS-C093")
    assert cli("sql", "select 1 x", "--out", out, "--overwrite", at=asked).code == 0
    assert readers[suffix](out).columns == ["x"]


def test_a_query_that_fails_on_the_way_leaves_no_file(cli, asked):
    out = asked / "out.csv"
    failed = cli("sql", "select (x - 50000)::tinyint from range(100000) t(x)", "--out", out, "--json", at=asked)
    assert (failed.code, failed.error["code"]) == (3, "MS-E450")
    assert not list(asked.glob("*out.csv*"))


def test_a_query_may_come_from_a_file_and_look_back(cli, asked):
    (asked / "q.sql").write_text("-- how many\nselect count(*) n from asked")
    assert cli("sql", "--file", asked / "q.sql", "--as-of", "6", "--csv", at=asked).out == "n\n6\n"
    assert cli("sql", "--file", asked / "q.sql", "--as-of", "2024-01-01T01:00:00Z", "--csv", at=asked).out == "n\n3\n"
    assert cli("sql", "--file", asked / "none.sql", "--json", at=asked).error["code"] == "MS-C095"


def test_errors_are_errors(cli, asked):
    found = cli("sql", "select kmm from asked", "--json", at=asked)
    assert (found.code, found.error["code"], found.error["hint"]) == (3, "MS-E450", "did you mean 'km'?")
    assert cli("sql", "drop view asked", "--json", at=asked).code == 5
    assert cli("sql", "select 1", "--out", "x.xlsx", "--json", at=asked).error["code"] == "MS-C092"
    assert json.loads(cli("sql", "select 1", "--memory", "lots", "--json", at=asked).err)["code"] == "MS-E452"


def test_a_renamed_column_is_one_column_over_the_lake_and_the_tail_of_the_log(cli, project, rides, lines, monkeypatch):
    """Under the earlier name in the lake and in the tail, under the new one in the tail, then all in the lake."""
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
    done = rides(40)[1]
    later = [{name.replace("minutes", "took"): value for name, value in row.items()} for row in done[20:30]]
    query = "select ride, took from done where took > 10 order by ride"
    expected = sorted((row["ride"], row["minutes"]) for row in done if row["minutes"] > 10)

    def load(name, rows):
        assert cli("ingest", lines(name, rows), "--source", "done", at=project).code == 0

    def flush():
        config = load_config(project)
        with Log.open(config.log_path, config.limits.log_map_bytes) as log:
            history = History(load_project(config.definitions), log, Lake(config.lake_path))
            history.catch_up()
            history.flush()
            history.lake.compact("done")

    def ask():
        return [(row["ride"], row["took"]) for row in cli("sql", query, "--json", at=project).json["rows"]]

    assert cli("apply", at=project).code == 0
    load("lake.jsonl", done[:10])
    flush()
    load("tail.jsonl", done[10:20])
    text = (project / "definitions.py").read_text().replace('"minutes"', '"took"')
    text = text.replace("    minutes: float", '    took: Annotated[float, ms.alias("minutes")]')
    (project / "definitions.py").write_text("from typing import Annotated\n" + text)
    assert cli("apply", at=project).code == 0
    load("renamed.jsonl", later)
    load("as_before.jsonl", done[30:])
    assert ask() == expected
    flush()
    assert ask() == expected
    gone = cli("sql", "select minutes from done", "--json", at=project)
    assert (gone.code, gone.error["code"]) == (3, "MS-E450")
