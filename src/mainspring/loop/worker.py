"""The worker: folds the log into the online store, writes the lake, runs pipelines, the monitor and the controller.

Three threads. One folds, and builds new view versions between two folds, so that features stay fresh while a model
trains. The second follows the log for the lake and the monitor, and runs what is due. The third is the worker's door,
which only tells. A second worker on the same project waits for the first one's lease.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from mainspring.catalog import Catalog
from mainspring.catalog.decisions import ROUTING
from mainspring.catalog.in_force import in_force
from mainspring.core import Clock, Config, SharedClock, UnavailableError
from mainspring.core.collector import paused, rest_what_is_loaded
from mainspring.core.run import WORKER_LEASE, Lease, internal_token, read_door, remove_door, write_door
from mainspring.core.traces import traces_of
from mainspring.definitions import Project, ViewDef
from mainspring.events.client import IntakeClient
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Log
from mainspring.events.wake import Wake
from mainspring.features import Folder, OnlineStore, warm_up
from mainspring.features.fold import label_of
from mainspring.loop.backfill import say_built
from mainspring.loop.builds import Build, Builds, begin
from mainspring.loop.consumers import asked_anew, needed_views
from mainspring.loop.controller import Controller
from mainspring.loop.door import WorkerDoor
from mainspring.loop.ledger import Ledger
from mainspring.loop.pipelines import Pipelines
from mainspring.loop.telling import DOOR
from mainspring.loop.upkeep import Upkeep, log_keep_us
from mainspring.models import Runtime

FOLD_BATCH = 50_000
"""Records in one transaction when it is behind: the more, the fewer bytes are written for each."""
IDLE_S = 0.05
PAUSE_S = 0.01
"""The second thread lets the first fold what both were woken for, and looks at several commits at once."""
LAKE_ROWS = 65_536
"""Of 20,000 a commit to the lake took twice the time for each: most of it does not depend on how many there are."""
LAKE_EVERY_S = 30.0
VIEW_KINDS = ROUTING | {"apply", "backfill"}
"""Decisions after which other view versions may be needed, or one anew."""
_log = logging.getLogger(__name__)


def run_worker(config: Config, project: Project, clock: Clock, stop: threading.Event) -> None:
    """Work until ``stop`` is set.

    Args:
        config: The project's settings.
        project: Its definitions.
        clock: The wall's, or one that a driver moves.
        stop: Set by a signal.
    """
    config.run.mkdir(parents=True, exist_ok=True)
    lease = Lease(config.run / WORKER_LEASE)
    while not lease.acquire(wait=False):
        if stop.wait(0.2):
            return
    try:
        _Worker(config, project, clock, stop).run()
    finally:
        lease.release()


def fold_next(folder: Folder, log: Log, most: int = FOLD_BATCH) -> bool:
    """Fold what has come to the log, in one transaction; whether anything had.

    Args:
        folder: Of the worker.
        log: Open in any way.
        most: Records at once.
    """
    with paused():
        stretch = log.stretch(folder.store.folded_offset(), folder.sources, most)
        if stretch is not None:
            folder.fold_stretch(stretch)
        return stretch is not None


class _Worker:
    """The threads of one worker and what they share."""

    def __init__(self, config: Config, project: Project, clock: Clock, stop: threading.Event) -> None:
        self._config = config
        self._project = project
        self._clock = clock
        self._stop = stop
        self._failed: BaseException | None = None
        self._traces = traces_of(config.traces, "worker")
        self._views_changed = threading.Event()
        self._built: queue.SimpleQueue[Build] = queue.SimpleQueue()
        self._folded: tuple[ViewDef, ...] = ()
        self._builds: Builds | None = None
        self._asked: dict[str, int] = {}
        warm_up()
        Runtime.warm_up()
        self._store = OnlineStore.open(config.state_path, config.limits.state_map_bytes, writable=True)
        self._catalog = Catalog.open(config.catalog_url)

    def run(self) -> None:
        folding = threading.Thread(target=self._guarded, args=(self._fold,), name="fold", daemon=True)
        folding.start()
        self._guarded(self._control)
        self._stop.set()
        folding.join(timeout=10.0)
        self._store.close()
        if self._failed is not None:
            raise self._failed

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a thread's loop; when it fails, the process ends and its supervisor starts another."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001  whatever it is, `run` raises it
            self._failed = self._failed or error
            self._stop.set()

    def _fold(self) -> None:
        log = Log.open(self._config.log_path, self._config.limits.log_map_bytes)
        door, traces = self._door(log), self._traces
        try:
            with Wake(self._config.run, "fold") as wake:
                folder, builds = self._folder(log)
                rest_what_is_loaded()
                is_ready = False
                while not self._stop.is_set():
                    if self._views_changed.is_set():
                        self._views_changed.clear()
                        folder, builds = self._refreshed(folder, builds, log)
                    started_s = time.perf_counter()
                    has_folded = fold_next(folder, log)
                    if has_folded and traces is not None:
                        upto = {"mainspring.offset": folder.store.folded_offset()}
                        traces.add("fold", started_s, time.perf_counter(), upto)
                    if builds.step() or has_folded:
                        continue
                    if not is_ready:  # what had come before this worker is folded: who waits for features may go on
                        write_door(self._config.run, DOOR, door.open())
                        is_ready = True
                    wake.wait(IDLE_S)
        finally:
            remove_door(self._config.run, DOOR)
            door.close()
            if traces is not None:
                traces.close()

    def _door(self, log: Log) -> WorkerDoor:
        return WorkerDoor(
            self._config.worker,
            self._store,
            log,
            self._catalog,
            self._clock,
            lambda: self._folded,
            lambda: self._builds.now if self._builds is not None else (),
        )

    def _refreshed(self, folder: Folder, builds: Builds, log: Log) -> tuple[Folder, Builds]:
        """The same again when what is needed has not changed: a build under way is not begun anew for nothing."""
        labels = {label_of(view) for view in needed_views(self._project, self._catalog)}
        asked = asked_anew(self._catalog)
        fresh = {label for label, offset in asked.items() if label in labels and offset > self._asked.get(label, 0)}
        return (folder, builds) if labels == folder.layouts.keys() and not fresh else self._folder(log)

    def _folder(self, log: Log) -> tuple[Folder, Builds]:
        self._asked = asked_anew(self._catalog)
        folder, builds = begin(self._config, self._project, self._catalog, self._store, log, self._built.put)
        self._folded = tuple(layout.view for layout in folder.layouts.values())
        self._builds = builds
        return folder, builds

    def _control(self) -> None:
        log = Log.open(self._config.log_path, self._config.limits.log_map_bytes)
        history = History(self._project, log, Lake(self._config.lake_path))
        ledger = Ledger(self._config, self._catalog, history, self._stop)
        pipelines = Pipelines(self._config)
        pipelines.launch()
        controller = self._controller(log, history, ledger, pipelines)
        wake = Wake(self._config.run, "control")
        upkeep = Upkeep(self._project, self._catalog)
        flushed_s = time.monotonic()
        try:
            while not self._stop.is_set():
                now_us = self._clock.now_us()
                news = ledger.news()
                if "apply" in news:
                    self._project = upkeep.project = in_force(self._project, self._catalog.definitions(), self._config)
                    history.flush()
                    history = History(self._project, log, Lake(self._config.lake_path))
                    ledger.follow(history)
                    controller = self._controller(log, history, ledger, pipelines)
                if news & VIEW_KINDS:
                    self._views_changed.set()
                self._say_built(ledger, now_us)
                controller.run_due(now_us, news)
                if isinstance(self._clock, SharedClock) and not pipelines.is_running():
                    self._clock.settle(now_us)
                if history.offset - history.flushed_offset >= LAKE_ROWS or time.monotonic() - flushed_s >= LAKE_EVERY_S:
                    history.flush()
                    upkeep.run_due(history, now_us)
                    self._trim(log, history, now_us)
                    flushed_s = time.monotonic()
                if wake.wait(IDLE_S):
                    self._stop.wait(PAUSE_S)
            history.flush()
        finally:
            wake.close()
            pipelines.close()

    def _controller(self, log: Log, history: History, ledger: Ledger, pipelines: Pipelines) -> Controller:
        return Controller(self._config, self._project, self._clock, log, history, self._catalog, ledger, pipelines)

    def _say_built(self, ledger: Ledger, now_us: int) -> None:
        while not self._built.empty():
            say_built(ledger, self._built.get(), now_us)

    def _trim(self, log: Log, history: History, now_us: int) -> None:
        """Let the intake drop what is old, folded and in the lake: a laptop's disk stays in check."""
        old = log.offset_before(now_us - log_keep_us(self._config, self._project))
        before = min(old, history.flushed_offset, self._store.folded_offset())
        url = read_door(self._config.run, "intake")
        if url is None or before <= log.first_offset():
            return
        try:
            with IntakeClient(url, internal_token(self._config.run)) as client:
                client.post_json("/internal/trim", {"before": before})
        except UnavailableError as error:
            _log.warning("the log was not trimmed: %s", error)
