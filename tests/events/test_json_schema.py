"""Contracts as JSON Schema, judged by the library of that name; and classes made from schemas."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Annotated

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import mainspring as ms
from mainspring.core.errors import ContractError
from mainspring.definitions.values import Constraint, Field, SourceDef
from mainspring.events.contract import Contract
from mainspring.events.json_schema import DRAFT, class_of, schema_of

AT = "2013-03-01T12:00:00Z"


def column(kind, name, *args):
    return Field("x", kind, constraints=(Constraint(name, args),) if name else ())


COLUMNS = [
    *(column(kind, "") for kind in ("str", "int", "float", "bool", "datetime")),
    column("str", "one_of", "a", "b"),
    column("int", "one_of", 0, 1),
    column("str", "pattern", "[a-z]{2}|é"),
    column("str", "length", 1, 2),
    column("int", "between", -1, 2),
    column("float", "between", -0.5, 1.5),
    column("vector", "dim", 2),
]
NUMBERS = st.integers(-(2**64), 2**64) | st.sampled_from([-0.5, -0.0, 0.5, 1.5, 1.6]) | st.integers(-2, 3)
VALUES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "a", "b", "ab", "ab\n", "abc", "é", "e\u0301", "𝄞𝄞"]),
    st.lists(st.sampled_from([1, 0.5, None, True, "a"]), max_size=3), st.just({}), st.just(AT),
)  # fmt: skip


@st.composite
def asked(draw):
    """A source of one column and a record for it, under any name or two, with what it does not know or without it."""
    field = draw(st.sampled_from(COLUMNS))
    field = replace(
        field,
        nullable=draw(st.booleans()),
        aliases=draw(st.sampled_from([(), ("y",), ("y", "z")])),
        has_default=draw(st.booleans()) and field.kind == "bool",
    )
    field = replace(field, default=True) if field.has_default else field
    record = draw(st.dictionaries(st.sampled_from(["x", "x", "y", "z", "other"]), VALUES, max_size=2))
    return SourceDef("s", (field, Field("at", "datetime")), time="at"), record | {"at": AT}


@given(asked())
def test_an_exported_schema_takes_and_refuses_what_the_door_does(asked):
    source, record = asked
    if source.fields[0].kind == "datetime":  # formats are told to people, not checked
        assume(not any(isinstance(value, str) and value != AT for value in record.values()))
    schema = schema_of(source)
    jsonschema.Draft202012Validator.check_schema(schema)
    try:
        Contract(source).check_json(json.dumps(record).encode())
    except ContractError:
        is_taken = False
    else:
        is_taken = True
    assert jsonschema.Draft202012Validator(schema).is_valid(record) == is_taken


class Paid(ms.Source, id="payment_id", time="paid_at", known_at="heard_at", corrects="op"):
    """A payment at a till."""

    payment_id: Annotated[str, ms.length(1, 40)]
    amount_eur: Annotated[float, ms.between(0, 10), ms.alias("amount"), ms.describe('What was "paid"')]
    count: int | None = 1
    shop: Annotated[str | None, ms.one_of("a", "b")]
    code: Annotated[str, ms.pattern(r"[a-z]\d+")]
    email: Annotated[str | None, ms.pii("email")]
    face: Annotated[list[float], ms.dim(3)]
    is_new: bool = False
    since: datetime = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
    op: Annotated[str, ms.one_of("insert", "update", "delete")] = "insert"
    paid_at: datetime
    heard_at: datetime


def loaded(text):
    scope = {"ms": ms, "Annotated": Annotated, "datetime": datetime, "__name__": __name__}
    exec(text, scope)
    return next(v for v in scope.values() if isinstance(v, type) and issubclass(v, ms.Source)).definition


def test_a_class_made_from_an_exported_schema_is_the_same_contract():
    schema = schema_of(Paid.definition)
    assert (schema["$schema"], schema["title"], schema["description"]) == (DRAFT, "paid", "A payment at a till.")
    again = loaded(class_of(json.loads(json.dumps(schema))))
    assert again.describe() == Paid.definition.describe()
    assert again.columns["email"].about.pii == "email"
    assert again.columns["amount_eur"].about.doc == 'What was "paid"'


def test_a_class_is_made_from_a_schema_of_others():
    schema = {
        "title": "Order Placed",
        "required": ["orderId", "placedAt"],
        "properties": {
            "orderId": {"type": "string", "pattern": "^A"},
            "total": {"type": "number", "minimum": 0},
            "state": {"enum": ["open", "done", None]},
            "placedAt": {"type": "string", "format": "date-time"},
        },
    }
    made = loaded(class_of(schema, id="orderId"))
    assert (made.name, made.id, made.time) == ("order_placed", "order_id", "placed_at")
    assert [(f.name, f.kind, f.nullable) for f in made.fields] == [
        ("order_id", "str", False),
        ("total", "float", True),
        ("state", "str", True),
        ("placed_at", "datetime", False),
    ]


@pytest.mark.parametrize(
    ("schema", "code", "where"),
    [
        ([], "MS-E450", "$"),
        ({"type": "object"}, "MS-E450", "$"),
        ({"properties": {"n": {"type": "integer"}}}, "MS-E450", "$.properties"),
        ({"properties": {"n": {"type": "object"}}}, "MS-E451", "$.properties.n"),
        ({"properties": {"n": {"type": "array", "items": {"type": "number"}}}}, "MS-E451", "$.properties.n"),
        ({"properties": {"n": True}}, "MS-E451", "$.properties.n"),
    ],
)
def test_a_schema_that_no_source_is_like_is_refused_with_its_place(schema, code, where):
    with pytest.raises(ContractError) as caught:
        class_of(schema)
    assert (caught.value.code, caught.value.where) == (code, where)
