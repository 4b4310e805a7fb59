"""Floats that come as an array are checked, answered and logged as the same numbers in rows are."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.clock import ManualClock
from mainspring.core.errors import MainspringError
from mainspring.definitions import load_project
from mainspring.serving.request import RequestReader
from mainspring.serving.table import Table
from mainspring.serving.v2 import _columns
from mainspring.serving.v2_tensors import Tensor, from_json, read_json

NOW = 1_800_000_000_000_000
DEFINITIONS = """
from datetime import datetime
from typing import Annotated
import mainspring as ms

class Asked(ms.Source, id="ident", time="at"):
    ident: str
    one: float
    two: float | None
    held: Annotated[float, ms.between(-10, 10)]
    loose: Annotated[float | None, ms.between(0, 1)]
    some: float = 2.5
    count: int | None
    at: datetime
"""
FLOATS = ("one", "two", "held", "loose", "some")
NUMBERS = st.one_of(
    st.floats(), st.floats(-1, 1), st.sampled_from([0.0, -0.0, math.nan, math.inf, 1e308, 10.0, -1.0]), st.floats(0, 1)
)
COLUMNS = st.fixed_dictionaries(
    {name: st.lists(NUMBERS, min_size=3, max_size=3) for name in ("one", "two", "held")},
    optional={name: st.lists(NUMBERS, min_size=3, max_size=3) for name in ("loose", "some")},
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays") / "definitions.py"
    path.write_text(DEFINITIONS)
    return RequestReader(load_project(path).sources["asked"], ManualClock(NOW), 100)


def outcome(reader, columns, rows):
    """The rows and their moments, or what is wrong with them, to the last bit."""
    try:
        found, times_us = reader.check(columns, rows)
    except MainspringError as error:
        return error.to_dict()
    return repr((list(found), times_us))


@given(COLUMNS, st.sets(st.sampled_from(FLOATS)))
def test_a_column_of_floats_is_judged_alike_as_an_array_and_row_by_row(reader, columns, as_arrays):
    columns = {"ident": ["a", "b", "c"]} | columns
    arrays = {name: np.array(v) if name in as_arrays else v for name, v in columns.items()}
    right = reader.contract.columns_of(arrays, 3)
    rows = reader.contract.check_columns(columns, 3)
    if right is None:
        assert outcome(reader, arrays, 3) == outcome(reader, columns, 3)
    else:
        cells = [[None if isinstance(v, float) and v != v else v for v in list(column)] for column in right]
        assert repr([tuple(map(plain, row)) for row in zip(*cells, strict=True)]) == repr(rows)
        assert outcome(reader, arrays, 3) == outcome(reader, columns, 3)


def plain(value):
    return value.item() if isinstance(value, np.generic) else value


def test_most_columns_that_are_right_are_not_taken_apart(reader):
    arrays = {name: np.array([0.5, 0.25]) for name in FLOATS} | {"two": np.array([math.nan, 1.0])}
    found, _ = reader.check({"ident": ["a", "b"]} | arrays, 2)
    assert found.places == tuple(range(1, 6))
    assert found.floats(found.places)[1].tolist()[1] == 1.0
    assert found[0] == ("a", 0.5, None, 0.5, 0.5, 0.5, None, NOW)


def test_an_array_in_the_place_of_other_values_is_not_taken_for_floats(reader):
    assert reader.contract.columns_of({"ident": ["a"], "one": [1.0], "two": [1.0], "count": np.array([1.0])}, 1) is None


NUMBER = st.one_of(
    st.integers(),
    st.integers(-(10**310), 10**310),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, True, "x", [1.5]]),
)
TEXTS = st.one_of(
    st.lists(NUMBER, max_size=4).map(json.dumps),
    st.lists(st.sampled_from(["-0", "-0.0", "1e3", "1E-400", "00", "1.", "-", "5e-324", "1e309"]), max_size=3).map(
        lambda found: "[" + " , ".join(found) + "]"
    ),
    st.text("[]0123456789-+.eE, ", max_size=9),
)


@given(TEXTS, st.sampled_from(["FP64", "FP32", "INT64", "BYTES"]))
def test_a_json_array_of_numbers_is_the_array_of_what_a_json_reader_finds(text, datatype):
    try:
        wanted = msgspec.json.decode(text)
    except msgspec.DecodeError:
        with pytest.raises(msgspec.DecodeError):
            read_json(datatype, text.encode())
        return
    found = read_json(datatype, text.encode())
    if isinstance(found, np.ndarray):
        assert (found.dtype, datatype[:2]) == (np.float64, "FP")
        assert repr(found.tolist()) == repr([float(value) for value in wanted])
    else:
        assert repr(found) == repr(wanted)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_an_array_keeps_its_shape_and_its_bits_on_the_way_to_a_column(reader, values):
    raw = json.dumps(values).encode()
    array = from_json("one", "FP64", read_json("FP64", raw), len(values))
    others = [Tensor("ident", "BYTES", (len(values),), ["x"] * len(values))]
    columns, rows = _columns(reader.contract.source, [*others, Tensor("one", "FP64", (len(values), 1), array)])
    assert (rows, repr(list(map(plain, columns["one"])))) == (len(values), repr(values))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "<i8", "<u8", "<i1", "<u4"])
def test_numbers_of_every_width_become_the_floats_that_python_makes_of_them(reader, dtype):
    array = np.array([1, 2, 100], dtype)
    if dtype in ("<i8", "<u8"):
        array = np.array([2**53 + 1, 2**63 - 1, 3], dtype)
    datatype = {"f": "FP", "i": "INT", "u": "UINT"}[dtype[1]] + str(array.itemsize * 8)
    columns, _ = _columns(reader.contract.source, [Tensor("one", datatype, (3,), array)])
    assert columns["one"].tolist() == [float(value) for value in array.tolist()]


CELLS = {
    "ident": st.sampled_from(["a", "b", "é", ""]),
    "one": st.one_of(st.integers(-5, 5), st.floats(-9, 9), st.sampled_from([2**53 + 1, 2**70, 10**400, -0.0, 1e308])),
    "two": st.none() | st.floats(-9, 9),
    "held": st.floats(-10, 10) | st.integers(-10, 10),
    "loose": st.none() | st.floats(0, 1),
    "some": st.floats(allow_nan=False, allow_infinity=False),
    "count": st.none() | st.integers(-(2**63), 2**63 - 1),
}
BAD = {
    "one": st.sampled_from([None, True, "1", {}]),
    "held": st.sampled_from([11, -10.5, None]),
    "loose": st.sampled_from([1.5, False, "x"]),
    "count": st.sampled_from([2**63, 1.5, True, "2"]),
    "ident": st.sampled_from([None, 7, True]),
    "at": st.sampled_from(["2020-01-01T00:00:00Z", "now", 3]),
    "more": st.just(1),
}
DATATYPES = {"ident": "BYTES", "count": "INT64"}


@st.composite
def lists(draw):
    """Rows of the same columns, mostly right; one in the middle may have something wrong in it."""
    left_out = draw(st.sets(st.sampled_from(["two", "loose", "some", "count"])))
    rows = [{name: draw(cells) for name, cells in CELLS.items() if name not in left_out} for _ in range(3)]
    for name in draw(st.sets(st.sampled_from(sorted(BAD)), max_size=2)):
        rows[1][name] = draw(BAD[name])
    return rows


@given(lists())
def test_a_list_is_read_as_its_rows_are_one_by_one(reader, rows):
    whole = reader.read(json.dumps(rows).encode())
    found, errors = [], {}
    for place, row in enumerate(rows):
        try:
            (checked,) = reader.read(json.dumps(row).encode()).rows
            found.append((place, checked))
        except MainspringError as error:
            errors[place] = error.to_dict()
    assert repr(list(zip(whole.places, whole.rows, strict=True))) == repr(found)
    assert dict(zip(sorted(errors), (e.to_dict() for e in whole.errors), strict=True)) == errors
    assert [bool(answer) for answer in whole.answers] == [place in errors for place in range(3)]
    if found:
        places = reader.contract.source.float_places
        floats = Table.of(whole.rows).floats(places).T.tolist()
        wanted = [[math.nan if row[i] is None else row[i] for i in places] for _, row in found]
        assert repr(floats) == repr(wanted)


@given(lists())
def test_tensors_are_the_rows_that_plain_json_has_or_are_refused(reader, rows):
    names = list(rows[0])
    inputs = []
    for name in names:
        datatype = DATATYPES.get(name, "FP64")
        data = json.dumps([row[name] for row in rows]).encode()
        try:
            values = from_json(name, datatype, read_json(datatype, data), len(rows))
        except (MainspringError, msgspec.DecodeError):
            values = None
        inputs.append(Tensor(name, datatype, (len(rows),), values))
    plain_rows = reader.read(json.dumps([{name: row[name] for name in names} for row in rows]).encode())
    if plain_rows.errors:
        if all(one.values is not None for one in inputs):
            with pytest.raises(MainspringError):
                reader.check(*_columns(reader.contract.source, inputs))
        return
    found, times_us = reader.check(*_columns(reader.contract.source, inputs))
    assert times_us == plain_rows.times_us
    assert repr(list(found)) == repr(list(plain_rows.rows))
