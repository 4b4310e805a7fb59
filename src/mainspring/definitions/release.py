"""What the releases of a model must earn: gates before, guards during a rollout, the monitor's rules afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean
from mainspring.core.spans import format_span, parse_span
from mainspring.definitions.kinds import list_of_kind, number, one_of_kind
from mainspring.definitions.misused import EXAMPLES
from mainspring.definitions.source import place_of_caller
from mainspring.definitions.values import CacheDef, Gate, Guard, LatencyDef, MonitorDef, RetrainRule, RolloutDef

LOSSES = {"binary_classification": ("log_loss", "brier", "zero_one"), "regression": ("absolute_error",)}
METRICS = {
    "binary_classification": {"roc_auc": 1, "log_loss": -1, "brier": -1, "accuracy": 1},
    "regression": {"absolute_error": -1, "rmse": -1, "r2": 1},
}
LEAST_CACHE_BYTES = 100_000
VETOES = ("errors", "fallbacks", "p50_ms", "p95_ms", "p99_ms")


def gate(metric: str, *, at_least: float | None = None, at_most: float | None = None, beats: str | None = None) -> Gate:
    """A condition on the test split: a bound, or better than ``"champion"`` or ``"baseline"`` on the same rows."""
    if sum(x is not None for x in (at_least, at_most, beats)) != 1:
        raise DefinitionError(
            "MS-D140", f"gate({metric!r}) needs one of at_least=, at_most=, beats=", where=str(place_of_caller())
        )
    for word, bound in (("at_least", at_least), ("at_most", at_most)):
        if bound is not None:
            where = str(place_of_caller())
            number(bound, f"{word}= of gate({metric!r})", "MS-D140", where, EXAMPLES["gate"])
    if beats not in (None, "champion", "baseline"):
        raise DefinitionError(
            "MS-D140", f"beats={beats!r}", where=str(place_of_caller()), hint='"champion" or "baseline"'
        )
    return Gate(metric, at_least, at_most, beats)


def guard(metric: str, *, margin: float | None = None, under: float | None = None, bound: float | None = None) -> Guard:
    """A condition on live traffic: a loss with its margin (``prove``), or a ceiling (``veto``)."""
    for word, value in (("margin", margin), ("under", under), ("bound", bound)):
        if value is not None:
            where = str(place_of_caller())
            number(value, f"{word}= of guard({metric!r})", "MS-D141", where, EXAMPLES["guard"])
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
    """How a release earns its traffic; ``shadow`` and ``step`` are exposure: time in a pause does not count.

    Args:
        shadow: Scored beside the champion, serving nobody, for this long.
        ramp: Rising shares of traffic, each below 1.
        step: Exposure at each share.
        prove: Losses for which non-inferiority must be shown.
        veto: Ceilings that roll back when broken; ``errors`` where nothing is to be proved or vetoed.
        alpha: Chance of promoting a challenger that is worse by a guard's margin, and of rolling back one that harms
            nobody, over all looks of the rollout.
        limit: After this long from the beginning, by the calendar, the rollout stops and asks.

    Raises:
        DefinitionError: A share, guard or alpha cannot be, or the limit is up before the last step is (MS-D141).
    """
    where = str(place_of_caller())
    given = list_of_kind(ramp, object, "ramp", "MS-D141", where, "0.05, 0.25, 0.5")
    shares = tuple(float(number(x, "a share of ramp=", "MS-D141", where, "ramp=[0.05, 0.25, 0.5]")) for x in given)
    if any(not 0 < x < 1 for x in shares) or list(shares) != sorted(set(shares)):
        raise DefinitionError(
            "MS-D141", f"ramp={list(ramp)} must rise between 0 and 1", where=where, hint="ramp=[0.05, 0.25, 0.5]"
        )
    if not 0 < number(alpha, "alpha=", "MS-D141", where, "alpha=0.05") < 0.5:
        raise DefinitionError("MS-D141", f"alpha={alpha} must lie between 0 and 0.5", where=where)
    proofs = list_of_kind(prove, Guard, "prove", "MS-D141", where, EXAMPLES["guard"])
    vetoes = list_of_kind(veto, Guard, "veto", "MS-D141", where, 'ms.guard("errors"), ms.guard("p99_ms", under=20)')
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
    takes_us = shadow_us + len(shares) * step_us
    if limit_us <= takes_us:
        what = f"limit={limit!r} is up before the rollout can be over"
        why = f"shadow and {len(shares)} steps of the ramp take {format_span(takes_us)}, and labels come on top"
        raise DefinitionError(
            "MS-D141", what, where=where, why=why, hint="a longer limit=, or a shorter shadow= or step="
        )
    if not (proofs or vetoes):
        vetoes = (Guard("errors"),)  # what nothing is asked of would be judged by nothing
    return RolloutDef(shadow_us, shares, step_us, proofs, vetoes, alpha, limit_us)


def Latency(  # noqa: N802  reads as the value it makes
    *, p50: str | None = None, p95: str | None = None, p99: str | None = None
) -> LatencyDef:
    """How quickly a model shall answer, by quantile.

    Checked when a version is packaged (a gate: the model alone must leave room), a veto of each rollout, and an
    incident where answers are slower for long.

    Raises:
        DefinitionError: No limit, or one that falls (MS-D157).
    """
    where = str(place_of_caller())
    given = ((0.5, p50), (0.95, p95), (0.99, p99))
    limits = tuple(
        (quantile, parse_span(span, said=f"p{quantile * 100:g}={span!r}", where=where))
        for quantile, span in given
        if span is not None
    )
    spans = [limit for _, limit in limits]
    if not limits or spans[0] <= 0 or spans != sorted(spans):
        what = "a latency budget rises from p50 to p99"
        raise DefinitionError("MS-D157", what, where=where, hint=EXAMPLES["Latency"])
    return LatencyDef(limits)


def Cache(*, ttl: str, max_bytes: int = 64_000_000) -> CacheDef:  # noqa: N802  reads as the value it makes
    """Answers are kept, and given again to whoever asks the same: opt-in, for models whose inputs repeat.

    Args:
        ttl: The greatest age of an answer, such as ``"10s"``: so long nobody sees what happened since.
        max_bytes: In each worker of the gateway, about; what was not asked for the longest goes first.

    Raises:
        DefinitionError: No such cache can be (MS-D159, MS-D001).
    """
    where = str(place_of_caller())
    ttl_us = parse_span(ttl, said=f"ttl={ttl!r}", where=where)
    if not ttl_us:
        why = "an answer that is never given again need not be kept"
        raise DefinitionError("MS-D159", f"Cache(ttl={ttl!r})", where=where, why=why, hint=EXAMPLES["Cache"])
    if type(max_bytes) is not int or max_bytes < LEAST_CACHE_BYTES:
        what = f"Cache(max_bytes={max_bytes!r}) is no whole number of at least {LEAST_CACHE_BYTES}"
        raise DefinitionError("MS-D159", what, where=where, hint="max_bytes=64_000_000")
    return CacheDef(ttl_us, max_bytes)


def vetoes_of(rollout: RolloutDef, latency: LatencyDef | None) -> RolloutDef:
    """A rollout that also keeps the latency budget; what it declares of a quantile itself stays."""
    if latency is None:
        return rollout
    said = {one.metric for one in rollout.veto}
    budget = ((f"p{quantile * 100:g}_ms", limit / 1_000) for quantile, limit in latency.limits)
    added = tuple(Guard(metric, under=under) for metric, under in budget if metric not in said)
    return replace(rollout, veto=(*rollout.veto, *added))


def when_worse(metric: str, *, by: float, than: str = "baseline") -> RetrainRule:
    """Train again when the advantage over the baseline, on the same rows, has shrunk by more than ``by``."""
    where = str(place_of_caller())
    if than != "baseline":
        why = "losses move with the season; only a reference on the same rows tells the model's own fault"
        raise DefinitionError("MS-D142", f"when_worse(than={than!r})", where=where, why=why, hint='than="baseline"')
    if number(by, "by= of when_worse", "MS-D142", where, EXAMPLES["when_worse"]) <= 0:
        raise DefinitionError("MS-D142", f"when_worse(by={by}) must be above 0", where=where)
    return RetrainRule(worse=(metric, float(by), than))


def every(span: str) -> RetrainRule:
    """Train again on a schedule."""
    return RetrainRule(every_us=parse_span(span, said=f"every({span!r})", where=str(place_of_caller())))


def Monitor(*, every: str = "1d", retrain: RetrainRule | None = None) -> MonitorDef:  # noqa: N802  reads as the value it makes
    """How often matured predictions, drift and rollouts are judged, and what starts a training."""
    where = str(place_of_caller())
    every_us = parse_span(every, said=f"every={every!r}", where=where)
    hint = 'retrain=ms.when_worse("log_loss", by=0.01) | ms.every("30d")'
    rule = RetrainRule() if retrain is None else one_of_kind(retrain, RetrainRule, "retrain", "MS-D142", where, hint)
    return MonitorDef(every_us, rule)


def check_metrics(task: str, gates: Sequence[Gate], rollout: RolloutDef, monitor: MonitorDef, where: str) -> None:
    """Whether a task has the metrics that its model's gates, guards and monitor name.

    Raises:
        DefinitionError: It has not (MS-D140 to MS-D142).
    """
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
