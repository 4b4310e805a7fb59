"""The controller: at each boundary of time it judges, decides and starts what is due. It holds no truth of its own.

What it knows is in the log and the catalog; a controller that is killed and started again goes on at the boundary it
had reached, and a decision that it had already written is not written again, because its id is made of what and when.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from functools import partial

import polars as pl

from mainspring.catalog import Catalog, Version
from mainspring.core import Clock, Config, to_iso
from mainspring.definitions import LOSSES, ModelDef, Project
from mainspring.definitions.values import DAY_US
from mainspring.events.history import History
from mainspring.events.log import Log
from mainspring.events.system import PREDICTION
from mainspring.features import OnlineStore
from mainspring.features.freshness import freshness
from mainspring.loop import incidents, judging, rollouts
from mainspring.loop.answered import answered
from mainspring.loop.audit import audit
from mainspring.loop.checks import Checker, blocked
from mainspring.loop.composites import Composites
from mainspring.loop.failures import Failures
from mainspring.loop.ledger import Ledger
from mainspring.loop.levels import freshness_changes, latency_changes
from mainspring.loop.orphans import orphan_changes
from mainspring.loop.outcomes import Outcomes
from mainspring.loop.pipelines import Pipelines
from mainspring.loop.schedule import boundaries, retrain_is_due
from mainspring.models import Package, load
from mainspring.monitoring import Reference
from mainspring.rollout import RolloutState, judge, plan_of
from mainspring.training import load as load_dataset
from mainspring.training import sources_of

LOOK_US = 60_000_000
MIN_DRIFT_ROWS = 200
PATIENCE_US = 7 * DAY_US
"""After a training the rule "when worse" waits this long: what it trained has to be judged first."""
_log = logging.getLogger(__name__)


class Controller:
    """Judges every model of a project at its boundaries, and moves its releases.

    Args:
        config: The project's settings.
        project: Its definitions.
        clock: Where the time comes from.
        log: Read-only, for the quarantine.
        history: Lake and log tail; used by this thread only.
        catalog: The projection of decisions.
        ledger: Writes decisions.
        pipelines: Runs trainings.
    """

    def __init__(
        self,
        config: Config,
        project: Project,
        clock: Clock,
        log: Log,
        history: History,
        catalog: Catalog,
        ledger: Ledger,
        pipelines: Pipelines,
    ) -> None:
        self._config = config
        self._project = project
        self._clock = clock
        self._log = log
        self._history = history
        self._catalog = catalog
        self._ledger = ledger
        self._pipelines = pipelines
        self._outcomes = {name: Outcomes(model, history) for name, model in project.models.items()}
        self._tracks: dict[str, judging.Track] = {}
        self._packages: dict[str, Package] = {}
        self._references: dict[str, dict[str, Reference]] = {}
        self._checker = Checker(config, project, log, history, catalog, clock.now_us())
        self._ready = self._ready_versions()
        self._shares = incidents.Shares()
        self._feed_is_broken = True  # as far as is known before the first look
        self._looked_us = (clock.now_us() - 1) // LOOK_US * LOOK_US
        now_us = clock.now_us()
        self._judged_us = {
            name: judging.last_judged(catalog, name, model.monitor.every_us, now_us)
            for name, model in project.models.items()
        }
        self._failures = Failures(catalog, ledger)
        self._composites = Composites(project, clock, history, catalog, ledger)

    def run_due(self, now_us: int, news: Collection[str] = ()) -> None:
        """Do everything that is due up to ``now_us``: looks at the feeds, then each model's boundaries in order.

        Args:
            now_us: The moment.
            news: Kinds of the decisions that have come since the last call.
        """
        if "version" in news:
            self._ready = self._ready_versions()
        look_us = now_us // LOOK_US * LOOK_US
        if look_us <= self._looked_us:
            return
        self._looked_us = look_us
        self._look_at_feeds(look_us)
        self._look_at_freshness(now_us)
        self._checker.run_due(self._ledger, now_us)
        self._release_what_is_ready(now_us)
        for change, of_model in orphan_changes(self._project, self._catalog.incidents(is_open=True), now_us):
            self._ledger.tell(change, now_us, model=of_model)
        for model in self._project.models.values():
            due = boundaries(self._judged_us[model.name], now_us, model.monitor.every_us)
            if self._failures.judge(model.name, due, now_us, partial(self._judge_at, model)):
                self._outcomes[model.name] = Outcomes(model, self._history)
                self._tracks.pop(model.name, None)
        self._composites.run_due(now_us)

    def _look_at_feeds(self, at_us: int) -> None:
        counts = self._log.counts()
        recent = self._shares.look(counts, at_us)
        left = any(count.quarantined > count.mended for count in counts.values())
        held = self._log.quarantined() if left else []
        waiting = Counter(one.source for one in held)
        if not waiting and not self._feed_is_broken:
            return
        open_now = self._catalog.incidents(is_open=True)
        columns = incidents.columns_refused((one.source, one.path, one.reason) for one in held)
        self._feed_is_broken = any(one.kind == "contract" for one in open_now)
        for change in incidents.feed_changes(waiting, open_now, at_us, recent, columns):
            more: dict[str, int] = {}
            self._feed_is_broken = True
            if change.kind == "incident_close":
                # What was mended became known a moment ago, and has to be known by the close for its labels to count.
                more["closed_us"] = max(at_us, self._newest_us(change.source) + 1)
            self._ledger.tell(change, at_us, more=more)

    def _look_at_freshness(self, now_us: int) -> None:
        views = [view for view in self._project.views.values() if view.fresh_us is not None]
        if not views:
            return
        with OnlineStore.open(self._config.state_path, self._config.limits.state_map_bytes) as store:
            found = [freshness(view, store, self._log, now_us) for view in views]
        for change in freshness_changes(found, self._catalog.incidents(is_open=True), now_us):
            self._ledger.tell(change, now_us)

    def _newest_us(self, source: str) -> int:
        """When the newest event of a source became known."""
        newest = self._history.frame(source, ["_known_at"])["_known_at"].dt.epoch("us").max()
        return int(newest) if isinstance(newest, int) else 0

    def _judge_at(self, model: ModelDef, at_us: int) -> None:
        self._judge(model, at_us)
        self._judged_us[model.name] = at_us

    def _judge(self, model: ModelDef, at_us: int) -> None:
        """One boundary of one model: outcomes, performance, drift, rollout, and whether to train again."""
        self._history.catch_up()
        outcomes = self._outcomes[model.name]
        label_of = model.label.source.name
        outcomes.advance(at_us, self._catalog.holds(label_of), self._catalog.bad_windows([label_of]))
        champion = self._catalog.champion(model.name)
        if champion is None:
            return
        package = self._package(champion)
        said = self._rollout(model, outcomes.all(), at_us)
        numbers, worse = self._performance(model, champion, package, outcomes, at_us)
        self._drift(model, champion, package, at_us)
        self._latency(model, at_us)
        audit(model, self._catalog, self._ledger, self._history, at_us)
        self._retrain_if_due(model, champion, at_us, worse)
        # Last, because it says that this boundary is done: a worker that dies before it is followed by one that does
        # all of it again, and writes nothing twice.
        self._ledger.decide(
            "performance",
            f"performance-{model.name}-{at_us}",
            at_us,
            model=model.name,
            subject=champion.version,
            reason=worse or "judged on the labels that became mature",
            numbers=numbers | ({"rollout": said} if said else {}),
        )

    def _performance(
        self, model: ModelDef, champion: Version, package: Package, outcomes: Outcomes, at_us: int
    ) -> tuple[dict[str, object], str]:
        """The numbers since the last boundary, and why the model is worse than it was, or nothing."""
        loss = LOSSES[model.task][0]
        track = self._tracks.get(model.name)
        if track is None or track.package.version != package.version:
            track = self._tracks[model.name] = judging.Track(package)
            track.advance(outcomes, at_us - model.monitor.every_us)
        fresh, so_far = track.advance(outcomes, at_us)
        numbers: dict[str, object] = {"rows": 0, "version": champion.version}
        if len(fresh.y):
            numbers |= judging.performance(model.task, fresh, loss)
        why = ""
        rule = model.monitor.retrain.worse
        if rule is not None and len(so_far.y):
            found = judging.worse(so_far, rule[0], rule[1], champion.metrics)
            numbers |= {"shrunk_by": found.shrunk_by, "shrunk_by_lower": max(found.shrunk_by_lower, -1e9)}
            if found.worse:
                why = (
                    f"{rule[0]}: the advantage over the {rule[2]} has shrunk by {found.shrunk_by:.4f} "
                    f"(at least {found.shrunk_by_lower:.4f}, {rule[1]:g} allowed) since evaluation"
                )
        return numbers, why

    def _drift(self, model: ModelDef, champion: Version, package: Package, at_us: int) -> None:
        read, after_us = ("version", "features", "selected"), at_us - model.monitor.every_us
        served = answered(self._history, model.name, read, after_us, at_us).filter(
            (pl.col("version") == champion.version)
            & (pl.col("selected").is_null() | ~pl.col("selected"))  # what a cascade left over is another population
        )
        if served.height < MIN_DRIFT_ROWS:
            return
        report = judging.drift(package, self._reference(model, champion, package), served["features"].to_list())
        incident_id = f"drift-{model.name}-{champion.version}"
        is_open = any(one.incident_id == incident_id for one in self._catalog.incidents(is_open=True))
        if report.flagged:
            strongest = max(report.flagged, key=lambda name: report.features[name].psi)
            reason = f"{len(report.flagged)} of {len(report.features)} inputs drifted, most of all {strongest}"
            numbers = judging.drift_numbers(report)
            self._ledger.decide(
                "drift",
                f"drift-{model.name}-{at_us}",
                at_us,
                model=model.name,
                subject=champion.version,
                reason=reason,
                numbers=numbers,
            )
            if not is_open and incident_id not in {one.incident_id for one in self._catalog.incidents()}:
                opened = numbers | {"kind": "drift", "column": strongest}
                change = incidents.Change("incident_open", incident_id, model.name, reason, opened)
                self._ledger.tell(change, at_us, model=model.name)

    def _latency(self, model: ModelDef, at_us: int) -> None:
        if model.latency is None:
            return
        after_us = at_us - model.monitor.every_us
        answers = answered(self._history, model.name, ("_offset", "latency_us"), after_us, at_us)
        for change in latency_changes(model, answers, self._catalog.incidents(is_open=True), at_us):
            self._ledger.tell(change, at_us, model=model.name)

    def _rollout(self, model: ModelDef, matured: pl.DataFrame, at_us: int) -> str:
        """Judge the rollout that is under way and do what it says; returns the judge's reason, also to stay."""
        rollout = self._catalog.rollout(model.name)
        if rollout is None:
            return ""
        plan = plan_of(model.rollout)
        frame = self._history.frame(PREDICTION.name, rollouts.READ).filter(pl.col("rollout") == rollout.rollout_id)
        predictions = frame.sort("_offset").unique("unit", keep="first", maintain_order=True)
        units = matured.filter(pl.col("rollout") == rollout.rollout_id) if matured.height else matured
        evidence = rollouts.gather(plan, rollout.challenger, predictions, units)
        state = RolloutState(
            "paused" if rollout.state == "paused" else plan.standing(rollout.stage),
            rollout.started_at_us,
            rollout.entered_at_us,
            rollout.exposure_us(at_us),
            model.label.horizon_us,
        )
        decision = judge(plan, state, evidence, at_us)
        if decision.action == "stay":
            return decision.reason
        held = blocked(self._catalog, sources_of(model)) if decision.action in ("advance", "promote") else None
        if held is not None:
            return f"{decision.reason}; held by the incident {held.incident_id}"
        kind = "stage" if decision.action == "advance" else decision.action
        numbers = decision.numbers | {"version": rollout.challenger, "stage": decision.to_stage}
        if kind == "stage":
            numbers["weight"] = plan.challenger_weight(decision.to_stage)
        self._ledger.decide(
            kind,
            f"{kind}-{rollout.rollout_id}-{at_us}",
            at_us,
            model=model.name,
            subject=rollout.challenger,
            reason=decision.reason,
            numbers=numbers,
        )
        if kind in ("promote", "rollback"):
            self._close_drift(model, at_us)
        return decision.reason

    def _close_drift(self, model: ModelDef, at_us: int) -> None:
        """A drift incident is about one release's reference; it ends when another release serves."""
        champion = self._catalog.champion(model.name)
        for one in self._catalog.incidents(is_open=True):
            if (
                one.kind == "drift"
                and one.model == model.name
                and champion is not None
                and champion.version not in one.incident_id
            ):
                reason = f"version {champion.version} serves; it was trained on newer data"
                change = incidents.Change("incident_close", one.incident_id, model.name, reason, {})
                self._ledger.tell(change, at_us, model=model.name)

    def _retrain_if_due(self, model: ModelDef, champion: Version, at_us: int, worse: str) -> None:
        """Start a training when the rule says so; not while a rollout is under way or labels are held."""
        if self._catalog.rollout(model.name) is not None or self._pipelines.is_running(model.name):
            return
        if any(closed is None for _, closed in self._catalog.holds(model.label.source.name)):
            return
        if blocked(self._catalog, sources_of(model)) is not None:
            return
        tried = self._catalog.decisions("retrain", model=model.name, limit=1)
        began_us = max([champion.at_us, *(one.at_us for one in tried)])
        reason = worse if worse and at_us - began_us >= PATIENCE_US else ""
        every_us = model.monitor.retrain.every_us
        if not reason and retrain_is_due(began_us, at_us, every_us):
            reason = f"the schedule asks for a training every {(every_us or 0) // DAY_US} days"
        if not reason:
            return
        self._pipelines.retrain(model.name, at_us, reason)

    def _release_what_is_ready(self, now_us: int) -> None:
        """Release trained versions whose gates are met once their pipeline's declared duration has passed."""
        for version in [v for v in self._ready if v.numbers["release_at_us"] <= now_us]:
            self._ready.remove(version)
            reason = f"every gate is met by the version trained at {to_iso(version.at_us)}"
            self._ledger.decide(
                "release",
                f"release-{version.model}-{version.version}",
                version.numbers["release_at_us"],
                model=version.model,
                subject=version.version,
                reason=reason,
                numbers={"version": version.version, "metrics": version.metrics, "views": version.views},
            )

    def _ready_versions(self) -> list[Version]:
        """Versions that the controller may release, now or later: trained by a pipeline, gates met, not released."""
        return [
            v
            for name in self._project.models
            for v in self._catalog.versions(name)
            if v.state == "candidate" and v.passed and v.numbers.get("release_at_us") is not None
        ]

    def _package(self, version: Version) -> Package:
        if version.version not in self._packages:
            self._packages[version.version] = load(self._config.located(version.path))
        return self._packages[version.version]

    def _reference(self, model: ModelDef, version: Version, package: Package) -> dict[str, Reference]:
        if version.version not in self._references:
            found = self._catalog.dataset(model.name, version.dataset or "")
            rows = load_dataset(self._config.located(found.path if found is not None else ""))
            made = judging.references(package, rows.frame, rows.time_us, model.monitor.every_us)
            self._references = {version.version: made}
        return self._references[version.version]
