"""A small project whose processes tests start for real."""

import sys
from pathlib import Path

import pytest

from mainspring.core import Config, load_config

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))  # the collector of spans

DEFINITIONS = '''"""Taxi rides: will the tip be large?"""

from datetime import datetime

from lightgbm import LGBMClassifier

import mainspring as ms
from mainspring import col


class Ride(ms.Source, id="ride_id", time="started_at"):
    ride_id: str
    driver: str
    km: float
    started_at: datetime


class Paid(ms.Source, id="ride_id", time="paid_at"):
    ride_id: str
    driver: str
    tip: float
    paid_at: datetime


@ms.feature_view(Paid, entity="driver")
class Driver:
    tips_1d = ms.mean("tip", window="1d")
    rides_1d = ms.count(window="1d")


large = ms.label(Paid, on="ride_id", value=col("tip") > 2, within="2h", otherwise=ms.exclude)


@ms.model(request=Ride, label=large, task="binary_classification", features=[Driver, "km"],
          rollout=ms.Rollout(prove=[ms.guard("log_loss", margin=0.02)]), monitor=ms.Monitor(retrain=ms.every("1d")),
          otherwise=ms.otherwise(value=0.5))
def tipping(train):
    return LGBMClassifier(n_estimators=5, random_state=train.seed, verbose=-1).fit(train.X, train.y)
'''


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The project's settings, every door on a free port."""
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    (tmp_path / "mainspring.toml").write_text(
        '[project]\nname = "rides"\n[intake]\nport = 0\n[gateway]\nport = 0\n'
        "[limits]\nlog_map_bytes = 67108864\nstate_map_bytes = 67108864\n"
    )
    return load_config(tmp_path)
