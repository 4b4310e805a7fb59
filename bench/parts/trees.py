"""A model alone: its trees compiled, and in ONNX Runtime, processor time a row by the rows of a call."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import Bench
from parts.served import PLAIN, build, graph_of

from load import Sender
from mainspring.models import load
from mainspring.models.session import ask, open_session

SIZES = (1, 10, 100, 1_000)
ROUNDS = 9


def trees(bench: Bench, _: Sender, root: Path) -> None:
    """100 trees x 31 leaves on 30 floats, a few of them missing; neither socket nor features."""
    graph = graph_of(build(root / "project", [PLAIN], 0), PLAIN.name)
    runtime, session = load(graph.parent).runtime, open_session(graph.read_bytes())
    bench.require("the trees are evaluated by compiled code", holds=runtime.is_compiled)
    rng = np.random.default_rng(4)
    numbers = rng.normal(size=(2_000 if bench.quick else 10_000, PLAIN.inputs)).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.03] = np.nan
    texts = np.empty((len(numbers), 0), np.object_)
    for size in SIZES:
        calls = [(numbers[i : i + size], texts[i : i + size]) for i in range(0, len(numbers), size)]
        ours = f"{size:,} rows a call, compiled"
        ways: dict[str, Callable[[], object]] = {
            ours: lambda calls=calls: [runtime.predict_matrix(*rows) for rows in calls],
            f"{size:,} rows a call, ONNX Runtime": lambda calls=calls: [
                ask(session, ["output"], *rows)[0].astype(np.float64) for rows in calls
            ],
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _round in range(ROUNDS):
            for name, way in ways.items():
                started_ns = time.process_time_ns()
                way()
                found[name].append((time.process_time_ns() - started_ns) / 1_000 / len(numbers))
        bench.compare(found, "us", ours=ours)
