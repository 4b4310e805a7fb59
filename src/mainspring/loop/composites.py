"""Composites at their boundaries: performance on mature labels, beside their members', latency, parity, weights.

A composite is judged as often as the member that is judged most often. What is found is written as it is of a model;
its rollouts, drift and trainings are its members'.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import polars as pl

from mainspring.catalog import Catalog, Incident
from mainspring.core import Clock
from mainspring.core.ids import content_hash
from mainspring.definitions import LOSSES, CompositeDef, Project
from mainspring.definitions.values import DAY_US
from mainspring.events.history import History
from mainspring.loop.answered import answered
from mainspring.loop.failures import Failures
from mainspring.loop.heard import Hearings, Matured, versions_now
from mainspring.loop.incidents import Change
from mainspring.loop.judging import last_judged, of_chances
from mainspring.loop.ledger import Ledger
from mainspring.loop.levels import latency_changes
from mainspring.loop.recomposed import recompose
from mainspring.loop.schedule import boundaries
from mainspring.loop.stacks import move_weights
from mainspring.monitoring import Worse, advantage_test
from mainspring.rollout import plain_loss

KIND = "composite"
"""The incident of a composite that is worse than one of its members."""
ALPHA = 0.05
_READ = ("_offset", "version", "output", "members", "spread", "latency_us")


class Composites:
    """Judges every composite of a project at its boundaries.

    Args:
        project: Its definitions.
        clock: Where the time comes from.
        history: Lake and log tail.
        catalog: The projection of decisions.
        ledger: Writes decisions.
    """

    def __init__(self, project: Project, clock: Clock, history: History, catalog: Catalog, ledger: Ledger) -> None:
        self._composites = project.composites
        self._history = history
        self._catalog = catalog
        self._ledger = ledger
        self._failures = Failures(catalog, ledger)
        self._heard = {name: Hearings(one, history) for name, one in project.composites.items()}
        self._judged_us = {
            name: last_judged(catalog, name, every_us(one), clock.now_us()) for name, one in project.composites.items()
        }

    def run_due(self, now_us: int) -> None:
        """Judge each composite at every boundary up to ``now_us``."""
        for name, composite in self._composites.items():
            due = boundaries(self._judged_us[name], now_us, every_us(composite))
            if self._failures.judge(name, due, now_us, partial(self._judge_at, composite)):
                self._heard[name] = Hearings(composite, self._history)

    def _judge_at(self, composite: CompositeDef, at_us: int) -> None:
        self._judge(composite, at_us)
        self._judged_us[composite.name] = at_us

    def _judge(self, composite: CompositeDef, at_us: int) -> None:
        self._history.catch_up()
        source = composite.label.source.name
        heard = self._heard[composite.name].advance(
            at_us, self._catalog.holds(source), self._catalog.bad_windows([source])
        )
        champions = {one.name: self._champion(one.name) for one in composite.members}
        if not any(champions.values()):
            return
        stack = self._catalog.stack(composite.name, composite.version)
        served = composite.served_version(stack.weights if stack is not None else None)
        answers = answered(self._history, composite.name, _READ, at_us - every_us(composite), at_us)
        numbers = {"version": served, "answers": answers.height, "spread": answers["spread"].mean()}
        numbers |= self._performance(composite, heard, at_us)
        now = versions_now(composite, champions)
        numbers |= self._beside_members(composite, heard, served, now, at_us)
        self._latency(composite, answers, at_us)
        recompose(composite, self._catalog, self._ledger, answers, at_us)
        if composite.how == "stack" and now is not None:
            move_weights(composite, heard, now, self._catalog, self._ledger, at_us)
        # Last, as of a model: it says that this boundary is done.
        self._ledger.decide(
            "performance",
            f"performance-{composite.name}-{at_us}",
            at_us,
            model=composite.name,
            subject=served,
            reason="judged on the labels that became mature",
            numbers=numbers,
        )

    def _champion(self, model: str) -> str | None:
        found = self._catalog.champion(model)
        return None if found is None else found.version

    def _performance(self, composite: CompositeDef, heard: Matured, at_us: int) -> dict[str, Any]:
        """The numbers of what matured since the last boundary, and of each member where it said something."""
        fresh = heard.mature_us > at_us - every_us(composite)
        numbers: dict[str, Any] = {"rows": int(fresh.sum())}
        if not fresh.any():
            return numbers
        name = LOSSES[composite.task][0]
        loss = plain_loss(name)
        numbers[name] = float(loss(heard.output[fresh], heard.y[fresh]).mean())
        numbers["members"] = {
            member.name: {"rows": int(usable.sum()), name: float(loss(said[usable], heard.y[fresh][usable]).mean())}
            for member, said in zip(composite.members, heard.said[fresh].T, strict=True)
            if (usable := ~np.isnan(said)).any()
        }
        return numbers | of_chances(composite.task, heard.output[fresh], heard.y[fresh])

    def _beside_members(
        self, composite: CompositeDef, heard: Matured, served: str, now: tuple[str, ...] | None, at_us: int
    ) -> dict[str, Any]:
        """Open or close the incident of a composite that is worse than one of its members alone."""
        incident_id = f"{KIND}-{composite.name}-{content_hash([served, now])}"
        known = [one for one in self._catalog.incidents() if one.kind == KIND and one.model == composite.name]
        for one in known:
            if one.closed_us is None and one.incident_id != incident_id:
                self._close(one, at_us, "it was of other versions of members or of other weights: judged anew")
        if now is None:
            return {}
        found = beside_members(composite, heard, served, now, at_us)
        if not found:
            return {}
        name, best = max(found.items(), key=lambda pair: (pair[1].shrunk_by_lower, pair[1].shrunk_by))
        numbers = {"beside": name, "worse_by": best.shrunk_by, "worse_by_lower": max(best.shrunk_by_lower, -1e9)}
        if best.worse and incident_id not in {one.incident_id for one in known}:
            self._open(composite, incident_id, name, best, at_us)
        return numbers

    def _open(self, composite: CompositeDef, incident_id: str, name: str, worse: Worse, at_us: int) -> None:
        loss = LOSSES[composite.task][0]
        reason = (
            f"{composite.name} is worse than its member {name} alone: {loss} {worse.shrunk_by:.4f} higher "
            f"(at least {worse.shrunk_by_lower:.4f}) on {worse.blocks} days of the same rows; ask {name} instead"
        )
        numbers = {
            "kind": KIND,
            "column": name,
            "worse_by": worse.shrunk_by,
            "worse_by_lower": worse.shrunk_by_lower,
            "blocks": worse.blocks,
        }
        change = Change("incident_open", incident_id, composite.name, reason, numbers)
        self._ledger.tell(change, at_us, model=composite.name)

    def _close(self, one: Incident, at_us: int, reason: str) -> None:
        change = Change("incident_close", one.incident_id, one.model or "", reason, {})
        self._ledger.tell(change, at_us, model=one.model)

    def _latency(self, composite: CompositeDef, answers: pl.DataFrame, at_us: int) -> None:
        for change in latency_changes(composite, answers, self._catalog.incidents(is_open=True), at_us):
            self._ledger.tell(change, at_us, model=composite.name)


def every_us(composite: CompositeDef) -> int:
    """How often a composite is judged: as often as the member that is judged most often."""
    return min(one.monitor.every_us for one in composite.members)


def beside_members(
    composite: CompositeDef, heard: Matured, served: str, now: tuple[str, ...], at_us: int
) -> dict[str, Worse]:
    """How much worse a composite is than each of its members alone, on the rows of both, whole mature days only.

    A cascade asks a later member only about rows that are hard, so it is compared with the first one.

    Args:
        composite: Which.
        heard: Its matured answers.
        served: The version of its answers that counts.
        now: The version of each member that counts.
        at_us: The moment of looking.
    """
    loss = plain_loss(LOSSES[composite.task][0])
    rows = heard.in_whole_days(composite.label.horizon_us, at_us) & heard.of(now) & (heard.served == served)
    compared = composite.members[:1] if composite.how == "cascade" else composite.members
    rows &= ~np.isnan(heard.said[:, : len(compared)]).any(axis=1)
    if not rows.any():
        return {}
    y, day = heard.y[rows], heard.time_us[rows] // DAY_US
    own = loss(heard.output[rows], y)
    return {
        member.name: advantage_test(own, loss(heard.said[rows, i], y), day, 0.0, 0.0, alpha=ALPHA / len(compared))
        for i, member in enumerate(compared)
    }
