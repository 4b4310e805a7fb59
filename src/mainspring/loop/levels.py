"""Levels of service that the definitions declare: features that are not fresh and slow answers open incidents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log
from typing import TYPE_CHECKING

import polars as pl

from mainspring.catalog import Incident
from mainspring.core import format_span
from mainspring.definitions import CompositeDef, ModelDef
from mainspring.loop.incidents import Change
from mainspring.rollout.evidence import log_rate_evalue

if TYPE_CHECKING:
    from mainspring.features.freshness import ViewFreshness

KIND, LATENCY = "freshness", "latency"
_SURE = log(1_000.0)
"""A window is called slow on evidence of 1,000 to 1, well or not at all: one bad minute is no incident."""
_LEAST = 100


def freshness_changes(views: Sequence[ViewFreshness], open_incidents: Iterable[Incident], now_us: int) -> list[Change]:
    """Which incidents of freshness open or close now.

    They are about a view, so labels of its sources are not held: a source that is quiet is not a source that is wrong.

    Args:
        views: Where each view stands whose definition says ``fresh=``.
        open_incidents: Incidents that are open.
        now_us: The moment of looking.
    """
    known = {str(one.column): one for one in open_incidents if one.kind == KIND}
    changes = []
    for one in views:
        name, fresh_us = one.view.name, one.view.fresh_us or 0
        stale = one.stale(now_us, fresh_us)
        if stale and name not in known:
            ages = (one.age_s(source, now_us) for source in stale)
            said = ", ".join(
                f"{source} (nothing yet)" if age is None else f"{source} ({format_span(int(age) * 1_000_000)} ago)"
                for source, age in zip(stale, ages, strict=True)
            )
            reason = f"{name} shall be fresh within {format_span(fresh_us)}; newest folded events: {said}"
            if one.lag.records:
                reason += f"; the fold is {one.lag.records:,} records behind"
            numbers: dict[str, float | str] = {"kind": KIND, "column": name, "lag_records": float(one.lag.records)}
            changes.append(Change("incident_open", f"{KIND}-{name}-{now_us}", name, reason, numbers))
        if not stale and name in known:
            closed: dict[str, float | str] = {"kind": KIND, "column": name}
            reason = f"{name} is fresh again"
            changes.append(Change("incident_close", known[name].incident_id, name, reason, closed))
    return changes


def latency_changes(
    model: ModelDef | CompositeDef, predictions: pl.DataFrame, open_incidents: Iterable[Incident], at_us: int
) -> list[Change]:
    """Whether the incident of slow answers of a model or composite opens or closes at one boundary.

    One answer a second counts, the first: one stall slows all that are under way, and is one failure.

    Args:
        model: With a latency budget; without one nothing changes.
        predictions: Rows of ``_prediction`` of this model since the last boundary.
        open_incidents: Incidents that are open.
        at_us: The boundary.
    """
    if model.latency is None:
        return []
    took_us = predictions.sort("_offset").unique(pl.col("_time").dt.truncate("1s"), keep="first")["latency_us"]
    known = next((one for one in open_incidents if one.kind == LATENCY and one.model == model.name), None)
    worst = ""
    for quantile, limit_us in model.latency.limits:
        slow, allowed = int((took_us > limit_us).sum()), 1.0 - quantile
        if len(took_us) and log_rate_evalue(slow, len(took_us), allowed, "above") >= _SURE:
            worst = f"{slow / len(took_us):.2%} of answers took longer than {format_span(limit_us)}, {allowed:.0%} may"
    numbers: dict[str, float | str] = {"kind": LATENCY, "column": model.name, "answers": float(len(took_us))}
    if worst and known is None:
        return [Change("incident_open", f"{LATENCY}-{model.name}-{at_us}", model.name, worst, numbers)]
    if known is not None and not worst and len(took_us) >= _LEAST:
        reason = f"{model.name} answers within its budget again"
        return [Change("incident_close", known.incident_id, model.name, reason, numbers)]
    return []
