import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rides import MINUTE, NOW, ride

from mainspring.core.errors import MainspringError
from mainspring.serving.batcher import Job, Slice
from mainspring.serving.bodies import Bodies
from mainspring.serving.request import RequestReader


class Reply:
    cancelled = False
    error = None

    def fail(self, error):
        self.error = error


@pytest.fixture
def reader(world):
    return RequestReader(world.project.models["late_ride"].request, world.clock, 5)


def slices(*raws):
    return [Slice(Job((), (), Reply(), 0.0, 1e18, 1, raw), 0, 1) for raw in raws]


def read(reader, *raws):
    """Rows and moments of the good ones, the errors of all, and what was counted."""
    refused = []
    asked = slices(*raws)
    found = Bodies(reader, refused.append).read(asked)
    rows, times_us = ([], []) if found is None else (list(found[1]), list(found[2]))
    return rows, times_us, [one.job.reply.error for one in asked], refused


GOOD = st.fixed_dictionaries(
    {
        "ride_id": st.text(max_size=5),
        "driver": st.text(max_size=5),
        "zone": st.sampled_from(["north", "south"]),
        "distance_km": st.floats(0, 100) | st.integers(0, 9),
    },
    optional={"passengers": st.integers(0, 5), "asked_at": st.integers(NOW - MINUTE, NOW)},
).map(lambda row: json.dumps(row).encode())
BAD = st.sampled_from(
    [
        b"{",
        b'{"ride_id":1}',
        b"{},{}",
        b'{"ride_id":"a',
        b'","x":1}',
        b"{}}",
        b"\xff",
        b"{ }",
        b'{"ride_id":[1,',
        b"2]}",
    ]
)


@given(st.lists(GOOD | BAD, min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bodies_read_together_are_what_each_is_alone(reader, raws):
    rows, times_us, errors = [], [], []
    for raw in raws:
        errors.append(None)
        try:
            one = reader.read(raw)
        except MainspringError as error:
            errors[-1] = error
        else:
            rows += one.rows
            times_us += one.times_us
    found = read(reader, *raws)
    assert found[:2] == (rows, times_us)
    assert [error and error.to_dict() for error in found[2]] == [error and error.to_dict() for error in errors]
    assert found[3] == [error for error in found[2] if error is not None]


def test_bodies_of_a_tick_are_one_table_and_no_row_is_made(reader):
    found = Bodies(reader, lambda _: None).read(
        slices(*(json.dumps(ride(i)).encode() for i in range(3))),
    )
    assert type(found[1]).__name__ == "Table"
    assert found[1].floats((3,)).tolist() == [[7.5] * 3]
    assert [row[0] for row in found[1]] == ["r0", "r1", "r2"]


def test_a_body_that_ends_within_its_neighbour_spoils_nothing(reader):
    whole = json.dumps(ride(7)).encode()
    rows, _, errors, _ = read(reader, b'{"ride_id":"x","driver":"', whole, b'"}', whole)
    assert [row[0] for row in rows] == ["r7", "r7"]
    assert [error and error.code for error in errors] == ["MS-S101", None, "MS-S101", None]


def test_where_a_moment_is_wrong_only_its_own_request_is_told(reader):
    stale = json.dumps(ride(1, asked_at="2001-01-01T00:00:00Z")).encode()
    rows, _, errors, refused = read(reader, stale, json.dumps(ride(2)).encode())
    assert [row[0] for row in rows] == ["r2"]
    assert [error and error.code for error in errors] == ["MS-S103", None]
    assert [error.code for error in refused] == ["MS-S103"]


def test_an_answer_in_bulk_and_one_alone_are_read_into_one_batch(reader):
    listed = reader.read(json.dumps([ride(1), ride(2)]).encode())
    asked = [Slice(Job(listed.rows, listed.times_us, Reply(), 0.0, 1e18, 2), 0, 2)]
    asked += slices(json.dumps(ride(3)).encode())
    found = Bodies(reader, lambda _: None).read(asked)
    assert [row[0] for row in found[1]] == ["r1", "r2", "r3"]
