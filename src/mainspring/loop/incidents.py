"""Incidents of a feed: opened when its quarantine fills, closed when what lies there has been dealt with."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mainspring.catalog import Incident
from mainspring.events.log import Counts

CHECK, SHIFT = "check", "shift"
"""Kinds of incidents of checks: a window that failed, and a small shift that lasts."""
OPEN_AT = 10
OPEN_AT_SHARE, LEAST_BROKEN = 0.2, 3
WINDOW_US = 3_600_000_000


_NAMED = re.compile(r"^\$(?:\[\d+\])?\.([a-z0-9_]+)|field `([a-z0-9_]+)`")


@dataclass(frozen=True)
class Change:
    """An incident to open, to widen or to close, with its reason and numbers.

    Attributes:
        source: What it is about.
        part: Tells changes of one kind and incident apart; empty where there is one at most.
    """

    kind: str
    incident_id: str
    source: str
    reason: str
    numbers: dict[str, Any]
    part: str = ""


class Shares:
    """What part of the records that came in the last hour broke their contract, by source."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, Mapping[str, Counts]]] = deque()

    def look(self, counts: Mapping[str, Counts], at_us: int) -> dict[str, tuple[int, int]]:
        """Broken and all records of each source since the beginning of the window.

        Args:
            counts: Of each source since the beginning of the log.
            at_us: The moment of looking.
        """
        while len(self._seen) > 1 and self._seen[1][0] <= at_us - WINDOW_US:
            self._seen.popleft()
        before = self._seen[0][1] if self._seen else {}
        self._seen.append((at_us, dict(counts)))
        if len(self._seen) == 1:
            return {}
        return {name: _since(now, before.get(name, Counts())) for name, now in counts.items()}


def _since(now: Counts, before: Counts) -> tuple[int, int]:
    broken = now.quarantined - before.quarantined
    return broken, now.accepted - before.accepted + now.duplicate - before.duplicate + broken


def columns_refused(held: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """The column that most records of each source are refused for, from their source, path and reason.

    >>> columns_refused([("arrived", "$", "Object contains unknown field `delay`")])
    {'arrived': 'delay'}
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for source, path, reason in held:
        found = _NAMED.search(path) or _NAMED.search(reason)
        if found is not None:
            counts[source][found[1] or found[2]] += 1
    return {source: named.most_common(1)[0][0] for source, named in counts.items()}


def feed_changes(
    waiting: Mapping[str, int],
    open_incidents: Iterable[Incident],
    now_us: int,
    recent: Mapping[str, tuple[int, int]] | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[Change]:
    """Which incidents of feeds open or close now.

    Args:
        waiting: Records in quarantine that nobody has dealt with, by source.
        open_incidents: Incidents that are open.
        now_us: The moment of looking.
        recent: Broken and all records of the last hour, by source. Ten waiting records make an incident: one bad
            record is a bad record, not a broken feed. So do three, when they are a fifth of what came.
        columns: By source, the column that most of them are refused for, where there is one.
    """
    known = {one.source: one for one in open_incidents if one.kind == "contract" and one.source is not None}
    changes = []
    for source, n in sorted(waiting.items()):
        broken, all_of_it = (recent or {}).get(source, (0, 0))
        is_broken = n >= LEAST_BROKEN and broken >= max(LEAST_BROKEN, OPEN_AT_SHARE * all_of_it)
        if (n >= OPEN_AT or is_broken) and source not in known:
            share = f" ({broken} of {all_of_it} that came within the hour)" if all_of_it else ""
            reason = (
                f"{n} records of {source} break its contract and wait in quarantine{share}; labels from it are held"
            )
            numbers: dict[str, float | str] = {"kind": "contract", "source": source, "quarantined": n}
            numbers |= {"broken": broken, "came": all_of_it} if all_of_it else {}
            if columns and source in columns:
                numbers["column"] = columns[source]
                reason = f"{reason}; most of all for {columns[source]}"
            changes.append(Change("incident_open", f"contract-{source}-{now_us}", source, reason, numbers))
    for source, one in sorted(known.items()):
        if waiting.get(source, 0) == 0:
            reason = f"nothing of {source} waits in quarantine any more; held labels count again"
            changes.append(
                Change("incident_close", one.incident_id, source, reason, {"kind": "contract", "source": source})
            )
    return changes
