"""``ms.model``: the function that fits, and everything that its releases must earn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean, is_name
from mainspring.core.spans import parse_span
from mainspring.definitions.source import Source, place_of_caller
from mainspring.definitions.values import (
    TASKS,
    Feature,
    Gate,
    Guard,
    LabelDef,
    ModelDef,
    MonitorDef,
    RetrainRule,
    RolloutDef,
    SourceDef,
    ViewDef,
)
from mainspring.definitions.view import source_of

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
    return RolloutDef(parse_span(shadow), shares, parse_span(step), proofs, vetoes, alpha, parse_span(limit))


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
    return RetrainRule(every_us=parse_span(span))


def Monitor(*, every: str = "1d", retrain: RetrainRule | None = None) -> MonitorDef:  # noqa: N802  reads as the value it makes
    """How often matured predictions, drift and rollouts are judged, and what starts a training."""
    return MonitorDef(parse_span(every), retrain or RetrainRule())


def model(
    *,
    request: type[Source],
    label: LabelDef,
    task: str,
    features: Sequence[Any],
    gates: Sequence[Gate] = (),
    rollout: RolloutDef | None = None,
    monitor: MonitorDef | None = None,
    seed: int = 1,
) -> Callable[[Callable[[Any], Any]], ModelDef]:
    """Make a function ``train(dataset) -> fitted estimator`` a model.

    Raises:
        DefinitionError: Anything that does not fit together (MS-D102, MS-D150 to MS-D154).
    """
    place = place_of_caller()
    where = str(place)
    origin = source_of(request, "request=", where)
    if not isinstance(label, LabelDef):
        raise DefinitionError(
            "MS-D150", f"label= is {label!r}", where=where, hint="ms.label(Source, on=…, value=…, within=…)"
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
    columns = tuple(_features(features, origin, where))
    _no_label_leak(columns, label, origin, where)
    rollout = rollout or Rollout()
    monitor = monitor or Monitor()
    _check_metrics(task, gates, rollout, monitor, where)

    def build(fit: Callable[[Any], Any]) -> ModelDef:
        name = fit.__name__
        if not is_name(name):
            raise DefinitionError("MS-D110", f"{name!r} is no name for a model", where=where, hint="a-z, 0-9 and _")
        try:
            code = inspect.getsource(fit)
        except OSError:  # defined in a session without source
            code = fit.__code__.co_code.hex()
        doc = (fit.__doc__ or "").strip()
        return ModelDef(name, origin, label, task, columns, tuple(gates), rollout, monitor, fit, code, doc, seed, place)

    return build


def _features(features: Sequence[Any], origin: SourceDef, where: str) -> Iterable[Feature]:
    seen: dict[str, Feature] = {}
    for thing in features:
        for feature in _expand(thing, origin, where):
            if feature.name in seen:
                hint = 'give one of them another name with .alias("…")'
                raise DefinitionError("MS-D152", f"two features are named {feature.name!r}", where=where, hint=hint)
            seen[feature.name] = feature
    if not seen:
        raise DefinitionError("MS-D152", "a model needs at least one feature", where=where)
    return seen.values()


def _expand(thing: Any, origin: SourceDef, where: str) -> Iterable[Feature]:
    if isinstance(thing, ViewDef):
        for key in thing.entity:
            if key not in origin.columns:
                why = f"feature view {thing.name} is for entity {', '.join(thing.entity)}"
                hint = did_you_mean(key, origin.columns)
                raise DefinitionError(
                    "MS-D102", f"request {origin.name} has no column {key!r}", where=where, why=why, hint=hint
                )
            if origin.columns[key].kind != thing.source.columns[key].kind:
                raise DefinitionError(
                    "MS-D153", f"{key!r} has another type in {origin.name} and {thing.source.name}", where=where
                )
        for one in thing.features:
            kind = "int" if one.function == "count" else "float"
            yield Feature(thing.column(one), kind, view=thing, aggregate=one)  # type: ignore[arg-type]
        return
    if isinstance(thing, str):
        if thing not in origin.columns:
            hint = did_you_mean(thing, origin.columns)
            raise DefinitionError("MS-D102", f"request {origin.name} has no column {thing!r}", where=where, hint=hint)
        if origin.columns[thing].kind == "datetime":
            raise _instant(thing, where)
        yield Feature(thing, origin.columns[thing].kind)
        return
    if isinstance(thing, type) and issubclass(thing, Source):
        raise DefinitionError(
            "MS-D104",
            f"{thing.__name__} is a source, not a feature",
            where=where,
            hint=f"make a feature view of it: @ms.feature_view({thing.__name__}, entity=…)",
        )
    from mainspring.definitions.expressions import expression

    frozen = expression(thing, origin.schema, of=f"request {origin.name}", where=where)
    if frozen.kind == "datetime":
        raise _instant(frozen.name, where)
    yield Feature(frozen.name, frozen.kind, expression=frozen)


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
