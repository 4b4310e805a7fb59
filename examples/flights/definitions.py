"""Will this flight arrive more than 15 minutes late? Asked one hour before its scheduled departure from New York."""

from datetime import datetime
from typing import Annotated

import mainspring as ms
from mainspring import col

LATE_OUT = col("dep_delay_min") > 15
SLACK = col("planned_min") - col("air_time_min")  # what schedule and wind leave for taxiing and waiting

class Flight:
    flight_id: str
    carrier: str
    origin: Annotated[str, ms.one_of("EWR", "JFK", "LGA")]
    dest: str
    tailnum: str | None
    planned_min: Annotated[float, ms.between(0, 1_440)]
class Scheduled(Flight, ms.Source, id="flight_id", time="announced_at"):
    """A flight one hour before its scheduled departure: the moment we predict."""
    departs_hhmm: Annotated[int, ms.between(0, 2_400)]
    announced_at: datetime
class Departed(Flight, ms.Source, id="flight_id", time="departed_at"):
    dep_delay_min: float
    departed_at: datetime
class Arrived(Flight, ms.Source, id="flight_id", time="arrived_at"):
    arr_delay_min: float
    air_time_min: float
    arrived_at: datetime
class Weather(ms.Source, id="observation_id", time="observed_at"):
    observation_id: str
    origin: str
    temp_f: float | None
    wind_deg: float | None
    rain_in: float
    visib_miles: float
    pressure_mb: float | None
    observed_at: datetime
checks = ms.check.usual(Arrived, within="8h")  # each day is held against the four weeks before

@ms.feature_view(Departed, entity="origin")
class Airport:
    late_share_1h, late_share_3h = (ms.mean(LATE_OUT, window=w) for w in ("1h", "3h"))
@ms.feature_view(Departed, entity="carrier")
class Carrier:
    late_share_2h, late_share_6h = (ms.mean(LATE_OUT, window=w) for w in ("2h", "6h"))
@ms.feature_view(Arrived, entity=("carrier", "origin"))
class Base:
    delay_min_6h = ms.mean("arr_delay_min", window="6h")
@ms.feature_view(Arrived, entity="dest")
class Dest:
    delay_min_3h, slack_min_6h = ms.mean("arr_delay_min", window="3h"), ms.mean(SLACK, window="6h")
@ms.feature_view(Arrived, entity=("carrier", "dest"))
class Route:
    delay_min_24h, slack_min_24h = (ms.mean(x, window="24h") for x in ("arr_delay_min", SLACK))
    delay_min_7d = ms.mean("arr_delay_min", window="7d")
@ms.feature_view(Departed, entity="tailnum")
class Trip:
    away_s, planned_min = ms.age(window="24h"), ms.last("planned_min", ttl="24h")
@ms.feature_view(Arrived, entity="tailnum")
class Plane:
    idle_s, last_delay_min = ms.age(window="7d"), ms.last("arr_delay_min", ttl="24h")
@ms.feature_view(Weather, entity="origin")
class Sky:
    rain_in_6h, temp_f = ms.sum("rain_in", window="6h"), ms.last("temp_f", ttl="3h")
    wind_deg, visib_miles, pressure_mb = (ms.last(x, ttl="3h") for x in ("wind_deg", "visib_miles", "pressure_mb"))

late = ms.label(Arrived, on="flight_id", value=col("arr_delay_min") > 15, within="36h", otherwise=ms.exclude)
@ms.model(request=Scheduled, label=late, task="binary_classification",
          features=[Airport, Carrier, Base, Dest, Route, Trip, Plane, Sky,
                    "carrier", "origin", "planned_min", "departs_hhmm"], otherwise=ms.otherwise(value=0.25),
          gates=[ms.gate("roc_auc", at_least=0.70), ms.gate("log_loss", beats="champion")],
          rollout=ms.Rollout(shadow="1d", ramp=[0.05, 0.25, 0.5], prove=[ms.guard("log_loss", margin=0.02)],
                             veto=[ms.guard("errors"), ms.guard("p99_ms", under=250)]),
          monitor=ms.Monitor(every="1d", retrain=ms.when_worse("log_loss", by=0.01, than="baseline") | ms.every("30d")))
def late_flight(train: ms.Dataset):
    from lightgbm import LGBMClassifier  # here, so that only a process that trains pays for it
    return LGBMClassifier(n_estimators=200, learning_rate=0.05, num_leaves=31, min_child_samples=100, reg_lambda=10,
                          colsample_bytree=0.4, random_state=train.seed, verbose=-1).fit(train.X, train.y)
