"""Gates decide on numbers and keep them."""

import mainspring as ms
from mainspring.training.gates import describe, judge

TASK = "binary_classification"


def one(gate, candidate, baseline=0.5, champion=None):
    metric = gate.metric
    against = None if champion is None else ({metric: candidate}, {metric: champion})
    (result,) = judge([gate], TASK, {metric: candidate}, {metric: baseline}, against, "nobody to beat")
    return result


def test_bounds_hold_at_the_bound():
    assert one(ms.gate("roc_auc", at_least=0.7), 0.7).passed
    assert not one(ms.gate("roc_auc", at_least=0.7), 0.6999).passed
    assert one(ms.gate("brier", at_most=0.2), 0.2).passed
    assert not one(ms.gate("brier", at_most=0.2), 0.21).passed


def test_a_metric_that_is_not_a_number_meets_no_gate():
    assert not one(ms.gate("roc_auc", at_least=0.1), float("nan")).passed
    assert not one(ms.gate("roc_auc", beats="champion"), float("nan"), champion=0.5).passed


def test_equal_does_not_beat():
    assert not one(ms.gate("log_loss", beats="baseline"), 0.5, baseline=0.5).passed
    assert one(ms.gate("log_loss", beats="baseline"), 0.49, baseline=0.5).passed
    assert not one(ms.gate("roc_auc", beats="champion"), 0.7, champion=0.71).passed


def test_without_anybody_to_beat_it_passes_and_says_so():
    result = one(ms.gate("log_loss", beats="champion"), 0.5)
    assert result.passed
    assert result.bound is None
    assert "nobody to beat" in describe(result)


def test_a_comparison_shows_both_numbers():
    assert describe(one(ms.gate("log_loss", beats="champion"), 0.5, champion=0.4)) == (
        "failed  log_loss beats champion: 0.5000 against 0.4000"
    )
