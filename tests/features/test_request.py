# ruff: noqa: PLW0108  a table of thunks: what is drawn must be drawn only by the one that is called
"""Compiled expressions against polars: equal to the bit, whatever the tree, the values and the number of rows."""

import math
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from polars import col, lit, when

from mainspring.definitions.expressions import UTC_US, parse
from mainspring.features.request import FAULTS, Program, of_objects, of_series, view_column

SCHEMA = {
    "i": pl.Int64(),
    "j": pl.Int64(),
    "f": pl.Float64(),
    "g": pl.Float64(),
    "a": pl.Boolean(),
    "b": pl.Boolean(),
    "s": pl.String(),
    "t": pl.String(),
    "d": UTC_US,
    "e": UTC_US,
}
MOST = 2**63 - 1
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -7.5, 1e-300, 5e-324, 1e300, sys.float_info.max, 1e15 + 0.5]
LATE = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
floats = st.one_of(st.sampled_from([*EDGES, math.nan, math.inf, -math.inf]), st.floats(-1e6, 1e6))
ints = st.one_of(st.sampled_from([0, 1, -1, 2, -7, MOST, -MOST - 1, 2**53 + 1]), st.integers(-1000, 1000))
texts = st.one_of(st.sampled_from(["", "a", "A", "ab", "ß", "É", "😀x", "İ", "ΑΣ"]), st.text(max_size=4))
BEGINNING, CENTURY_US = datetime(1970, 1, 1, tzinfo=UTC), 100 * 365 * 86_400_000_000
edges = st.sampled_from([BEGINNING, BEGINNING - timedelta(microseconds=1), datetime(1, 1, 1, tzinfo=UTC), LATE])
instants = st.one_of(edges, st.integers(-CENTURY_US, CENTURY_US).map(lambda us: BEGINNING + timedelta(microseconds=us)))
VALUES = {"i": ints, "f": floats, "a": st.booleans(), "s": texts, "d": instants}
KIND = {"i": "i", "j": "i", "f": "f", "g": "f", "a": "a", "b": "a", "s": "s", "t": "s", "d": "d", "e": "d"}
UNITS = ["total_days", "total_hours", "total_minutes", "total_seconds", "total_milliseconds", "total_microseconds"]
PARTS = ["hour", "minute", "second", "weekday", "day", "month", "quarter", "year", "ordinal_day"]


@st.composite
def frames(draw):
    rows = draw(st.integers(0, 6))
    data = {
        name: draw(st.lists(st.one_of(st.none(), VALUES[KIND[name]]), min_size=rows, max_size=rows)) for name in SCHEMA
    }
    return pl.DataFrame(data, schema=SCHEMA)


small = st.integers(-3, 7)
plain = st.one_of(st.sampled_from([0.0, -0.0, 0.5, 3.7, -2.5, 1e300]), st.floats(-100, 100))
number_literals = st.one_of(small, plain, st.sampled_from([1_000_000, 2**40, 86_400])).map(lit)


@st.composite
def numbers(draw, depth):
    if depth == 0 or draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.sampled_from([col("i"), col("j"), col("f"), col("g")]), number_literals))
    x = draw(numbers(depth - 1))
    choice = draw(st.integers(0, 22))
    y = draw(numbers(depth - 1)) if choice <= 10 else None
    simple = {
        0: lambda: x + y,
        1: lambda: x - y,
        2: lambda: x * y,
        3: lambda: x / y,
        4: lambda: x // y,
        5: lambda: x % y,
        6: lambda: pl.max_horizontal(x, y),
        7: lambda: pl.min_horizontal(x, y, col("f")),
        8: lambda: pl.coalesce(x, y),
        9: lambda: x.fill_null(y),
        10: lambda: x.clip(y, draw(numbers(depth - 1))),
        11: lambda: x.abs(),
        12: lambda: getattr(x, draw(st.sampled_from(["floor", "ceil", "sqrt", "sign", "exp", "log1p", "log"])))(),
        13: lambda: x.round(draw(st.integers(0, 6))),
        14: lambda: -x,
        15: lambda: x ** draw(st.sampled_from([2, 3, 0.5, 1.7, 2.0, 1, 0.3])),
        16: lambda: when(draw(bools(depth - 1))).then(x).otherwise(draw(numbers(depth - 1))),
        17: lambda: when(draw(bools(depth - 1))).then(x).otherwise(None),
        18: lambda: getattr(draw(dates(depth - 1)).dt, draw(st.sampled_from(PARTS)))(),
        19: lambda: getattr(draw(durations(depth - 1)).dt, draw(st.sampled_from(UNITS)))(
            fractional=draw(st.booleans())
        ),
        20: lambda: draw(words(depth - 1)).str.len_chars(),
        21: lambda: x.cast(draw(st.sampled_from([pl.Int64, pl.Float64, pl.Int32])), strict=False),
        22: lambda: draw(bools(depth - 1)).cast(draw(st.sampled_from([pl.Int64, pl.Float64]))),
    }
    return simple[choice]()


@st.composite
def bools(draw, depth):
    if depth == 0:
        return draw(st.sampled_from([col("a"), col("b")]))
    choice = draw(st.integers(0, 12))
    if choice < 4:
        kind = draw(st.sampled_from([numbers, numbers, numbers, words, dates]))
        x, y = draw(kind(depth - 1)), draw(kind(depth - 1))
        op = draw(
            st.sampled_from(["__gt__", "__ge__", "__lt__", "__le__", "__eq__", "__ne__", "eq_missing", "ne_missing"])
        )
        return getattr(x, op)(y)
    if choice < 7:
        x, y = draw(bools(depth - 1)), draw(bools(depth - 1))
        return {4: x & y, 5: x | y, 6: x ^ y}[choice]
    x = draw(numbers(depth - 1))
    words_in = draw(st.lists(texts, max_size=3))
    return {
        7: lambda: ~draw(bools(depth - 1)),
        8: lambda: getattr(
            x, draw(st.sampled_from(["is_null", "is_not_null", "is_nan", "is_finite", "is_infinite"]))
        )(),
        9: lambda: x.is_between(
            draw(numbers(depth - 1)),
            draw(numbers(depth - 1)),
            closed=draw(st.sampled_from(["both", "left", "right", "none"])),
        ),
        10: lambda: draw(words(depth - 1)).is_in(words_in),
        11: lambda: col("i").is_in(draw(st.lists(ints, min_size=1, max_size=3))),
        12: lambda: getattr(draw(words(depth - 1)).str, draw(st.sampled_from(["starts_with", "ends_with"])))(
            draw(texts)
        ),
    }[choice]()


@st.composite
def words(draw, depth):
    if depth == 0:
        return draw(st.one_of(st.sampled_from([col("s"), col("t")]), texts.map(lit)))
    x = draw(words(depth - 1))
    choice = draw(st.integers(0, 5))
    return {
        0: lambda: x.str.to_lowercase(),
        1: lambda: x.str.to_uppercase(),
        2: lambda: x.str.slice(draw(st.integers(-4, 4)), draw(st.one_of(st.none(), st.integers(0, 4)))),
        3: lambda: x + draw(words(depth - 1)),
        4: lambda: x.fill_null(draw(words(depth - 1))),
        5: lambda: when(draw(bools(depth - 1))).then(x).otherwise(None),
    }[choice]()


@st.composite
def dates(draw, depth):
    if depth == 0:
        return draw(st.sampled_from([col("d"), col("e")]))
    return {
        0: lambda: draw(dates(0)) + timedelta(seconds=draw(st.integers(-(10**6), 10**6))),
        1: lambda: when(draw(bools(depth - 1))).then(col("d")).otherwise(col("e")),
        2: lambda: pl.max_horizontal("d", "e"),
        3: lambda: col("d").fill_null(col("e")),
    }[draw(st.integers(0, 3))]()


@st.composite
def durations(draw, depth):
    return draw(dates(depth)) - draw(dates(depth))


def same(got, series):
    """Whether an answer is, bit for bit, what polars gives."""
    if isinstance(got, list):
        return got == series.to_list()
    expected = series.cast(pl.Float64).fill_null(math.nan).to_numpy()
    both_nan = np.isnan(got) & np.isnan(expected)
    return len(got) == len(expected) and bool(np.all(both_nan | (got.view(np.int64) == expected.view(np.int64))))


def by_polars(frame, expression):
    """The expression over every row, also where it is a constant."""
    return frame.with_columns(expression.alias("_x"))["_x"]


def columns(frame, names):
    return {name: of_series(frame[name], SCHEMA[name]) for name in names}


def compiled(expression, **more):
    return Program([("x", expression.meta.serialize(format="json"))], SCHEMA | more)


@settings(max_examples=250, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.one_of(numbers(3), bools(3), words(3)), frames())
def test_a_compiled_expression_is_polars_to_the_bit(expression, frame):
    try:
        by_polars(frame.clear(), expression)
        json = expression.meta.serialize(format="json")
    except FAULTS:
        return  # polars has no such expression, such as the root of a bool
    program = Program([("x", json)], SCHEMA)
    if program.interpreted:
        event(f"outside: {program.interpreted[0].why}")
    expression = parse(json)  # as it is stored: polars reads a long number back from JSON an ulp beside it
    try:
        expected = by_polars(frame, expression)
    except FAULTS:
        return  # faults of polars: it panics at a short constant // a long one, and loses rows of "" > a text
    (got,) = program.run(columns(frame, program.inputs), len(frame))
    assert same(got, expected), (json, got, expected.to_list())


INSIDE = [
    col("i") + 1,
    col("i") // col("j"),
    col("i") % 7,
    col("f") / col("g"),
    col("f") / 3.7,
    1 / col("f"),
    col("f") // 2.5,
    col("f") % col("g"),
    col("f") ** 2,
    col("f") ** 0.5,
    col("f") ** 1.7,
    2.0 ** col("f"),
    -col("f"),
    col("f").abs().log(),
    col("f").log(10),
    col("f").log1p(),
    col("f").exp(),
    col("f").sqrt(),
    col("f").sign(),
    col("f").round(2),
    col("f").floor(),
    col("f").ceil(),
    col("f").clip(0, 10),
    col("f").clip(lower_bound=col("g")),
    col("f").fill_null(0),
    col("f").fill_nan(None),
    col("f").is_nan() | col("f").is_null(),
    col("f").is_between(0, 1, closed="left"),
    col("f").eq_missing(col("g")),
    pl.max_horizontal("f", "g", 1.5),
    pl.min_horizontal("i", "f"),
    pl.coalesce("f", "g", lit(0.0)),
    pl.all_horizontal("a", "b"),
    pl.any_horizontal("a", "b", col("i") > 0),
    col("a").cast(pl.Int64),
    col("i").cast(pl.Float64),
    col("f").cast(pl.Int64, strict=False),
    col("i").cast(pl.String),
    when(col("a")).then(1).when(col("b")).then(2).otherwise(None),
    (col("a") & ~col("b")) ^ (col("i") > col("f")),
    col("s").is_in(["a", "ab"]),
    col("i").is_in([1, 2, 3]),
    col("f").is_in([1.0, 2.5]),
    col("d").dt.weekday().is_in([6, 7]),
    col("s") == "a",
    col("s") < col("t"),
    col("s") + "-" + col("t"),
    col("s").str.len_chars() > 1,
    col("s").str.len_bytes(),
    col("s").str.to_uppercase(),
    col("s").str.starts_with("a"),
    col("s").str.ends_with("b"),
    col("s").str.contains("b", literal=True),
    col("s").str.slice(-2, 1),
    col("d").dt.hour(),
    col("d").dt.minute(),
    col("d").dt.weekday(),
    col("d").dt.day(),
    col("d").dt.month(),
    col("d").dt.year(),
    col("d").dt.ordinal_day(),
    col("d").dt.epoch("s"),
    col("d").dt.epoch("us"),
    col("d").dt.timestamp("ms"),
    (col("d") - col("e")).dt.total_seconds(),
    (col("d") - col("e")).dt.total_hours(fractional=True),
    (col("d") - col("e")) > timedelta(hours=1),
    col("d") + timedelta(hours=1) > col("e"),
    col("d") > datetime(2026, 1, 1, tzinfo=UTC),
]
FRAME = pl.DataFrame(
    {
        "i": [1, -7, MOST, -MOST - 1, 0, None, 5],
        "j": [0, 2, -1, -1, 0, 1, 3],
        "f": [1.5, -7.5, math.nan, math.inf, -math.inf, None, -0.0],
        "g": [0.0, 2.0, 1.0, math.nan, -0.0, 1.0, 3.0],
        "a": [True, False, None, True, False, None, True],
        "b": [True, True, False, None, None, None, False],
        "s": ["a", "", None, "B", "ß", "ab", "É"],
        "t": ["b", "a", "x", None, "", "ab", "E"],
        "d": [datetime(1960, 2, 29, 1, 1, 1, 5, tzinfo=UTC)] * 3
        + [None]
        + [datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)] * 3,
        "e": [datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC), None, *[BEGINNING, LATE] * 2, None],
    },
    schema=SCHEMA,
)


@pytest.mark.parametrize("expression", INSIDE, ids=str)
def test_what_the_reference_lists_is_compiled_and_polars_to_the_bit(expression):
    program = compiled(expression)
    assert program.interpreted == ()
    for frame in (FRAME, FRAME[:1], FRAME[2:4], FRAME.clear()):
        (got,) = program.run(columns(frame, program.inputs), len(frame))
        assert same(got, by_polars(frame, expression))


OUTSIDE = [
    (col("s").str.contains("a.b"), "a regular expression"),
    (col("s").str.reverse(), "StringExpr.Reverse"),
    (col("f").sin(), "Trigonometry"),
    (col("f") ** 4, "a power of 4.0"),
    (col("s").cast(pl.Float64, strict=False), "String to Float64"),
    (col("d").dt.date().dt.day(), "TemporalExpr.Date"),
    (pl.sum_horizontal("i", "f"), "SumHorizontal"),
    (col("s").str.len_chars() + (lit(0) - 5), "a computation of constants"),
]


@pytest.mark.parametrize(("expression", "why"), OUTSIDE, ids=str)
def test_what_is_outside_is_left_to_polars_and_named(expression, why):
    program = compiled(expression)
    ((name, said),) = [(one.name, one.why) for one in program.interpreted]
    assert (name, said) == ("x", said)
    assert why in said
    (got,) = program.run(columns(FRAME, program.inputs), len(FRAME))
    assert same(got, by_polars(FRAME, expression))


def test_compiled_and_interpreted_expressions_share_a_program():
    exprs = {"double": col("f") * 2, "back": col("s").str.reverse(), "hour": col("d").dt.hour()}
    program = Program([(name, e.meta.serialize(format="json")) for name, e in exprs.items()], SCHEMA)
    answers = program.run(columns(FRAME, program.inputs), len(FRAME))
    assert [one.name for one in program.interpreted] == ["back"]
    for answer, expression in zip(answers, exprs.values(), strict=True):
        assert same(answer, by_polars(FRAME, expression))


def test_a_row_that_cannot_be_computed_spoils_no_other_row_and_no_other_expression():
    exprs = [col("f").cast(pl.Int64), col("f") * 2, col("s").str.to_integer(), col("s").str.to_lowercase()]
    program = Program([("x", e.meta.serialize(format="json")) for e in exprs], SCHEMA)
    frame = pl.DataFrame({"f": [1.0, math.nan, 3.0], "s": ["7", "8", "X"]}, schema={"f": pl.Float64, "s": pl.String})
    (whole, double, number, lower), broken = program.answer(columns(frame, ["f", "s"]), 3)
    assert whole[[0, 2]].tolist() == [1.0, 3.0]
    assert math.isnan(whole[1])
    assert double[[0, 2]].tolist() == [2.0, 6.0]
    assert number[:2].tolist() == [7.0, 8.0]
    assert lower == ["7", "8", "x"]
    assert {number: list(rows) for number, rows in broken.items()} == {0: [1], 2: [2]}


def test_few_rows_that_cannot_be_computed_are_found_in_few_runs(monkeypatch):
    program = Program([("x", col("f").cast(pl.Int64).meta.serialize(format="json"))], SCHEMA)
    values = np.arange(1_000.0)
    values[[0, 517, 999]] = np.nan
    runs = []
    run = program.run
    monkeypatch.setattr(program, "run", lambda columns, rows: runs.append(rows) or run(columns, rows))
    (whole,), broken = program.answer({"f": (values, None)}, 1_000)
    assert list(broken[0]) == [0, 517, 999]
    assert np.array_equal(whole, values, equal_nan=True)
    assert len(runs) < 64


def test_what_is_common_to_two_expressions_is_computed_once():
    ratio = col("f") / col("g")
    exprs = [ratio, ratio + 1, (ratio + 1).clip(0, 1)]
    program = Program([("x", e.meta.serialize(format="json")) for e in exprs], SCHEMA)
    assert len(program._tape._steps) == 3


def test_a_short_number_type_wraps_as_in_polars():
    program = compiled(col("d").dt.hour() * 60)
    frame = pl.DataFrame({"d": [datetime(2026, 1, 1, 4, tzinfo=UTC)]}, schema={"d": UTC_US})
    assert program.run(columns(frame, ["d"]), 1)[0].tolist() == [-16.0]  # 240 in eight bits
    assert program.wrapping == (("x", "Int8"),)
    assert compiled((col("s").str.len_chars() - 5).cast(pl.Float64)).wrapping == (("x", "UInt32"),)
    for expression in (col("d").dt.hour() + 1, col("d").dt.hour().cast(pl.Int64) * 60, col("i") * 60):
        assert compiled(expression).wrapping == ()


def test_a_constant_stands_for_every_row():
    for rows in (0, 1, 3):
        (answer,) = compiled(lit(3.5)).run({}, rows)
        assert answer.tolist() == [3.5] * rows
        (text,) = compiled(lit("x")).run({}, rows)
        assert text == ["x"] * rows


def test_values_of_views_are_columns_with_nulls_instants_and_texts():
    values, nulls = view_column("float", np.array([1.0, math.nan]))
    assert (values[0], nulls.tolist()) == (1.0, [False, True])
    values, nulls = view_column("datetime", np.array([1_700_000_000_000_001.0, math.nan]))
    assert (values.dtype, values[0], nulls.tolist()) == (np.int64, 1_700_000_000_000_001, [False, True])
    values, nulls = view_column("str", np.array([5.0, math.nan]), ["pub", None])
    assert (values.tolist(), nulls.tolist()) == (["pub", None], [False, True])
    assert view_column("float", np.array([1.0]))[1] is None


def test_nothing_is_evaluated_by_polars_for_a_compiled_program(monkeypatch):
    program = compiled((col("f") / col("g")).fill_null(0) + col("d").dt.hour())
    given = columns(FRAME, program.inputs)
    for name in ("DataFrame", "Series", "select"):
        monkeypatch.setattr(pl, name, None)
    assert len(program.run(given, len(FRAME))[0]) == 7


def test_vectors_of_a_request_are_left_to_polars_and_come_as_the_gateway_has_them():
    kind = pl.Array(pl.Float64, 2)
    program = compiled(col("v").arr.get(0) + col("f"), v=kind)
    assert len(program.interpreted) == 1
    rows = [([1.0, 2.0], 0.5), (None, 1.0)]
    live = {"v": of_objects([v for v, _ in rows], kind), "f": of_objects([f for _, f in rows], pl.Float64())}
    history = pl.DataFrame({"v": [v for v, _ in rows]}, schema={"v": kind})["v"]
    stored = {"v": of_series(history, kind), "f": live["f"]}
    for columns in (live, stored):
        (answer,) = program.run(columns, 2)
        assert answer[0] == 1.5
        assert math.isnan(answer[1])
