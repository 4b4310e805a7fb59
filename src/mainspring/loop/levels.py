"""Levels of service that the definitions declare for features: what is not fresh any more opens an incident."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mainspring.catalog import Incident
from mainspring.core import format_span
from mainspring.loop.incidents import Change

if TYPE_CHECKING:
    from mainspring.features.freshness import ViewFreshness

KIND = "freshness"


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
