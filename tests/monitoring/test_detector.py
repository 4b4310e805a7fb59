"""The e-detector over time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from mainspring.monitoring import Detector, average_e, calibrated_e


@pytest.mark.parametrize("p", [1e-6, 0.01, 0.3, 0.9, 0.999])
def test_the_calibrated_e_value_is_the_mixture_over_power_calibrators(p):
    mixture, _ = integrate.quad(lambda k: k * p ** (k - 1), 0, 1)
    assert calibrated_e([p])[0] == pytest.approx(mixture, rel=1e-6)


def test_the_mean_of_the_calibrated_e_value_under_uniform_p_is_at_most_one():
    # Substituting p = exp(-x); up to the clip the mean is a little below 1.
    mean, _ = integrate.quad(
        lambda x: calibrated_e([math.exp(-x)])[0] * math.exp(-x), 1e-9, -math.log(1e-15), limit=500
    )
    assert 0.9 < mean <= 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_smaller_p_values_give_more_evidence_and_never_infinity(p, factor):
    e = calibrated_e(p)
    assert np.isfinite(e).all()
    assert np.all(calibrated_e(np.array(p) * factor) >= e * (1 - 1e-5))
    assert min(e) <= average_e(p) * (1 + 1e-12)
    assert average_e(p) <= max(e) * (1 + 1e-12)


def test_evidence_adds_up_by_hand_and_resets_after_an_alarm():
    detector, alarms = Detector(alarm_at=10.0), []
    for e in (1.0, 2.0, 2.5, 0.5):
        detector, alarm = detector.advance(e)
        alarms.append(alarm)
    # (1) = 1, (1 + 1) 2 = 4, (1 + 4) 2.5 = 12.5 >= 10, then (1 + 0) 0.5
    assert alarms == [False, False, True, False]
    assert detector == Detector(10.0, 0.5, 1)


def test_false_alarms_are_at_least_a_windows_apart_on_average():
    rng, threshold, times = np.random.default_rng(0), 50.0, []
    for _ in range(300):
        detector, alarm, n = Detector(threshold), False, 0
        while not alarm and n < 5_000:
            shared = rng.random()  # the same p-value on all features: dependence at its worst
            detector, alarm = detector.advance(average_e([shared] * 5))
            n += 1
        times.append(n)
    assert np.mean(times) + 3 * np.std(times) / math.sqrt(300) >= threshold


def test_a_small_change_that_no_single_window_shows_is_caught_over_time():
    rng, detector = np.random.default_rng(1), Detector(1_000.0)
    for _ in range(100):
        p = rng.beta(0.4, 1.0, 5)  # a little too small, in every window: median .18
        detector, alarm = detector.advance(average_e(p))
        if alarm:
            return
    pytest.fail("no alarm in a hundred windows")
