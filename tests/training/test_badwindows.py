"""A training set without what a bad window reaches is what it would be had the window been good."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mainspring.catalog import BadWindow
from mainspring.training import build

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "datasets"


@pytest.fixture
def window(world):
    """A day of outcomes, five days before the end."""
    return BadWindow("done", "delay_min", world.end_us - 5 * DAY_US, world.end_us - 4 * DAY_US)


def spoilt(world, window):
    """History whose window says something else."""
    known = pl.col("_known_at").dt.epoch("us")
    is_bad = (known >= window.from_us) & (known < window.until_us)
    made = pl.when(is_bad).then(pl.col("delay_min") * 60 + 1_000).otherwise("delay_min").alias("delay_min")
    return world.frames | {"done": world.frames["done"].with_columns(made)}


def same_rows(one, other):
    both = one.frame.join(other.frame, on="_unit", suffix="_other")
    names = [*one.meta.features, "_y"]
    return both.height == one.frame.height and all(
        both[name].equals(both[f"{name}_other"].alias(name), null_equal=True) or _same(both, name) for name in names
    )


def _same(both, name):
    return np.array_equal(both[name].to_numpy(), both[f"{name}_other"].to_numpy(), equal_nan=True)


def test_no_row_that_is_left_differs_from_a_world_without_the_fault(world, training_set, folder, window):
    left = build(world.model, spoilt(world, window), folder, now_us=world.end_us, bad=[window])
    assert same_rows(left, training_set)
    # Labels of a day, and the day after it in which a window of 24 hours looks back.
    assert 100 < training_set.meta.counts.rows - left.meta.counts.rows < 220
    assert left.meta.counts.left_out > 50
    assert left.meta.bad == (window,)
    without = build(world.model, spoilt(world, window), folder, now_us=world.end_us)
    assert not same_rows(without, training_set)


def test_a_window_that_goes_on_reaches_everything_since(world, folder, window):
    left = build(world.model, world.frames, folder, now_us=world.end_us, bad=[replace(window, until_us=None)])
    assert (left.frame["_known_at"] <= window.from_us).all()


def test_a_column_that_the_model_does_not_read_leaves_everything(world, training_set, folder, window):
    for other in (replace(window, column="trip_id"), replace(window, column="elsewhere"), replace(window, source="x")):
        built = build(world.model, world.frames, folder, now_us=world.end_us, bad=[other])
        assert (built.hash == training_set.hash) == (other.column != "trip_id")


def test_a_window_of_the_requests_takes_out_its_own_rows_alone(world, training_set, folder, window):
    built = build(
        world.model, world.frames, folder, now_us=world.end_us, bad=[replace(window, source="trip", column="km")]
    )
    asked = training_set.frame["_known_at"]
    inside = (asked >= window.from_us) & (asked < window.until_us)
    assert built.frame["_unit"].to_list() == training_set.frame.filter(~inside)["_unit"].to_list()


def test_what_has_been_corrected_reaches_no_farther_than_its_correction(world, folder, window):
    known = pl.col("_known_at").dt.epoch("us")
    is_bad = (known >= window.from_us) & (known < window.until_us)
    corrected_us = window.until_us + 2 * HOUR_US
    until = pl.when(is_bad).then(pl.lit(corrected_us)).cast(pl.Datetime("us", "UTC")).alias("_until_known_at")
    offset = pl.when(is_bad).then(pl.lit(1 << 40)).alias("_until_offset")
    frames = world.frames | {"done": world.frames["done"].with_columns(until, offset)}
    short = build(world.model, frames, folder, now_us=world.end_us, bad=[window])
    long = build(world.model, world.frames, folder, now_us=world.end_us, bad=[window])
    assert 0 < short.meta.counts.left_out < long.meta.counts.left_out
    assert (
        short.frame.filter(pl.col("_t") >= corrected_us).height > long.frame.filter(pl.col("_t") >= corrected_us).height
    )
    restored = build(world.model, frames, folder, now_us=world.end_us, bad=[replace(window, restored=True)])
    assert restored.meta.counts.left_out == long.meta.counts.left_out


def test_what_was_asked_after_a_mend_is_not_reached_and_labels_due_after_it_count(world, training_set, folder, window):
    """The mend found nothing else to correct: events stand as they came, and are right."""
    mended_us = window.until_us + HOUR_US
    mended = replace(window, mended_us=mended_us)
    before = build(world.model, world.frames, folder, now_us=world.end_us, bad=[window])
    after = build(world.model, world.frames, folder, now_us=world.end_us, bad=[mended])
    assert same_rows(after, training_set)
    assert before.meta.counts.rows < after.meta.counts.rows < training_set.meta.counts.rows
    missing = training_set.frame.join(after.frame, on="_unit", how="anti")
    assert ((missing["_t"] < mended_us) | (missing["_mature_at"] < mended_us)).all()
    asked_later = training_set.frame.filter(pl.col("_t") >= mended_us).height
    assert after.frame.filter(pl.col("_t") >= mended_us).height == asked_later
    assert after.meta.bad == (mended,)
