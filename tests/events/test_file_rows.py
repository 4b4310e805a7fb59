"""Files: every good row comes through, a broken one is told with its line, a broken file is told at once."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ContractError, NotFoundError
from mainspring.definitions.values import Field, SourceDef
from mainspring.events.contract import Contract
from mainspring.events.file_rows import read_rows

HEADER = "flight_id,carrier,delay_min,seats,arrived_at"
NOON_US = 1_362_139_200_000_000


def test_text_of_a_csv_becomes_values_and_what_does_not_stays_text(write_lines, arrived):
    path = write_lines(
        "a.csv",
        "\ufeff" + HEADER,
        "a,UA,1.5,3,2013-03-01T12:00:00Z",
        '"b, c",AA,,,2013-03-01 07:00:00-05:00',
        "",
        "d,DL,late,1_000,yesterday",
        'e,UA,NaN,1.0,"2013-03-01T12:00:00"',
    )
    rows = list(read_rows(path, arrived))
    assert [r.line for r in rows] == [2, 3, 5, 6]
    assert rows[0].fields == dict(zip(HEADER.split(","), ("a", "UA", 1.5, 3, NOON_US), strict=True))
    assert rows[1].fields == dict(zip(HEADER.split(","), ("b, c", "AA", None, None, NOON_US), strict=True))
    assert (rows[2].fields["delay_min"], rows[2].fields["seats"]) == ("late", "1_000")
    contract = Contract(arrived)
    with pytest.raises(ContractError, match=r"\$\.delay_min"):
        contract.check(rows[2].fields)
    assert rows[3].fields["seats"] == "1.0"


@pytest.mark.parametrize(
    "broken", ["x,UA,1", "x,UA,1,2,3,4,5", 'x,"UA,1,2,2013-03-01T12:00:00Z', '"', b"\x00", b'\xff"\xfe,,"']
)
def test_a_broken_row_is_told_with_its_line_and_its_neighbours_come_through(write_lines, arrived, broken):
    good = [f"f{i},UA,{i},,2013-03-01T12:00:00Z" for i in range(40)]
    rows = list(read_rows(write_lines("a.csv", HEADER, *good[:10], broken, *good[10:]), arrived))
    assert [r.fields["flight_id"] for r in rows if r.fields] == [f"f{i}" for i in range(40)]
    (bad,) = [r for r in rows if not r.fields]
    assert bad.line == 12
    assert bad.problem.code == "MS-E406"
    assert bad.raw == (broken if isinstance(broken, bytes) else broken.encode())
    assert [r.line for r in rows if r.fields] == [*range(2, 12), *range(13, 43)]


def test_a_quoted_text_may_run_over_lines(write_lines, arrived):
    rows = list(read_rows(write_lines("a.csv", HEADER, '"a', 'b",UA,,,2013-03-01T12:00:00Z', "c,UA,,,x"), arrived))
    assert [(r.line, r.fields["flight_id"]) for r in rows] == [(2, "a\nb"), (4, "c")]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)


@given(st.lists(st.tuples(texts.filter(bool), texts), min_size=1, max_size=20))
def test_what_a_csv_writer_writes_is_what_is_read(tmp_path_factory, pairs):
    source = SourceDef("s", (Field("a", "str"), Field("b", "str"), Field("at", "datetime")), time="at")
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    frame = pl.DataFrame(pairs, schema={"a": pl.String, "b": pl.String}, orient="row").with_columns(
        at=pl.lit("1970-01-01")
    )
    frame.write_csv(path, quote_style="always")
    assert [(r.fields["a"], r.fields["b"]) for r in read_rows(path, source)] == pairs


def test_json_lines_are_handed_on_as_they_are(write_lines, arrived):
    rows = list(read_rows(write_lines("a.jsonl", '{"a": 1}', "", "nope"), arrived))
    assert [(r.line, r.raw) for r in rows] == [(1, b'{"a": 1}'), (3, b"nope")]


def test_parquet_of_any_unit_zone_and_width_is_read(tmp_path, arrived):
    noon = datetime(2013, 3, 1, 12, tzinfo=UTC)
    base = pl.DataFrame({"flight_id": ["a"], "carrier": pl.Series(["UA"], dtype=pl.Categorical), "delay_min": [3]})
    base = base.with_columns(pl.col("delay_min").cast(pl.Int16), seats=None)
    times = [
        pl.Series([noon]).cast(pl.Datetime("ns", "UTC")),
        pl.Series([noon]).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone("America/New_York"),
        pl.Series([noon.replace(tzinfo=None)]),
    ]
    for i, series in enumerate(times):
        path = tmp_path / f"{i}.parquet"
        base.with_columns(arrived_at=series).write_parquet(path)
        (row,) = read_rows(path, arrived)
        assert Contract(arrived).check(row.fields) == ("a", "UA", 3.0, None, NOON_US)
    base.with_columns(arrived_at=pl.Series([date(1913, 1, 1)])).write_parquet(tmp_path / "d.parquet")
    (row,) = read_rows(tmp_path / "d.parquet", arrived)
    assert row.fields["arrived_at"] < 0


@pytest.mark.parametrize(
    ("name", "lines", "code", "what"),
    [
        ("a.csv", [], "MS-E401", "no rows"),
        ("a.csv", [HEADER], "MS-E401", "no rows"),
        ("a.jsonl", [""], "MS-E401", "no rows"),
        ("a.csv", [HEADER + ",gate", "x"], "MS-E402", "no column 'gate'"),
        ("a.csv", [HEADER.replace("carrier", "carier"), "x"], "MS-E402", "did you mean 'carrier'"),
        ("a.csv", ["flight_id,arrived_at", "a,b"], "MS-E402", "no column 'carrier'"),
        ("a.csv", [HEADER + ",seats", "x"], "MS-E402", "twice"),
        ("a.xlsx", ["x"], "MS-E403", ".csv"),
        ("a.parquet", ["no parquet"], "MS-E403", "no Parquet"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_told_before_anything_is_read(write_lines, arrived, name, lines, code, what):
    with pytest.raises(ContractError, match=what) as caught:
        read_rows(write_lines(name, *lines), arrived)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        (HEADER + ",gate", "load only those with --pick"),
        (HEADER.replace("seats", "gate"), "leave the column out of the file"),
        (HEADER.replace(",", ";"), "the separator is a comma; this header has ';'"),
        (HEADER.replace(",", "\t"), "the separator is a comma; this header has tabs"),
    ],
)
def test_a_header_that_does_not_fit_is_told_how_it_would(write_lines, arrived, header, hint):
    with pytest.raises(ContractError) as caught:
        read_rows(write_lines("a.csv", header, "x"), arrived)
    assert caught.value.code == "MS-E402"
    assert caught.value.hint.endswith(hint)


def test_a_file_that_is_no_text_is_told_in_few_words(write_lines, arrived):
    with pytest.raises(ContractError) as caught:
        read_rows(write_lines("a.csv", b"\x7fELF" + bytes(range(128, 256)) * 50), arrived)
    assert len(caught.value.what) < 80
    assert caught.value.what.startswith("arrived has no column '\\x7fELF")


def test_a_parquet_column_of_the_wrong_kind_is_told_at_once(tmp_path, arrived):
    pl.DataFrame({"flight_id": ["a"], "carrier": [1], "arrived_at": [datetime(2013, 3, 1, tzinfo=UTC)]}).write_parquet(
        tmp_path / "a.parquet"
    )
    with pytest.raises(ContractError, match="column 'carrier' holds Int64, arrived declares str"):
        read_rows(tmp_path / "a.parquet", arrived)


def test_no_such_file_is_told(tmp_path, arrived):
    with pytest.raises(NotFoundError, match="MS-E400"):
        read_rows(tmp_path / "none.csv", arrived)
