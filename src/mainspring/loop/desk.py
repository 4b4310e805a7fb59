"""The desk: where a person's decision is written down, whether or not the system is up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mainspring.catalog import Catalog
from mainspring.core import Config
from mainspring.core.run import read_door
from mainspring.definitions import Project
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Log
from mainspring.loop.ledger import Ledger
from mainspring.loop.supervisor import Supervisor


@dataclass(frozen=True)
class Desk:
    """What a decision is based on and written to: the catalog, all that is known, and the ledger."""

    catalog: Catalog
    history: History
    ledger: Ledger


@contextmanager
def standing_intake(config: Config) -> Iterator[None]:
    """An intake for as long as the block lasts: the one that runs, or one of our own on a free port."""
    if read_door(config.run, "intake") is not None:
        yield
        return
    with Supervisor(config, ("intake",), free_ports=True):
        yield


@contextmanager
def open_desk(config: Config, project: Project) -> Iterator[Desk]:
    """Open what a decision needs; the catalog knows every decision of the log when the block begins.

    A decision goes through the intake when one runs, else straight into the log.

    Args:
        config: The project's settings.
        project: Its definitions.
    """
    with (
        Catalog.open(config.catalog_url) as catalog,
        Log.open(config.log_path, config.limits.log_map_bytes) as log,
    ):
        history = History(project, log, Lake(config.lake_path))
        ledger = Ledger(config, catalog, history, threading.Event(), alone=True)
        ledger.project()
        yield Desk(catalog, history, ledger)
