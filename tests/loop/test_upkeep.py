"""Upkeep of the lake: what is not kept goes, what releases were trained on stays and can be built again."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from standing import HOUR, T0, Standing

from mainspring.core import to_iso
from mainspring.definitions import load_project
from mainspring.events.history import History
from mainspring.events.lake import Lake, Pin
from mainspring.loop.apply import plan_project
from mainspring.loop.upkeep import Upkeep, log_keep_us, pins
from mainspring.loop.workshop import Workshop

DAY = 24 * HOUR


@pytest.fixture
def place(config):
    """Thirty days of rides, a source of which keeps ten days."""
    text = config.definitions.read_text()
    text = text.replace('time="paid_at")', 'time="paid_at", keep="10d")')
    config.definitions.write_text(text.replace('within="2h"', 'within="2h", late="1d"'))
    found = Standing(config)
    yield found
    found.close()


def rides(place, days, start=0):
    """A ride every hour, and its payment half an hour later; known at the end of the day."""
    for day in range(start, start + days):
        asked, paid = [], []
        for i in range(day * 24, (day + 1) * 24):
            at_us, driver = T0 + i * HOUR, f"d{i % 3}"
            asked.append({"ride_id": f"r{i}", "driver": driver, "km": float(i % 7), "started_at": to_iso(at_us)})
            paid_at = to_iso(at_us + HOUR // 2)
            paid.append({"ride_id": f"r{i}", "driver": driver, "tip": float(i % 7), "paid_at": paid_at})
        place.add(place.project.sources["ride"], *asked, at_us=T0 + (day + 1) * DAY)
        place.add(place.project.sources["paid"], *paid, at_us=T0 + (day + 1) * DAY)


def flushed(place):
    """A writer of the lake, caught up, with everything in it."""
    history = History(place.project, place.log, Lake(place.config.lake_path))
    history.catch_up()
    history.flush()
    return history


def test_what_is_older_than_a_source_keeps_leaves_the_lake_once_a_day(place):
    rides(place, 4)
    history = flushed(place)
    rides(place, 16, start=4)
    history.catch_up()
    history.flush()
    upkeep = Upkeep(place.project, place.catalog)
    assert history.frame("paid").height == 20 * 24
    assert upkeep.run_due(history, T0 + 20 * DAY) == {"paid": 10 * 24}
    assert upkeep.run_due(history, T0 + 20 * DAY + HOUR) == {}
    for one in (history, History(place.project, place.log, Lake(place.config.lake_path))):
        one.catch_up()
        assert one.frame("paid").height == 10 * 24
        assert one.frame("paid")["_time"].dt.epoch("us").min() == T0 + 10 * DAY + HOUR // 2
        assert one.frame("ride").height == 20 * 24
    assert history.lake.offset("paid") == place.log.last_offset()


def test_pinned_rows_stay(place):
    rides(place, 3)
    history = flushed(place)
    middle = int(history.frame("paid")["_offset"][35])
    assert history.retain("paid", T0 + 9 * DAY, [Pin(middle, T0 + DAY)]) == 72 - (36 - 24)
    assert history.frame("paid")["_time"].dt.epoch("us").min() == T0 + DAY + HOUR // 2
    assert history.retain("paid", T0 + 9 * DAY, [Pin(middle)]) == 0


def test_a_training_set_is_built_again_bit_for_bit_after_compaction_retention_and_vacuum(place):
    place.catalog.apply_definitions(place.project.describe(), T0, "test")
    rides(place, 12)
    now_us = T0 + 12 * DAY + HOUR
    with Workshop.open(place.config) as workshop:
        built = workshop.build("tipping", now_us)
        candidate = workshop.train("tipping", built.path, now_us, actor="test")
        workshop.release("tipping", candidate.version, now_us, actor="test", force=True)
    place.ledger.project()
    assert pins(place.catalog)["paid"] == [Pin(built.meta.sources["paid"].last_offset, built.meta.from_us - DAY - HOUR)]
    for start in (12, 16, 20):
        rides(place, 4, start=start)
        history = flushed(place)
    upkeep = Upkeep(place.project, place.catalog)
    gone = upkeep.run_due(history, T0 + 40 * DAY)
    assert gone["paid"] > 0
    for name in history.lake.sources():
        table = history.lake._table(name).delta
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    shutil.rmtree(built.path)
    with Workshop.open(place.config) as workshop:
        again, folder = workshop.rebuild("tipping", built.hash)
    assert again == built.hash
    assert (folder / "rows.parquet").exists()


def test_the_log_keeps_no_longer_than_any_source(place):
    assert log_keep_us(place.config, place.project) == 10 * DAY


def test_the_plan_says_what_will_go(place):
    rides(place, 20)
    flushed(place)
    lines = [str(line) for line in plan_project(place.config, place.project).lines]
    (line,) = [line for line in lines if "older than 10d" in line]
    assert line.startswith("w source paid: events older than 10d leave lake and log")
    assert "of 480 are" in line


def test_how_long_a_source_keeps_is_no_part_of_its_version(place, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(place.config.definitions.read_text().replace(', keep="10d"', ""))
    assert load_project(other).sources["paid"].version == place.project.sources["paid"].version
