"""View versions that are built from history while the worker folds: a short step between two folds, and no longer.

The lake holds everything up to an offset, the log everything after it: a version is built from the one, catches up from
the other, and serves once it stands where the store does. The versions that serve go on being folded meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.features.fold import Folder, label_of
from mainspring.features.history import stream
from mainspring.loop.consumers import asked_anew, needed_views

if TYPE_CHECKING:
    from mainspring.catalog import Catalog
    from mainspring.core import Config
    from mainspring.definitions import Project, ViewDef
    from mainspring.events.log import Log
    from mainspring.features import OnlineStore

CATCH_UP = 5_000
STEP_S = 0.05
"""Steps are taken for as long before the next fold."""


@dataclass(frozen=True)
class Build:
    """A version that is being built, or has been.

    Attributes:
        events: All that history has, once it has been read; 0 before.
        done: Of them, how many are dealt with.
        seconds: Since it began, or how long it took.
        is_built: Whether it stands where the store does.
    """

    view: str
    version: str
    events: int = 0
    done: int = 0
    seconds: float = 0.0
    is_built: bool = False

    @property
    def eta_s(self) -> float | None:
        """How much longer it takes at the rate so far; None before the first events."""
        return self.seconds * (self.events - self.done) / self.done if self.done else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "view": self.view,
            "version": self.version,
            "events": self.events,
            "done": self.done,
            "seconds": self.seconds,
            "eta_s": None if self.is_built else self.eta_s,
            "is_built": self.is_built,
        }


def begin(
    config: Config,
    project: Project,
    catalog: Catalog,
    store: OnlineStore,
    log: Log,
    told: Callable[[Build], None] = lambda _: None,
) -> tuple[Folder, Builds]:
    """A folder for the view versions that are needed now, and what has to be built of them from history.

    A store that has fallen behind what the log still holds (it was deleted, or left alone for weeks) is built anew
    before anything else. Versions that nobody needs any more are dropped.

    Args:
        config: The project's settings.
        project: Its definitions.
        catalog: Caught up.
        store: Opened for writing.
        log: What is folded.
        told: Called with each version that has been built.
    """
    folder = Folder(needed_views(project, catalog), store)
    lost = store.folded_offset() + 1 < log.first_offset()
    anew = asked_anew(catalog)
    behind = {label_of(view) for view, _ in folder.behind()}
    wanted: list[ViewDef] = []
    for label, layout in folder.layouts.items():  # a used view comes before those that use it
        if lost or label in behind or label in anew or any(used in wanted for used in layout.view.using):
            wanted.append(layout.view)
    upto = 0

    def open_history() -> History:
        nonlocal upto
        history = History(project, log, Lake(config.lake_path))
        upto = history.catch_up()
        return history

    builds = Builds(folder, wanted, log, open_history, told)
    if lost:
        builds.finish()
        folder.skip_to(upto)
    for label in store.root().views.keys() - folder.layouts.keys():
        folder.drop(label)
    return folder, builds


class Builds:
    """What is being built, one version after another; used by the thread that folds.

    Args:
        folder: Folds the log; holds every view that is built here.
        views: To be built, in order.
        log: What a version catches up from.
        open_history: Reads all that is known, up to now; called once, when the first step is taken.
        told: Called with each version that has been built.

    Attributes:
        now: How far it has come, of all of them; replaced as a whole, so that another thread may read it.
    """

    def __init__(
        self,
        folder: Folder,
        views: Iterable[ViewDef],
        log: Log,
        open_history: Callable[[], History],
        told: Callable[[Build], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._waiting = deque(views)
        self._log = log
        self._open_history = open_history
        self._told = told
        self._steps: Iterator[Build] | None = None
        self._history: History | None = None
        self.now: tuple[Build, ...] = tuple(Build(v.name, v.version) for v in self._waiting)

    def is_done(self) -> bool:
        """Whether nothing is left to build."""
        return self._steps is None and not self._waiting

    def step(self, seconds: float = STEP_S) -> bool:
        """Go on for about so long, a step at least; whether there was anything to do."""
        if self.is_done():
            return False
        until_s = time.monotonic() + seconds
        self._take_step()
        while not self.is_done() and time.monotonic() < until_s:
            self._take_step()
        if self.is_done():
            self._history = None  # the whole of history is a lot of memory
        return True

    def _take_step(self) -> None:
        if self._steps is None:
            self._steps = self._build(self._waiting.popleft())
        build = next(self._steps, None)
        if build is None:
            self._steps = None
            return
        self.now = tuple(build if (b.view, b.version) == (build.view, build.version) else b for b in self.now)
        if build.is_built:
            self._told(build)

    def finish(self) -> None:
        """Build everything that is left, now."""
        while self.step(60.0):
            pass

    def _build(self, view: ViewDef) -> Iterator[Build]:
        started_s = time.monotonic()
        build = Build(view.name, view.version)

        def so_far(**changes: Any) -> Build:
            nonlocal build
            build = replace(build, seconds=time.monotonic() - started_s, **changes)
            return build

        if self._history is None:
            self._history = self._open_history()
        upto = self._history.catch_up()
        events = stream(view, self._history.frame)
        for done, every in self._folder.building(view, events, upto):  # of those that may still count
            yield so_far(done=events.height * done // max(every, 1), events=events.height)
        while (at := self._behind(view)) is not None:
            records = self._log.read(at, CATCH_UP)
            if not records:  # it is ahead of the store, which comes by folding
                break
            self._history.catch_up()  # a view that uses others replays them
            self._folder.catch_up(view, records, self._history.frame)
            yield so_far()
        yield so_far(done=build.events, is_built=True)

    def _behind(self, view: ViewDef) -> int | None:
        """The offset that the view stands at if the store is farther, or None."""
        label = label_of(view)
        return next((at for one, at in self._folder.behind() if label_of(one) == label), None)
