"""Columns in their least form say the same values as before, whole, in part, joined, and after the wire."""

import math
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import FormatError
from mainspring.core.ids import PredictionIds
from mainspring.core.numbers import array_text
from mainspring.events.cells import CODES, EACH, FLOATS, INTS, NUMBERED, SAME, Cells, joined

FLOAT = st.floats(allow_nan=False)
INT = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=4)
OF_ANY_KIND = (st.none(), st.booleans(), FLOAT, INT, TEXT, st.lists(FLOAT, max_size=3))


def bits(value):
    """A value so that 0.0 and -0.0, 1 and True are not the same."""
    if isinstance(value, list):
        return [bits(one) for one in value]
    return type(value), struct.pack("<d", value) if isinstance(value, float) else value


def texts_of(values, texts):
    """JSON arrays, made one by one."""
    rows = [[texts[j][i] if j in texts else v for j, v in enumerate(row)] for i, row in enumerate(values.tolist())]
    return [array_text(row) for row in rows]


@st.composite
def columns(draw, n=None):
    """A column of n rows in one of the forms, with the values that it is of."""
    n = draw(st.integers(1, 5)) if n is None else n
    each = {"min_size": n, "max_size": n}
    match draw(st.integers(0, 5)):
        case 0:
            values = draw(st.lists(draw(st.sampled_from(OF_ANY_KIND)), **each))
            return n, Cells.of(values), values
        case 1:
            values = draw(st.lists(INT, **each))
            return n, Cells.ints(values), values
        case 2:
            values = draw(st.lists(FLOAT, **each))
            return n, Cells.floats(values), values
        case 3:
            numbers = draw(st.lists(st.integers(0, 2**62), **each))
            epoch = draw(st.sampled_from(["e", "f"]))
            return n, Cells.ids(PredictionIds(epoch, numbers)), [f"{epoch}-{number}" for number in numbers]
        case 4:
            codes = draw(st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=2), **each))
            texts = [f"[{a},{b}]" if a or b else "" for a, b in codes]
            return n, Cells.codes(np.array(codes, np.uint8)), texts
        case _:
            width = draw(st.integers(1, 3))
            cell = st.one_of(FLOAT, st.just(math.nan))
            values = np.array(draw(st.lists(st.lists(cell, min_size=width, max_size=width), **each)))
            texts = {0: draw(st.lists(st.none() | TEXT, **each))} if draw(st.booleans()) else {}
            return n, Cells.arrays(values, texts), texts_of(values, texts)


def over_the_wire(cells):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(cells), type=Cells)


@given(columns())
def test_a_column_has_its_values_to_the_last_bit_before_and_after_the_wire(made):
    n, cells, values = made
    assert list(map(bits, cells.values(n))) == list(map(bits, values))
    assert list(map(bits, over_the_wire(cells).values(n))) == list(map(bits, values))


@given(columns(), st.data())
def test_some_rows_of_a_column_are_those_values(made, data):
    n, cells, values = made
    places = data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True).map(sorted))
    some = over_the_wire(cells).part(n, np.array(places))
    assert list(map(bits, some.values(len(places)))) == [bits(values[i]) for i in places]
    start = data.draw(st.integers(0, n - 1))
    assert list(map(bits, cells.part(n, slice(start, n)).values(n - start))) == list(map(bits, values[start:]))


@given(st.lists(columns(), min_size=1, max_size=4))
def test_columns_one_after_the_other_are_their_values_one_after_the_other(made):
    whole = joined([(cells, n) for n, cells, _ in made])
    values = [value for _, _, some in made for value in some]
    assert list(map(bits, over_the_wire(whole).values(len(values)))) == list(map(bits, values))


def test_what_all_rows_share_is_said_once_and_zeros_of_either_sign_are_not_shared():
    assert Cells.of(["a", "a"]) == Cells.same("a")
    assert Cells.of([0.0, -0.0]).form == EACH
    assert joined([(Cells.same("a"), 2), (Cells.same("a"), 3)]) == Cells.same("a")
    assert joined([(Cells.same(0.0), 1), (Cells.same(-0.0), 1)]).values(2) == [0.0, 0.0]
    assert [math.copysign(1, v) for v in joined([(Cells.same(0.0), 1), (Cells.same(-0.0), 1)]).values(2)] == [1, -1]
    assert [math.copysign(1, v) for (v,) in Cells.of([[0.0], [-0.0]]).values(2)] == [1, -1]
    vectors = joined([(Cells.same([0.0]), 1), (Cells.same([-0.0]), 1)]).values(2)
    assert [math.copysign(1, v) for (v,) in vectors] == [1, -1]
    assert Cells.codes(np.zeros((3, 2), np.uint8)) == Cells.same("")


def test_a_form_that_is_not_known_is_no_other_one():
    later = over_the_wire(Cells(7, bytes(6), 2))
    for read in (lambda: later.values(3), lambda: later.part(3, slice(0, 2))):
        with pytest.raises(FormatError, match="MS-E901: a column of the log is of form 7"):
            read()


@given(columns(n=3))
def test_a_column_of_its_kind_has_no_fault(made):
    _, cells, values = made
    kind = {bool: "bool", float: "float", int: "int", str: "str", list: "vector"}.get(type(values[0]), "str")
    assert over_the_wire(cells).fault(3, kind, nullable=True) == "" or len(set(map(type, values))) > 1


@pytest.mark.parametrize(
    ("cells", "kind", "why"),
    [
        (Cells.ints([1, 2]), "int", "not 3 values"),
        (Cells.ints([1, 2, 3]), "str", "form 2 is not one of str"),
        (Cells(EACH, ["a", "b"]), "str", "not 3 values"),
        (Cells(EACH, "abc"), "str", "not 3 values"),
        (Cells(EACH, ["a", "b", None]), "str", "a value is no str"),
        (Cells(EACH, [1, 2, True]), "int", "a value is no int"),
        (Cells(SAME, 1.5), "int", "a value is no int"),
        (Cells(SAME, None), "str", "a value is no str"),
        (Cells(EACH, [None, None, None]), "float", "a value is no float"),
        (Cells(FLOATS, b"1234567"), "float", "not 3 values"),
        (Cells(INTS, "no bytes"), "datetime", "not 3 values"),
        (Cells(NUMBERED, bytes(24), 0, 7), "str", "ids without an epoch"),
        (Cells(NUMBERED, bytes(24), 0, ""), "str", "ids without an epoch"),
        (Cells(NUMBERED, bytes(24), 0, "e" * 101), "str", "ids without an epoch"),
        (Cells(NUMBERED, b"\xff" * 24, 0, "e"), "str", "ids without an epoch"),
        (Cells(CODES, bytes(5), 2), "str", "not 3 values"),
        (Cells(CODES, b"", -1), "str", "not 3 values"),
        (Cells(5, bytes(48), 2, None), "str", "texts without a place"),
        (Cells(5, bytes(48), 2, {2: ["a", "b", "c"]}), "str", "texts without a place"),
        (Cells(5, bytes(48), 2, {"0": ["a", "b", "c"]}), "str", "texts without a place"),
        (Cells(5, bytes(48), 2, {0: ["a"]}), "str", "not 3 texts"),
        (Cells(5, bytes(48), 2, {0: ["a", 1, "b"]}), "str", "a text is none"),
        (Cells(9, bytes(24)), "str", "form 9 is not one of str"),
    ],
)
def test_a_column_that_is_not_what_it_says_has_a_fault(cells, kind, why):
    assert over_the_wire(cells).fault(3, kind, nullable=False) == why
