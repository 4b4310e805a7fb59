"""MLflow: each training is a run with its lineage, each version is in the registry. A projection, never the truth.

MLflow is imported where a run is written or read, and nowhere else. Its first start creates its tables: do that once.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION_TAG = "mainspring.version"


@dataclass(frozen=True)
class Run:
    """What is written of a training.

    Attributes:
        version: Of the package: the key under which a run is written once.
        source: Folder of the package.
        started_us: In virtual time, as everything else.
    """

    model: str
    version: str
    source: Path
    started_us: int
    ended_us: int
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class Tracking:
    """A tracking server or database.

    Args:
        url: MLflow tracking URI, such as ``sqlite:///mlflow.db``.
        artifacts: Folder that experiments name as their artifact location.
    """

    def __init__(self, url: str, artifacts: Path) -> None:
        self.url = url
        self.artifacts = artifacts
        self._client: Any = None

    def create_schema(self) -> None:
        """Create the tables: seconds the first time, once per project."""
        with _quiet():
            self._open().search_experiments(max_results=1)

    def record(self, run: Run) -> str:
        """Write ``run`` and register its version; a version that is already there is not written again.

        Returns:
            The run's id.
        """
        from mlflow.entities import Metric, Param, RunTag

        with _quiet():
            client = self._open()
            experiment = self._experiment(client, run.model)
            known = client.search_runs(
                [experiment], f"tags.`{VERSION_TAG}` = '{run.version}' and status = 'FINISHED'", max_results=1
            )
            if known:
                run_id = str(known[0].info.run_id)
            else:
                tags = {VERSION_TAG: run.version, **run.tags}
                created = client.create_run(experiment, start_time=run.started_us // 1000, run_name=run.version)
                run_id = str(created.info.run_id)
                at_ms = run.ended_us // 1000
                client.log_batch(
                    run_id,
                    metrics=[Metric(k, v, at_ms, 0) for k, v in run.metrics.items() if v == v],
                    params=[Param(k, v[:6000]) for k, v in run.parameters.items()],
                    tags=[RunTag(k, v[:5000]) for k, v in tags.items()],
                )
            self._register(client, run, run_id)
            if not known:
                client.set_terminated(run_id, end_time=run.ended_us // 1000)
            return run_id

    def alias(self, model: str, version: str, alias: str) -> None:
        """Point the registry's ``alias`` (such as ``champion``) of ``model`` at a version."""
        with _quiet():
            client = self._open()
            for found in client.search_model_versions(f"name = '{model}'"):
                if found.tags.get(VERSION_TAG) == version:
                    client.set_registered_model_alias(model, alias, found.version)
                    return

    def _open(self) -> Any:
        if self._client is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            from mlflow import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.ERROR)
            logging.getLogger("alembic").setLevel(logging.ERROR)
            self._client = MlflowClient(tracking_uri=self.url, registry_uri=self.url)
        return self._client

    def _experiment(self, client: Any, model: str) -> str:
        found = client.get_experiment_by_name(model)
        if found is not None:
            return str(found.experiment_id)
        return str(client.create_experiment(model, artifact_location=(self.artifacts / model).absolute().as_uri()))

    def _register(self, client: Any, run: Run, run_id: str) -> None:
        if not client.search_registered_models(f"name = '{run.model}'", max_results=1):
            client.create_registered_model(run.model)
        if any(v.tags.get(VERSION_TAG) == run.version for v in client.search_model_versions(f"run_id = '{run_id}'")):
            return
        source = run.source.absolute().as_uri()
        client.create_model_version(run.model, source=source, run_id=run_id, tags={VERSION_TAG: run.version})


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow's own deprecations are not our users' business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
