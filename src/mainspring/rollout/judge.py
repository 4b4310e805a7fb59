"""The judge: a pure function from a plan, a state and the evidence so far to one decision.

The order of its questions, and why:

1. *Is the assignment what we set?* A sample ratio mismatch pauses: what cannot be trusted decides nothing.
2. *Is anyone harmed?* Any guard whose rollback e-process has ever reached (number of guards) / alpha rolls back, from
   any stage, also from a pause.
3. *Has the stage had its exposure?* Durations are exposure. The shadow stage and the last stage before ``live`` look
   at labels of their own traffic, so they end at exposure + label horizon at the earliest.
4. *May it go on?* From shadow into the ramp and along it, a step risks a small share of users and can be undone: it
   asks for no proof, but for no sign of harm either. Every veto guard has its minimum exposure and an upper bound
   under its ceiling, and for every prove guard at least ``min_labels`` units are mature and their mean difference is
   not above the margin.
5. *Is it proved?* The last step to ``live`` asks for all of 4 and, for every prove guard (and against the anchor if
   there is one), both the label-by-label promotion e-value at 1 / alpha and a confidence sequence over day-block means
   under the margin, after at least ``min_blocks`` days. Both are read as they stand now: a lucky moment in the past
   does not promote.
6. *Is time up?* Silence never promotes: at the limit the rollout pauses and asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, inf, log

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import ContractError
from mainspring.core.spans import UNITS_US, format_span
from mainspring.rollout.evidence import (
    binary_harm_eprocess,
    block_upper_bound,
    day_blocks,
    log_rate_evalue,
    log_sample_ratio_evalue,
    paired_eprocess,
    rate_upper_bound,
)
from mainspring.rollout.losses import loss_named
from mainspring.rollout.plan import (
    Decision,
    Evidence,
    PairedUnits,
    ProveGuard,
    RolloutPlan,
    RolloutState,
    VetoEvidence,
    VetoGuard,
)

_LOG_CAP = log(1e300)


@dataclass(frozen=True)
class _Finding:
    """What one guard says: evidence of harm, and what is missing before a step and before promotion ("" if nothing)."""

    harm_log_e: float
    harm: str
    before_step: str
    before_live: str
    numbers: dict[str, float] = field(default_factory=dict)


def judge(plan: RolloutPlan, state: RolloutState, evidence: Evidence, now_us: int) -> Decision:
    """Decide what a rollout does now. Pure: the same arguments give the same decision.

    Args:
        plan: How the challenger earns its traffic.
        state: Where the rollout stands.
        evidence: All evidence since it began; units that are not mature at ``now_us`` are ignored.
        now_us: The moment of judging.
    """
    if state.stage in ("live", "rolled_back"):
        return Decision("stay", state.stage, "The rollout has ended.", {})
    if state.stage != "paused" and state.stage not in plan.stages:
        raise ContractError(
            "MS-R110", f"{state.stage!r} is not a stage of this rollout", why=f"stages are {', '.join(plan.stages)}"
        )
    findings = [_prove_finding(plan, guard, evidence.paired, now_us) for guard in plan.prove]
    findings += [
        _veto_finding(plan, guard, evidence.veto.get(guard.metric, VetoEvidence.empty())) for guard in plan.veto
    ]
    numbers = {name: value for finding in findings for name, value in finding.numbers.items()}
    srm = log_sample_ratio_evalue(evidence.assignments)
    needed = len(findings) / plan.alpha
    numbers |= {"sample_ratio.e": _e(srm), "rollback.needed_e": needed, "exposure_us": float(state.exposure_us)}

    if srm >= -log(plan.srm_alpha):
        if state.stage == "paused":
            return Decision(
                "stay", "paused", "Paused: traffic is still not split by the weights that were set.", numbers
            )
        reason = (
            f"Traffic is not split by the weights that were set (evidence {_e(srm):.3g} to 1): decisions are frozen."
        )
        return Decision("pause", "paused", reason, numbers)
    harms = [finding for finding in findings if finding.harm_log_e >= log(needed)]
    if harms:
        worst = max(harms, key=lambda finding: finding.harm_log_e)
        evidence_text = f"evidence {_e(worst.harm_log_e):.3g} to 1, {needed:.3g} needed"
        return Decision("rollback", "rolled_back", f"{worst.harm} ({evidence_text}).", numbers)
    if state.stage == "paused":
        return Decision("stay", "paused", "Paused: it waits for a person.", numbers)
    return _next_step(plan, state, findings, now_us, numbers)


def mature_units(units: PairedUnits, now_us: int) -> NDArray[np.int64]:
    """Indices of the units that count at ``now_us``, in the order in which they began to count.

    By maturity, then by moment: with one label horizon that is the order of exposure, and a unit held back by an
    incident joins at the end when it is released, so evidence already gathered is never reordered.
    """
    order = np.lexsort((units.t_us, units.mature_at_us))
    return order[units.mature_at_us[order] <= now_us]


def complete_day_blocks(units: PairedUnits, d: NDArray[np.float64], now_us: int, min_units: int) -> NDArray[np.float64]:
    """Means of D over days whose units are all mature and that a later mature day follows.

    Args:
        units: All units.
        d: Their differences of losses, in the order of ``units``, shape (n,).
        now_us: The moment of judging.
        min_units: Thinner days are joined: see `day_blocks`.
    """
    mature = units.mature_at_us <= now_us
    if not mature.any():
        return np.empty(0, dtype=np.float64)
    closed = mature & (units.day < units.day[mature].max()) & ~np.isin(units.day, units.day[~mature])
    return day_blocks(d[closed], units.day[closed], min_units)


def _prove_finding(plan: RolloutPlan, guard: ProveGuard, units: PairedUnits, now_us: int) -> _Finding:
    loss = loss_named(guard.metric, guard.bound)
    order = mature_units(units, now_us)
    rivals = [("champion", units.p_champion)] + ([("anchor", units.p_anchor)] if units.p_anchor is not None else [])
    harm_log_e, numbers, before_step, before_live = -inf, {f"{guard.metric}.labels": float(len(order))}, "", ""
    for rival, p_rival in rivals:
        d = loss.difference(units.p_challenger, p_rival, units.y)
        process = paired_eprocess(d[order], guard.margin, loss.bound, rollback_margin=guard.tolerated)
        promotion = float(process.log_promotion[-1]) if len(order) else 0.0
        blocks = complete_day_blocks(units, d, now_us, plan.min_block_units)
        upper = (
            float(block_upper_bound(blocks, plan.alpha, plan.tuned_for, plan.min_blocks)[-1]) if len(blocks) else inf
        )
        mean = float(d[order].mean()) if len(order) else 0.0
        name = guard.metric if rival == "champion" else f"{guard.metric}.{rival}"
        numbers |= {
            f"{name}.mean_difference": mean,
            f"{name}.promotion_e": _e(promotion),
            f"{name}.blocks": float(len(blocks)),
        }
        if np.isfinite(upper):
            numbers[f"{name}.upper_bound"] = upper
        if rival == "champion":
            harm_log_e = float(process.log_rollback.max(initial=-inf))
            numbers[f"{name}.rollback_e"] = _e(harm_log_e)
        if len(order) < plan.min_labels:
            before_step = before_step or f"{guard.metric} has {len(order)} mature labels of {plan.min_labels}"
        elif mean > guard.margin:
            before_step = before_step or f"{guard.metric} is {mean:.4f} above the {rival}'s so far"
        if len(blocks) < plan.min_blocks:
            before_live = (
                before_live or f"{guard.metric} has {len(blocks)} whole days of mature labels of {plan.min_blocks}"
            )
        elif upper >= guard.margin:
            bound = f"may be up to {upper:.4f} above the {rival}'s, {guard.margin:g} allowed"
            before_live = before_live or f"{guard.metric} {bound}"
        elif promotion < -log(plan.alpha):
            odds = f"evidence {_e(promotion):.3g} to 1 against the {rival}, {1 / plan.alpha:.3g} needed"
            before_live = before_live or f"{guard.metric} has {odds}"
    harm = f"{guard.metric} is worse than the champion's by more than {guard.tolerated:g} over {len(order)} labels"
    return _Finding(harm_log_e, harm, before_step, before_live, numbers)


def _veto_finding(plan: RolloutPlan, guard: VetoGuard, seen: VetoEvidence) -> _Finding:
    running = binary_harm_eprocess(seen.is_challenger, seen.rho, guard.harm_ratio)
    harm_log_e = float(running.max(initial=-inf))
    if guard.tolerated > 0.0:
        # Both nulls have to fall: worse than the champion, and beyond what was declared to be acceptable.
        harm_log_e = min(harm_log_e, log_rate_evalue(seen.failures, seen.exposures, guard.tolerated, "above"))
    upper = rate_upper_bound(seen.failures, seen.exposures, plan.alpha)
    before_step = ""
    if seen.exposures < guard.min_exposure:
        before_step = f"{guard.metric} has {seen.exposures} exposures of {guard.min_exposure}"
    elif upper >= guard.ceiling:
        before_step = f"{guard.metric} may fail up to {upper:.2%} of answers, {guard.ceiling:.2%} allowed"
    share = seen.failures / seen.exposures if seen.exposures else 0.0
    numbers = {
        f"{guard.metric}.exposures": float(seen.exposures),
        f"{guard.metric}.failures": float(seen.failures),
        f"{guard.metric}.upper_bound": upper,
        f"{guard.metric}.ceiling": guard.ceiling,
        f"{guard.metric}.rollback_e": _e(harm_log_e),
    }
    harm = (
        f"{guard.metric}: the challenger fails more often than the champion ({share:.2%} of {seen.exposures} answers)"
    )
    return _Finding(harm_log_e, harm, before_step, before_step, numbers)


def _next_step(
    plan: RolloutPlan, state: RolloutState, findings: list[_Finding], now_us: int, numbers: dict[str, float]
) -> Decision:
    """Questions 3 to 6: nothing speaks against the challenger, so may it go on?"""
    to_live = state.stage == plan.stages[-2]
    missing = _missing_time(plan, state, now_us)
    missing += [text for f in findings if (text := f.before_step or (f.before_live if to_live else ""))]
    following = plan.stages[plan.stages.index(state.stage) + 1]
    if not missing and to_live:
        return Decision(
            "promote", "live", "Every guard is proved: the challenger is not worse than the champion.", numbers
        )
    if not missing:
        reason = f"No sign of harm: on to {plan.challenger_weight(following):.0%} of traffic."
        return Decision("advance", following, reason, numbers)
    waiting = "; ".join(missing)
    if now_us - state.started_at_us >= plan.time_limit_us:
        reason = f"No decision after {format_span(plan.time_limit_us)}; a person has to decide. Missing: {waiting}."
        return Decision("pause", "paused", reason, numbers)
    return Decision("stay", state.stage, f"Not yet: {waiting}.", numbers)


def _missing_time(plan: RolloutPlan, state: RolloutState, now_us: int) -> list[str]:
    wanted = plan.shadow_us if state.stage == "shadow" else plan.step_us
    if state.exposure_us < wanted:
        return [f"{_minutes(wanted - state.exposure_us)} of exposure to come"]
    needs_labels = bool(plan.prove) and (state.stage == "shadow" or state.stage == plan.stages[-2])
    earliest_us = state.entered_at_us + wanted + state.label_horizon_us
    if needs_labels and now_us < earliest_us:
        return [f"labels of this stage are mature in {_minutes(earliest_us - now_us)}"]
    return []


def _minutes(span_us: int) -> str:
    """A span in whole minutes, rounded up."""
    return format_span(-(-span_us // UNITS_US["m"]) * UNITS_US["m"])


def _e(log_e: float) -> float:
    return exp(min(log_e, _LOG_CAP))
