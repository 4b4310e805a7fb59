"""Who reads a feature view: models and views of the definitions, and releases that may serve. There are no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mainspring.catalog import Catalog
from mainspring.definitions import ModelDef, Project, SourceDef, ViewDef, view_from


@dataclass(frozen=True)
class Release:
    """A version of a model that serves or may serve again.

    Attributes:
        role: ``champion``, ``challenger`` or ``last_good``.
        views: Version of each view that it reads, by name.
    """

    model: str
    version: str
    role: str
    views: dict[str, str]


@dataclass(frozen=True)
class Consumers:
    """Who reads a view.

    Attributes:
        models: Models of the definitions file, with the features that they see of it.
        views: Views of the definitions file whose events are enriched with it.
        releases: Releases, with the version of the view that they read.
    """

    models: dict[str, tuple[str, ...]]
    views: tuple[str, ...]
    releases: tuple[Release, ...]

    def to_dict(self, view: str) -> dict[str, Any]:
        """As JSON."""
        return {
            "models": {name: list(features) for name, features in self.models.items()},
            "views": list(self.views),
            "releases": [
                {"model": r.model, "version": r.version, "role": r.role, "view_version": r.views[view]}
                for r in self.releases
            ],
        }


def consumers(name: str, project: Project, catalog: Catalog) -> Consumers:
    """Who reads the view ``name``, in any version."""
    return Consumers(
        {m.name: _features_of(name, m) for m in project.models.values() if name in {v.name for v in _all(m.views)}},
        tuple(v.name for v in project.views.values() if v.name != name and name in {u.name for u in _all(v.using)}),
        tuple(release for release in releases(catalog) if name in release.views),
    )


def releases(catalog: Catalog) -> tuple[Release, ...]:
    """Every release that serves or may serve again, by model."""
    return tuple(
        Release(route.model, version, role, dict(catalog.version(route.model, version).views))
        for route in catalog.routes()
        for role, version in (
            ("champion", route.champion),
            ("challenger", route.challenger),
            ("last_good", route.last_good),
        )
        if version is not None
    )


def without_corrections(catalog: Catalog, source: SourceDef) -> list[Release]:
    """Releases that would count each correction of a source as a further event: of views from before it had any."""
    return [one for one in releases(catalog) if source.corrects is not None and _is_from_before(catalog, one, source)]


def _is_from_before(catalog: Catalog, release: Release, source: SourceDef) -> bool:
    found = [catalog.definition("views", name, version) for name, version in release.views.items()]
    views = _all(view_from(one.description) for one in found if one is not None)
    return any(one.name == source.name and one.corrects is None for view in views for one in view.sources)


def needed_views(project: Project, catalog: Catalog) -> list[ViewDef]:
    """Every feature view version that somebody needs: the definitions, a release which may serve, or a preparation.

    The definitions are those of the file and those in force, which the file may have moved on from. A version is
    prepared when its backfill was asked for after the last apply: it is built before it is in force.
    """
    views = {(v.name, v.version): v for v in _all(project.views.values())}
    wanted = [(name, view["version"]) for name, view in catalog.definitions()["views"].items()]
    wanted += [(name, version) for release in releases(catalog) for name, version in release.views.items()]
    for name, version in wanted:
        definition = catalog.definition("views", name, version)
        if (name, version) not in views and definition is not None:
            for view in _all([view_from(definition.description)]):
                views[view.name, view.version] = view
    for view in prepared_views(catalog):
        views.setdefault((view.name, view.version), view)
    return list(views.values())


def prepared_views(catalog: Catalog) -> list[ViewDef]:
    """Views whose backfill was asked for since the last apply, with those that they use."""
    applied = catalog.decisions("apply", limit=1)
    since = applied[0].offset if applied else 0
    asked = [d for d in catalog.decisions("backfill") if d.offset > since]
    return [view for d in asked for view in _all([view_from(d.numbers["definition"])])]


def asked_anew(catalog: Catalog) -> dict[str, int]:
    """Versions (``view@version``) whose backfill somebody asked for and that have not been built since, and when.

    The moment is the offset of the decision.
    """
    built = {str(d.subject): d.offset for d in catalog.decisions("backfilled")}
    asked = {str(d.subject): d.offset for d in catalog.decisions("backfill")}
    return {label: offset for label, offset in asked.items() if offset > built.get(label, 0)}


def _all(views: Any) -> list[ViewDef]:
    """Views and those that they use, each once, used ones first."""
    out: dict[tuple[str, str], ViewDef] = {}
    for view in views:
        for used in (*_all(view.using), view):
            out[used.name, used.version] = used
    return list(out.values())


def _features_of(name: str, model: ModelDef) -> tuple[str, ...]:
    prefix = f"{name}__"
    return tuple(
        f.name
        for f in model.features
        if (f.view is not None and f.view.name == name)
        or (f.expression is not None and any(c.startswith(prefix) for c in f.expression.inputs))
    )
