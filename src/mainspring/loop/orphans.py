"""Incidents that nobody looks at any more: what they are about is no longer defined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mainspring.catalog import Incident
from mainspring.definitions import CompositeDef, ModelDef, Project
from mainspring.loop.incidents import CHECK, SHIFT, Change
from mainspring.loop.levels import KIND as FRESHNESS
from mainspring.loop.levels import LATENCY


def orphan_changes(
    project: Project, open_incidents: Iterable[Incident], now_us: int
) -> list[tuple[Change, str | None]]:
    """Which open incidents close because the definitions no longer have what they are about, each with its model.

    What failed a blocking check stays a bad window, which ends now. Incidents of contracts are left alone: they are
    about what waits in quarantine, and end with it.

    Args:
        project: Its definitions as they are in force.
        open_incidents: Incidents that are open.
        now_us: The moment.
    """
    changes: list[tuple[Change, str | None]] = []
    for one in open_incidents:
        reason = _of_model(project, one.model, one.kind) if one.model is not None else _of_data(project, one)
        if not reason:
            continue
        about, numbers = one.model or one.source or one.column or "", dict[str, Any]()
        if one.kind in (CHECK, SHIFT):
            numbers = {"kind": one.kind, "source": one.source, "column": one.column, "until_us": now_us}
        changes.append((Change("incident_close", one.incident_id, about, reason, numbers), one.model))
    return changes


def _of_model(project: Project, name: str, kind: str) -> str:
    judged: dict[str, ModelDef | CompositeDef] = {**project.models, **project.composites}
    if name not in judged:
        return f"{name} is no longer defined"
    if kind == LATENCY and judged[name].latency is None:
        return f"{name} has no latency budget any more"
    return ""


def _of_data(project: Project, one: Incident) -> str:
    """Of a source or, where it is one of freshness, of the view that ``column`` names."""
    if one.kind == FRESHNESS:
        view = project.views.get(one.column or "")
        if view is None:
            return f"{one.column} is no longer defined"
        return f"{view.name} need not be fresh any more" if view.fresh_us is None else ""
    if one.kind not in (CHECK, SHIFT):
        return ""
    if one.source not in project.sources:
        return f"{one.source} is no longer defined"
    names = one.numbers.get("checks", ())
    if project.checks.keys().isdisjoint(names):
        return f"no longer declared: {', '.join(names)}"
    return ""
