"""The routing snapshot: an immutable value that says who answers, swapped by reference.

Everything slow or doubtful happens before the swap: reading and checking packages, answering their recorded examples,
compiling, a first read and a first run. A load that fails leaves what serves in place, and is reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mainspring.catalog import Route, Stack
from mainspring.core.errors import MainspringError, NotFoundError, PackageError
from mainspring.core.names import did_you_mean
from mainspring.definitions import MOMENT, CompositeDef, ModelDef, Project, SourceDef, ViewDef
from mainspring.definitions.codec import view_from
from mainspring.definitions.weights import Weights
from mainspring.features.reader import Reader
from mainspring.models import package as packages
from mainspring.models.package import Package, PackagedFeature
from mainspring.models.runtime import Runtime
from mainspring.serving.composed import Composed
from mainspring.serving.fallback import MemberValue, Value
from mainspring.serving.inference import DEADLINE, Expressions, Scorer, gather, run, versioned
from mainspring.serving.layout import Layout
from mainspring.serving.rules import Rules
from mainspring.serving.served import UNDECLARED, Served
from mainspring.serving.table import Row

_WARM_UP_ROWS = (1, 32)
_BLANK: dict[str, Any] = {"str": "", "int": 0, "float": 0.0, "bool": False, "datetime": 0}


@dataclass(frozen=True)
class Problem:
    """Something that could not be loaded. ``is_serving`` says whether the model is served all the same."""

    model: str
    version: str
    error: str
    is_serving: bool


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that one generation of routes needs to serve."""

    generation: int
    models: Mapping[str, Served | Composed]
    problems: tuple[Problem, ...]


def load_snapshot(
    generation: int,
    routes: Iterable[Route],
    project: Project,
    before: Snapshot | None,
    reader: Reader,
    stacks: Iterable[Stack] = (),
) -> Snapshot:
    """Load what ``routes`` name, as far as it can be loaded.

    Args:
        generation: Of the routes.
        routes: From the catalog.
        project: The definitions.
        before: The snapshot that serves now; what it has loaded is not loaded again.
        reader: One of this thread, to warm up with.
        stacks: The weights that are in force.
    """
    Runtime.warm_up()  # also where no model is served yet: the first one comes while requests do
    weights = {(one.composite, one.definition): one.weights for one in stacks}
    served: dict[str, Served] = {}
    problems: list[Problem] = []
    for route in routes:
        old = before.models.get(route.model) if before is not None else None
        new = _load(route, project, old if isinstance(old, Served) else None, problems, reader)
        if new is not None:
            served[route.model] = new  # also one of which nothing could be loaded: who asks is told so
    composed: dict[str, Composed] = {}
    for composite in project.composites.values():
        routed = [served[one.name] for one in composite.members if one.name in served]
        if not routed:
            continue
        members = [one for one in routed if one.answers]
        loaded = {one.model.name for one in members if one.versions}
        for absent in (one.name for one in composite.members if one.name not in loaded):
            what, why = f"{composite.name} goes without its member {absent}", "no version of it is loaded"
            error = NotFoundError("MS-S124", what, why=why, hint="mainspring status")
            problems.append(Problem(composite.name, "", str(error), is_serving=True))
        composed[composite.name] = _compose(composite, members, weights.get((composite.name, composite.version)))
        _warm_up(composed[composite.name], reader)
    return Snapshot(generation, {**served, **composed}, tuple(problems))


def _load(route: Route, project: Project, old: Served | None, problems: list[Problem], reader: Reader) -> Served | None:
    model = project.models.get(route.model)
    if model is None:
        hint = did_you_mean(route.model, project.models)
        gone = NotFoundError("MS-S121", f"the definitions have no model {route.model!r}", hint=hint)
        problems.append(Problem(route.model, route.champion, str(gone), is_serving=False))
        return None
    if old is not None and not old.versions:
        old = None  # it is nothing to go on with
    wanted = (
        ("champion", route.champion, route.champion_path),
        ("challenger", route.challenger, route.challenger_path),
        ("last_good", route.last_good, route.last_good_path),
    )
    loaded: dict[str, tuple[str, Package]] = {}
    for role, version, path in wanted:
        if version is None:
            continue
        known = old.packages.get(path or "") if old is not None else None
        try:
            package = known or _verified(route.model, path)
            _warm_up(_serve(model, route, {role: (version, package)}), reader)
        except MainspringError as error:
            stays = old is not None or role != "champion"
            problems.append(Problem(route.model, version, str(error), is_serving=stays))
            if role == "champion" and old is not None:
                return _as_defined(old, model, reader)
        else:
            loaded[role] = (version, package)
    served = _serve(model, route, loaded)
    _warm_up(served, reader)
    return served


def _as_defined(old: Served, model: ModelDef, reader: Reader) -> Served:
    """What serves already, by the definition in force; as it was, where its packages do not fit that."""
    if old.model is model:
        return old
    try:
        served = _serve(model, old.route, _loaded(old))
        _warm_up(served, reader)
    except MainspringError:
        return old
    return served


def _verified(model: str, path: str | None) -> Package:
    if not path:
        raise PackageError("MS-S122", "the catalog names no package for this version", hint="mainspring train")
    package = packages.load(Path(path))
    if package.meta.model != model:
        raise PackageError("MS-S122", f"the package is of model {package.meta.model!r}, not {model!r}", where=path)
    package.verify_examples()
    return package


class _Read:
    """What several models read of requests of one source, each view and each expression once."""

    def __init__(self, source: SourceDef) -> None:
        self._source = source
        self._views: dict[tuple[str, str], ViewDef] = {}
        self._expressions: dict[str, int] = {}  # by the text in which each view is named with its version

    def add(self, package: Package) -> dict[str, int]:
        """The places of a package's expressions, once all that it reads is read too."""
        own = [view_from(described) for described in package.meta.views]
        for view in own:
            self._views.setdefault((view.name, view.version), view)
        columns = self._source.places  # a release from before a column was renamed names it as it was
        known: dict[str, int] = {}
        for feature in package.meta.features:
            if feature.expression:
                text = _resolved(feature, own, columns, package)
                known[feature.expression] = self._expressions.setdefault(text, len(self._expressions))
        return known

    def layout(self, package: Package, known: Mapping[str, int]) -> Layout:
        """How a package's inputs are filled; whatever is added later keeps its places."""
        order = {
            key: (i, tuple(c.removeprefix(f"{view.name}__") for c in view.column_names))
            for i, (key, view) in enumerate(self._views.items())
        }
        return Layout(package, self._source, order, known)

    def views(self) -> tuple[tuple[ViewDef, tuple[int, ...]], ...]:
        """Each view, with the places of its entity's columns in a request row."""
        return tuple((view, _entity(view, self._source)) for view in self._views.values())

    def expressions(self) -> Expressions:
        """Each expression, as one program."""
        return Expressions(tuple(self._expressions), self._source, tuple(self._views.values()))


def _scorers(model: ModelDef, loaded: Mapping[str, tuple[str, Package]], read: _Read) -> dict[str, Scorer]:
    """A model's versions by role, fed from what is read, to which they add."""
    return {
        role: Scorer(version, package.runtime, read.layout(package, read.add(package)), model.latency)
        for role, (version, package) in loaded.items()
    }


def _serve(model: ModelDef, route: Route, loaded: Mapping[str, tuple[str, Package]]) -> Served:
    read = _Read(model.request)
    scorers = _scorers(model, loaded, read)
    challenger = scorers.get("challenger")
    return Served(
        model=model,
        route=route,
        packages={str(package.path): package for _, package in loaded.values()},
        champion=scorers.get("champion"),
        challenger=challenger,
        last_good=scorers.get("last_good"),
        views=read.views(),
        expressions=read.expressions(),
        unit=model.request.places[model.label.on],
        value=Value(rule, model.request, model.task) if (rule := (model.otherwise or UNDECLARED).value) else None,
        rules=Rules(model.rules, model.request) if model.rules else None,
        weight=route.weight if challenger is not None else 0.0,
        is_shadow=challenger is not None and route.weight == 0.0,
        reads=_reads(model.request, [package for _, package in loaded.values()]),
    )


def _reads(source: SourceDef, loaded: Iterable[Package]) -> tuple[int, ...]:
    """Places of the columns that any of the packages reads: as they are, in expressions, or as the key of a view."""
    from mainspring.definitions.expressions import parse

    names: set[str] = set()
    for package in loaded:
        for view in package.meta.views:
            names.update(view_from(view).entity)
        for feature in package.meta.features:
            names.update(parse(feature.expression).meta.root_names() if feature.expression else [feature.column])
    return tuple(sorted({source.places[name] for name in names & source.places.keys()} - {source.places[source.time]}))


def _compose(composite: CompositeDef, members: Sequence[Served], weights: Weights | None) -> Composed:
    """A composite of models that are served: the same packages, fed from one reading for all of them."""
    read = _Read(composite.request)
    again = {one.model.name: _fed(one, read) for one in members}
    declared = [(one.value, one.rules) for one in members if one.value is not None]
    return Composed(
        model=composite,
        members=again,
        views=read.views(),
        expressions=read.expressions(),
        unit=composite.request.places[composite.label.on],
        value=MemberValue(declared) if declared else None,
        weights=weights,
    )


def _fed(served: Served, read: _Read) -> Served:
    """A model as a member: its scorers are fed from what all members read, and its own ``views`` are not."""
    found = _scorers(served.model, _loaded(served), read)
    return replace(
        served,
        champion=found.get("champion"),
        challenger=found.get("challenger"),
        last_good=found.get("last_good"),
    )


def _loaded(served: Served) -> dict[str, tuple[str, Package]]:
    """The package behind each role, with its version."""
    by_runtime = {id(package.runtime): package for package in served.packages.values()}
    return {role: (scorer.version, by_runtime[id(scorer.runtime)]) for role, scorer in served.roles}


def _resolved(feature: PackagedFeature, views: list[ViewDef], columns: Mapping[str, int], package: Package) -> str:
    """An expression of a package with each view's columns named as those of its version.

    Raises:
        PackageError: It reads what requests do not have (MS-S120).
    """
    from mainspring.definitions.expressions import parse, renamed

    own = {column: versioned(view, column) for view in views for column in view.column_names}
    for name in parse(feature.expression).meta.root_names():
        if name not in own and name not in columns and name != MOMENT:
            what = f"feature {feature.name!r} of the package needs {name!r}, which requests do not have"
            hint = did_you_mean(name, [*own, *columns]) or "train the model again"
            raise PackageError("MS-S120", what, where=str(package.path), hint=hint)
    return renamed(feature.expression, {name: json.dumps({"Column": full}) for name, full in own.items()})


def _entity(view: ViewDef, source: SourceDef) -> tuple[int, ...]:
    columns = source.places
    missing = [name for name in view.entity if name not in columns]
    if missing:
        what = f"view {view.name} is of {', '.join(view.entity)}, but requests have no {missing[0]!r}"
        raise PackageError("MS-S120", what, where=f"source {source.name}", hint=did_you_mean(missing[0], columns))
    return tuple(columns[name] for name in view.entity)


def _warm_up(served: Served | Composed, reader: Reader) -> None:
    """Blank rows through everything, so that nothing is compiled, or found to be slow, in the middle of a request."""
    row: Row = tuple([0.0] * f.dim if f.kind == "vector" else _BLANK[f.kind] for f in served.model.request.fields)
    for rows in _WARM_UP_ROWS:
        gathered, error = gather([row] * rows, [0] * rows, served.views, served.expressions, reader)
        if error is not None and isinstance(error, (TypeError, KeyError, IndexError, ValueError)):
            what = f"the features cannot be read: {error!r}"
            raise PackageError("MS-S123", what, where=served.model.name) from error
        for _, scorer in served.roles:
            run(scorer, gathered)  # the first run of a size makes room for it
            scorer.pace.observe(rows, run(scorer, gathered).took_us)
    if served.value is not None:
        served.value.choices([row], [0], DEADLINE)
