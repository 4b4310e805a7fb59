"""The weights of a stack: given when shown to be better than what serves, taken back when shown to be worse."""

from __future__ import annotations

import numpy as np

from mainspring.catalog import Catalog, Stack
from mainspring.core import to_iso
from mainspring.definitions import LOSSES, CompositeDef
from mainspring.definitions.composition import MEAN
from mainspring.loop.heard import Matured
from mainspring.loop.ledger import Ledger
from mainspring.monitoring import Worse, advantage_test
from mainspring.monitoring.stacking import Heard, Proof, proofs, proved, weighted
from mainspring.rollout import plain_loss


def move_weights(
    composite: CompositeDef, matured: Matured, now: tuple[str, ...], catalog: Catalog, ledger: Ledger, at_us: int
) -> None:
    """Give or take back the weights of one stack at one boundary; the same boundary twice writes nothing new.

    Args:
        composite: A stack.
        matured: Its matured answers.
        now: The version of each member that serves.
        catalog: Caught up.
        ledger: Where decisions are written.
        at_us: The boundary.
    """
    stack = catalog.stack(composite.name, composite.version)
    usable = matured.by_all & matured.in_whole_days(composite.label.horizon_us, at_us)
    if stack is not None:
        worse = _watched(composite, stack, _rows(matured, usable & (matured.time_us >= stack.at_us)))
        if worse.worse:
            _take_back(composite, stack, worse, ledger, at_us)
            return
    heard = _rows(matured, usable & matured.of(now))
    members = tuple(one.name for one in composite.members)
    taken = [one.at_us for one in catalog.decisions("rollback", model=composite.name) if not one.note]
    since_us = stack.numbers.get("until_us", stack.at_us) if stack is not None else 0
    after_us = max([*taken, since_us])
    serving = stack.weights if stack is not None else None
    best = proved(proofs(members, composite.task, heard, LOSSES[composite.task][0], serving, after_us))
    if best is not None:
        _give(composite, best, now, serving.version if serving is not None else MEAN, ledger, at_us)


def _rows(matured: Matured, chosen: np.ndarray) -> Heard:
    return Heard(matured.said[chosen], matured.y[chosen], matured.time_us[chosen], matured.mature_us[chosen])


def _watched(composite: CompositeDef, stack: Stack, heard: Heard) -> Worse:
    """Whether weights lose to the mean on what was asked since they serve, whatever version a member has by now."""
    loss = plain_loss(LOSSES[composite.task][0])
    own, mean = (loss(weighted(heard.said, one), heard.y) for one in (stack.weights, None))
    return advantage_test(own, mean, heard.day, 0.0, 0.0)


def _take_back(composite: CompositeDef, stack: Stack, worse: Worse, ledger: Ledger, at_us: int) -> None:
    reason = (
        f"the weights lose to the mean: {LOSSES[composite.task][0]} {worse.shrunk_by:.4f} higher "
        f"(at least {worse.shrunk_by_lower:.4f}) on {worse.blocks} days since they serve"
    )
    ledger.decide(
        "rollback",
        f"rollback-{composite.name}-{at_us}",
        at_us,
        model=composite.name,
        subject=stack.weights.version,
        reason=reason,
        numbers={
            "version": stack.weights.version,
            "worse_by": worse.shrunk_by,
            "worse_by_lower": worse.shrunk_by_lower,
            "blocks": worse.blocks,
        },
    )


def _give(
    composite: CompositeDef, proof: Proof, now: tuple[str, ...], against: str, ledger: Ledger, at_us: int
) -> None:
    better, loss = proof.better_by, LOSSES[composite.task][0]
    what = "the mean" if against == MEAN else f"the weights {against}"
    reason = (
        f"{loss} {better.mean:.4f} lower than by {what} (between {better.lower:.4f} and {better.upper:.4f}) on "
        f"{proof.tested:,} outcomes of {better.blocks} days after {to_iso(proof.until_us)}, up to which "
        f"{proof.rows:,} outcomes made them"
    )
    ledger.decide(
        "weights",
        f"weights-{composite.name}-{at_us}",
        at_us,
        model=composite.name,
        subject=proof.weights.version,
        reason=reason,
        numbers={
            "definition": composite.version,
            "weights": proof.weights.describe(),
            "versions": {one.name: version for one, version in zip(composite.members, now, strict=True)},
            "against": against,
            "metric": loss,
            "rows": proof.rows,
            "until_us": proof.until_us,
            "better_by": better.mean,
            "better_by_lower": better.lower,
            "better_by_upper": better.upper,
            "blocks": better.blocks,
            "alpha": proof.alpha,
            "tested": proof.tested,
        },
    )
