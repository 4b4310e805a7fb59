"""Everything there is to know of a feature view: definition, versions, state, statistics, readers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mainspring.catalog import Catalog
from mainspring.core import format_span, to_iso
from mainspring.definitions import AGGREGATES, Aggregate, Project, ViewDef, view_from
from mainspring.definitions.expressions import parse
from mainspring.loop.consumers import consumers

if TYPE_CHECKING:
    from mainspring.events.log import Log
    from mainspring.features.statistics import ColumnStatistics
    from mainspring.features.store import OnlineStore

SECOND_US = 1_000_000
_ERRORS = {
    "approx_distinct": "standard error 1.6 %",
    "quantile": "within 0.78 % of the value at that rank",
}


def view_versions(project: Project, catalog: Catalog, name: str) -> dict[str, ViewDef]:
    """Every known version of a view: those ever applied, oldest first, then that of the definitions file."""
    found = {d.version: view_from(d.description) for d in catalog.definition_versions("views", name)}
    defined = project.views.get(name)
    if defined is not None:
        found[defined.version] = defined
    return found


def describe_feature(feature: Aggregate) -> dict[str, Any]:
    """An aggregate as people read it."""
    value, where = (None if e is None else str(parse(e.json)) for e in (feature.value, feature.where))
    more = {
        "k": feature.k if feature.function in ("last_k", "top_k") else None,
        "q": feature.q,
        "half_life": _span(feature.half_life_us),
        "per": _span(feature.per_us),
        "ttl": _span(feature.ttl_us),
        "where": where,
    }
    return {
        "name": feature.name,
        "function": feature.function,
        "value": value,
        "window": _span(feature.reach_us) or "since the beginning",
        "kind": feature.kind,
        "slots": feature.slots,
        "error": error_of(feature),
    } | {key: one for key, one in more.items() if one is not None}


def error_of(feature: Aggregate) -> str:
    """How far a value may be from the definition, or its live one from its replay."""
    if feature.function in _ERRORS:
        return _ERRORS[feature.function]
    tolerance = AGGREGATES[feature.function].tolerance
    return f"within {tolerance:g}, relative" if tolerance else "exact"


def describe_view(
    view: ViewDef, project: Project, catalog: Catalog, store: OnlineStore | None, log: Log | None, now_us: int
) -> dict[str, Any]:
    """One version of a view with its state, statistics and readers, as JSON."""
    out = {
        "view": view.name,
        "version": view.version,
        "doc": view.doc,
        "entity": list(view.entity),
        "hop": _span(view.hop_us),
        "sources": [{"name": s.name, "version": s.version, "id": s.id} for s in view.sources],
        "using": [{"view": v.name, "version": v.version} for v in view.using],
        "features": [describe_feature(f) for f in view.features],
        "derived": [{"name": e.name, "expression": str(parse(e.json)), "kind": e.kind} for e in view.derived],
        "used_by": consumers(view.name, project, catalog).to_dict(view.name),
        "state": None,
    }
    if store is not None and log is not None:
        _add_state(out, view, store, log, now_us)
    return out


def versions_in(store: OnlineStore | None, name: str) -> dict[str, int]:
    """Versions of a view that have state, with the offset they stand at."""
    views = {} if store is None else store.root().views
    return {label.split("@")[1]: state.offset for label, state in views.items() if label.split("@")[0] == name}


def _add_state(out: dict[str, Any], view: ViewDef, store: OnlineStore, log: Log, now_us: int) -> None:
    from mainspring.features.footprint import column_share, footprint
    from mainspring.features.freshness import freshness
    from mainspring.features.layout import compile_view
    from mainspring.features.statistics import by_feature, merged, read_days
    from mainspring.monitoring.inflow import newest_inflow

    fresh = freshness(view, store, log, now_us)
    for source in out["sources"]:
        feed = fresh.feeds.get(source["name"])
        if feed is not None:
            source["events"] = feed.events
            source["newest_time"] = to_iso(feed.newest_time_us)
            source["newest_known_at"] = to_iso(feed.newest_known_us)
            source["age_s"] = fresh.age_s(source["name"], now_us)
    if fresh.offset is None:
        return
    layout = compile_view(view)
    state = store.root().views[f"{view.name}@{view.version}"]
    size = footprint(store, state)
    out["state"] = {
        "offset": fresh.offset,
        "serves": fresh.serves,
        "lag_records": fresh.lag.records,
        "lag_s": fresh.lag.seconds,
        "keys": size.keys,
        "bytes": size.bytes,
        "bytes_per_key": size.bytes_per_key,
        "is_whole": size.is_whole,
        "too_old": fresh.too_old,
    }
    with store.env.begin() as txn:
        days = read_days(txn, store.statistics, state.id)
    known: dict[str, ColumnStatistics] = {}
    if days:
        known = dict(by_feature(layout, merged(days.values())))
        out["statistics_since"] = to_iso(min(days) * 86_400 * SECOND_US)
    came = by_feature(layout, newest_inflow(days)) if len(days) > 1 else {}
    for feature, one in zip(view.features, out["features"], strict=True):
        one["state_bytes"] = round(size.bytes * column_share(layout, feature.dim))
        if feature.name in known:
            one["statistics"] = known[feature.name].to_dict()
        if feature.name in came:
            one["newest_day"] = asdict(came[feature.name])


def _span(span_us: int | None) -> str | None:
    return None if span_us is None else format_span(span_us)
