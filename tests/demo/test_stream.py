"""The year is cut into ticks that hold every event once."""

import msgspec
import polars as pl
import pytest

from mainspring.core import parse_time
from mainspring.demo import flights
from mainspring.demo.stream import ID_COLUMNS, ticks


@pytest.fixture(scope="module")
def year() -> flights.Flights:
    return flights.load()


def test_every_event_of_a_stretch_is_in_exactly_one_tick(year: flights.Flights) -> None:
    start, end = parse_time("2013-04-10"), parse_time("2013-04-12")
    seen: dict[str, list[str]] = {name: [] for name in ID_COLUMNS}
    for tick in ticks(year, start, end):
        for name, batch in tick.events.items():
            seen[name] += batch.ids
        if tick.requests is not None:
            seen["scheduled"] += tick.requests.ids
    for name, column in ID_COLUMNS.items():
        frame: pl.DataFrame = getattr(year, name)
        at = frame[flights.EVENT_TIME[name]].dt.epoch("us")
        assert seen[name] == frame.filter((at >= start) & (at < end))[column].to_list(), name


def test_a_body_holds_the_events_of_its_ids_in_order(year: flights.Flights) -> None:
    start = parse_time("2013-04-10T15:00:00")
    (tick,) = ticks(year, start, start + 1_800_000_000)
    batch = tick.events["arrived"]
    assert [msgspec.json.decode(line)["flight_id"] for line in batch.lines] == batch.ids


def test_quiet_ticks_are_passed_through_so_that_the_clock_moves_on(year: flights.Flights) -> None:
    start, end = parse_time("2013-04-10T06:00:00"), parse_time("2013-04-10T09:00:00")
    assert [tick.end_us for tick in ticks(year, start, end)] == list(
        range(start + 1_800_000_000, end + 1, 1_800_000_000)
    )
