"""Checks of one window of a source: pure functions from frames of events to what they say.

A verdict is plain (too old, not unique, not found) or statistical (another volume, another distribution). Those of the
second kind give a p-value against a null with a tolerance, and are decided together: see `decide`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy import stats

from mainspring.core.spans import format_span
from mainspring.definitions.check import CheckDef
from mainspring.monitoring.drift import FeatureDrift, window_test
from mainspring.monitoring.references import Reference, reference
from mainspring.monitoring.scatter import Scatter, of_shares, of_values

State = Literal["pass", "fail", "unknown"]
LEVEL = 0.001
"""Of all statistical checks of a window together: the share of clean windows in which any of them may fail."""
WEEK_US = 604_800_000_000
DAY_US = 86_400_000_000
LOOK_BACK = 28
"""So many windows are looked back at, and four weeks at least; a volume at eight weeks."""
LAG = 28
"""The detector over time compares with the windows before these: a small shift must not become its own reference before
it is seen."""
MIN_WINDOWS = 5
MIN_SLOTS = 4
MIN_ROWS = 30
MIN_REFERENCE = 200
MIN_RUN = 10


@dataclass(frozen=True)
class Finding:
    """What a check says of one window.

    Attributes:
        state: ``unknown`` where there is too little to say.
        reason: In words, with the numbers.
        p: p-value of a statistical check; None of a plain one.
        value: What was measured; None where nothing was.
        slow_p: p-value for the detector over time: never less than the window's rank among those before it.
    """

    state: State
    reason: str
    p: float | None = None
    value: float | None = None
    slow_p: float | None = None


@dataclass(frozen=True)
class Sent:
    """What the door did with a source's records within a window: taken, and sent before."""

    accepted: int
    duplicate: int


@dataclass(frozen=True)
class Window:
    """What a check of one window reads.

    Attributes:
        at_us: Its end; what is known before it is seen.
        every_us: Its length.
        events: The source's events known before the end, as far back as is looked: the check's columns, ``_time`` and
            ``_known_at``.
        targets: Values that ``references`` may find; None for other kinds.
        sent: What was sent within it; None where that is not known.
        bad: Spans (from, until) of windows that failed before, which are no reference.
    """

    at_us: int
    every_us: int
    events: pl.DataFrame
    targets: pl.Series | None = None
    sent: Sent | None = None
    bad: Sequence[tuple[int, int]] = ()

    def number(self) -> pl.Series:
        """Which window each event became known in: 0 is this one, 1 the one before."""
        known_us = self.events["_known_at"].dt.epoch("us")
        return ((pl.lit(self.at_us) - 1 - pl.col("k")) // self.every_us).pipe(
            lambda expr: pl.DataFrame({"k": known_us}).select(expr).to_series()
        )

    @cached_property
    def parts(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The events of this window, and those of good windows before, with ``_window``."""
        numbered = self.events.with_columns(self.number().alias("_window"))
        is_bad = pl.lit(value=False)
        for since_us, until_us in self.bad:
            known_us = pl.col("_known_at").dt.epoch("us")
            is_bad |= (known_us >= since_us) & (known_us < until_us)
        return numbered.filter(pl.col("_window") == 0), numbered.filter((pl.col("_window") > 0) & ~is_bad)


def look_back_us(check: CheckDef) -> int:
    """How far before a window's end its check reads."""
    if check.kind in ("freshness", "unique", "references", "duplicates", "sql"):
        return WEEK_US * 52 if check.kind == "freshness" else check.every_us
    weeks = 8 if check.kind == "volume" else 4
    span_us = max(LOOK_BACK * check.every_us, weeks * WEEK_US) + check.every_us
    return span_us + LAG * check.every_us if is_slow(check) else span_us


def is_slow(check: CheckDef) -> bool:
    """Whether the detector over time follows a check."""
    return check.kind in ("distribution", "nulls") and check.limit("at_most") is None


def evaluate(check: CheckDef, window: Window) -> Finding:
    """What a check says of a window; a statistical one before it is decided."""
    return _KINDS[check.kind](check, window)


def decide(findings: Mapping[str, Finding], level: float = LEVEL) -> dict[str, Finding]:
    """Decide the statistical checks of a window together (Benjamini-Hochberg at ``level``); plain ones are as they are.

    The nulls have tolerances, so the level is an upper bound: see ``bench/checks.py``.
    """
    tested = {name: one.p for name, one in findings.items() if one.p is not None and one.state != "unknown"}
    out = dict(findings)
    if tested:
        adjusted = stats.false_discovery_control(np.array(list(tested.values())))
        for name, q in zip(tested, adjusted, strict=True):
            out[name] = replace(findings[name], state="fail" if q <= level else "pass")
    return out


def _freshness(check: CheckDef, window: Window) -> Finding:
    if window.events.is_empty():
        return Finding("unknown", "no event yet")
    newest = window.events.select(pl.min_horizontal("_time", "_known_at").dt.epoch("us").max()).item()
    age_us = window.at_us - int(newest)
    within_us = int(check.limit("within_us"))
    said = f"the newest event is {_age(age_us)} old, {format_span(within_us)} are allowed"
    return Finding("fail" if age_us > within_us else "pass", said, value=age_us / 1e6)


def _volume(check: CheckDef, window: Window) -> Finding:
    """A count against counts of the same slot of the week: negative binomial, with their dispersion and a tolerance."""
    now, before = window.parts
    counts, slots = _slots(before, window)
    if len(counts) < MIN_SLOTS:
        return Finding(
            "unknown", f"{len(counts)} windows to compare with, {MIN_SLOTS} are needed", value=float(now.height)
        )
    same = counts[slots == slots[0]] if slots[0] == _slot(0, window) else counts[:0]
    same = counts if len(same) < MIN_SLOTS else same
    dispersion = _count_dispersion(counts, slots if same is not counts else np.zeros(len(slots)))
    mean, k = float(same.mean()), len(same)
    tolerance = float(check.limit("tolerance"))
    low, high = mean * (1.0 - tolerance), (mean + 1.0 / k) * (1.0 + tolerance)
    spread = max(dispersion * (1.0 + 1.0 / k), 1.0 + 1e-9)
    p = min(1.0, 2.0 * min(_nb(low, spread).cdf(now.height), _nb(high, spread).sf(now.height - 1)))
    what = f"{now.height:,} events, {mean:,.0f} in {k} windows like it"
    return Finding("pass", what, p=float(p), value=float(now.height))


def _slots(before: pl.DataFrame, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Counts of the windows before since events began, without bad ones, those of this window's slot first."""
    if before.is_empty():
        return np.empty(0), np.empty(0)
    found = before.group_by("_window").len()
    counts = dict(zip(found["_window"].to_list(), found["len"].to_list(), strict=True))
    oldest = max(counts)
    ends = {w: window.at_us - w * window.every_us for w in range(1, oldest)}
    good = [w for w, b in ends.items() if not any(x < b and b - window.every_us < y for x, y in window.bad)]
    good.sort(key=lambda w: (_slot(w, window) != _slot(0, window), w))
    return (
        np.array([counts.get(w, 0) for w in good], np.float64),
        np.array([_slot(w, window) for w in good], np.int64),
    )


def _slot(number: int, window: Window) -> int:
    return (window.at_us - number * window.every_us) % WEEK_US // window.every_us


def _count_dispersion(counts: np.ndarray, slots: np.ndarray) -> float:
    """Pearson X² over its degrees of freedom of counts around the means of their slots, at least 1."""
    x2, freedom = 0.0, 0
    for slot in np.unique(slots):
        own = counts[slots == slot]
        if len(own) > 1 and own.mean() > 0:
            x2 += float(np.sum(np.square(own - own.mean())) / own.mean())
            freedom += len(own) - 1
    return max(1.0, x2 / freedom) if freedom else 1.0


def _nb(mean: float, spread: float) -> Any:
    """Negative binomial with a mean, and ``spread`` times it as variance."""
    return stats.nbinom(max(mean, 1e-9) / (spread - 1.0), 1.0 / spread)


def _unique(check: CheckDef, window: Window) -> Finding:
    now, _ = window.parts
    columns = list(check.limit("columns"))
    repeated = now.height - now.select(columns).unique().height
    said = f"{repeated:,} of {now.height:,} events repeat the {', '.join(columns)} of another"
    return Finding("fail" if repeated else "pass", said, value=float(repeated))


def _duplicates(check: CheckDef, window: Window) -> Finding:
    if window.sent is None:
        return Finding("unknown", "the first look")
    sent = window.sent.accepted + window.sent.duplicate
    share = window.sent.duplicate / max(sent, 1)
    said = f"{window.sent.duplicate:,} of {sent:,} events had been sent before; each counts once"
    failed = share > check.limit("at_most") and window.sent.duplicate >= MIN_ROWS
    return Finding("fail" if failed else "pass", said, value=share)


def _references(check: CheckDef, window: Window) -> Finding:
    now, _ = window.parts
    values = now[check.column or ""].drop_nulls()
    if values.is_empty():
        return Finding("unknown", "no event")
    known = window.targets if window.targets is not None else values.clear()
    missing = int((~values.is_in(known.cast(values.dtype).unique().implode())).sum())
    said = f"{missing:,} of {len(values):,} values are no {check.limit('to_column')} of {check.limit('to')}"
    share = missing / len(values)
    return Finding("fail" if share > check.limit("at_most") else "pass", said, value=share)


@dataclass(frozen=True)
class _Compared:
    """A column in this window and in the good ones before, and what the test of `monitoring.drift` says."""

    now: pl.Series
    before: pl.Series
    windows: np.ndarray
    reference: Reference
    drift: FeatureDrift


def _compared(check: CheckDef, window: Window, lag: int = 0) -> _Compared | Finding:
    """A column against good windows before, the latest ``lag`` left out; why not, where there is too little."""
    now, before = window.parts
    most = max(LOOK_BACK, 4 * WEEK_US // check.every_us)
    before = before.filter((pl.col("_window") > lag) & (pl.col("_window") <= lag + most))
    windows = before["_window"].n_unique()
    if now.height < MIN_ROWS:
        return Finding("unknown", f"{now.height} events, {MIN_ROWS} are needed")
    if windows < MIN_WINDOWS or before.height < MIN_REFERENCE:
        return Finding("unknown", f"{before.height:,} events of {windows} windows to compare with are too few")
    column = check.column or ""
    numbers = before["_window"].to_numpy()
    made = reference(_values(before[column]), numbers)
    return _Compared(now[column], before[column], numbers, made, window_test(made, _values(now[column])))


def _distribution(check: CheckDef, window: Window) -> Finding:
    one = _compared(check, window)
    if isinstance(one, Finding):
        return one
    drift = one.drift
    if drift.p_unseen / 0.1 < min(1.0, drift.p_distribution / 0.9):
        said = f"{drift.unseen_share:.1%} of the values were never seen before"
        return Finding("pass", said, p=drift.p_unseen / 0.1, value=drift.psi)
    said = "" if one.now.dtype == pl.String else f"; the middle is {_number(one.now)}, it was {_number(one.before)}"
    said = f"differs from before by a PSI of {drift.psi:.2f}{said}"
    p = 1.0 if _of_values(one).is_ordinary else min(1.0, drift.p_distribution / 0.9)
    return Finding("pass", said, p=p, value=drift.psi, slow_p=_slow_p(check, window))


def _nulls(check: CheckDef, window: Window) -> Finding:
    at_most = check.limit("at_most")
    if at_most is not None:
        now, _ = window.parts
        n = now[check.column or ""].null_count()
        p = float(stats.binom.sf(n - 1, now.height, at_most)) if now.height else 1.0
        return Finding("pass", f"{n:,} of {now.height:,} are null", p=p, value=n / max(now.height, 1))
    one = _compared(check, window)
    if isinstance(one, Finding):
        return one
    was = one.before.null_count() / len(one.before)
    said = f"{one.drift.missing_share:.1%} are null, {was:.1%} were before"
    far = _of_nulls(one)
    p = 1.0 if far.is_ordinary else one.drift.p_missing
    return Finding("pass", said, p=p, value=one.drift.missing_share, slow_p=_slow_p(check, window))


def _of_values(one: _Compared) -> Scatter:
    return of_values(one.reference, _values(one.before), one.windows, _values(one.now))


def _of_nulls(one: _Compared) -> Scatter:
    found = pl.DataFrame({"w": one.windows, "x": one.before}).group_by("w").agg(pl.col("x").null_count(), pl.len())
    return of_shares(found["x"].to_numpy(), found["len"].to_numpy(), one.now.null_count(), len(one.now))


def _slow_p(check: CheckDef, window: Window) -> float | None:
    """Against windows that lie some way back, and never less than the window's rank among them.

    The test alone would take one storm for a thousand windows of evidence; of k windows a rank says 1 / (k + 1).
    """
    one = _compared(check, window, lag=LAG)
    if isinstance(one, Finding):
        return None
    if check.kind == "nulls":
        return max(one.drift.p_missing, _of_nulls(one).rank_p)
    return max(one.drift.p_distribution, _of_values(one).rank_p)


def _frozen(check: CheckDef, window: Window) -> Finding:
    """The longest run of one value that reaches into the window, against twice the longest before."""
    column, by = check.column or "", check.limit("by")
    now, before = window.parts
    rows = pl.concat([before, now]).filter(pl.col(column).is_not_null())
    order = ([by] if by else []) + ["_time"]
    runs = (
        rows.sort(order, maintain_order=True)
        .with_columns(pl.struct([column, *([by] if by else [])]).rle_id().alias("_run"))
        .group_by("_run")
        .agg(pl.len(), (pl.col("_window") == 0).any().alias("now"), pl.col(column).first())
    )
    past = runs.filter(~pl.col("now"))
    # What most events say anyway may be said for long: no rain in a dry month.
    common = before.group_by(column).len().filter(pl.col("len") > before.height / 2)[column]
    present = runs.filter(pl.col("now") & ~pl.col(column).is_in(common.implode())).sort("len", descending=True)
    if before.height < MIN_REFERENCE:
        return Finding("unknown", "too little to compare with")
    if present.is_empty():
        return Finding("pass", "only what most events say anyway")
    longest = max(past["len"].to_list(), default=1)
    length, value = present["len"].to_list()[0], float(present[column].cast(pl.Float64).to_list()[0])
    said = f"{value:g} {length:,} times in a row, never more than {longest:,} before"
    return Finding("fail" if length >= max(MIN_RUN, 2 * longest + 1) else "pass", said, value=float(length))


def _values(column: pl.Series) -> Any:
    if column.dtype == pl.String:
        return column.to_list()
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _number(column: pl.Series) -> str:
    values = _values(column)
    return f"{float(np.nanmedian(values)):,.4g}" if column.null_count() < len(column) else "none"


def _age(age_us: int) -> str:
    return format_span(max(age_us, 0) // 1_000_000 * 1_000_000)


_KINDS = {
    "freshness": _freshness,
    "volume": _volume,
    "unique": _unique,
    "duplicates": _duplicates,
    "references": _references,
    "distribution": _distribution,
    "nulls": _nulls,
    "frozen": _frozen,
}
