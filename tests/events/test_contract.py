"""Contracts: what a row may be, and how a refusal reads."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ContractError
from mainspring.core.times import from_datetime
from mainspring.definitions.values import Constraint, Field, SourceDef
from mainspring.events.columnar import Columnar
from mainspring.events.contract import Contract

from drawn import BOUNDS, sources  # isort: skip

T = "2013-03-01T12:00:00Z"
T_US = 1_362_139_200_000_000
GOOD = {"flight_id": "a", "carrier": "UA", "delay_min": 1.5, "seats": 3, "arrived_at": T}


def one(field):
    return Contract(SourceDef("s", (field, Field("at", "datetime")), time="at"))


def refusal(contract, **fields):
    with pytest.raises(ContractError) as caught:
        contract.check_json(json.dumps(fields).encode())
    return caught.value.code, caught.value.where, caught.value.what


def test_a_row_is_the_values_in_the_order_of_the_columns_with_times_in_microseconds(arrived):
    raw = json.dumps(dict(reversed(GOOD.items()))).encode()
    assert Contract(arrived).check_json(raw) == ("a", "UA", 1.5, 3, T_US)


def test_an_absent_column_takes_its_default_or_null_and_is_refused_without_either(weather):
    contract = Contract(weather)
    row = contract.check({"origin": "EWR", "observed_at": 1, "published_at": 2})
    assert row == ("EWR", None, False, 1, 2)
    with pytest.raises(ContractError, match="missing required field `origin`"):
        contract.check({"observed_at": 1, "published_at": 2})


@pytest.mark.parametrize(
    ("change", "code", "where", "what"),
    [
        ({"delay_min": "late"}, "MS-E102", "$.delay_min", "got `str`"),
        ({"seats": 1.5}, "MS-E102", "$.seats", "got `float`"),
        ({"seats": 2**63}, "MS-E102", "$.seats", "9223372036854775807"),
        ({"seats": -(2**63) - 1}, "MS-E102", "$.seats", "-9223372036854775808"),
        ({"seats": True}, "MS-E102", "$.seats", "got `bool`"),
        ({"delay_min": 10**400}, "MS-E102", "$.delay_min", "out of range"),
        ({"carrier": "ZZ"}, "MS-E103", "$.carrier", "one of 'UA', 'AA', 'DL', got 'ZZ'"),
        ({"delay_min": 3_001}, "MS-E103", "$.delay_min", "between -120 and 3000"),
        ({"flight_id": ""}, "MS-E103", "$.flight_id", "1 to 40 characters"),
        ({"flight_id": None}, "MS-E102", "$.flight_id", "got `null`"),
        ({"surprise": 1}, "MS-E102", "$", "unknown field `surprise`"),
        ({"arrived_at": "yesterday"}, "MS-E102", "$.arrived_at", "Invalid RFC3339"),
        ({"arrived_at": 12}, "MS-E102", "$.arrived_at", "Expected `datetime`, got `int`"),
        ({"arrived_at": "0001-01-01T00:00:00+10:00"}, "MS-E104", "$.arrived_at", "years 1 to 9999"),
        ({"arrived_at": "9999-12-31T23:59:59-10:00"}, "MS-E104", "$.arrived_at", "years 1 to 9999"),
    ],
)
def test_a_broken_value_is_refused_with_its_path(arrived, change, code, where, what):
    found = refusal(Contract(arrived), **(GOOD | change))
    assert found[:2] == (code, where)
    assert what in found[2]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b'{"flight_id": NaN}', b'{"flight_id": "\\ud800"}', b"{} trailing"]
)
def test_bytes_that_are_no_json_are_refused(arrived, raw):
    with pytest.raises(ContractError) as caught:
        Contract(arrived).check_json(raw)
    assert caught.value.code in ("MS-E101", "MS-E102")


def test_invalid_utf8_inside_a_text_is_refused(arrived):
    raw = json.dumps(GOOD).encode().replace(b'"a"', b'"\xff\xfe"')
    with pytest.raises(ContractError) as caught:
        Contract(arrived).check_json(raw)
    assert caught.value.code == "MS-E101"


@pytest.mark.parametrize("opening", [b"[", b'{"flight_id":', b'{"flight_id":['])
def test_deep_nesting_is_refused_not_a_crash(arrived, opening):
    with pytest.raises(ContractError):
        Contract(arrived).check_json(opening * 200_000)
    with pytest.raises(ContractError):
        Contract(arrived).check_json(b'{"zz":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


def test_nan_is_null_where_null_may_be_and_refused_elsewhere():
    nullable, strict = one(Field("x", "float", nullable=True)), one(Field("x", "float"))
    assert nullable.check({"x": math.nan, "at": 0}) == (None, 0)
    for contract, value in ((strict, math.nan), (strict, math.inf), (nullable, -math.inf)):
        with pytest.raises(ContractError) as caught:
            contract.check({"x": value, "at": 0})
        assert caught.value.code == "MS-E104"


def test_a_text_that_cannot_be_stored_is_refused():
    with pytest.raises(ContractError) as caught:
        one(Field("x", "str")).check({"x": "a\udcffb", "at": 0})
    assert (caught.value.code, caught.value.where) == ("MS-E104", "$.x")


@pytest.mark.parametrize(
    ("fields", "code", "where"),
    [
        ({"x": "a\udcffb"}, "MS-E104", "$.x"),
        ({"x": 1.0, "\udcff": 1}, "MS-E104", "$"),
        ({"x": [["\ud800"]]}, "MS-E102", "$.x"),
    ],
    ids=["where a number belongs", "as a name", "within what no column takes"],
)
def test_a_text_that_cannot_be_stored_is_refused_wherever_it_is(fields, code, where):
    with pytest.raises(ContractError) as caught:
        one(Field("x", "float")).check(fields | {"at": 0})
    assert (caught.value.code, caught.value.where) == (code, where)


@pytest.mark.parametrize("text", ["1913-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"])
def test_an_event_time_before_1970_is_refused_at_the_door(arrived, text):
    with pytest.raises(ContractError, match="from 1970 on") as caught:
        Contract(arrived).check(GOOD | {"arrived_at": text})
    assert (caught.value.code, caught.value.where) == ("MS-E107", "$.arrived_at")


def test_another_date_of_an_event_may_lie_before_1970():
    contract = one(Field("born", "datetime"))
    row = contract.check({"born": "1913-01-01T00:00:00Z", "at": 0})
    assert contract.to_dict(row)["born"] == from_datetime(datetime(1913, 1, 1, tzinfo=UTC)) < 0


def test_a_date_in_2999_is_a_row_which_the_door_then_judges(arrived):
    contract = Contract(arrived)
    assert contract.time_of(contract.check(GOOD | {"arrived_at": "2999-01-01T00:00:00Z"})) > T_US


def test_an_offset_is_applied_and_a_naive_time_is_utc(arrived):
    contract = Contract(arrived)
    for text in (
        "2013-03-01T12:00:00",
        "2013-03-01T07:00:00-05:00",
        datetime(2013, 3, 1, 12, tzinfo=UTC).replace(tzinfo=None),
        T_US,
    ):
        assert contract.time_of(contract.check(GOOD | {"arrived_at": text})) == T_US
    zone = timezone(timedelta(hours=5, minutes=30))
    assert contract.time_of(contract.check(GOOD | {"arrived_at": datetime(2013, 3, 1, 17, 30, tzinfo=zone)})) == T_US


def test_a_pattern_must_match_the_whole_text():
    contract = one(Field("x", "str", constraints=(Constraint("pattern", ("[A-Z]{2}[0-9]+",)),)))
    assert contract.check({"x": "UA12", "at": 0})[0] == "UA12"
    for text in ("UA12x", "xUA12", "UA12\n"):
        with pytest.raises(ContractError):
            contract.check({"x": text, "at": 0})


def test_a_range_of_times_holds_for_times():
    contract = one(Field("x", "datetime", nullable=True, constraints=(Constraint("between", (10, 20)),)))
    assert contract.check({"x": 20, "at": 0})[0] == 20
    assert contract.check({"x": None, "at": 0})[0] is None
    with pytest.raises(ContractError):
        contract.check({"x": 21, "at": 0})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_whatever_a_value_is_it_is_a_row_or_a_contract_error(value):
    for kind in ("str", "int", "float", "bool", "datetime"):
        contract = one(Field("x", kind, nullable=True))
        try:
            (x, _) = contract.check({"x": value, "at": 0})
        except ContractError as error:
            x, where = None, error.where
        else:
            where = "$"
        assert where.startswith("$")
        assert x is None or type(x).__name__ == ("int" if kind == "datetime" else kind)


# --- vectors ----------------------------------------------------------------------------------------------------------

POINT = Field("point", "vector", nullable=True, constraints=(Constraint("dim", (3,)),))


def test_a_vector_is_a_list_of_floats():
    contract = one(POINT)
    assert contract.check_json(b'{"point": [1, 2.5, -0.0], "at": "2013-03-01T12:00:00Z"}') == ([1.0, 2.5, -0.0], T_US)
    assert contract.check({"point": (1, 2, 3), "at": T_US}) == ([1.0, 2.0, 3.0], T_US)
    assert contract.check({"at": T_US}) == (None, T_US)


@pytest.mark.parametrize(
    ("value", "code", "path", "what"),
    [
        ([1.0, 2.0], "MS-E103", "$.point", "Expected a vector of 3 numbers, got 2"),
        ([], "MS-E103", "$.point", "got 0"),
        ([1.0, 2.0, 3.0, 4.0], "MS-E103", "$.point", "got 4"),
        ([1.0, math.nan, 2.0], "MS-E104", "$.point[1]", "Expected a finite `float`, got `nan`"),
        ([1.0, 2.0, math.inf], "MS-E104", "$.point[2]", "got `inf`"),
        ([1.0, None, 2.0], "MS-E102", "$.point[1]", "Expected `float`, got `null`"),
        ([1.0, True, 2.0], "MS-E102", "$.point[1]", "got `bool`"),
        ("1 2 3", "MS-E102", "$.point", "Expected `array | null`, got `str`"),
        (1.0, "MS-E102", "$.point", "got `float`"),
    ],
    ids=["short", "empty", "long", "nan", "infinite", "null within", "bool within", "text", "number"],
)
def test_a_vector_of_another_length_or_of_anything_but_finite_numbers_is_refused_with_its_path(value, code, path, what):
    with pytest.raises(ContractError, match=re.escape(what)) as caught:
        one(POINT).check({"point": value, "at": T_US})
    assert (caught.value.code, caught.value.where) == (code, path)


@given(
    st.lists(
        st.one_of(
            st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**60), 2**60), st.none(), st.booleans()
        ),
        max_size=5,
    )
    | st.none()
)
def test_a_vector_is_taken_or_refused_alike_as_json_and_as_values(value):
    contract = one(POINT)
    said = []
    for check in (
        lambda: contract.check_json(json.dumps({"point": value, "at": T}).encode()),
        lambda: contract.check({"point": value, "at": T_US}),
    ):
        try:
            said.append(check())
        except ContractError as error:
            said.append((error.code, error.what, error.where))
    assert said[0] == said[1]


# --- the quick way and the exact one ----------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-12, 12),
    st.sampled_from([2**53 + 1, 2**62, 2**63, -(2**63), 2**64, 10**400, T_US, T_US + 1, -5, 253_402_300_800_000_000]),
    st.floats(-3, 3),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324, float(2**60)]),
    st.sampled_from(
        ["", "a", "bb", "é", "ccc", "A", "\ud800", "a\udcff", "2013-03-01T12:00:00Z", "2013-03-01T12:00:00"]
    ),
    st.sampled_from(["0001-01-01T00:00:00+10:00", "1913-01-01T00:00:00Z", "2013-03-01T12:00:00.123456789+05:30"]),
    st.lists(st.sampled_from([1, 1.5, math.nan, math.inf, 1e308, None, True, "x"]), max_size=3),
)


def said_by(check):
    try:
        return repr(check())
    except ContractError as error:
        return (error.code, error.what, error.where, error.why)


@given(st.data())
def test_the_quick_way_takes_what_the_exact_checks_take_and_refuses_with_their_words(data):
    source = data.draw(sources())
    contract = Contract(source)
    names = {name: VALUES for field in source.fields for name in (field.name, *field.aliases)}
    for _ in range(4):
        given_fields = data.draw(st.fixed_dictionaries({}, optional=names | {"strange": VALUES}))
        given_fields.setdefault("at", T)
        exact = said_by(lambda: contract._judged(given_fields))  # noqa: B023
        assert said_by(lambda: contract.check(given_fields)) == exact  # noqa: B023
        try:
            raw = json.dumps(given_fields).encode()
        except UnicodeEncodeError:
            continue
        exact = said_by(lambda: contract._judged_json(raw))  # noqa: B023
        assert said_by(lambda: contract.check_json(raw)) == exact  # noqa: B023


@given(st.data())
def test_a_record_that_leaves_its_time_out_is_of_the_moment_it_is_read_at(data):
    source = data.draw(sources())
    fields = tuple(replace(f, nullable=True) if f.name == source.time else f for f in source.fields)
    if data.draw(st.booleans()):  # one whose rows need no more than their time
        kinds = ("bool", "int", "str")
        fields = (*(replace(f, aliases=(), constraints=()) for f in fields if f.kind in kinds), fields[-1])
    contract, place = Contract(replace(source, fields=fields)), len(fields) - 1
    names = {name: VALUES for field in fields for name in (field.name, *field.aliases)}

    def filled(row):
        return row if row[place] is not None else (*row[:place], T_US, *row[place + 1 :])

    for _ in range(4):
        given_fields = data.draw(st.fixed_dictionaries({}, optional=names | {source.time: st.sampled_from([T, None])}))
        try:
            raw = json.dumps(given_fields).encode()
        except UnicodeEncodeError:
            continue
        exact = said_by(lambda: filled(contract._judged_json(raw)))  # noqa: B023
        assert said_by(lambda: contract.check_json(raw, T_US)) == exact  # noqa: B023


def test_a_default_that_breaks_its_own_checks_refuses_the_rows_that_lack_the_column():
    for field in (
        Field("x", "str", default="c", has_default=True, constraints=(Constraint("one_of", ("a", "b")),)),
        Field("x", "float", default=2.0, has_default=True, constraints=(Constraint("between", (0, 1)),)),
    ):
        assert refusal(one(field), at=T)[:2] == ("MS-E103", "$.x")
    assert refusal(one(Field("x", "float", default=math.inf, has_default=True)), at=T)[:2] == ("MS-E104", "$.x")


def test_finite_numbers_whose_sum_is_not_finite_are_taken():
    contract = Contract(SourceDef("s", (Field("x", "float"), Field("y", "float"), Field("at", "datetime")), time="at"))
    assert contract.check({"x": 1.7e308, "y": 1.7e308, "at": 0}) == (1.7e308, 1.7e308, 0)
    assert one(POINT).check({"point": [1.7e308, 1.7e308, 0], "at": 0})[0] == [1.7e308, 1.7e308, 0.0]


GOOD_COLUMNS = {
    "str": st.sampled_from(["a", "bb", "é", "zz"]),
    "int": st.sampled_from([1, 7, -3, 2**62, 0]),
    "float": st.sampled_from([0.0, -0.0, 1, 1.5, 2**53, 1.7e308, math.nan]),
    "bool": st.booleans(),
    "datetime": st.sampled_from([10, T_US, 0, T_US - 1]),
    "vector": st.sampled_from([[1.0, 2.0], [0, 1.5], [1.7e308, 1.7e308]]),
}
ODD_VALUES = {
    "str": st.sampled_from(["", "a\udcff", "ccc", 1, None]),
    "int": st.sampled_from([2**63, 2**53 + 1, True, 1.0, "1", None]),
    "float": st.sampled_from([math.inf, True, "1.5", 10**400, None]),
    "bool": st.sampled_from([1, "true", None]),
    "datetime": st.sampled_from([-5, 2**60, T, True, 1.5, None]),
    "vector": st.sampled_from([[1.0], [math.nan, 1.0], [1.0, math.inf], [True, 1], [None, 1.0], "ab", None]),
}


@given(st.data())
def test_columns_are_taken_and_refused_as_their_rows_are_one_by_one(data):
    source = data.draw(sources())
    contract = Contract(source)
    n = data.draw(st.integers(0, 4))
    columns = {"at": [T_US] * n}
    for field in source.fields[:-1]:
        may_lack = field.nullable or field.has_default
        names = data.draw(st.sampled_from([(field.name,), field.aliases, *([()] if may_lack else [])]))
        for name in names or ((field.name,) if not may_lack else ()):
            value = GOOD_COLUMNS[field.kind] | (st.none() if field.nullable else GOOD_COLUMNS[field.kind])
            columns[name] = data.draw(st.lists(value, min_size=n, max_size=n))
    if n and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(columns)))
        odd = ODD_VALUES[source.names[name].kind]
        columns[name][data.draw(st.integers(0, n - 1))] = data.draw(odd)
    rows = [{name: values[i] for name, values in columns.items()} for i in range(n)]
    exact = [said_by(lambda: contract._judged(row)) for row in rows]  # noqa: B023

    def shown(found):
        return (found.code, found.what, found.where, found.why) if isinstance(found, ContractError) else repr(found)

    assert [shown(found) for found in contract.check_columns(columns, n)] == exact


GOOD_JSON = GOOD_COLUMNS | {
    "float": st.sampled_from([0.0, -0.0, 1, 1.5, 2**53, 1.7e308]),
    "datetime": st.sampled_from(["2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "1970-01-01T00:00:00"]),
}
ODD_JSON = ODD_VALUES | {
    "str": st.sampled_from(["", "ccc", 1, None]),
    "float": st.sampled_from([True, "1.5", 10**400, None]),
    "datetime": st.sampled_from(["1969-12-31T23:59:59Z", "0001-01-01T00:00:00+01:00", "soon", 5, None]),
    "vector": st.sampled_from([[1.0], [True, 1], [None, 1.0], "ab", None]),
}


@given(st.data())
def test_a_list_of_json_is_taken_and_refused_as_its_rows_are_one_by_one(data):
    source = data.draw(sources())
    contract = Contract(source)
    rows = []
    for _ in range(data.draw(st.integers(0, 4))):
        row = {"at": data.draw(GOOD_JSON["datetime"])}
        for field in source.fields[:-1]:
            names = data.draw(st.sampled_from([(field.name,), (field.name,), field.aliases, ()]))
            for name in names or ((field.name,) if not (field.nullable or field.has_default) else ()):
                row[name] = data.draw(GOOD_JSON[field.kind] | (st.none() if field.nullable else GOOD_JSON[field.kind]))
        rows.append(row)
    if rows and data.draw(st.booleans()):
        row = data.draw(st.sampled_from(rows))
        name = data.draw(st.sampled_from(sorted(row)))
        row[name] = data.draw(ODD_JSON[source.names[name].kind])
    exact = [said_by(lambda: contract.check_json(json.dumps(row).encode())) for row in rows]  # noqa: B023
    found = contract.check_json_list(json.dumps(rows).encode())
    if found is not None:
        assert len(found) == len(source.fields)
        assert [repr(row) for row in zip(*found, strict=True)] == exact
    elif "1.7e+308" not in json.dumps(rows):  # the sum of such is not finite: in doubt the rows are looked at alone
        assert any(isinstance(one, tuple) for one in exact)


def test_good_columns_are_not_looked_at_row_by_row():
    bounds = {"float": ("between", (0, 9)), "str": ("one_of", ("a", "b")), "vector": ("dim", (2,))}
    fields = [
        Field(f"x_{kind}", kind, nullable=True, constraints=(Constraint(*bounds[kind]),) if kind in bounds else ())
        for kind in BOUNDS
    ]
    columnar = Columnar(SourceDef("s", (*fields, Field("at", "datetime")), time="at"))
    columns = {
        "x_float": [1.5, None, 2],
        "x_str": ["a", "b", None],
        "x_datetime": [5, None, 6],
        "x_vector": [[1.0, 2], None, [0.0, 0.0]],
        "x_int": [1, None, 2],
        "x_bool": [True, None, False],
        "at": [0, 1, 2],
    }
    assert list(zip(*columnar.checked(columns, 3), strict=True)) == [
        ("a", 1, 1.5, 5, True, [1.0, 2.0], 0),
        ("b", None, None, None, None, None, 1),
        (None, 2, 2.0, 6, False, [0.0, 0.0], 2),
    ]
    assert columnar.checked(columns | {"x_float": [1.5, 10.0, 2]}, 3) is None


def test_a_name_as_long_as_a_client_likes_is_not_told_in_full():
    with pytest.raises(ContractError) as caught:
        one(Field("n", "int")).check_json(json.dumps({"n": 1, "at": 1, "x" * 1_000_000: 1}).encode())
    assert len(caught.value.what) < 300
