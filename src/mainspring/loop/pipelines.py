"""Durable pipelines: a training that is killed half-way goes on at the step it had reached (DBOS).

A worker's executor id is the same for every worker of a project, because only the holder of the lease runs pipelines:
the next holder recovers what the last one left. Steps pass references (paths, hashes), never data, and every decision
a step writes has an id made of what and when, so a step that runs twice writes once.
"""

from __future__ import annotations

import logging
from pathlib import Path

from dbos import DBOS, DBOSConfig, SetWorkflowID, WorkflowHandle

from mainspring.core import Config, load_config
from mainspring.definitions.applied import load_applied
from mainspring.loop.workshop import Workshop

PIPELINE_US = 1_800_000_000
"""Declared duration of a training in virtual time: what it yields is released this long after it began."""
EXECUTOR = "mainspring-worker"
UNDER_WAY = ("PENDING", "ENQUEUED", "DELAYED")
_log = logging.getLogger(__name__)


class Pipelines:
    """Starts trainings and knows which are running.

    Args:
        config: The project's settings.
    """

    def __init__(self, config: Config) -> None:
        self._root = str(config.root)
        self._handles: dict[str, WorkflowHandle[str]] = {}
        settings: DBOSConfig = {
            "name": "mainspring",
            "system_database_url": config.pipelines_url,
            "executor_id": EXECUTOR,
            "application_version": "1",
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        DBOS(config=settings)

    def launch(self) -> None:
        """Open the pipelines' database and take up what an earlier worker left unfinished."""
        DBOS.launch()
        for status in DBOS.list_workflows(status=list(UNDER_WAY), name="retrain"):
            model = status.workflow_id.split(":")[1]
            self._handles[model] = DBOS.retrieve_workflow(status.workflow_id)
            _log.warning("taking up the training %s that a worker left unfinished", status.workflow_id)

    def retrain(self, model: str, due_us: int, reason: str) -> None:
        """Start the training that is due at ``due_us``; the same one a second time is the first one."""
        with SetWorkflowID(f"retrain:{model}:{due_us}"):
            self._handles[model] = DBOS.start_workflow(retrain, self._root, model, due_us, reason)

    def is_running(self, model: str | None = None) -> bool:
        """Whether a training (of one model, or any) is under way; one that failed is logged and over."""
        for name in [model] if model is not None else list(self._handles):
            handle = self._handles.get(name)
            if handle is None:
                continue
            status = handle.get_status().status
            if status in UNDER_WAY:
                return True
            del self._handles[name]
            if status != "SUCCESS":
                _log.error("training %s ended as %s", handle.workflow_id, status)
        return False

    def close(self) -> None:
        """Stop; what is under way is taken up by the next worker."""
        DBOS.destroy(workflow_completion_timeout_sec=0)


@DBOS.workflow(name="retrain")
def retrain(root: str, model: str, due_us: int, reason: str) -> str:
    """Build the training set, train, register; the controller releases what passed its gates."""
    announce_step(root, model, due_us, reason)
    dataset = build_step(root, model, due_us)
    return train_step(root, model, dataset, due_us, reason)


@DBOS.step(name="announce")
def announce_step(root: str, model: str, due_us: int, reason: str) -> None:
    """Say that a training begins: inside the workflow, so that what was said is also done."""
    with _workshop(root) as workshop:
        workshop.announce(model, due_us, reason)


@DBOS.step(name="build_dataset")
def build_step(root: str, model: str, due_us: int) -> str:
    """Build the training set as of ``due_us``; returns its folder."""
    with _workshop(root) as workshop:
        return str(workshop.build(model, due_us).path)


@DBOS.step(name="train")
def train_step(root: str, model: str, dataset: str, due_us: int, reason: str) -> str:
    """Train, evaluate, package and register; returns the version."""
    with _workshop(root) as workshop:
        candidate = workshop.train(
            model, Path(dataset), due_us, actor="controller", reason=reason, release_at_us=due_us + PIPELINE_US
        )
        return str(candidate.version)


def _workshop(root: str) -> Workshop:
    """Of the definitions in force: what is being written in their file is not trained before it is applied."""
    config = load_config(Path(root))
    return Workshop.open(config, load_applied(config))
