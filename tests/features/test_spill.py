"""Replay in buckets, in memory and on disk: the same answers bit for bit, whatever is cut where."""

import numpy as np
import polars as pl
import pytest
from streams import HOUR_US, OVER_TEN, every_aggregate, feature, make_view

from mainspring.core.errors import ConfigError
from mainspring.features import buckets, crew, replay, spill

N, MOMENTS = 20_000, 2_000
MEGABYTES_64 = 64 << 20
VIEW = make_view(
    *every_aggregate(HOUR_US, suffix="_1h"),
    *every_aggregate(None, suffix="_ever"),
    feature("rows", "count", window=9 * HOUR_US),
    feature("over", "sum", "x", 9 * HOUR_US, where=OVER_TEN),
    feature("vector", "last", "v"),
    entity=("k", "n"),
)


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(5)
    t = rng.integers(0, 60 * HOUR_US, N)
    known = t + rng.integers(0, HOUR_US, N)
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "k": pl.Series([f"{'long' * (i % 4)}{i}" for i in np.minimum(rng.zipf(1.4, N), 300)]).replace("7", None),
            "n": pl.Series(rng.integers(0, 3, N)),
            "x": pl.Series(rng.lognormal(0, 9, N)).replace(1.0, None),
            "s": pl.Series([f"t{i}" for i in rng.integers(0, 9, N)]),
            "v": pl.Series(rng.normal(size=(N, 3)).tolist(), dtype=pl.Array(pl.Float64, 3)),
            "_time": pl.Series(t).cast(instant),
            "_known_at": pl.Series(known).cast(instant),
            "_offset": rng.permutation(N),
            "_until_known_at": pl.Series(np.where(rng.random(N) < 0.1, known + HOUR_US, -1))
            .replace(-1, None)
            .cast(instant),
        }
    ).with_columns(at=pl.col("_time"))


@pytest.fixture(scope="module")
def moments(events):
    rng = np.random.default_rng(6)
    row = pl.int_range(MOMENTS)
    keys = events[rng.integers(0, N, MOMENTS)].select(
        pl.when(row % 50 == 0).then(pl.lit("unknown")).otherwise("k").alias("k"),
        pl.when(row % 60 != 0).then("n").alias("n"),
    )
    t = rng.integers(0, 61 * HOUR_US, MOMENTS)
    return keys, t, t + rng.integers(-HOUR_US, HOUR_US, MOMENTS)


@pytest.fixture(scope="module")
def wanted(events, moments):
    keys, t, known = moments
    values, status = replay.replay(VIEW, events, keys, t, known_us=known, threads=1)
    assert np.isfinite(values).mean() > 0.4
    return values.tobytes(), status.tobytes()


def answered(events, moments, **rest):
    keys, t, known = moments
    values, status = replay.replay(VIEW, events, keys, t, known_us=known, **rest)
    return values.tobytes(), status.tobytes()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [64, 1_000, 7_000])
def test_buckets_in_memory_of_any_size_and_threads_change_nothing(monkeypatch, events, moments, wanted, rows, threads):
    monkeypatch.setattr(buckets, "ROWS_A_BUCKET", rows)
    monkeypatch.setattr(crew, "WORTH_A_THREAD", 16)
    assert answered(events, moments, threads=threads) == wanted


@pytest.mark.parametrize(("block", "fan_out"), [(1, 2), (5, 3), (64, 2), (100_000, 16)])
def test_the_shape_of_the_tree_of_summaries_changes_nothing(monkeypatch, events, moments, wanted, block, fan_out):
    monkeypatch.setattr(buckets, "BLOCK", block)
    monkeypatch.setattr(buckets, "FAN_OUT", fan_out)
    same = [i for i, f in enumerate(VIEW.features) if f.function in ("var", "std")]  # their moments cancel
    values, status = replay.replay(VIEW, events, moments[0], moments[1], known_us=moments[2])
    before = np.frombuffer(wanted[0]).reshape(values.shape)
    exact = [i for i in range(values.shape[1]) if i not in {VIEW.first_slots[j] for j in same}]
    assert values[:, exact].tobytes() == before[:, exact].tobytes()
    np.testing.assert_allclose(values, before, rtol=1e-12)
    assert status.tobytes() == wanted[1]


@pytest.mark.parametrize("rows", [100, 1 << 20])
@pytest.mark.parametrize("kind", ["frame", "scan", "frames"])
def test_history_dealt_into_files_is_answered_as_in_memory(monkeypatch, tmp_path, events, moments, wanted, kind, rows):
    monkeypatch.setattr(replay, "bytes_in_memory", lambda *_: 1 << 60)
    monkeypatch.setattr(spill, "rows_a_chunk", lambda *_: rows)
    events.write_parquet(tmp_path / "events.parquet")
    made = {
        "frame": lambda: events,
        "scan": lambda: pl.scan_parquet(tmp_path / "events.parquet"),
        "frames": lambda: events.iter_slices(3_000),
    }
    told = []
    (tmp_path / "files").mkdir()
    again = answered(
        made[kind](),
        moments,
        memory_bytes=MEGABYTES_64,
        progress=lambda done, total: told.append((done, total)),
        folder=tmp_path / "files",
    )
    assert again == wanted
    assert not list((tmp_path / "files").iterdir())
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("kind", ["frame", "scan", "frames"])
def test_a_scan_and_frames_one_after_another_are_history_too(events, moments, wanted, kind):
    made = {"frame": events, "scan": events.lazy(), "frames": events.iter_slices(3_000)}
    told = []
    assert answered(made[kind], moments, progress=lambda *now: told.append(now)) == wanted
    assert told[-1][0] == told[-1][1]


def test_answers_that_would_take_the_memory_are_in_a_file_and_the_same(monkeypatch, events, moments, wanted):
    monkeypatch.setattr(replay, "LEAST_MEMORY_BYTES", 1)
    assert answered(events, moments, memory_bytes=1_000) == wanted


def test_history_without_a_row_is_answered_by_nothing(moments):
    empty = pl.DataFrame(
        schema={
            **VIEW.schema,
            "_time": pl.Datetime("us", "UTC"),
            "_known_at": pl.Datetime("us", "UTC"),
            "_offset": pl.Int64,
        }
    )
    for history in (empty, empty.lazy(), [empty], []):
        for memory_bytes in (None, MEGABYTES_64):
            keys, t, known = moments
            values, _ = replay.replay(VIEW, history, keys, t, known_us=known, memory_bytes=memory_bytes)
            assert set(np.unique(values[~np.isnan(values)]).tolist()) == {0.0}


def test_too_little_memory_is_refused_with_what_would_do(events, moments):
    with pytest.raises(ConfigError, match="MS-F103"):
        answered(events, moments, memory_bytes=1_000)
