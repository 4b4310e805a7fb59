"""What a new version of a view costs, told beforehand: from counts, from the state there is, from earlier backfills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mainspring.catalog import Catalog, Cost
from mainspring.core import Config
from mainspring.definitions import Project, ViewDef, view_from

if TYPE_CHECKING:
    from mainspring.features.footprint import Footprint

GRACE_US = 3_600_000_000
EVENT_BYTES = 8
STAMPS = 3  # time, known_at and offset of each event
KEY_BYTES = 100  # of a head that holds little
SAMPLE_KEYS = 20_000
BACKFILLS = 5  # the latest, whose rate is taken


@dataclass(frozen=True)
class _Count:
    """Events of a view: all that history has, and those within its windows."""

    events: int
    near: int


def view_costs(config: Config, project: Project, catalog: Catalog) -> dict[str, Cost]:
    """Cost of each view of ``project`` whose version is not in force yet, by its name.

    A version that was built ahead of its apply costs only what came since.
    """
    applied = catalog.definitions()["views"]
    new = [v for v in project.views.values() if applied.get(v.name, {}).get("version") != v.version]
    if not new or not (config.log_path / "data.mdb").exists():
        return {view.name: Cost(0) for view in new}
    counts = _log_counts(config)
    rate = _rate(catalog)
    out = {}
    for view in new:
        left = _left_to_fold(config, view)
        count = _count(config, view, counts)
        if left is not None:
            out[view.name] = Cost(min(left, count.events))
            continue
        old = view_from(applied[view.name]) if view.name in applied else None
        found = _from_state(config, view, old, count, counts) or _from_history(config, view, count)
        seconds = count.events / rate if rate is not None else None
        out[view.name] = Cost(count.events, *found[:2], seconds, found[2])
    return out


def _left_to_fold(config: Config, view: ViewDef) -> int | None:
    """Records that a version which is built has not seen; None if it is not built."""
    from mainspring.features.store import BUILDING, OnlineStore

    if not (config.state_path / "data.mdb").exists():
        return None
    with OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store:
        state = store.root().views.get(f"{view.name}@{view.version}")
        return None if state is None or state.offset == BUILDING else max(0, store.folded_offset() - state.offset)


def _log_counts(config: Config) -> dict[str, int]:
    """How many events each source has had."""
    from mainspring.events.log import Log

    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        return {source: count.accepted + count.mended for source, count in log.counts().items()}


def _rate(catalog: Catalog) -> float | None:
    """Events a second of the latest backfills; None before the first that took any time."""
    done = [d.numbers for d in catalog.decisions("backfilled", limit=BACKFILLS)]
    seconds = sum(float(numbers["seconds"]) for numbers in done)
    events = sum(int(numbers["events"]) for numbers in done)
    return events / seconds if seconds > 0 and events > 0 else None


def _count(config: Config, view: ViewDef, counts: Mapping[str, int]) -> _Count:
    from mainspring.events.lake import Lake

    lake = Lake(config.lake_path)
    reach_us = None if view.retention_us is None else view.retention_us + GRACE_US
    events = near = 0
    for source in view.sources:
        in_lake, recent = lake.count(source.name, reach_us)
        in_log = max(counts.get(source.name, 0) - in_lake, 0)  # younger than what is in the lake
        events += in_lake + in_log
        near += recent + in_log
    return _Count(events, near)


def _from_state(
    config: Config, view: ViewDef, old: ViewDef | None, new_count: _Count, counts: Mapping[str, int]
) -> tuple[int, int, str] | None:
    """Keys and bytes, from the state of the version in force: as many keys, scaled to the events and columns kept."""
    if old is None or old.entity != view.entity or not (config.state_path / "data.mdb").exists():
        return None
    size = _footprint(config, old)
    if size is None or not size.keys or not size.is_whole:
        return None
    kept = max(_count(config, old, counts).near, 1)
    scale = (STAMPS + columns_of(view)) / (STAMPS + columns_of(old)) * max(new_count.near, 1) / kept
    return size.keys, round(size.bytes * scale), "the state of the version in force"


def _footprint(config: Config, view: ViewDef) -> Footprint | None:
    from mainspring.features.footprint import footprint
    from mainspring.features.store import OnlineStore

    with OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store:
        state = store.root().views.get(f"{view.name}@{view.version}")
        return None if state is None else footprint(store, state)


def _from_history(config: Config, view: ViewDef, count: _Count) -> tuple[int | None, int | None, str]:
    """Keys of a sample of history; bytes of the events within the windows."""
    from mainspring.events.log import Log

    if not count.events:
        return None, None, ""
    names = {source.name for source in view.sources}
    keys, seen = set(), 0
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        for record in log.read(max(log.last_offset() - SAMPLE_KEYS, 0), SAMPLE_KEYS):
            if record.source in names:
                row = record.to_dict()
                keys.add(tuple(row.get(name) for name in view.entity))
                seen += 1
    if not seen:
        return None, None, ""
    kept = count.near * (STAMPS + columns_of(view)) * EVENT_BYTES
    return len(keys), kept + len(keys) * KEY_BYTES, f"the newest {seen:,} events"


def columns_of(view: ViewDef) -> int:
    """How many numbers of each event a view keeps: one for each different value and condition."""
    distinct = {(f.value.json if f.value else None, f.where.json if f.where else None): f.dim for f in view.features}
    return sum(distinct.values())
