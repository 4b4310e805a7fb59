"""Drift of one window: oracles, false alarms, power."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from mainspring.core.errors import ContractError
from mainspring.monitoring import judge_window, reference, window_test
from mainspring.monitoring.drift import _distribution_test, _share_test

LETTERS, SHARES = list("abcdefgh"), [0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02]
rng0 = np.random.default_rng(0)
REFERENCES = {f"n{i}": reference(rng0.normal(size=20_000)) for i in range(15)} | {
    f"c{i}": reference(rng0.choice(LETTERS, 20_000, p=SHARES)) for i in range(5)
}


def window(rng, rows, shift=0.0):
    values = {f"n{i}": rng.normal(size=rows) for i in range(15)}
    values |= {f"c{i}": rng.choice(LETTERS, rows, p=SHARES) for i in range(5)}
    return values | {"n0": values["n0"] + shift}


@given(st.lists(st.tuples(st.integers(20, 300), st.integers(20, 300)), min_size=2, max_size=10))
def test_without_tolerance_the_test_is_pearsons_on_the_two_by_b_table(cells):
    table = np.array(cells, dtype=np.float64).T
    p, _ = _distribution_test(table[0], table[1], 1.0, 0.0)
    assume(stats.contingency.expected_freq(table).min() >= 5)  # so that no bins are merged
    assert p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9, abs=1e-300)


@given(st.integers(0, 300), st.sampled_from([0.0, 0.1, 0.5]))
def test_the_share_test_is_the_binomial_tail_beyond_the_tolerance(k, share):
    p = _share_test(k, 300, 300.0, share, two_sided=True)
    more = stats.binom.sf(k - 1, 300, share + 0.005)
    less = stats.binom.cdf(k, 300, max(share - 0.005, 0.0))
    assert p == pytest.approx(min(1.0, 2 * min(more, less)), rel=1e-6, abs=1e-300)


def test_clean_windows_hardly_ever_alarm_whatever_their_size():
    """Zero in 6,000 in the prototype; any p < .05 would alarm in 60 to 77 % of them."""
    rng = np.random.default_rng(1)
    alarms = [
        bool(judge_window(REFERENCES, window(rng, rows)).flagged) for rows in (60, 200, 500, 5_000) for _ in range(25)
    ]
    assert sum(alarms) <= 2


def test_a_shift_of_a_third_of_a_deviation_is_found_in_one_window_of_500():
    rng = np.random.default_rng(2)
    found = [judge_window(REFERENCES, window(rng, 500, 0.3)).flagged for _ in range(40)]
    assert sum("n0" in flagged for flagged in found) >= 22
    assert sum(len(set(flagged) - {"n0"}) for flagged in found) <= 2
    assert all(judge_window(REFERENCES, window(rng, 2_000, 0.3)).flagged == ("n0",) for _ in range(5))


def test_a_change_too_small_to_matter_is_no_alarm_with_a_hundred_thousand_rows():
    rng = np.random.default_rng(3)
    ref = reference(rng.normal(size=100_000))
    small = window_test(ref, rng.normal(0.05, 1, 100_000))
    assert stats.ttest_1samp(rng.normal(0.05, 1, 100_000), 0).pvalue < 1e-9
    assert not small.flagged
    assert window_test(ref, rng.normal(0.2, 1, 100_000)).flagged


def test_clustered_rows_alarm_only_without_their_dispersion():
    """A weather report shared by forty flights is one observation, not forty."""
    rng = np.random.default_rng(4)

    def reports(days):
        return np.repeat(rng.normal(size=25 * days), 40)

    day = np.repeat(np.arange(60), 1_000)
    values = reports(60)
    aware, naive = reference(values, day), reference(values)
    windows = [reports(1) for _ in range(60)]
    assert sum(window_test(naive, one).flagged for one in windows) > 20
    assert sum(window_test(aware, one).flagged for one in windows) <= 3


def test_one_unseen_value_is_no_alarm_and_a_new_category_in_earnest_is():
    ref = reference(["a"] * 600 + ["b"] * 400)
    one = window_test(ref, ["a"] * 300 + ["b"] * 199 + ["z"])
    assert (one.flagged, one.unseen_share) == (False, pytest.approx(1 / 500))
    many = window_test(ref, ["a"] * 280 + ["b"] * 190 + ["z"] * 30)
    assert (many.flagged, many.causes) == (True, ("unseen",))


def test_categories_that_keep_coming_are_expected_to_keep_coming():
    """Every tenth value is new: tail numbers, not drift (Good-Turing)."""
    rng = np.random.default_rng(5)
    draw = lambda n, tag: [f"{tag}{i}" if rng.random() < 0.05 else "usual" for i in range(n)]  # noqa: E731
    found = window_test(reference(draw(2_000, "old")), draw(500, "new"))
    assert found.unseen_share > 0.02
    assert not found.flagged


@pytest.mark.parametrize(("share", "flagged"), [(0.1, False), (0.103, False), (0.25, True), (0.0, True)])
def test_missing_values_are_a_test_of_their_own_in_both_directions(share, flagged):
    def column(rows, gaps):
        values = np.sort(np.random.default_rng(6).normal(size=rows))
        values[np.linspace(0, rows - 1, round(rows * gaps)).astype(int)] = np.nan
        return values

    found = window_test(reference(column(20_000, 0.1)), column(1_000, share))
    assert found.flagged is flagged
    assert found.causes == (("missing",) if flagged else ())
    assert found.missing_share == pytest.approx(share, abs=0.001)


def test_effects_are_in_known_units():
    rng = np.random.default_rng(7)
    found = window_test(reference(rng.normal(10, 2, 50_000)), rng.normal(11, 2, 50_000))
    assert found.wasserstein_sd == pytest.approx(0.5, abs=0.02)
    assert found.psi == pytest.approx(0.25, abs=0.05)  # of two normals half a deviation apart, binned
    assert window_test(reference(["a", "b"]), ["a", "b"]).wasserstein_sd is None


@given(
    st.lists(st.one_of(st.floats(), st.just(1.0)), max_size=40),
    st.lists(st.one_of(st.floats(), st.just(1.0)), max_size=40),
)
def test_any_numbers_give_probabilities_and_a_finite_effect(values, later):
    found = window_test(reference(np.array(values)), np.array(later))
    for p in (found.p, found.p_distribution, found.p_missing, found.p_unseen):
        assert 0.0 <= p <= 1.0
    assert np.isfinite(found.psi)


@given(st.permutations(list(range(30))))
def test_the_order_of_rows_does_not_matter(order):
    values = np.arange(30.0) ** 2
    ref = reference(np.arange(100.0))
    assert window_test(ref, values[order]) == window_test(ref, values)


def test_nothing_to_judge_is_no_drift():
    assert window_test(reference([1.0, 2.0]), np.empty(0)).p == 1.0
    assert window_test(reference(np.empty(0)), [1.0]).p_distribution == 1.0
    assert judge_window({}, {}).flagged == ()


def test_a_column_that_is_gone_is_an_error_not_silence():
    with pytest.raises(ContractError, match=r"MS-R202.*'n0'"):
        judge_window({"n0": REFERENCES["n0"]}, {})
