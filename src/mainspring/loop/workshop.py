"""Where training sets are built and models trained, for the pipelines and for people at the command line alike."""

from __future__ import annotations

import math
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from mainspring.catalog import BadWindow, Catalog
from mainspring.core import Config, NotFoundError, RefusedError, did_you_mean
from mainspring.core.closing import Closing
from mainspring.definitions import LOSSES, ModelDef, Project, load_project
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Log
from mainspring.events.system import PREDICTION
from mainspring.features.needed import Needed
from mainspring.loop import judging
from mainspring.loop.ledger import Ledger
from mainspring.models import load
from mainspring.training import Candidate, Served, Tracking, TrainingSet, build, sources_of, train
from mainspring.training import load as load_dataset

if TYPE_CHECKING:
    from mainspring.features.shares import Progress


class Workshop(Closing):
    """Opens what a training reads, and writes down what it yields.

    Args:
        config: The project's settings.
        project: Its definitions.
        log: Read-only.
        catalog: The projection of decisions.
    """

    def __init__(self, config: Config, project: Project, log: Log, catalog: Catalog) -> None:
        self._config = config
        self._project = project
        self._log = log
        self._catalog = catalog
        self.history = History(project, log, Lake(config.lake_path))
        self._ledger = Ledger(config, catalog, self.history, threading.Event(), alone=True)

    @classmethod
    def open(cls, config: Config, project: Project | None = None) -> Workshop:
        """Open the stores of a project for reading; its definitions are those of its file if none are given."""
        project = project or load_project(config.definitions)
        log = Log.open(config.log_path, config.limits.log_map_bytes)
        return cls(config, project, log, Catalog.open(config.catalog_url))

    def close(self) -> None:
        """Close the stores."""
        self._log.close()
        self._catalog.close()

    def model(self, name: str) -> ModelDef:
        """A model by name.

        Raises:
            NotFoundError: The definitions have none of that name (MS-L120).
        """
        if name not in self._project.models:
            hint = did_you_mean(name, self._project.models)
            raise NotFoundError("MS-L120", f"no model {name!r}", where=str(self._config.definitions), hint=hint)
        return self._project.models[name]

    def announce(self, name: str, now_us: int, reason: str) -> None:
        """Say that a training begins."""
        self._ledger.decide("retrain", f"retrain-{name}-{now_us}", now_us, model=name, reason=reason)

    def build(
        self,
        name: str,
        now_us: int,
        actor: str = "controller",
        *,
        is_served: bool = False,
        version: str | None = None,
        progress: Progress | None = None,
    ) -> TrainingSet:
        """Build the training set of a model as of ``now_us``, and say so.

        Rows of the newest earlier training set with the same feature versions are reused: at their moments nothing can
        have changed.

        Args:
            name: The model.
            now_us: As of when.
            actor: Who asked for it.
            is_served: Of the values that were served with past predictions, rather than of a replay.
            version: With ``is_served``: only of predictions by this version.
            progress: Told by the replay how many events it is done with, and of how many.
        """
        model = self.model(name)
        self.history.catch_up()
        needed = Needed(model, self.history)
        frames = {source: needed.frame(source) for source in sources_of(model)}
        earlier = [one for one in self._catalog.datasets(name) if not one.numbers.get("derived")]
        built = build(
            model,
            frames,
            self._config.datasets,
            now_us=now_us,
            holds=self._catalog.holds(model.label.source.name),
            bad=self._catalog.bad_windows(sources_of(model)),
            reuse=load_dataset(self._config.located(earlier[-1].path)) if earlier and not is_served else None,
            served=self._served(name, version) if is_served else None,
            progress=progress,
            memory_bytes=self._config.limits.replay_memory_bytes,
        )
        self.record(built, now_us, actor)
        return built

    def rebuild(self, name: str, hash: str) -> tuple[str, Path]:
        """Build a training set again from what is kept now, as far as was known then.

        Compaction changes nothing of it, and what a serving release was trained on is never deleted. Its files are
        restored if they are gone.

        Args:
            name: The model.
            hash: Of the set.

        Returns:
            The hash of what came of it, and the set's folder.

        Raises:
            NotFoundError: No such set (MS-L122).
            RefusedError: It holds served values, or the model is defined otherwise now (MS-L123).
        """
        found = self._catalog.dataset(name, hash)
        if found is None:
            hint = did_you_mean(hash, (one.hash for one in self._catalog.datasets(name)))
            raise NotFoundError("MS-L122", f"model {name} has no training set {hash}", hint=hint)
        model, said = self.model(name), found.numbers
        if said.get("derived") or said["definition_version"] != model.version:
            why = said.get("derived") or f"it was built by version {said['definition_version']} of the definition"
            raise RefusedError("MS-L123", f"training set {hash} cannot be built again", why=why)
        self.history.catch_up()
        needed, now_us = Needed(model, self.history), int(said["known_until_us"])
        upto = {source: state["last_offset"] for source, state in said["sources"].items()}
        frames = {s: needed.frame(s).filter(pl.col("_offset") <= upto[s]) for s in sources_of(model)}
        holds = [(opened, closed) for opened, closed in said.get("holds", ())]
        bad = [BadWindow(**one) for one in said.get("bad", ())]
        final = self._config.located(found.path)
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=".again.") as folder:
            memory_bytes = self._config.limits.replay_memory_bytes
            built = build(model, frames, Path(folder), now_us=now_us, holds=holds, bad=bad, memory_bytes=memory_bytes)
            if built.hash == hash and not final.exists():
                built.path.rename(final)
        return built.hash, final

    def _served(self, name: str, version: str | None) -> Served:
        """A model's predictions, and how each version's definition names what they hold."""
        versions = [self._catalog.version(name, version)] if version else self._catalog.versions(name)
        definitions = {}
        for one in versions:
            found = self._catalog.definition("models", name, one.definition or "")
            if found is not None:
                definitions[one.version] = found.description
        return Served(self.history.frame(PREDICTION.name), definitions)

    def record(self, dataset: TrainingSet, now_us: int, actor: str) -> None:
        """Say that a training set exists."""
        meta = dataset.meta
        rows = f"{meta.counts.rows} rows" + (f" ({meta.derived})" if meta.derived else "")
        self._ledger.decide(
            "dataset",
            f"dataset-{meta.model}-{meta.hash}",
            now_us,
            model=meta.model,
            subject=meta.hash,
            actor=actor,
            reason="; ".join((rows, *map(str, meta.uncomputable))),
            numbers=msgspec.to_builtins(meta) | {"path": self._config.stored(dataset.path), "rows": meta.counts.rows},
        )

    def train(
        self,
        name: str,
        dataset: Path,
        now_us: int,
        *,
        actor: str,
        reason: str = "",
        release_at_us: int | None = None,
    ) -> Candidate:
        """Train a model on a training set, evaluate, pass the gates, package and register it, and say so.

        Args:
            name: The model.
            dataset: Folder of the training set.
            now_us: The moment of training.
            actor: Who asked for it.
            reason: Why.
            release_at_us: From when on the controller may release it; None leaves that to a person.
        """
        model = self.model(name)
        champion = self._catalog.champion(name)
        candidate = train(
            model,
            load_dataset(dataset),
            self._config.packages,
            now_us=now_us,
            champion=load(self._config.located(champion.path)) if champion is not None else None,
            tracking=Tracking(self._config.tracking_url, self._config.home / "mlruns"),
        )
        metrics = candidate.metrics
        if candidate.tested is not None:
            metrics = metrics | judging.advantage_metrics(LOSSES[model.task][0], candidate.tested)
        anew = f"-{now_us}" if self._is_judged_otherwise(candidate) else ""
        self._ledger.decide(
            "version",
            f"version-{name}-{candidate.version}{anew}",
            now_us,
            model=name,
            subject=candidate.version,
            actor=actor,
            reason=reason,
            numbers={
                "version": candidate.version,
                "path": self._config.stored(candidate.path),
                "run_id": candidate.run_id,
                "dataset": candidate.dataset,
                "definition": model.version,
                "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)},
                "gates": msgspec.to_builtins(candidate.gates),
                "view_versions": {view.name: view.version for view in model.views},
                "seconds": candidate.seconds,
                "release_at_us": release_at_us,
            },
        )
        return candidate

    def _is_judged_otherwise(self, candidate: Candidate) -> bool:
        """Whether it is a candidate that is known, and its gates, which are no part of it, say something else now."""
        for known in self._catalog.versions(candidate.model):
            if known.version == candidate.version and known.state == "candidate":
                said = [(gate.get("gate"), gate.get("passed")) for gate in known.gates]
                return said != [(gate.gate, gate.passed) for gate in candidate.gates]
        return False

    def release(
        self, name: str, version: str, now_us: int, *, actor: str, reason: str = "", force: bool = False
    ) -> None:
        """Release a version by hand: into paired shadow, or live at once when nothing serves yet.

        Raises:
            RefusedError: A gate is not met and ``force`` is not set (MS-L121).
        """
        found = self._catalog.version(name, version)
        if not found.passed and not force:
            failed = [str(gate.get("gate", gate)) for gate in found.gates if not gate.get("passed", True)]
            raise RefusedError(
                "MS-L121",
                f"version {version} of {name} does not pass its gates",
                why="; ".join(failed),
                hint="--force releases it past them",
            )
        numbers = {
            "version": version,
            "metrics": found.metrics,
            "views": found.views,
            "forced": force and not found.passed,
        }
        self._ledger.decide(
            "release",
            f"release-{name}-{version}-{now_us}",
            now_us,
            model=name,
            subject=version,
            actor=actor,
            reason=reason,
            numbers=numbers,
        )
