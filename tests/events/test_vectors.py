"""Vectors from the door to the lake and back: files, records, history frames, Delta tables, quarantine."""

import json
from dataclasses import replace

import polars as pl
import pytest

from mainspring.core.errors import ContractError
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events import Contract, Draft, Log
from mainspring.events.file_rows import read_rows
from mainspring.events.files import ingest_file
from mainspring.events.history import History
from mainspring.events.lake import Lake

SEEN = SourceDef(
    "seen",
    (
        Field("item", "str"),
        Field("point", "vector", nullable=True, constraints=(Constraint("dim", (2,)),)),
        Field("at", "datetime"),
    ),
    time="at",
    id="item",
)
ROWS = [("a", [1.0, -0.0], 5), ("b", None, 6), ("c", [1e300, 5e-324], 7)]


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log", 1 << 26, writable=True) as found:
        yield found


@pytest.fixture
def history(tmp_path, log):
    """Opens history as it is on the disk."""
    return lambda source=SEEN: History(Project({"seen": source}, {}, {}), log, Lake(tmp_path / "lake"))


def test_a_record_keeps_a_vector_bit_for_bit(log, clock):
    log.append([Draft(SEEN, row) for row in ROWS], clock)
    kept = [r.values for r in log.read(0)]
    assert kept == ROWS
    assert str(kept[0][1][1]) == "-0.0"


def test_frames_of_the_log_and_of_the_lake_have_the_vector_as_an_array(log, history, clock):
    log.append([Draft(SEEN, row) for row in ROWS], clock)
    first = history()
    first.catch_up()
    first.flush()
    log.append([Draft(SEEN, ("d", [3.0, 4.0], 8))], clock)
    for reader in (first, history()):
        reader.catch_up()
        frame = reader.frame("seen")
        assert frame.schema["point"] == pl.Array(pl.Float64, 2)
        assert frame["point"].to_list() == [[1.0, -0.0], None, [1e300, 5e-324], [3.0, 4.0]]


def test_the_lake_has_a_list_which_compaction_and_other_tools_read(tmp_path, log, history, clock):
    found = history()
    for row in ROWS:
        log.append([Draft(SEEN, row)], clock)
        found.catch_up()
        found.flush()
    lake = Lake(tmp_path / "lake")
    assert lake.compact("seen") == 3
    assert lake.frame("seen").schema["point"] == pl.List(pl.Float64)
    assert history().frame("seen")["point"].to_list() == [row[1] for row in ROWS]


def test_a_vector_whose_length_was_another_is_null_wherever_it_is(log, history, clock):
    longer = replace(
        SEEN, fields=(SEEN.fields[0], replace(SEEN.fields[1], constraints=(Constraint("dim", (3,)),)), SEEN.fields[2])
    )
    log.append([Draft(SEEN, ROWS[0])], clock)
    before = history()
    before.catch_up()
    before.flush()
    log.append([Draft(SEEN, ("x", [1.0, 2.0], 8)), Draft(longer, ("y", [1.0, 2.0, 3.0], 9))], clock)
    after = history(longer)
    after.catch_up()
    assert after.frame("seen")["point"].to_list() == [None, None, [1.0, 2.0, 3.0]]
    after.flush()
    again = history(longer)
    assert again.frame("seen")["point"].to_list() == [None, None, [1.0, 2.0, 3.0]]


def test_the_events_of_a_source_that_is_gone_are_kept_with_their_vectors(tmp_path, log, clock):
    log.append([Draft(SEEN, row) for row in ROWS], clock)
    nothing = History(Project({}, {}, {}), log, Lake(tmp_path / "lake"))
    nothing.catch_up()
    assert nothing.flush() == 3
    assert Lake(tmp_path / "lake").frame("seen")["point"].to_list() == [row[1] for row in ROWS]


@pytest.mark.parametrize("dtype", [pl.Array(pl.Float64, 2), pl.List(pl.Float32), pl.List(pl.Int64)], ids=str)
def test_parquet_files_hold_vectors_as_arrays_and_as_lists_of_numbers(tmp_path, dtype):
    frame = pl.DataFrame({"item": ["a", "b"], "at": [5, 6], "point": pl.Series([[1, 2], None], dtype=dtype)})
    frame = frame.with_columns(pl.col("at").cast(pl.Datetime("us")))
    frame.write_parquet(tmp_path / "seen.parquet")
    rows = [Contract(SEEN).check(row.fields) for row in read_rows(tmp_path / "seen.parquet", SEEN)]
    assert rows == [("a", [1.0, 2.0], 5), ("b", None, 6)]


def test_a_parquet_file_with_lists_of_texts_is_refused_as_a_whole(tmp_path):
    frame = pl.DataFrame({"item": ["a"], "point": [["x", "y"]], "at": [5]}).with_columns(
        pl.col("at").cast(pl.Datetime("us"))
    )
    frame.write_parquet(tmp_path / "seen.parquet")
    with pytest.raises(ContractError, match=r"column 'point' holds List\(String\), seen declares vector"):
        list(read_rows(tmp_path / "seen.parquet", SEEN))


def test_a_csv_file_cannot_hold_a_vector_and_the_error_says_what_can(write_lines):
    path = write_lines("seen.csv", "item,point,at", 'a,"[1, 2]",2020-01-01')
    with pytest.raises(ContractError, match="cannot hold the vector 'point'") as caught:
        list(read_rows(path, SEEN))
    assert caught.value.code == "MS-E407"
    assert "Parquet" in str(caught.value)


def test_a_csv_file_without_the_vector_is_read_if_the_column_may_be_null(write_lines):
    rows = list(read_rows(write_lines("seen.csv", "item,at", "a,2020-01-01"), SEEN))
    assert [Contract(SEEN).check(row.fields)[1] for row in rows] == [None]


def test_a_file_of_json_lines_is_ingested_and_what_breaks_the_contract_is_in_quarantine_with_its_path(
    config, clock, write_lines
):
    times = {"at": "2013-01-01T00:00:00Z"}
    points = [[1, 2], [1], [1, "x"]]
    lines = [json.dumps({"item": f"i{n}", "point": point} | times) for n, point in enumerate(points)]
    loaded = ingest_file(config, Project({"seen": SEEN}, {}, {}), write_lines("seen.jsonl", *lines), "seen", clock)
    assert (loaded.accepted, loaded.quarantined) == (1, 2)
    assert [(e["code"], e["path"]) for e in loaded.errors] == [("MS-E103", "$.point"), ("MS-E102", "$.point[1]")]
    with Log.open(config.log_path, 1 << 26) as log:
        held = log.quarantined("seen")
        assert [json.loads(h.raw)["point"] for h in held] == [[1], [1, "x"]]
