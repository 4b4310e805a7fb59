"""Upkeep of the lake, once a day of the clock: what a source no longer keeps is deleted, small files are joined.

What a training set of a release was made of stays as long as that release serves or may serve again, so that the set
can be built again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from mainspring.catalog import Catalog
from mainspring.core import Config, parse_span
from mainspring.definitions import Project, view_from
from mainspring.definitions.values import DAY_US
from mainspring.events.history import History
from mainspring.events.lake import Pin
from mainspring.loop.consumers import releases

GRACE_US = 3_600_000_000
_log = logging.getLogger(__name__)


@dataclass
class Upkeep:
    """Keeps the lake of a project; used by the thread that writes it.

    Attributes:
        done_us: The day of the clock that was dealt with last.
    """

    project: Project
    catalog: Catalog
    done_us: int = 0

    def run_due(self, history: History, now_us: int) -> dict[str, int]:
        """Once a day: delete what is not kept any more, join small files. Call after a flush.

        Returns:
            How many rows of each source were deleted.
        """
        if now_us // DAY_US <= self.done_us // DAY_US:
            return {}
        self.done_us = now_us
        held = pins(self.catalog)
        gone = {}
        for source in self.project.sources.values():
            if source.keep_us is not None:
                n = history.retain(source.name, now_us - source.keep_us, held.get(source.name, ()))
                if n:
                    gone[source.name] = n
                    _log.info("%s: %d events are older than it keeps them, and were deleted", source.name, n)
        for name in history.lake.sources():
            history.compact(name)
        return gone


def log_keep_us(config: Config, project: Project) -> int:
    """How long events stay in the log: as the settings say, and no longer than any source keeps its own."""
    kept = [source.keep_us for source in project.sources.values() if source.keep_us is not None]
    return min([parse_span(config.limits.log_keep), *kept])


def pins(catalog: Catalog) -> dict[str, list[Pin]]:
    """What may not be deleted of each source: the events that training sets of releases were made of."""
    out: dict[str, list[Pin]] = {}
    for release in releases(catalog):
        version = catalog.version(release.model, release.version)
        found = catalog.dataset(version.model, version.dataset or "")
        if found is None:
            continue
        reach_us = _reach_us(catalog, found.numbers.get("views", {}).items())
        since_us = None if reach_us is None else int(found.numbers["from_us"]) - reach_us - GRACE_US
        for name, state in found.numbers.get("sources", {}).items():
            out.setdefault(name, []).append(Pin(int(state["last_offset"]), since_us))
    return out


def _reach_us(catalog: Catalog, views: Iterable[tuple[str, str]]) -> int | None:
    """How far the views of a training set look back; None for ever, or where that is not known."""
    longest = 0
    for name, version in views:
        definition = catalog.definition("views", name, version)
        view = None if definition is None else view_from(definition.description)
        if view is None or view.using or view.retention_us is None:
            return None
        longest = max(longest, view.retention_us + (view.hop_us or 0))
    return longest
