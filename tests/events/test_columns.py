"""Columns of a file as columns of a source."""

import keyword

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ContractError
from mainspring.core.names import is_name
from mainspring.definitions.values import Field, SourceDef
from mainspring.events.columns import ROW_ZERO_US, Pick, column_names, picked_rows

SOURCE = SourceDef(
    "house",
    (
        Field("id", "str"),
        Field("sale_price", "float"),
        Field("rooms", "int", nullable=True),
        Field("at", "datetime"),
    ),
    time="at",
    id="id",
)
MADE = Pick(id="id", time="at", step_us=60_000_000)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_headers_become_different_names_that_python_can_write(headers):
    names = column_names(headers)
    assert len(set(names)) == len(headers)
    assert all(is_name(n) and n.isidentifier() and not keyword.iskeyword(n) and n[0] != "_" for n in names)


@given(st.lists(st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), unique=True, max_size=6))
def test_names_stay_as_they_are(names):
    assert column_names(names) == [n + "_" * keyword.iskeyword(n) for n in names]


def fields(path, pick=MADE):
    return [row.fields for row in picked_rows(path, SOURCE, pick)]


def test_a_csv_gives_the_columns_that_the_source_knows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Sale Price,Colour,rooms\n3.5,red,2\n4,blue,\n")
    assert fields(path) == [
        {"id": "a-1", "sale_price": 3.5, "rooms": 2, "at": ROW_ZERO_US + 60_000_000},
        {"id": "a-2", "sale_price": 4.0, "rooms": None, "at": ROW_ZERO_US + 120_000_000},
    ]


def test_a_broken_row_keeps_its_line_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Sale Price,rooms\n3.5,2\n1,2,3\n4,1\n")
    rows = list(picked_rows(path, SOURCE, MADE))
    assert [(r.line, r.problem is None) for r in rows] == [(2, True), (3, False), (4, True)]
    assert rows[1].raw == b"1,2,3"
    assert [r.fields["id"] for r in rows if r.fields] == ["a-1", "a-3"]


def test_parquet_and_json_lines_give_the_same(tmp_path):
    frame = pl.DataFrame({"Sale Price": [3.5, 4.0], "Tags": [["x"], ["y"]], "rooms": [2, None]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "a.jsonl")
    assert fields(tmp_path / "a.parquet") == fields(tmp_path / "a.jsonl")
    assert [f["sale_price"] for f in fields(tmp_path / "a.parquet")] == [3.5, 4.0]


def test_a_column_by_its_own_name_goes_before_a_header_that_becomes_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Sale Price,sale_price\n1,2\n")
    assert fields(path)[0]["sale_price"] == 2.0


def test_a_json_line_that_is_none_is_left_to_the_contract(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"sale_price": 1}\n{broken\n[3]\n')
    rows = list(picked_rows(path, SOURCE, MADE))
    assert [(r.line, r.fields is None, r.raw) for r in rows[1:]] == [(2, True, b"{broken"), (3, True, b"[3]")]


@pytest.mark.parametrize(
    ("text", "pick", "words"),
    [
        ("Price,rooms\n1,2\n", MADE, "the file has no column 'sale_price' for house"),
        ("sale_price,rooms\n1,2\n", Pick(time="at"), "the file has no column 'id'"),
        ("sale_price,rooms\n1,2\n", Pick(id="ident"), "house has no column 'ident' for id"),
    ],
)
def test_a_column_that_is_needed_and_not_there_is_named(tmp_path, text, pick, words):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        fields(path, pick)
    assert caught.value.code == "MS-E405"
    assert words in caught.value.what


@pytest.mark.parametrize(
    ("text", "pick", "hint"),
    [
        ("sale_price,rooms\n1,2\n", Pick(time="at"), "--row-id id makes it of the row's number"),
        ("sale_price,rooms\n1,2\n", Pick(id="id"), "--row-time at makes it of the row's place"),
        ("Price,rooms\n1,2\n", MADE, "did you mean 'price'?"),
        ("sale_price;rooms\n1;2\n", MADE, "the separator is a comma; this header has ';'"),
    ],
)
def test_what_to_do_about_a_column_that_is_not_there_is_said(tmp_path, text, pick, hint):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        fields(path, pick)
    assert caught.value.code == "MS-E405"
    assert caught.value.hint.endswith(hint)


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(ContractError, match="MS-E401"):
        fields(tmp_path / "a.csv")
