import numpy as np

from mainspring.definitions import Latency
from mainspring.training.latency import latency_gates


class Takes:
    """A runtime that needs the processor for as long as a row says, in milliseconds."""

    def predict_matrix(self, numbers, texts):
        import time

        until_ns = time.thread_time_ns() + int(numbers[0, 0] * 1e6)
        while time.thread_time_ns() < until_ns:
            pass
        return np.zeros(len(numbers))


def test_a_model_that_needs_more_than_its_budget_fails_the_gate_with_both_figures():
    numbers, texts = np.full((10, 1), 0.5, np.float32), np.empty((10, 0), object)
    fast, slow = latency_gates(Latency(p50="100us", p99="400ms"), Takes(), numbers, texts)[::-1]
    assert (fast.gate, fast.passed) == ("p99_ms at most 400", True)
    assert (slow.gate, slow.passed, slow.bound) == ("p50_ms at most 0.1", False, 0.1)
    assert slow.value >= 0.5
    assert "300 runs" in slow.note


def test_without_a_budget_there_is_no_gate():
    assert latency_gates(None, Takes(), np.zeros((1, 1)), np.empty((1, 0), object)) == ()
