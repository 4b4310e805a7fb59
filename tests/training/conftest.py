"""A small world of trips: requests with outcomes hours later, and a feature view over the outcomes."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier

import mainspring as ms
from mainspring import col
from mainspring.definitions import ModelDef

HOUR_US = 3_600_000_000
START_US = 1_000 * 24 * HOUR_US
UTC_US = pl.Datetime("us", "UTC")


class Trip(ms.Source, id="trip_id", time="asked_at"):
    trip_id: str
    driver: str
    city: str | None
    km: float
    asked_at: datetime


class Done(ms.Source, id="trip_id", time="done_at"):
    trip_id: str
    driver: str
    delay_min: float | None
    done_at: datetime


@ms.feature_view(Done, entity="driver")
class Driver:
    delay_24h = ms.mean("delay_min", window="24h")
    trips_24h = ms.count(window="24h")


late = ms.label(Done, on="trip_id", value=col("delay_min") > 5, within="6h", late="1h", otherwise=ms.exclude)


@ms.model(
    request=Trip,
    label=late,
    task="binary_classification",
    features=[Driver, "km", "city", col("asked_at").dt.hour().alias("hour")],
    gates=[
        ms.gate("roc_auc", at_least=0.6),
        ms.gate("log_loss", beats="champion"),
        ms.gate("log_loss", beats="baseline"),
    ],
)
def late_trip(train: ms.Dataset):
    """Will this trip be late?"""
    return LGBMClassifier(n_estimators=20, num_leaves=7, random_state=train.seed, n_jobs=1, verbose=-1).fit(
        train.X, train.y
    )


@dataclass(frozen=True)
class World:
    """Definitions, history by source, and when it ends."""

    model: ModelDef
    frames: dict[str, pl.DataFrame]
    end_us: int

    def until(self, now_us: int) -> dict[str, pl.DataFrame]:
        """History as it was known before ``now_us``."""
        known = pl.col("_known_at").cast(pl.Int64) < now_us
        return {name: frame.filter(known) for name, frame in self.frames.items()}


def stamped(frame: pl.DataFrame, time: str, first: int, identity: str = "trip_id") -> pl.DataFrame:
    """As the history gives it."""
    return frame.with_columns(
        pl.col(time).cast(UTC_US),
        pl.col(time).cast(UTC_US).alias("_time"),
        pl.col(time).cast(UTC_US).alias("_known_at"),
        pl.int_range(first, first + len(frame), dtype=pl.Int64).alias("_offset"),
        pl.col(identity).alias("_id"),
    )


@pytest.fixture(scope="session")
def world() -> World:
    r = np.random.default_rng(1)
    n = 1_500
    asked = np.sort(START_US + r.integers(0, 20 * 24 * HOUR_US, n))
    driver = r.integers(0, 12, n)
    city = np.array(["ams", "bru", "cgn", None], dtype=object)[r.integers(0, 4, n)]
    hour = (asked // HOUR_US) % 24
    delay = driver - 5 + 4 * (hour > 16) + r.normal(0, 3, n)
    trips = pl.DataFrame(
        {
            "trip_id": [f"t{i}" for i in range(n)],
            "driver": [f"d{i}" for i in driver],
            "city": pl.Series(city.tolist(), dtype=pl.String),
            "km": r.uniform(1, 30, n),
            "asked_at": asked,
        }
    )
    done = pl.DataFrame(
        {
            "trip_id": trips["trip_id"],
            "driver": trips["driver"],
            "delay_min": pl.Series(delay),
            "done_at": asked + r.integers(HOUR_US // 2, 5 * HOUR_US, n),
        }
    ).filter(pl.Series(r.random(n) > 0.05))
    done = done.with_columns(delay_min=pl.when(pl.Series(r.random(len(done)) < 0.02)).then(None).otherwise("delay_min"))
    frames = {"trip": stamped(trips, "asked_at", 1), "done": stamped(done.sort("done_at"), "done_at", n + 1)}
    return World(late_trip, frames, START_US + 21 * 24 * HOUR_US)


@pytest.fixture(scope="session")
def training_set(world, tmp_path_factory):
    from mainspring.training import build

    return build(world.model, world.frames, tmp_path_factory.mktemp("datasets"), now_us=world.end_us)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path
