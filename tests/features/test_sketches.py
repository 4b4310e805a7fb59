"""HyperLogLog and DDSketch keep their bounds, and give the same answer however their events were cut."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import feature, fold_all, frame, keys_frame, make_view, read_live, record

from mainspring.features.replay import replay
from mainspring.features.sketches import RANKS, REGISTERS, bucket_of, cardinality, rank_of, register_of, value_of

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def bits(x):
    return int(np.float64(x).view(np.int64))


@given(FINITE)
def test_a_bucket_stands_for_its_values_within_a_percent(x):
    value = value_of(bucket_of(bits(x)))
    assert abs(value - x) <= abs(x) / 128 if abs(x) >= 2.0**-1022 else value == 0.0


@given(FINITE, FINITE)
def test_buckets_rise_as_values_do(x, y):
    low, high = sorted((x, y))
    assert bucket_of(bits(low)) <= bucket_of(bits(high))


@pytest.mark.parametrize(
    ("q", "n", "rank"), [(0, 1, 0), (1, 1, 0), (0.5, 4, 1), (0.5, 5, 2), (1, 5, 4), (0.99, 101, 99)]
)
def test_the_rank_of_a_quantile_is_the_floor_of_q_times_n_minus_one(q, n, rank):
    assert rank_of(float(q), n) == rank


@pytest.mark.parametrize("n", [0, 1, 2, 10, 100, 3_000, 12_000, 100_000])
def test_cardinality_is_unbiased_within_its_standard_error_at_every_size(n):
    rng = np.random.default_rng(n)
    errors = []
    for _ in range(3):
        registers = np.zeros(REGISTERS, np.int64)
        for code in (register_of(int(b)) for b in rng.integers(-(2**62), 2**62, n)):
            registers[code >> 6] = max(registers[code >> 6], code & 63)
        errors.append(cardinality(np.bincount(registers, minlength=RANKS)) - n)
    assert abs(np.mean(errors)) <= 4 * 0.0163 * n / math.sqrt(3) + (1 if n > 10 else 0)


def test_full_registers_are_answered_too():
    ranks = np.zeros(RANKS, np.int64)
    ranks[RANKS - 1] = REGISTERS
    assert cardinality(ranks) > 2.0**60


def test_sketches_of_a_long_stream_keep_their_bounds_and_are_equal_live_and_in_replay(store):
    rng = np.random.default_rng(5)
    hour = 3_600_000_000
    xs, ns = rng.lognormal(0, 3, 6_000), rng.integers(0, 2_500, 6_000)
    records = [
        record(i + 1, "a", float(x), i * hour // 100, n=int(n), s=f"text {n}")
        for i, (x, n) in enumerate(zip(xs, ns, strict=True))
    ]
    view = make_view(
        *(feature(f"q{q}_{w}", "quantile", "x", w, q=q / 100) for q in (0, 1, 50, 99, 100) for w in (20 * hour, None)),
        *(feature(f"d{w}_{of}", "approx_distinct", of, w) for of in ("n", "s") for w in (20 * hour, None)),
        feature("exact", "distinct", "s"),
    )
    fold_all(store, [view], records, range(0, 6_000, 997))
    t = records[-1].time_us + 1
    values, _, offset = read_live(store, view, [("a",)], [t])
    again, _ = replay(view, frame(records), keys_frame([("a",)]), np.array([t]), known_offset=offset)
    assert values.tobytes() == again.tobytes()
    inside = np.array([r.time_us >= t - 20 * hour for r in records])
    for f, got in zip(view.features, values[0], strict=True):
        seen = inside if f.window_us else np.ones(6_000, bool)
        if f.function == "quantile":
            want = np.sort(xs[seen])[math.floor(f.q * (seen.sum() - 1))]
            assert abs(got - want) <= want / 128
        elif f.function == "approx_distinct":
            assert abs(got - len(set(ns[seen]))) <= 4 * 0.0163 * len(set(ns[seen]))
        else:
            assert got == len(set(ns))
