"""semantics.md, word by word and slowly: what the fold must answer."""

import math
import statistics

import polars as pl

PRESENT, MISSING, EXPIRED = 0, 1, 2
OF_VALUES = {"sum": math.fsum, "mean": lambda v: math.fsum(v) / len(v), "std": statistics.stdev, "min": min, "max": max}


def column(f, frame):
    """The feature's value at each event, None where it is null or its condition does not hold."""
    xs = [1.0] * len(frame) if f.value is None else frame.select(f.value.expr).to_series().to_list()
    xs = [None if x is None or (isinstance(x, float) and not math.isfinite(x)) else x for x in xs]
    holds = [True] * len(frame) if f.where is None else frame.select(f.where.expr).to_series().to_list()
    marks = f.function == "count"
    return [None if x is None or not h else 1.0 if marks else float(x) + 0.0 for x, h in zip(xs, holds, strict=True)]


def answer(view, frame, key, t, is_known):
    """(value or None, status) of each feature for ``key`` at ``t``; ``is_known(row)`` says what counts as known."""
    rows = frame.select(*view.entity, pl.col("_time", "_known_at").dt.timestamp("us"), "_offset").to_dicts()
    order = sorted(range(len(rows)), key=lambda i: [rows[i][c] for c in ("_time", "_known_at", "_offset")])
    mine = [i for i in order if tuple(rows[i][e] for e in view.entity) == key and None not in key and is_known(rows[i])]
    for f in view.features:
        xs, start = column(f, frame), -math.inf if f.window_us is None else t - f.window_us
        seen = [(rows[i]["_time"], xs[i]) for i in mine if start <= rows[i]["_time"] < t and xs[i] is not None]
        age_us = t - seen[-1][0] if seen else None
        if f.function == "count":
            yield float(len(seen)), PRESENT
        elif len(seen) < (2 if f.function == "std" else 1):
            yield None, MISSING
        elif f.ttl_us is not None and age_us > f.ttl_us:
            yield None, EXPIRED
        else:
            latest = {"last": seen[-1][1], "age": age_us / 1e6}
            values = [x for _, x in seen]
            yield latest[f.function] if f.function in latest else OF_VALUES[f.function](values), PRESENT
