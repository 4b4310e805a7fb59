"""Everything the demo's report says, gathered from log, lake and catalog after the run: no prose, no pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.catalog import Catalog, Decision, Incident, Rollout
from mainspring.core import load_config
from mainspring.definitions import load_project
from mainspring.demo.account import Account, Reconciliation, reconcile
from mainspring.demo.driver import MODEL
from mainspring.demo.record import Demo
from mainspring.demo.scoreboard import Month, scoreboard
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Log
from mainspring.events.system import PREDICTION
from mainspring.features.parity import ParityReport, sampled
from mainspring.loop.audit import check_releases
from mainspring.loop.outcomes import Outcomes
from mainspring.training import load as load_dataset

PARITY_SHARE = 0.01


@dataclass(frozen=True)
class Findings:
    """What the run showed.

    Attributes:
        months: Served, frozen and static models on the same rows.
        decisions: All decisions, in the log's order.
        predictions: How many answers were logged, by who answered.
        parity: A sample of served features against replay at the logged offset.
        wall_s: From the first step to the last.
    """

    demo: Demo
    months: list[Month]
    decisions: tuple[Decision, ...]
    rollouts: tuple[Rollout, ...]
    incidents: tuple[Incident, ...]
    reconciliations: list[Reconciliation]
    predictions: dict[str, int]
    parity: ParityReport
    wall_s: float = 0.0

    def timed(self, wall_s: float) -> Findings:
        """The same with the wall time of the whole run."""
        return replace(self, wall_s=wall_s)

    @property
    def streamed(self) -> int:
        """Events that were streamed to the intake: all that were sent, less history and requests."""
        return sum(self.account.sent.values()) - self.account.loaded - len(self.account.latencies_ms)

    @property
    def account(self) -> Account:
        """The sender's book."""
        return self.demo.account

    @property
    def lost(self) -> int:
        """Events that were accepted and are nowhere."""
        return sum(one.lost for one in self.reconciliations)

    @property
    def twice(self) -> int:
        """Events that are there more than once."""
        return sum(one.twice for one in self.reconciliations)

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON."""
        account = self.account
        return {
            "wall_s": self.wall_s,
            "months": [
                {"month": m.month, "rows": m.rows, "roc_auc": m.roc_auc, "log_loss": m.log_loss} for m in self.months
            ],
            "events": {
                source: {
                    "sent": n,
                    "accepted": account.accepted[source],
                    "quarantined": account.quarantined[source],
                    "duplicate": account.duplicate[source],
                }
                for source, n in account.sent.items()
            },
            "mended": account.mended,
            "lost": self.lost,
            "twice": self.twice,
            "failed_requests": account.failed_requests,
            "predictions": self.predictions,
            "latency_ms": {"p50": account.latency(0.5), "p99": account.latency(0.99)},
            "rollouts": [
                {"version": r.challenger, "state": r.state, "forced": r.forced, "reason": r.reason}
                for r in self.rollouts
            ],
            "incidents": [{"id": i.incident_id, "kind": i.kind, "open": i.closed_us is None} for i in self.incidents],
            "parity": self.parity.to_dict(),
            "steps_s": self.demo.steps_s,
        }


def gather(demo: Demo, now_us: int) -> Findings:
    """Read everything back from the stores, as an auditor would, and compare with what was sent."""
    config = load_config(demo.folder)
    project = load_project(config.definitions)
    model = project.models[MODEL]
    with Catalog.open(config.catalog_url) as catalog:
        log = Log.open(config.log_path, config.limits.log_map_bytes)
        try:
            history = History(project, log, Lake(config.lake_path))
            history.catch_up()
            outcomes = Outcomes(model, history)
            label_of = model.label.source.name
            outcomes.advance(now_us, catalog.holds(label_of), catalog.bad_windows([label_of]))
            predictions = history.frame(PREDICTION.name)
            first = catalog.version(MODEL, demo.first_version)
            return Findings(
                demo=demo,
                months=scoreboard(
                    model, outcomes.all(), config.located(first.path), load_dataset(Path(demo.first_dataset))
                ),
                decisions=catalog.decisions(),
                rollouts=catalog.rollouts(MODEL),
                incidents=catalog.incidents(),
                reconciliations=[reconcile(s, ids, history.frame(s)) for s, ids in demo.account.ids.items()],
                predictions=dict(predictions.group_by("variant").agg(pl.len()).iter_rows()),
                parity=check_releases(model, catalog, sampled(predictions, PARITY_SHARE), history),
            )
        finally:
            log.close()
