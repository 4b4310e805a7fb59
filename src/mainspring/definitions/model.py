"""``ms.model``: the function that fits, and everything that its releases must earn."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean, is_name
from mainspring.core.spans import parse_span
from mainspring.definitions import lines
from mainspring.definitions.aggregates import Pending
from mainspring.definitions.features import MOMENT, Feature, ViewDef
from mainspring.definitions.mention import mention
from mainspring.definitions.otherwise import Otherwise
from mainspring.definitions.source import Source, place_of_caller
from mainspring.definitions.values import (
    TASKS,
    Expression,
    Gate,
    Guard,
    LabelDef,
    ModelDef,
    MonitorDef,
    Place,
    RetrainRule,
    RolloutDef,
    SourceDef,
)
from mainspring.definitions.view import source_of, views_used

LOSSES = {"binary_classification": ("log_loss", "brier", "zero_one"), "regression": ("absolute_error",)}
METRICS = {
    "binary_classification": {"roc_auc": 1, "log_loss": -1, "brier": -1, "accuracy": 1},
    "regression": {"absolute_error": -1, "rmse": -1, "r2": 1},
}
VETOES = ("errors", "fallbacks", "p99_ms")
_DAYS = 86_400_000_000


def gate(metric: str, *, at_least: float | None = None, at_most: float | None = None, beats: str | None = None) -> Gate:
    """A condition on the test split: a bound, or better than ``"champion"`` or ``"baseline"`` on the same rows."""
    if sum(x is not None for x in (at_least, at_most, beats)) != 1:
        raise DefinitionError(
            "MS-D140", f"gate({metric!r}) needs one of at_least=, at_most=, beats=", where=str(place_of_caller())
        )
    if beats not in (None, "champion", "baseline"):
        raise DefinitionError(
            "MS-D140", f"beats={beats!r}", where=str(place_of_caller()), hint='"champion" or "baseline"'
        )
    return Gate(metric, at_least, at_most, beats)


def guard(metric: str, *, margin: float | None = None, under: float | None = None, bound: float | None = None) -> Guard:
    """A condition on live traffic: a loss with its margin (``prove``), or a ceiling (``veto``)."""
    return Guard(metric, margin, under, bound)


def Rollout(  # noqa: N802  reads as the value it makes
    *,
    shadow: str = "1d",
    ramp: Sequence[float] = (0.05, 0.25, 0.5),
    step: str = "1d",
    prove: Iterable[Guard] = (),
    veto: Iterable[Guard] = (),
    alpha: float = 0.05,
    limit: str = "60d",
) -> RolloutDef:
    """How a release earns its traffic; spans are exposure, not calendar.

    Args:
        shadow: Scored beside the champion, serving nobody, for this long.
        ramp: Rising shares of traffic, each below 1.
        step: Exposure at each share.
        prove: Losses for which non-inferiority must be shown.
        veto: Ceilings that roll back when broken.
        alpha: Error rate of each side of the evidence.
        limit: After this long without proof the rollout stops and asks.

    Raises:
        DefinitionError: A share, guard or alpha cannot be (MS-D141).
    """
    where = str(place_of_caller())
    shares = tuple(float(x) for x in ramp)
    if any(not 0 < x < 1 for x in shares) or list(shares) != sorted(set(shares)):
        raise DefinitionError(
            "MS-D141", f"ramp={list(ramp)} must rise between 0 and 1", where=where, hint="ramp=[0.05, 0.25, 0.5]"
        )
    if not 0 < alpha < 0.5:
        raise DefinitionError("MS-D141", f"alpha={alpha} must lie between 0 and 0.5", where=where)
    proofs, vetoes = tuple(prove), tuple(veto)
    for one in proofs:
        if one.margin is None or one.margin <= 0:
            why = "equal is not provable without a margin"
            raise DefinitionError("MS-D141", f"prove: guard({one.metric!r}) needs margin=", where=where, why=why)
    for one in vetoes:
        if one.metric not in VETOES:
            hint = did_you_mean(one.metric, VETOES)
            raise DefinitionError("MS-D141", f"veto: {one.metric!r} is not known", where=where, hint=hint)
    spans = {"shadow": shadow, "step": step, "limit": limit}
    shadow_us, step_us, limit_us = (parse_span(s, said=f"{word}={s!r}", where=where) for word, s in spans.items())
    return RolloutDef(shadow_us, shares, step_us, proofs, vetoes, alpha, limit_us)


def when_worse(metric: str, *, by: float, than: str = "baseline") -> RetrainRule:
    """Train again when the advantage over the baseline, on the same rows, has shrunk by more than ``by``."""
    where = str(place_of_caller())
    if than != "baseline":
        why = "losses move with the season; only a reference on the same rows tells the model's own fault"
        raise DefinitionError("MS-D142", f"when_worse(than={than!r})", where=where, why=why, hint='than="baseline"')
    if by <= 0:
        raise DefinitionError("MS-D142", f"when_worse(by={by}) must be above 0", where=where)
    return RetrainRule(worse=(metric, float(by), than))


def every(span: str) -> RetrainRule:
    """Train again on a schedule."""
    return RetrainRule(every_us=parse_span(span, said=f"every({span!r})", where=str(place_of_caller())))


def Monitor(*, every: str = "1d", retrain: RetrainRule | None = None) -> MonitorDef:  # noqa: N802  reads as the value it makes
    """How often matured predictions, drift and rollouts are judged, and what starts a training."""
    every_us = parse_span(every, said=f"every={every!r}", where=str(place_of_caller()))
    return MonitorDef(every_us, retrain or RetrainRule())


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
    seed: int = 1,
) -> Callable[[Callable[[Any], Any]], ModelDef]:
    """Make a function ``train(dataset) -> fitted estimator`` a model.

    A feature is a feature view (all of it), a column of the request, or an expression over columns of the request and
    of views, such as ``(Card.col("sum_1h") / Card.col("sum_24h")).alias("share")``. Views that only expressions read
    are named in ``using=``. ``otherwise=`` says what is answered when the model cannot.

    Raises:
        DefinitionError: Anything that does not fit together (MS-D102, MS-D150 to MS-D155).
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
    rollout = rollout or Rollout()
    monitor = monitor or Monitor()
    _check_metrics(task, gates, rollout, monitor, where)
    if otherwise is not None and not isinstance(otherwise, Otherwise):
        raise DefinitionError("MS-D155", f"otherwise= is {otherwise!r}", where=where, hint="ms.otherwise(value=…)")
    instead = otherwise.bound(origin, task) if otherwise is not None else None

    def build(fit: Callable[[Any], Any]) -> ModelDef:
        name = fit.__name__
        if not is_name(name):
            raise DefinitionError("MS-D110", f"{name!r} is no name for a model", where=where, hint="a-z, 0-9 and _")
        try:
            code = inspect.getsource(fit)
        except OSError:  # defined in a session without source
            code = fit.__code__.co_code.hex()
        doc = (fit.__doc__ or "").strip()
        used = tuple(views[view] for view in sorted(read))
        return ModelDef(
            name,
            origin,
            label,
            task,
            columns,
            tuple(gates),
            rollout,
            monitor,
            fit,
            code,
            doc,
            seed,
            place,
            used,
            otherwise=instead,
        )

    return build


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


def _check_metrics(task: str, gates: Sequence[Gate], rollout: RolloutDef, monitor: MonitorDef, where: str) -> None:
    known = METRICS[task]
    for one in gates:
        if one.metric not in known:
            raise DefinitionError(
                "MS-D140", f"gate {one.metric!r} is not for {task}", where=where, hint=did_you_mean(one.metric, known)
            )
    losses = LOSSES[task]
    for proof in rollout.prove:
        if proof.metric not in losses:
            hint = did_you_mean(proof.metric, losses)
            raise DefinitionError("MS-D141", f"prove: {proof.metric!r} is no loss of {task}", where=where, hint=hint)
        if proof.metric == "absolute_error" and (proof.bound is None or proof.bound <= 0):
            why = "evidence about a mean needs a bounded loss"
            raise DefinitionError("MS-D141", "prove: absolute_error needs bound=", where=where, why=why)
    worse = monitor.retrain.worse
    if worse is not None and worse[0] not in losses:
        raise DefinitionError(
            "MS-D142",
            f"when_worse({worse[0]!r}) is no loss of {task}",
            where=where,
            hint=did_you_mean(worse[0], losses),
        )
    if monitor.every_us < 60_000_000:
        raise DefinitionError(
            "MS-D142", "a model is judged once a minute at most", where=where, hint='Monitor(every="1d")'
        )
