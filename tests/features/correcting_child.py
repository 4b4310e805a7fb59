"""As ``folding_child``, of events that are corrected, into views that use others."""

import sys

import numpy as np
from folding_child import serve
from world import HOUR_US, frames, record, source, view

from mainspring import col
from mainspring.features.history import stream as stream_of

PAID, PLAIN = source("paid", "x", corrects=True), source("plain", "x")


def make_views():
    """What is folded; made in each process, because checking an expression starts polars' threads."""
    named = (("n", "count"), ("sum", "sum", "x"), ("last", "last", "x"))
    hours = view(
        "hours", (PAID,), *((f"{name}_2h", *rest, *([None] * (2 - len(rest))), 2 * HOUR_US) for name, *rest in named)
    )
    ever = view("ever", (PAID, PLAIN), *named)
    above = view(
        "above",
        (PLAIN,),
        ("high", "count", None, None, col("x") > col("hours__last_2h")),
        ("n", "sum", "ever__n"),
        using=(hours, ever),
    )
    return [hours, ever, above]


def stream(n=20_000):
    """A log with a busy key and thirty others; a third of the events correct one of the last hundred rows."""
    rng = np.random.default_rng(3)
    known = np.cumsum(rng.integers(1, 2_000_000, n)).tolist()
    late = np.where(rng.random(n) < 0.1, rng.integers(0, HOUR_US, n), 0).tolist()
    keys = np.where(rng.random(n) < 0.5, "busy", rng.integers(0, 30, n).astype(str)).tolist()
    kinds, back = rng.random(n).tolist(), rng.integers(1, 100, n).tolist()
    out = []
    for i in range(n):
        op = "update" if kinds[i] < 0.25 else "delete" if kinds[i] < 0.33 else "insert"
        of, ident = (PLAIN, i) if kinds[i] > 0.7 else (PAID, i if op == "insert" else i - back[i])
        out.append(record(i + 1, of, f"i{ident}", keys[i], (float(i % 97),), known[i] - late[i], known[i], op))
    return out


def history(of, records):
    """What a view is replayed from."""
    return stream_of(of, frames((PAID, PLAIN), records).__getitem__)


if __name__ == "__main__":
    serve(sys.modules["__main__"], sys.argv[1])
