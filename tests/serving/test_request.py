import json

import pytest
from rides import MINUTE, NOW, ride

from mainspring.core.clock import ManualClock
from mainspring.core.errors import ContractError, TooLargeError
from mainspring.serving.request import MAX_ROW_BYTES, RequestReader
from mainspring.serving.table import Table


class _Wall(ManualClock):
    is_test = False


@pytest.fixture
def reader(world):
    return RequestReader(world.project.models["late_ride"].request, world.clock, 5)


def body(*rows):
    return json.dumps(list(rows) if len(rows) != 1 else rows[0]).encode()


def test_one_object_is_one_row_in_the_order_of_the_columns(reader):
    found = reader.read(body(ride()))
    assert found.rows == [("r1", "ann", "north", 7.5, 2, NOW)]
    assert found.times_us == [NOW]
    assert not found.is_list


def test_a_request_without_a_time_is_stamped_with_the_clock(reader):
    found = reader.read(body(ride(asked_at=...)))
    assert found.times_us == [NOW]
    assert found.rows[0][-1] == NOW


def test_bad_rows_of_a_list_are_answered_in_place_and_the_rest_is_intact(reader):
    found = reader.read(body(ride(1), ride(2, distance_km="far"), ride(3, zone="west"), {"x": 1}, ride(5)))
    assert [row[0] for row in found.rows] == ["r1", "r5"]
    assert found.places == [0, 4]
    answers = [json.loads(a) if a else None for a in found.answers]
    assert answers[0] is answers[4] is None
    assert answers[1] == {"error": "Expected `float`, got `str`", "code": "MS-E102", "where": "$.distance_km"}
    assert answers[2]["code"] == "MS-E103"
    assert len(found.errors) == 3


@pytest.mark.parametrize("raw", [b"", b"{", b"[1,", b"[{]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_said_so(reader, raw):
    with pytest.raises(ContractError, match="MS-S101") as caught:
        reader.read(raw)
    assert caught.value.http_status == 400


def test_a_row_that_breaks_its_contract_is_another_thing(reader):
    with pytest.raises(ContractError) as caught:
        reader.read(body(ride(surprise=1)))
    assert caught.value.http_status == 422


def test_a_list_has_at_most_so_many_rows(reader):
    reader.read(body(*(ride(i) for i in range(5))))
    with pytest.raises(TooLargeError, match="MS-S102"):
        reader.read(body(*(ride(i) for i in range(6))))


def test_an_empty_list_is_a_list_without_rows(reader):
    found = reader.read(b" [] ")
    assert ([*found.rows], found.answers, found.is_list) == ([], [], True)


@pytest.mark.parametrize(
    ("clock", "behind_us", "is_taken"),
    [
        (_Wall, 0, True),
        (_Wall, 5_000_000, True),
        (_Wall, -5_000_000, True),
        (_Wall, 5_000_001, False),
        (_Wall, -5_000_001, False),
        (ManualClock, 0, True),
        (ManualClock, 60 * MINUTE, True),
        (ManualClock, 60 * MINUTE + 1, False),
        (ManualClock, -1, False),
    ],
)
def test_a_prediction_is_for_now_and_a_drivers_clock_moves_in_ticks(world, clock, behind_us, is_taken):
    reader = RequestReader(world.project.models["late_ride"].request, clock(NOW + behind_us), 5)
    if is_taken:
        assert reader.read(body(ride())).times_us == [NOW]
    else:
        with pytest.raises(ContractError, match="MS-S103") as caught:
            reader.read(body(ride()))
        assert caught.value.http_status == 400


@pytest.mark.parametrize("spoilt", [{}, {"distance_km": "far"}, {"zone": "west"}, {"asked_at": "1999-01-01T00:00:00Z"}])
def test_a_list_read_in_one_pass_is_what_its_rows_are_one_by_one(reader, spoilt):
    rows = [ride(1), ride(2, asked_at=...), ride(3, **spoilt), ride(4)]
    found = reader.read(body(*rows))
    alone = [reader.read(body(row)) for i, row in enumerate(rows) if i != 2 or not spoilt]
    if spoilt:
        with pytest.raises(ContractError) as caught:
            reader.read(body(rows[2]))
        assert [(one.code, one.where) for one in found.errors] == [(caught.value.code, caught.value.where)]
    assert [*found.rows] == [one.rows[0] for one in alone]
    assert found.times_us == [one.times_us[0] for one in alone]
    assert [*found.places] == ([0, 1, 3] if spoilt else [0, 1, 2, 3])
    assert len(found.errors) == bool(spoilt)


def test_a_row_that_the_log_could_not_take_is_refused_and_its_neighbours_are_not(reader):
    large, most = "x" * MAX_ROW_BYTES, "x" * (MAX_ROW_BYTES // 2)
    with pytest.raises(TooLargeError, match="MS-S126"):
        reader.read(body(ride(driver=large)))
    found = reader.read(body(ride(1), ride(2, driver=large), ride(3, driver=most), ride(4, driver=most)))
    assert [row[0] for row in found.rows] == ["r1", "r3", "r4"]
    assert [error.code for error in found.errors] == ["MS-S126"]


def test_columns_with_a_row_that_the_log_could_not_take_are_refused(reader):
    half = "x" * (MAX_ROW_BYTES // 2)
    columns = {"ride_id": ["r1", half + "x"], "driver": [half, half], "zone": ["north"] * 2}
    columns |= {"distance_km": [1.0, 2.0], "passengers": [1, 2], "asked_at": [NOW, NOW]}
    with pytest.raises(TooLargeError, match="MS-S126"):
        reader.check(columns, 2)
    columns["ride_id"] = ["r1", "r2"]
    assert len(reader.check(columns, 2)[0]) == 2


def test_a_long_list_of_small_rows_stays_in_columns(world):
    reader = RequestReader(world.project.models["late_ride"].request, world.clock, 100_000)
    many = body(*(ride(i) for i in range(1 + MAX_ROW_BYTES // len(body(ride(1000))))), ride(driver="x" * 1_000))
    assert len(many) > MAX_ROW_BYTES
    assert type(reader.read(many).rows) is Table
    assert reader.read(many).errors == []
