"""``ms.model``: the function that fits, and everything that its releases must earn."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import dedent
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean, is_name
from mainspring.definitions import lines
from mainspring.definitions.aggregates import Pending
from mainspring.definitions.features import MOMENT, Feature, ViewDef
from mainspring.definitions.kinds import list_of_kind, one_of_kind
from mainspring.definitions.mention import mention
from mainspring.definitions.misused import EXAMPLES
from mainspring.definitions.otherwise import Otherwise
from mainspring.definitions.release import Monitor, Rollout, check_metrics, vetoes_of
from mainspring.definitions.rules import Rule, bound_rules
from mainspring.definitions.source import Source, place_of_caller
from mainspring.definitions.values import (
    TASKS,
    CacheDef,
    Expression,
    Gate,
    LabelDef,
    LatencyDef,
    ModelDef,
    MonitorDef,
    Place,
    RolloutDef,
    SourceDef,
)
from mainspring.definitions.view import source_of, views_used


def model(  # noqa: PLR0913  a model's words, all by keyword
    *,
    request: type[Source],
    label: LabelDef,
    task: str,
    features: Sequence[Any],
    gates: Sequence[Gate] = (),
    rollout: RolloutDef | None = None,
    monitor: MonitorDef | None = None,
    using: Sequence[ViewDef] = (),
    otherwise: Otherwise | None = None,
    rules: Sequence[Rule] = (),
    latency: LatencyDef | None = None,
    cache: Any = None,
    seed: int = 1,
) -> Callable[[Callable[[Any], Any]], ModelDef]:
    """Make a function ``train(dataset) -> fitted estimator`` a model.

    A feature is a feature view (all of it), a column of the request, or an expression over columns of the request and
    of views, such as ``(Card.col("sum_1h") / Card.col("sum_24h")).alias("share")``. Views that only expressions read
    are named in ``using=``. ``otherwise=`` says what is answered when the model cannot, ``rules=`` what is made of
    its output, ``latency=`` how quickly it shall answer, ``cache=`` whether it may say again what it said before.

    Raises:
        DefinitionError: Anything that does not fit together (MS-D102, MS-D150 to MS-D157, MS-D159).
    """
    place = place_of_caller()
    where = str(place)
    origin = source_of(request, "request=", where)
    if not isinstance(label, LabelDef):
        raise DefinitionError(
            "MS-D150", f"label= is {mention(label)}", where=where, hint="ms.label(Source, on=…, value=…, within=…)"
        )
    if label.on not in origin.columns:
        hint = did_you_mean(label.on, origin.columns)
        raise DefinitionError(
            "MS-D102", f"request {origin.name} has no column {label.on!r}, the label's on=", where=where, hint=hint
        )
    if origin.columns[label.on].kind != label.source.columns[label.on].kind:
        raise DefinitionError(
            "MS-D150", f"{label.on!r} has another type in {origin.name} and {label.source.name}", where=where
        )
    one_of_kind(seed, int, "seed", "MS-D151", where, "seed=1, a whole number")
    if task not in TASKS:
        raise DefinitionError("MS-D151", f"task={task!r}", where=where, hint=did_you_mean(task, TASKS))
    if task == "binary_classification" and label.value.kind != "bool":
        why = f"the label's value is {label.value.kind}"
        raise DefinitionError(
            "MS-D151", "binary_classification needs a bool label", where=where, why=why, hint="value=col(…) > …"
        )
    if not isinstance(features, list | tuple):
        what = f"features= is {mention(features)}, not a list"
        raise DefinitionError("MS-D152", what, where=where, hint="features=[…], a list, also of one")
    using = views_used(using, where)
    views = {view.name: view for view in (*(f for f in features if isinstance(f, ViewDef)), *using)}
    schema = _schema(views.values(), origin, where)
    columns = tuple(_features(features, origin, views, schema, place))
    owner = {column: view.name for view in views.values() for column in view.column_names}
    read = {owner[name] for f in columns if f.expression for name in f.expression.inputs if name in owner}
    read -= {f.view.name for f in columns if f.view is not None}
    _no_label_leak(columns, label, origin, where)
    gates, rollout, monitor = _earned(gates, rollout, monitor, latency, where)
    check_metrics(task, gates, rollout, monitor, where)
    if otherwise is not None:
        one_of_kind(otherwise, Otherwise, "otherwise", "MS-D155", where, EXAMPLES["otherwise"])
    if cache is not None:
        one_of_kind(cache, CacheDef, "cache", "MS-D159", where, EXAMPLES["Cache"])
    acting = bound_rules(rules, origin, task, where)
    instead = otherwise.bound(origin, task) if otherwise is not None else None

    def build(fit: Callable[[Any], Any]) -> ModelDef:
        name = fit.__name__
        if not is_name(name):
            raise DefinitionError("MS-D110", f"{name!r} is no name for a model", where=where, hint="a-z, 0-9 and _")
        doc = (fit.__doc__ or "").strip()
        used = tuple(views[view] for view in sorted(read))
        return ModelDef(
            name,
            origin,
            label,
            task,
            columns,
            gates,
            rollout,
            monitor,
            fit,
            _code(fit),
            doc,
            seed,
            place,
            used,
            otherwise=instead,
            rules=acting,
            latency=latency,
            cache=cache,
        )

    return build


def _earned(
    gates: Any, rollout: Any, monitor: Any, latency: Any, where: str
) -> tuple[tuple[Gate, ...], RolloutDef, MonitorDef]:
    """What releases must earn, if it is of its kind; what is not declared is as usual.

    Raises:
        DefinitionError: It is not (MS-D140 to MS-D142, MS-D157).
    """
    gates = list_of_kind(gates, Gate, "gates", "MS-D140", where, EXAMPLES["gate"])
    if latency is not None:
        one_of_kind(latency, LatencyDef, "latency", "MS-D157", where, EXAMPLES["Latency"])
    rollout = Rollout() if rollout is None else rollout
    monitor = Monitor() if monitor is None else monitor
    one_of_kind(rollout, RolloutDef, "rollout", "MS-D141", where, EXAMPLES["Rollout"])
    one_of_kind(monitor, MonitorDef, "monitor", "MS-D142", where, EXAMPLES["Monitor"])
    return gates, vetoes_of(rollout, latency), monitor


def _code(fit: Callable[[Any], Any]) -> str:
    """Source of the function, without the arguments of ``ms.model``: those are described one by one."""
    try:
        source = dedent(inspect.getsource(fit))
    except OSError:  # defined in a session without source
        return fit.__code__.co_code.hex()
    function = next((one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef)), None)
    if function is None:
        return source
    others = [one.lineno for one in function.decorator_list if not _is_model(one)]
    return "\n".join(source.splitlines()[min([*others, function.lineno]) - 1 :])


def _is_model(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else None
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) == "model"


def _schema(views: Iterable[ViewDef], origin: SourceDef, where: str) -> dict[str, Any]:
    """Polars types of all that an expression of a model may read: the request, its views' columns, the moment."""
    from mainspring.definitions.expressions import POLARS_TYPES

    out = dict(origin.schema) | {MOMENT: POLARS_TYPES["datetime"]}
    for view in views:
        for key in view.entity:
            if key not in origin.columns:
                why = f"feature view {view.name} is for entity {', '.join(view.entity)}"
                hint = did_you_mean(key, origin.columns)
                raise DefinitionError(
                    "MS-D102", f"request {origin.name} has no column {key!r}", where=where, why=why, hint=hint
                )
            for source in view.sources:
                if origin.columns[key].kind != source.columns[key].kind:
                    raise DefinitionError(
                        "MS-D153", f"{key!r} has another type in {origin.name} and {source.name}", where=where
                    )
        for slot, dtype in view.own_schema.items():
            name = f"{view.name}__{slot}"
            if slot == MOMENT:
                continue
            if name in origin.columns:
                what = f"{name!r} is a column of {origin.name} and a feature of view {view.name}"
                raise DefinitionError("MS-D152", what, where=where, hint="rename one of the two")
            out[name] = dtype
    return out


def _features(
    features: Sequence[Any], origin: SourceDef, views: Mapping[str, ViewDef], schema: Mapping[str, Any], place: Place
) -> Iterable[Feature]:
    where = str(place)
    seen: dict[str, Feature] = {}
    for number, thing in enumerate(features):
        with lines.at_item(place, "features", number):
            for feature in _expand(thing, origin, views, schema, where):
                if feature.name in seen:
                    hint = 'give one of them another name with .alias("…")'
                    raise DefinitionError("MS-D152", f"two features are named {feature.name!r}", where=where, hint=hint)
                seen[feature.name] = feature
    if not seen:
        raise DefinitionError("MS-D152", "a model needs at least one feature", where=where)
    return seen.values()


def _expand(
    thing: Any, origin: SourceDef, views: Mapping[str, ViewDef], schema: Mapping[str, Any], where: str
) -> Iterable[Feature]:
    if isinstance(thing, ViewDef):
        yield from _values(thing)
        yield from (_derived(thing, one) for one in thing.derived if one.kind != "datetime")
        return
    if isinstance(thing, str):
        if thing not in origin.columns:
            hint = did_you_mean(thing, origin.columns)
            raise DefinitionError("MS-D102", f"request {origin.name} has no column {thing!r}", where=where, hint=hint)
        kind = origin.columns[thing].kind
        if kind == "datetime":
            raise _instant(thing, where)
        if kind == "vector":
            why = "a model sees a vector of a feature view, number by number"
            raise DefinitionError("MS-D153", f"feature {thing!r} is a vector", where=where, why=why)
        yield Feature(thing, kind)
        return
    if isinstance(thing, type) and issubclass(thing, Source):
        raise DefinitionError(
            "MS-D104",
            f"{thing.__name__} is a source, not a feature",
            where=where,
            hint=f"make a feature view of it: @ms.feature_view({thing.__name__}, entity=…)",
        )
    if isinstance(thing, LabelDef | Pending):
        is_label = isinstance(thing, LabelDef)
        raise DefinitionError(
            "MS-D104",
            f"{mention(thing)} is no feature",
            where=where,
            why="a label is what the model predicts" if is_label else "an aggregate belongs to an entity's view",
            hint=f"label= takes it; features= what is known at the request, such as {origin.fields[0].name!r}"
            if is_label
            else "write it in a class under @ms.feature_view(…), and name that class",
        )
    from mainspring.definitions.expressions import POLARS_TYPES, expression, renamed

    own = {_derived_name(view, one.name): one for view in views.values() for one in view.derived}
    known = dict(schema) | {name: POLARS_TYPES[one.kind] for name, one in own.items()}
    _check_views(thing, known, views, where)
    frozen = expression(thing, known, of=f"request {origin.name}", where=where)
    if frozen.kind == "datetime":
        raise _instant(frozen.name, where)
    if frozen.kind == "vector":
        raise DefinitionError("MS-D153", f"feature {frozen.name!r} is a vector", where=where)
    plain = {f.name: f for view in views.values() for f in _values(view)}
    if frozen.inputs == (frozen.name,) and thing.meta.is_column() and frozen.name in plain:
        yield plain[frozen.name]
        return
    inlined = {
        _derived_name(view, one.name): _derived(view, one).expression
        for view in views.values()
        for one in view.derived
        if _derived_name(view, one.name) in frozen.inputs
    }
    if inlined:
        text = renamed(frozen.json, {name: one.json for name, one in inlined.items() if one is not None})
        deeper = [c for one in inlined.values() if one is not None for c in one.inputs]
        inputs = tuple(dict.fromkeys([*(c for c in frozen.inputs if c not in own), *deeper]))
        frozen = Expression(text, frozen.name, frozen.kind, inputs)
    yield Feature(frozen.name, frozen.kind, expression=frozen)


def _check_views(thing: Any, known: Mapping[str, Any], views: Mapping[str, ViewDef], where: str) -> None:
    """Say which view an expression reads that the model was not given."""
    for name in thing.meta.root_names() if hasattr(thing, "meta") else ():
        view, marked, _ = name.partition("__")
        if name not in known and marked and view not in views:
            what = f"an expression reads {name!r} of a feature view that the model was not given"
            hint = "name the view in using=[…] of the model (or in features=[…], if the model is to see all of it)"
            raise DefinitionError("MS-D102", what, where=where, hint=hint)


def _values(view: ViewDef) -> Iterable[Feature]:
    """Values of a view that a model can read: all but instants, which only expressions can."""
    for one in view.features:
        for name in view.columns_of(one):
            if one.kind != "datetime":
                yield Feature(name, one.kind, view=view, aggregate=one)


def _derived_name(view: ViewDef, name: str) -> str:
    return f"{view.name}__{name}"


def _derived(view: ViewDef, one: Expression) -> Feature:
    """A view's own expression as a feature of a model: over ``view__column`` instead of ``column``."""
    from mainspring.definitions.expressions import renamed

    columns = {c: f"{view.name}__{c}" for c in one.inputs if c != MOMENT}
    text = renamed(one.json, {c: json.dumps({"Column": full}) for c, full in columns.items()})
    name = _derived_name(view, one.name)
    inputs = tuple(columns.get(c, c) for c in one.inputs)
    return Feature(name, one.kind, expression=Expression(text, name, one.kind, inputs))


def _instant(name: str, where: str) -> DefinitionError:
    why = "a model cannot read an instant"
    return DefinitionError(
        "MS-D153", f"feature {name!r} is a datetime", where=where, why=why, hint=".dt.hour(), .dt.epoch()"
    )


def _no_label_leak(columns: tuple[Feature, ...], label: LabelDef, origin: SourceDef, where: str) -> None:
    """A request that is the label's own source would be answered with columns that are only known with the outcome."""
    if origin.name != label.source.name:
        return
    for feature in columns:
        inputs = feature.expression.inputs if feature.expression else () if feature.view else (feature.name,)
        leaked = sorted(set(inputs) & set(label.value.inputs))
        if leaked:
            why = f"column {leaked[0]!r} of {origin.name} is the outcome itself"
            raise DefinitionError("MS-D154", f"feature {feature.name!r} comes from the future", where=where, why=why)
