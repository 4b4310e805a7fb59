"""Requests are what the source's contract takes, and each has an id of its own."""

import dataclasses
import json
from datetime import UTC, datetime
from typing import Annotated

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mainspring as ms
from mainspring.core.errors import NotFoundError
from mainspring.core.times import parse_time
from mainspring.definitions.values import Constraint, Field, SourceDef
from mainspring.events.contract import Contract
from mainspring.load.pool import pool
from mainspring.load.rows import recorded, synthetic

NOW_US = parse_time("2026-03-01T12:00:00Z")
WHOLE = st.integers(-(2**53), 2**53)


def contract_of(source):
    """As the gateway checks requests: the time may be left out."""
    fields = tuple(dataclasses.replace(f, nullable=True) if f.name == source.time else f for f in source.fields)
    return Contract(dataclasses.replace(source, fields=fields))


@st.composite
def fields(draw):
    kind = draw(st.sampled_from(["str", "int", "float", "bool", "datetime", "vector"]))
    constraints = {
        "str": st.sampled_from([(), (Constraint("one_of", ("a", "b")),), (Constraint("length", (3, 5)),)])
        | st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda p: (Constraint("length", tuple(sorted(p))),)),
        "int": st.just(()) | st.tuples(WHOLE, WHOLE).map(lambda p: (Constraint("between", tuple(sorted(p))),)),
        "float": st.just(()) | st.tuples(WHOLE, WHOLE).map(lambda p: (Constraint("between", tuple(sorted(p))),)),
        "bool": st.just(()),
        "datetime": st.sampled_from([(), (Constraint("between", (NOW_US - 5, NOW_US + 5)),)]),
        "vector": st.integers(1, 5).map(lambda n: (Constraint("dim", (n,)),)),
    }[kind]
    return kind, draw(st.booleans()), draw(constraints)


@given(st.lists(fields(), max_size=6), st.sampled_from(["str", "int"]), st.sampled_from([1, 3]))
def test_synthetic_requests_keep_any_contract_and_no_id_comes_twice(columns, id_kind, rows_a_request):
    made = [Field(f"c{i}", kind, nullable, constraints) for i, (kind, nullable, constraints) in enumerate(columns)]
    source = SourceDef("s", (Field("id", id_kind), *made, Field("at", "datetime")), "at", "id")
    rows = synthetic(source, 20, NOW_US, 1)
    requests = pool(source, "/p", "h", rows, run=7, rows_a_request=rows_a_request)
    contract, ids = contract_of(source), []
    for number in range(15):
        head, _, body = requests.request(number).partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(body) in head
        found = json.loads(body)
        assert isinstance(found, list) == (rows_a_request > 1)
        ids += [contract.check(row)[source.places["id"]] for row in (found if rows_a_request > 1 else [found])]
    assert len(set(ids)) == len(ids) == 15 * rows_a_request


class Ride(ms.Source, id="ride", time="at"):
    """What is asked."""

    ride: str
    zone: Annotated[str, ms.pattern("[NS][0-9]{2}")]
    km: float | None
    booked_at: datetime
    where: Annotated[list[float], ms.dim(2)]
    at: datetime


RIDE = Ride.definition


def test_recorded_requests_are_those_of_history_with_new_ids_and_the_clocks_time():
    history = pl.DataFrame(
        {
            "ride": ["a", "b", "c"],
            "zone": ["N01", "S02", "N03"],
            "km": [1.5, None, 2.5],
            "booked_at": [datetime(2026, 1, d, 7, tzinfo=UTC) for d in (1, 2, 3)],
            "where": [[0.0, 1.0]] * 3,
            "at": [datetime(2026, 1, 4, tzinfo=UTC)] * 3,
            "_offset": [1, 2, 3],
        },
        schema_overrides={"booked_at": pl.Datetime("us", "UTC"), "where": pl.Array(pl.Float64, 2)},
    )
    rows = recorded(RIDE, history, 2)
    assert [(row["zone"], row["km"], row["booked_at"]) for row in rows] == [
        ("S02", None, "2026-01-02T07:00:00Z"),
        ("N03", 2.5, "2026-01-03T07:00:00Z"),
    ]
    requests = pool(RIDE, "/p", "h", rows, run=1)
    first, again = (json.loads(requests.request(n).partition(b"\r\n\r\n")[2]) for n in (0, 2))
    assert first["ride"] != again["ride"]
    assert {**first, "ride": 0} == {**again, "ride": 0}
    assert first.keys() == {"ride", "zone", "booked_at", "where"}
    assert contract_of(RIDE).check(first)
    with pytest.raises(NotFoundError, match="MS-C101"):
        recorded(RIDE, history.clear(), 2)


def test_a_column_with_a_pattern_has_to_be_given():
    with pytest.raises(NotFoundError, match="MS-C102: no value for zone") as caught:
        synthetic(RIDE, 3, NOW_US, 1)
    assert caught.value.hint.startswith("--value zone=TEXT")
    assert {row["zone"] for row in synthetic(RIDE, 3, NOW_US, 1, {"zone": "N07"})} == {"N07"}


def test_the_v2_protocol_says_the_same_in_columns():
    rows = [dict(row, zone="N07") for row in synthetic(RIDE, 4, NOW_US, 1, {"zone": "N07"})]
    rows[0]["km"], rows[1]["km"] = None, 1.25
    requests = pool(RIDE, "/v2/models/m/infer", "h", rows, run=1, protocol="v2", rows_a_request=2)
    body = json.loads(requests.request(5).partition(b"\r\n\r\n")[2])
    inputs = {one["name"]: one for one in body["inputs"]}
    assert inputs.keys() == {"ride", "zone", "km", "booked_at", "where"} - ({"km"} if "km" not in inputs else set())
    assert (inputs["where"]["shape"], inputs["where"]["datatype"]) == ([2, 2], "FP64")
    assert inputs["booked_at"]["datatype"] == "INT64"
    assert len(set(inputs["ride"]["data"])) == 2
