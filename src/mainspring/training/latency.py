"""The latency budget of a model as gates: what its graph alone needs for one row must fit."""

from __future__ import annotations

import time

import numpy as np

from mainspring.definitions.values import LatencyDef
from mainspring.models import GateResult, Runtime
from mainspring.models.signature import Floats, Texts

_RUNS, _FIRST = 300, 20


def latency_gates(
    latency: LatencyDef | None, runtime: Runtime, numbers: Floats, texts: Texts
) -> tuple[GateResult, ...]:
    """One gate a declared quantile.

    Time of the processor, not of the clock: what else the training machine does is not the model's fault. Queue and
    features come on top in production, which the rollout's veto and the monitor watch.

    Args:
        latency: The budget, if there is one.
        runtime: The packaged graph.
        numbers: Rows to ask about, one at a time.
        texts: The same rows' texts.
    """
    if latency is None:
        return ()
    took_us = np.empty(_FIRST + _RUNS)
    rows = max(len(numbers), len(texts))
    for i in range(len(took_us)):
        row = slice(i % rows, i % rows + 1)
        started_ns = time.thread_time_ns()
        runtime.predict_matrix(numbers[row], texts[row])
        took_us[i] = (time.thread_time_ns() - started_ns) / 1_000
    gates = []
    for quantile, limit_us in latency.limits:
        name, value_ms = f"p{quantile * 100:g}_ms", float(np.quantile(took_us[_FIRST:], quantile)) / 1_000
        limit_ms = limit_us / 1_000
        note = f"the model alone, one row at a time, {_RUNS} runs"
        gates.append(GateResult(f"{name} at most {limit_ms:g}", name, value_ms <= limit_ms, value_ms, limit_ms, note))
    return tuple(gates)
