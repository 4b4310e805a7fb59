"""Predictions meet their outcomes once those are mature, each unit once."""

from pathlib import Path

import polars as pl
import pytest

from mainspring.core import Config, ManualClock, to_datetime
from mainspring.definitions import Project, SourceDef, load_project
from mainspring.events.contract import Contract
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Draft, Log
from mainspring.events.system import PREDICTION
from mainspring.loop.outcomes import Outcomes

HOUR = 3_600_000_000
T0 = 400_000 * HOUR
HORIZON = 2 * HOUR


class World:
    """A log that is written here, and the outcomes that are read from it."""

    def __init__(self, config: Config) -> None:
        self.project: Project = load_project(config.definitions)
        self.log = Log.open(config.log_path, config.limits.log_map_bytes, writable=True)
        self.clock = ManualClock(T0)
        self.lake = Path(config.lake_path)
        self.history = History(self.project, self.log, Lake(self.lake))
        self.outcomes = Outcomes(self.project.models["tipping"], self.history)

    def append(self, source: SourceDef, **row: object) -> None:
        (ack,) = self.log.append([Draft(source, Contract(source).check(row))], self.clock)
        assert ack.status == "accepted", ack

    def predict(self, unit: str, at_us: int, number: int) -> None:
        self.clock.set(at_us)
        self.append(
            PREDICTION,
            prediction_id=f"g-{number}",
            predicted_at=to_datetime(at_us),
            model="tipping",
            version="v1",
            variant="champion",
            probability=1.0,
            unit=unit,
            folded=0,
            output=0.25,
            features="[null, null, 1.0]",
            status="",
            latency_us=5,
        )

    def pay(self, ride: str, at_us: int, tip: float) -> None:
        self.clock.set(at_us)
        paid = self.project.sources["paid"]
        self.append(paid, ride_id=ride, driver="ann", tip=tip, paid_at=to_datetime(at_us))

    def matured(self, now_us: int, holds: list[tuple[int, int | None]] | None = None) -> pl.DataFrame:
        self.history.catch_up()
        self.outcomes.advance(now_us, holds or [])
        return self.outcomes.all()


@pytest.fixture
def world(config: Config) -> World:
    return World(config)


def test_a_label_that_has_come_does_not_count_before_it_is_mature(world: World) -> None:
    world.predict("a", T0, 1)
    world.pay("a", T0 + HOUR, 5.0)
    assert world.matured(T0 + HORIZON - 1).is_empty()
    assert world.matured(T0 + HORIZON)["y"].to_list() == [1.0]


def test_a_unit_counts_once_with_its_first_prediction(world: World) -> None:
    for i in range(3):
        world.predict("a", T0 + i, i)
    world.pay("a", T0 + HOUR, 1.0)
    assert world.matured(T0 + 3 * HOUR)["prediction_id"].to_list() == ["g-0"]
    world.predict("a", T0 + 3 * HOUR, 9)
    assert world.matured(T0 + 9 * HOUR).height == 1


def test_a_unit_without_an_outcome_is_left_out_as_the_label_says(world: World) -> None:
    world.predict("a", T0, 1)
    assert world.matured(T0 + HORIZON).is_empty()


def test_labels_of_an_open_incident_are_held_and_count_once_it_is_closed(world: World) -> None:
    world.predict("a", T0, 1)
    hold = T0 + HOUR
    assert world.matured(T0 + HORIZON, [(hold, None)]).is_empty()
    world.pay("a", T0 + HOUR, 5.0)  # mended long after the horizon, at its own event time
    closed = [(hold, T0 + 10 * HOUR)]
    assert world.matured(T0 + 10 * HOUR - 1, closed).is_empty()
    found = world.matured(T0 + 10 * HOUR, closed)
    assert found["y"].to_list() == [1.0]
    assert found["mature_at_us"].to_list() == [T0 + 10 * HOUR]


def test_looking_often_or_once_gives_the_same_units(world: World) -> None:
    for i in range(20):
        world.predict(f"u{i}", T0 + i * HOUR, i)
        world.pay(f"u{i}", T0 + i * HOUR + HOUR, float(i % 5))
        world.matured(T0 + i * HOUR)
    often = world.matured(T0 + 100 * HOUR)
    afresh = Outcomes(world.project.models["tipping"], world.history)
    afresh.advance(T0 + 100 * HOUR, [])
    assert often.sort("_offset").equals(afresh.all().sort("_offset"))
    assert often.height == 20


def test_a_window_of_maturity_is_open_at_its_start_and_closed_at_its_end(world: World) -> None:
    for i in range(3):
        world.predict(f"u{i}", T0 + i, i)
        world.pay(f"u{i}", T0 + i + 1, 3.0)
    world.matured(T0 + 5 * HOUR)
    window = world.outcomes.matured(T0 + HORIZON, T0 + HORIZON + 1)
    assert window["unit"].to_list() == ["u1"]
