"""Read the definitions and the catalog into assets: what is made of what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mainspring.catalog import Catalog, Version
from mainspring.core import to_iso
from mainspring.definitions import (
    MOMENT,
    SOURCE,
    CheckDef,
    CompositeDef,
    Feature,
    ModelDef,
    Project,
    SourceDef,
    ViewDef,
    view_from,
)
from mainspring.definitions.expressions import parse
from mainspring.loop.assets import Asset, Assets, Key
from mainspring.loop.consumers import releases

Edge = tuple[Key, Key]


def inventory(project: Project, catalog: Catalog) -> Assets:
    """Every asset of a project, as its definitions file says it and as the catalog recorded what was made of it."""
    serving = {(r.model, r.version): r.role for r in releases(catalog)}
    assets: list[Asset] = []
    edges: list[Edge] = []
    in_force = catalog.definitions()
    for source in project.sources.values():
        assets += _source_assets(source, _force(in_force, "sources", source))
        edges += _source_edges(source)
    for view in project.views.values():
        assets += _view_assets(view, _force(in_force, "views", view))
        edges += view_edges(view, project)
    for model in project.models.values():
        assets += _model_assets(model, _force(in_force, "models", model))
        edges += _model_edges(model, project)
    for composite in project.composites.values():
        assets.append(_composite_asset(composite, _force(in_force, "composites", composite), catalog))
        edges += [(Key("composite", composite.name), Key("model", one.name)) for one in composite.members]
    for check in project.checks.values():
        assets.append(_check_asset(check))
        edges += _check_edges(check, project)
    versions = catalog.versions()
    for version in versions:
        assets.append(_release_asset(version, serving.get((version.model, version.version))))
        edges += _release_edges(version, project, catalog)
    for model_name in dict.fromkeys((*project.models, *(v.model for v in versions))):
        for one in catalog.datasets(model_name):
            key = Key("dataset", f"{model_name}/{one.hash}")
            assets.append(Asset(key, facts={"rows": one.rows, "built": to_iso(one.at_us), "folder": one.path}))
            edges.append((key, Key("model", model_name)))
            edges += [(key, Key("source", name)) for name in one.numbers.get("sources", {})]
    read_assets, read_edges = _recorded(project, catalog)
    return Assets([*assets, *read_assets], [*edges, *read_edges])


def _recorded(project: Project, catalog: Catalog) -> tuple[list[Asset], list[Edge]]:
    """Who was seen to read what from outside: consumers that were named, and else the people."""
    declared = {who for source in project.sources.values() for who, _ in source.about.consumers}
    seen: dict[Key, dict[str, str]] = {}
    edges: list[Edge] = []
    for one in catalog.decisions("read"):
        key = Key("consumer", str(one.numbers["consumer"] or one.actor))
        is_declared = "yes" if key.name in declared else "no"
        facts = {"declared": is_declared, "last read": to_iso(one.at_us), "by": one.actor, "as": one.numbers["way"]}
        seen[key] = facts
        columns = [column_key(str(one.subject), name, project) for name in one.numbers["columns"]]
        edges += [(key, column) for column in columns or [Key("source", str(one.subject))]]
    return [Asset(key, facts=facts) for key, facts in seen.items()], edges


def column_key(source: str, name: str, project: Project) -> Key:
    """A column of a source under the name that it has now."""
    defined = project.sources.get(source)
    now = None if defined is None else defined.names.get(name)
    return Key("column", f"{source}.{name if now is None else now.name}")


def view_edges(view: ViewDef, project: Project) -> Iterator[Edge]:
    """What a version of a view reads: columns of its sources, and features of the views that it uses."""
    key = Key("view", view.name)
    used = {
        column: Key("feature", f"{u.name}.{f.name}")
        for u in view.using
        for f in u.features
        for column in u.columns_of(f)
    }
    for source in view.sources:
        roles = (source.time, source.id, source.known_at, source.corrects)
        for name in dict.fromkeys((*view.entity, *roles)):
            if name is not None:
                yield key, column_key(source.name, name, project)
    for other in view.using:
        yield from view_edges(other, project)
        yield key, Key("view", other.name)
        for name in other.entity:
            yield from ((key, column_key(s.name, name, project)) for s in view.sources if name in s.names)
    for feature in view.features:
        own = Key("feature", f"{view.name}.{feature.name}")
        yield own, key
        for name in _inputs(feature.value, feature.where):
            if name in used:
                yield own, used[name]
            elif name != SOURCE:
                yield from ((own, column_key(s.name, name, project)) for s in view.sources if name in s.names)
    slots = {slot: Key("feature", f"{view.name}.{f.name}") for f in view.features for slot in f.slot_names}
    for derived in view.derived:
        own = Key("feature", f"{view.name}.{derived.name}")
        yield own, key
        yield from ((own, slots[name]) for name in derived.inputs if name in slots)


def _inputs(*expressions: Any) -> dict[str, None]:
    return dict.fromkeys(name for one in expressions if one is not None for name in one.inputs)


def _force(
    in_force: Mapping[str, Any], kind: str, thing: SourceDef | ViewDef | ModelDef | CompositeDef
) -> dict[str, Any]:
    """Version, place, and whether it is in force."""
    found = in_force[kind].get(thing.name)
    said: dict[str, Any] = {"version": thing.version}
    if isinstance(thing, ModelDef | CompositeDef):
        said["serving"] = thing.serving()
    if isinstance(thing, ModelDef):
        said["releases"] = thing.releases()
    is_same = found is not None and all(found.get(part) == what for part, what in said.items())
    state = "not applied" if found is None else "in force" if is_same else "changed, not applied"
    return {"version": thing.version, "state": state, "defined at": str(thing.place)}


def _source_assets(source: SourceDef, facts: Mapping[str, Any]) -> Iterator[Asset]:
    about = source.about
    yield Asset(Key("source", source.name), source.doc, about.owner, about.tags, facts=facts)
    roles = {source.time: "event time", source.id: "id", source.known_at: "known at", source.corrects: "corrects"}
    for one in source.fields:
        said = one.about
        more = {
            "type": one.kind + (" | None" if one.nullable else ""),
            "unit": said.unit,
            "is": roles.get(one.name, ""),
            "deprecated": said.deprecated,
        }
        key = Key("column", f"{source.name}.{one.name}")
        facts_of = {k: v for k, v in more.items() if v}
        earlier = tuple(f"{source.name}.{name}" for name in one.aliases)
        yield Asset(key, said.doc, about.owner, said.tags, said.pii, facts_of, earlier=earlier)
    yield from (Asset(Key("consumer", who)) for who, _ in about.consumers)


def _source_edges(source: SourceDef) -> Iterator[Edge]:
    for one in source.fields:
        yield Key("column", f"{source.name}.{one.name}"), Key("source", source.name)
    for who, columns in source.about.consumers:
        if not columns:
            yield Key("consumer", who), Key("source", source.name)
        for name in columns:
            yield Key("consumer", who), Key("column", f"{source.name}.{source.names[name].name}")


def _view_assets(view: ViewDef, facts: Mapping[str, Any]) -> Iterator[Asset]:
    yield Asset(Key("view", view.name), view.doc, facts={"by": ", ".join(view.entity), **facts})
    for feature in view.features:
        parts = [] if feature.value is None else [str(parse(feature.value.json))]
        shown = f"{feature.function}({', '.join(parts)})"
        facts_of = {"function": shown, "type": feature.kind}
        if feature.where is not None:
            facts_of["where"] = str(parse(feature.where.json))
        yield Asset(Key("feature", f"{view.name}.{feature.name}"), facts=facts_of)
    for derived in view.derived:
        shown = str(parse(derived.json))
        yield Asset(Key("feature", f"{view.name}.{derived.name}"), facts={"expression": shown, "type": derived.kind})


def _model_assets(model: ModelDef, facts: Mapping[str, Any]) -> Iterator[Asset]:
    yield Asset(Key("model", model.name), model.doc, facts={"task": model.task, **facts})
    value = str(parse(model.label.value.json))
    yield Asset(Key("label", f"{model.name}.label"), facts={"value": value, "defined at": str(model.label.place)})
    for one in _own_features(model):
        shown = str(parse(one.expression.json)) if one.expression is not None else ""
        yield Asset(Key("feature", f"{model.name}.{one.name}"), facts={"expression": shown, "type": one.kind})


def _own_features(model: ModelDef) -> Iterator[Feature]:
    """Expressions that are no view's own."""
    derived = {f"{view.name}__{one.name}" for view in model.views for one in view.derived}
    yield from (one for one in model.features if one.expression and one.name not in derived)


def _model_edges(model: ModelDef, project: Project) -> Iterator[Edge]:
    described = model.describe()
    key, label, request = Key("model", model.name), Key("label", f"{model.name}.label"), model.request.name
    yield key, label
    for name in (model.label.on, model.label.source.time, *model.label.value.inputs):
        yield label, column_key(model.label.source.name, name, project)
    roles = (model.request.time, model.label.on, *(name for view in model.views for name in view.entity))
    yield from ((key, column_key(request, name, project)) for name in dict.fromkeys(roles))
    own = {one.name for one in _own_features(model)}
    for feature in described["features"]:
        reader = Key("feature", f"{model.name}.{feature['name']}") if feature["name"] in own else key
        yield from ((reader, read) for read in feature_reads(feature, model.views, request, project))
        if reader != key:
            yield key, reader


def feature_reads(
    feature: Mapping[str, Any], views: Iterable[ViewDef], request: str, project: Project
) -> Iterator[Key]:
    """What a feature of a model, as its description says it, is made of."""
    of_views = {c: Key("feature", f"{v.name}.{f.name}") for v in views for f in v.features for c in v.columns_of(f)}
    of_views |= {f"{v.name}__{one.name}": Key("feature", f"{v.name}.{one.name}") for v in views for one in v.derived}
    name, text = feature["name"], feature.get("expression")
    names = [name] if text is None or name in of_views else parse(text).meta.root_names()
    for one in dict.fromkeys(names):
        if one != MOMENT:
            yield of_views.get(one) or column_key(request, one, project)


def _composite_asset(composite: CompositeDef, facts: Mapping[str, Any], catalog: Catalog) -> Asset:
    stack = catalog.stack(composite.name, composite.version)
    weights = () if stack is None else zip(stack.weights.members, stack.weights.weights, strict=True)
    weighed = ", ".join(f"{weight:.4g} {name}" for name, weight in weights)
    more = {"answers by": composite.how, "of": ", ".join(one.name for one in composite.members), "weights": weighed}
    return Asset(Key("composite", composite.name), facts={"task": composite.task, **more, **facts})


def _check_asset(check: CheckDef) -> Asset:
    effect = "holds what depends on its source" if check.blocking else "warns"
    facts = {"checks": check.kind, "when it fails": effect, "defined at": str(check.place)}
    return Asset(Key("check", check.name), str(check.limit("title", "")), facts=facts)


def _check_edges(check: CheckDef, project: Project) -> Iterator[Edge]:
    key = Key("check", check.name)
    columns = [*(check.limit("columns") or ()), *([check.column] if check.column else [])]
    if check.limit("by"):
        columns.append(check.limit("by"))
    if check.kind == "sql":  # what its query names: it is not run for this
        words = set(re.findall(r"\w+", str(check.limit("query"))))
        columns += [name for name in check.source.names if name in words]
        for other in project.sources.values():
            if other.name in words and other.name != check.source.name:
                yield key, Key("source", other.name)
    yield from ((key, column_key(check.source.name, name, project)) for name in dict.fromkeys(columns))
    if check.target is not None:
        yield key, column_key(check.target.name, str(check.limit("to_column")), project)
    if not columns:
        yield key, Key("source", check.source.name)


def _release_asset(version: Version, role: str | None) -> Asset:
    facts: dict[str, str] = {
        "state": role or version.state,
        "trained": to_iso(version.at_us),
        "run": version.run_id or "",
    }
    facts |= {"folder": version.path, "definition": version.definition or ""}
    return Asset(_release_key(version), facts={k: v for k, v in facts.items() if v})


def _release_edges(version: Version, project: Project, catalog: Catalog) -> Iterator[Edge]:
    """What a release reads: the versions of views that it was trained with, whatever the file says now."""
    key = _release_key(version)
    yield key, Key("model", version.model)
    if version.dataset:
        yield key, Key("dataset", f"{version.model}/{version.dataset}")
    yield from _read_edges(version, project, catalog)


def release_columns(version: Version, project: Project, catalog: Catalog) -> frozenset[str]:
    """Columns (``source.column``, as they are named now) that a release's features are made of."""
    edges = Assets([], _read_edges(version, project, catalog))
    try:
        steps = edges.up(_release_key(version))
    except KeyError:  # it was trained from a definition that the catalog does not have
        return frozenset()
    return frozenset(step.key.name for step in steps if step.key.kind == "column")


def _release_key(version: Version) -> Key:
    return Key("release", f"{version.model}@{version.version}")


def _read_edges(version: Version, project: Project, catalog: Catalog) -> Iterator[Edge]:
    """What a release reads, by the definition and in the versions of the views that it was trained with."""
    key = _release_key(version)
    found = (catalog.definition("views", name, its) for name, its in version.views.items())
    views = [view_from(one.description) for one in found if one is not None]
    model = catalog.definition("models", version.model, version.definition or "")
    if model is not None:
        request = model.description["request"]["name"]
        for feature in model.description["features"]:
            yield from ((key, read) for read in feature_reads(feature, views, request, project))
        for view in views:
            yield from ((key, column_key(request, name, project)) for name in view.entity)
    for view in views:
        yield from view_edges(view, project)
