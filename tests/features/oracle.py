"""semantics.md, word by word and slowly: what the fold must answer."""

import math
import statistics
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

import polars as pl

PRESENT, MISSING, EXPIRED = 0, 1, 2
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def number(x):
    """A value as the fold sees it: numbers without −0.0, instants as microseconds, texts and vectors as they are."""
    if isinstance(x, datetime):
        return (x - EPOCH) // timedelta(microseconds=1)
    return x + 0 if isinstance(x, float) else int(x) if isinstance(x, bool) else x


def column(f, frame):
    """The feature's value at each event, None where it is null or its condition does not hold."""
    xs = [1] * len(frame) if f.value is None else frame.select(f.value.expr).to_series().to_list()
    xs = [None if x is None or (isinstance(x, float) and not math.isfinite(x)) else number(x) for x in xs]
    holds = [True] * len(frame) if f.where is None else frame.select(f.where.expr).to_series().to_list()
    return [x if h else None for x, h in zip(xs, holds, strict=True)]


def spread(function, xs):
    """Sample variance or deviation, infinite beyond the range of a float."""
    try:
        return getattr(statistics, function)([float(x) for x in xs])
    except OverflowError:
        return math.inf


def decayed(seen, half_life):
    """The weighted mean, to 60 digits, and the weighted mean of sizes, which rounding is measured by."""
    with localcontext(prec=60, Emin=-(10**9), Emax=10**9):
        weights = [Decimal(2) ** (Decimal(when - seen[-1][0]) / half_life) for when, _ in seen]
        xs = [Decimal(float(x)) for _, x in seen]
        sums = [sum(w * x for w, x in zip(weights, values, strict=True)) for values in (xs, [abs(x) for x in xs])]
        return float(sums[0] / sum(weights)), float(sums[1] / sum(weights))


def slope(seen, per):
    """Least squares in whole numbers and fractions; None at one instant only."""
    n, ts, xs = len(seen), [when for when, _ in seen], [Fraction(float(x)) for _, x in seen]
    below = n * sum(t * t for t in ts) - sum(ts) ** 2
    above = n * sum(t * x for t, x in zip(ts, xs, strict=True)) - sum(ts) * sum(xs)
    return nearest(above * per / below) if below else None


def nearest(exact):
    """The nearest float to a fraction, infinite beyond the range of floats."""
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def total(xs):
    """The correctly rounded exact sum."""
    try:
        return math.fsum(xs)
    except OverflowError:  # of the sum, or only of a part of it
        return nearest(sum(map(Fraction, xs)))


def answer(view, frame, key, t, is_known):
    """(value or None, status) of each slot for ``key`` at ``t``; ``is_known(row)`` says what counts as known."""
    return [(value, status) for value, status, _ in sized_answer(view, frame, key, t, is_known)]


def sized_answer(view, frame, key, t, is_known, word=lambda text: text):
    """(value or None, status, size) of each slot for ``key`` at ``t``: rounding is measured by ``size``.

    ``is_known(row)`` says what counts as known; ``word`` gives the number by which texts that tie are ordered.
    """
    rows = frame.with_columns(pl.col("_time", "_known_at").dt.timestamp("us")).to_dicts()
    order = sorted(range(len(rows)), key=lambda i: [rows[i][c] for c in ("_time", "_known_at", "_offset")])
    mine = [i for i in order if tuple(rows[i][e] for e in view.entity) == key and None not in key and is_known(rows[i])]
    hop = view.hop_us or 1
    for f in view.features:
        reach = 2 * f.ttl_us if f.window_us is None and f.ttl_us is not None else f.window_us
        start = -math.inf if reach is None else (t - reach) // hop * hop
        xs = column(f, frame)
        seen = [(rows[i]["_time"], xs[i]) for i in mine if start <= rows[i]["_time"] < t and xs[i] is not None]
        for value, when, size in of_function(f, seen, t, word):
            if value is None:
                yield None, MISSING, 0.0
            elif f.ttl_us is not None and t - when > f.ttl_us:
                yield None, EXPIRED, 0.0
            else:
                yield value, PRESENT, abs(value) if size is None and not isinstance(value, str) else size


def of_function(f, seen, t, word):
    """(value or None, its time, size) of each slot of one aggregate over the events it sees, oldest first."""
    xs, n, name = [x for _, x in seen], len(seen), f.function
    if name in ("count", "rate"):
        return [(n if name == "count" else n * f.per_us / f.window_us, t, None)]
    if name in ("distinct", "approx_distinct"):
        return [(len(set(xs)), t, None)]
    if name in ("first", "last", "last_k"):
        chosen = seen[:1] if name == "first" else seen[: -f.k - 1 : -1]
        values = [(part, when, None) for when, x in chosen for part in (x if f.dim > 1 else [x])]
        return values + [(None, t, None)] * (f.slots - len(values))
    if name == "top_k":
        best = sorted(Counter(xs).items(), key=lambda item: (-item[1], word(item[0])))[: f.k]
        return [(x, t, None) for x, _ in best] + [(None, t, None)] * (f.k - len(best))
    if n < (2 if name in ("var", "std", "trend") else 1):
        return [(None, t, None)]
    if name == "ewma":
        return [(value, t, size) for value, size in [decayed(seen, f.half_life_us)]]
    of_values = {
        "sum": lambda: total(xs),
        "mean": lambda: total(xs) / n,
        "var": lambda: spread("variance", xs),
        "std": lambda: spread("stdev", xs),
        "min": lambda: min(xs),
        "max": lambda: max(xs),
        "age": lambda: (t - seen[-1][0]) / 1e6,
        "trend": lambda: slope(seen, f.per_us),
        "quantile": lambda: sorted(xs)[math.floor(f.q * (n - 1))],
    }
    return [(of_values[name](), t, None)]
