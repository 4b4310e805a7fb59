"""A training set is a replay of production: its features, its labels, its provenance."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mainspring.core import FormatError, NotFoundError, RefusedError
from mainspring.training import build, load, relabelled, sources_of

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


def brute_force(world, unit):
    """A row's label and features by reading all of history."""
    trip = world.frames["trip"].filter(pl.col("trip_id") == unit).row(0, named=True)
    t, k = trip["_time"], trip["_known_at"]
    done = world.frames["done"].filter(
        (pl.col("_time") < t) & (pl.col("_known_at") < k) & (pl.col("driver") == trip["driver"])
    )
    done = done.filter(pl.col("_time") >= t - pl.duration(hours=24))
    delays = done["delay_min"].drop_nulls()
    outcome = world.frames["done"].filter(pl.col("trip_id") == unit)["delay_min"].item()
    return {
        "driver__delay_24h": np.float32(delays.mean()) if len(delays) else np.float32(np.nan),
        "driver__trips_24h": np.float32(len(done)),
        "km": np.float32(trip["km"]),
        "city": trip["city"],
        "hour": np.float32(trip["asked_at"].hour),
        "_y": float(outcome > 5),
    }


def test_rows_are_what_was_known_at_their_moments(world, training_set):
    frame = training_set.frame
    for row in frame.gather_every(97).iter_rows(named=True):
        for name, value in brute_force(world, row["_unit"]).items():
            assert row[name] == value or (row[name] != row[name] and value != value), name


def test_every_request_is_a_row_or_is_counted_as_left_out(world, training_set):
    counts = training_set.meta.counts
    assert counts.units == len(world.frames["trip"])
    assert counts.rows + counts.immature + counts.held + counts.excluded == counts.units
    assert counts.rows == len(training_set.frame)
    without = world.frames["trip"].join(world.frames["done"].drop_nulls("delay_min"), on="trip_id", how="anti")
    assert counts.excluded == len(without)


def test_rows_are_in_order_of_their_moments(training_set):
    assert np.all(np.diff(training_set.time_us) >= 0)


def test_immature_labels_wait(world, folder):
    now = world.end_us - 5 * DAY_US
    built = build(world.model, world.until(now), folder, now_us=now)
    assert built.meta.counts.immature > 0
    assert built.time_us.max() + 7 * HOUR_US <= now


def test_units_that_mature_in_an_open_incident_are_held_and_come_back_when_it_closes(world, training_set, folder):
    opened = world.end_us - 10 * DAY_US
    held = build(world.model, world.frames, folder, now_us=world.end_us, holds=[(opened, None)])
    assert held.meta.counts.held > 0
    assert (held.time_us + 7 * HOUR_US < opened).all()
    closed = build(world.model, world.frames, folder, now_us=world.end_us, holds=[(opened, opened + DAY_US)])
    assert closed.meta.counts.rows == training_set.meta.counts.rows
    assert closed.mature_at_us.max() == training_set.mature_at_us.max()


def test_a_span_of_moments_can_be_chosen(world, folder, training_set):
    middle = int(np.median(training_set.time_us))
    built = build(world.model, world.frames, folder, now_us=world.end_us, between_us=(middle, middle + DAY_US))
    assert built.meta.from_us >= middle
    assert built.meta.until_us < middle + DAY_US


def test_reusing_an_earlier_set_changes_nothing(world, training_set, folder):
    now = world.end_us - 8 * DAY_US
    earlier = build(world.model, world.until(now), folder, now_us=now)
    again = build(world.model, world.frames, folder, now_us=world.end_us, reuse=earlier)
    assert again.meta.reused_rows == earlier.meta.counts.rows
    assert again.hash == training_set.hash
    assert again.frame.equals(training_set.frame, null_equal=True)


def test_rows_that_history_loaded_behind_them_could_reach_are_replayed(world, folder):
    now = world.end_us - 8 * DAY_US
    earlier = build(world.model, world.until(now), folder, now_us=now)
    middle = int(np.median(earlier.time_us))
    behind = (
        world.frames["done"]
        .head(3)
        .with_columns(
            trip_id=pl.lit("late_" + "x"),
            _time=pl.lit(middle).cast(pl.Datetime("us", "UTC")),
            _known_at=pl.lit(middle).cast(pl.Datetime("us", "UTC")),
            _offset=pl.int_range(10_001, 10_004, dtype=pl.Int64),
            delay_min=pl.lit(1e6),
        )
    )
    frames = world.frames | {"done": pl.concat([world.frames["done"], behind])}
    fresh = build(world.model, frames, folder / "fresh", now_us=world.end_us)
    reused = build(world.model, frames, folder / "reused", now_us=world.end_us, reuse=earlier)
    assert 0 < reused.meta.reused_rows < earlier.meta.counts.rows
    assert reused.hash == fresh.hash
    assert fresh.frame["driver__delay_24h"].max() > 1_000  # the trap is real


def test_a_set_with_other_features_is_not_reused(world, training_set, folder):
    view = world.model.views[0]
    other = replace(view, features=tuple(replace(f, window_us=DAY_US // 2) for f in view.features))
    features = tuple(replace(f, view=other) if f.view is not None else f for f in world.model.features)
    built = build(
        replace(world.model, features=features), world.frames, folder, now_us=world.end_us, reuse=training_set
    )
    assert built.meta.reused_rows == 0


def test_the_same_rows_have_the_same_hash_and_folder(world, training_set, folder):
    again = build(world.model, world.frames, folder, now_us=world.end_us + HOUR_US)
    assert again.hash == training_set.hash == again.path.name
    assert again.meta.sources["done"].last_offset == world.frames["done"]["_offset"].max()


def test_a_change_of_one_value_is_another_hash(world, training_set, folder):
    trips = world.frames["trip"].with_columns(km=pl.when(pl.col("_offset") == 7).then(99.0).otherwise("km"))
    assert build(world.model, world.frames | {"trip": trips}, folder, now_us=world.end_us).hash != training_set.hash


def test_saved_rows_load_and_changed_ones_are_refused(world, training_set, folder):
    built = build(world.model, world.frames, folder, now_us=world.end_us)
    assert load(built.path).frame.equals(training_set.frame, null_equal=True)
    built.frame.with_columns(_y=1 - pl.col("_y")).write_parquet(built.path / "rows.parquet")
    with pytest.raises(FormatError, match="MS-T103"):
        _ = load(built.path).frame
    with pytest.raises(NotFoundError, match="MS-T104"):
        load(folder / "nothing")


def test_other_labels_make_another_set_that_says_so(training_set, folder):
    flipped = relabelled(training_set, 1 - training_set.y, folder, "all labels flipped")
    assert flipped.hash != training_set.hash
    assert load(flipped.path).meta.derived == "all labels flipped"
    assert flipped.meta.base_rate == pytest.approx(1 - training_set.meta.base_rate)


def test_a_training_function_sees_float32_and_categories_of_its_own_rows(world, training_set):
    rows = (training_set.frame["city"] != "cgn").fill_null(value=True).to_numpy()
    data, signature = training_set.dataset(world.model, rows)
    assert list(data.X.columns) == [f.name for f in world.model.features]
    assert {str(data.X[c].dtype) for c in ("km", "hour", "driver__trips_24h")} == {"float32"}
    assert list(data.X["city"].cat.categories) == ["ams", "bru"]
    assert data.X["city"].isna().any()
    assert data.y.dtype == bool
    by_name = {c.name: c for c in signature.inputs}
    assert by_name["city"].categories == ("ams", "bru")
    assert not by_name["km"].nullable
    assert by_name["city"].nullable
    assert by_name["driver__delay_24h"].nullable


def test_no_mature_label_is_refused_with_the_counts(world, folder):
    now = int(world.frames["trip"]["_time"].cast(pl.Int64).min()) + HOUR_US
    with pytest.raises(RefusedError, match=r"MS-T102(.|\n)*immature"):
        build(world.model, world.until(now), folder, now_us=now)


def test_a_history_that_was_not_given_is_named(world, folder):
    assert sources_of(world.model) == ("trip", "done")
    with pytest.raises(NotFoundError, match=r"MS-T105.*'done'"):
        build(world.model, {"trip": world.frames["trip"]}, folder, now_us=world.end_us)
