"""Incidents that nobody looks at any more: of a model or composite that is gone, or of a budget that was given up."""

from __future__ import annotations

from collections.abc import Iterable

from mainspring.catalog import Incident
from mainspring.definitions import CompositeDef, ModelDef, Project
from mainspring.loop.incidents import Change
from mainspring.loop.levels import LATENCY


def orphan_changes(project: Project, open_incidents: Iterable[Incident]) -> list[Change]:
    """Which open incidents close because the definitions no longer have what they are about.

    Args:
        project: Its definitions as they are in force.
        open_incidents: Incidents that are open; those of sources and views are left alone.
    """
    judged: dict[str, ModelDef | CompositeDef] = {**project.models, **project.composites}
    changes = []
    for one in open_incidents:
        if one.model is None:
            continue
        if one.model not in judged:
            reason = f"{one.model} is no longer defined"
        elif one.kind == LATENCY and judged[one.model].latency is None:
            reason = f"{one.model} has no latency budget any more"
        else:
            continue
        changes.append(Change("incident_close", one.incident_id, one.model, reason, {}))
    return changes
