"""Incidents of a feed: opened when its quarantine fills, closed when what lies there has been dealt with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mainspring.catalog import Incident

OPEN_AT = 10


@dataclass(frozen=True)
class Change:
    """An incident to open or to close, with its reason and numbers; ``source`` is what it is about."""

    kind: str
    incident_id: str
    source: str
    reason: str
    numbers: dict[str, float | str]


def feed_changes(
    waiting: Mapping[str, int], open_incidents: Iterable[Incident], now_us: int, open_at: int = OPEN_AT
) -> list[Change]:
    """Which incidents of feeds open or close now.

    Args:
        waiting: Records in quarantine that nobody has dealt with, by source.
        open_incidents: Incidents that are open.
        now_us: The moment of looking.
        open_at: How many waiting records make an incident: one bad record is a bad record, not a broken feed.
    """
    known = {one.source: one for one in open_incidents if one.kind == "contract" and one.source is not None}
    changes = []
    for source, n in sorted(waiting.items()):
        if n >= open_at and source not in known:
            reason = f"{n} records of {source} break its contract and wait in quarantine; labels from it are held"
            numbers: dict[str, float | str] = {"kind": "contract", "source": source, "quarantined": n}
            changes.append(Change("incident_open", f"contract-{source}-{now_us}", source, reason, numbers))
    for source, one in sorted(known.items()):
        if waiting.get(source, 0) == 0:
            reason = f"nothing of {source} waits in quarantine any more; held labels count again"
            changes.append(
                Change("incident_close", one.incident_id, source, reason, {"kind": "contract", "source": source})
            )
    return changes
