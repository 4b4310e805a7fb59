"""The routing snapshot: an immutable value that says who answers, swapped by reference.

Everything slow or doubtful happens before the swap: reading and checking packages, answering their recorded examples,
compiling, a first read and a first run. A load that fails leaves what serves in place, and is reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mainspring.catalog import Route
from mainspring.core.errors import MainspringError, NotFoundError, PackageError
from mainspring.core.names import did_you_mean
from mainspring.definitions import MOMENT, ModelDef, OtherwiseDef, Project, ViewDef
from mainspring.definitions.codec import view_from
from mainspring.features.reader import Reader
from mainspring.models import package as packages
from mainspring.models.package import Package, PackagedFeature
from mainspring.serving.fallback import Value
from mainspring.serving.inference import Expressions, Scorer, gather, run, versioned
from mainspring.serving.layout import Layout, Row
from mainspring.serving.rules import Rules

_UNDECLARED = OtherwiseDef(last_good=True, blind=True)
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
class Served:
    """Who answers for one model.

    Attributes:
        route: As the catalog said.
        packages: By path, of everything loaded, for the next snapshot to take over.
        views: Each view that any of the models reads, with the places of its entity's columns in a request row.
        unit: Place of the label's key in a request row.
        value: What is answered when no model can; None when the definition declares nothing.
        rules: What is made of outputs; None when the definition declares nothing.
        weight: The challenger's share of the traffic; 0 in shadow.
        is_shadow: Whether the challenger is scored after the answer.
    """

    model: ModelDef
    route: Route
    packages: Mapping[str, Package]
    champion: Scorer | None
    challenger: Scorer | None
    last_good: Scorer | None
    views: tuple[tuple[ViewDef, tuple[int, ...]], ...]
    expressions: Expressions
    unit: int
    value: Value | None
    rules: Rules | None
    weight: float
    is_shadow: bool

    @property
    def otherwise(self) -> OtherwiseDef:
        """The fallback chain: what is declared, or else what was before anybody could declare one."""
        return self.model.otherwise or _UNDECLARED


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that one generation of routes needs to serve."""

    generation: int
    models: Mapping[str, Served]
    problems: tuple[Problem, ...]


def load_snapshot(
    generation: int, routes: Iterable[Route], project: Project, before: Snapshot | None, reader: Reader
) -> Snapshot:
    """Load what ``routes`` name, as far as it can be loaded.

    Args:
        generation: Of the routes.
        routes: From the catalog.
        project: The definitions.
        before: The snapshot that serves now; what it has loaded is not loaded again.
        reader: One of this thread, to warm up with.
    """
    served: dict[str, Served] = {}
    problems: list[Problem] = []
    for route in routes:
        old = before.models.get(route.model) if before is not None else None
        new = _load(route, project, old, problems, reader)
        if new is not None:
            served[route.model] = new
    return Snapshot(generation, served, tuple(problems))


def _load(route: Route, project: Project, old: Served | None, problems: list[Problem], reader: Reader) -> Served | None:
    model = project.models.get(route.model)
    if model is None:
        hint = did_you_mean(route.model, project.models)
        gone = NotFoundError("MS-S121", f"the definitions have no model {route.model!r}", hint=hint)
        problems.append(Problem(route.model, route.champion, str(gone), is_serving=False))
        return None
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
                return old
        else:
            loaded[role] = (version, package)
    if not loaded:
        return None
    served = _serve(model, route, loaded)
    _warm_up(served, reader)
    return served


def _verified(model: str, path: str | None) -> Package:
    if not path:
        raise PackageError("MS-S122", "the catalog names no package for this version", hint="mainspring train")
    package = packages.load(Path(path))
    if package.meta.model != model:
        raise PackageError("MS-S122", f"the package is of model {package.meta.model!r}, not {model!r}", where=path)
    package.verify_examples()
    return package


def _serve(model: ModelDef, route: Route, loaded: Mapping[str, tuple[str, Package]]) -> Served:
    columns = model.request.places  # a release from before a column was renamed names it as it was
    views: dict[tuple[str, str], ViewDef] = {}
    expressions: dict[str, int] = {}  # by the text in which each view is named with its version
    known: dict[str, dict[str, int]] = {}
    for role, (_, package) in loaded.items():
        own = [view_from(described) for described in package.meta.views]
        for view in own:
            views.setdefault((view.name, view.version), view)
        known[role] = {}
        for feature in package.meta.features:
            if feature.expression:
                text = _resolved(feature, own, columns, package)
                known[role][feature.expression] = expressions.setdefault(text, len(expressions))
    slots = {key: tuple(c.removeprefix(f"{view.name}__") for c in view.column_names) for key, view in views.items()}
    order = {key: (i, slots[key]) for i, key in enumerate(views)}
    scorers = {
        role: Scorer(version, package.runtime, Layout(package, columns, order, known[role]), model.latency)
        for role, (version, package) in loaded.items()
    }
    challenger = scorers.get("challenger")
    return Served(
        model=model,
        route=route,
        packages={str(package.path): package for _, package in loaded.values()},
        champion=scorers.get("champion"),
        challenger=challenger,
        last_good=scorers.get("last_good"),
        views=tuple((view, _entity(view, columns, model)) for view in views.values()),
        expressions=Expressions(tuple(expressions), model.request, tuple(views.values())),
        unit=columns[model.label.on],
        value=Value(rule, model.request) if (rule := (model.otherwise or _UNDECLARED).value) is not None else None,
        rules=Rules(model.rules, model.request) if model.rules else None,
        weight=route.weight if challenger is not None else 0.0,
        is_shadow=challenger is not None and route.weight == 0.0,
    )


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


def _entity(view: ViewDef, columns: Mapping[str, int], model: ModelDef) -> tuple[int, ...]:
    missing = [name for name in view.entity if name not in columns]
    if missing:
        what = f"view {view.name} is of {', '.join(view.entity)}, but requests have no {missing[0]!r}"
        raise PackageError(
            "MS-S120", what, where=f"source {model.request.name}", hint=did_you_mean(missing[0], columns)
        )
    return tuple(columns[name] for name in view.entity)


def _warm_up(served: Served, reader: Reader) -> None:
    """Blank rows through everything, so that nothing is compiled, or found to be slow, in the middle of a request."""
    row: Row = tuple([0.0] * f.dim if f.kind == "vector" else _BLANK[f.kind] for f in served.model.request.fields)
    for rows in _WARM_UP_ROWS:
        gathered, error = gather([row] * rows, [0] * rows, served.views, served.expressions, reader)
        if error is not None and isinstance(error, (TypeError, KeyError, IndexError, ValueError)):
            what = f"the features cannot be read: {error!r}"
            raise PackageError("MS-S123", what, where=served.route.model) from error
        for scorer in (served.champion, served.challenger, served.last_good):
            if scorer is not None:
                run(scorer, gathered)  # the first run of a size makes room for it
                scorer.pace.observe(rows, run(scorer, gathered).took_us)
    if served.value is not None:
        served.value.of([row], [0])
