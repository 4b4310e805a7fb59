"""A backfill that a person asks for: the worker does it beside its work, or this process does when no worker runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from mainspring.catalog import Catalog
from mainspring.core import Clock, Config
from mainspring.core.errors import UnavailableError
from mainspring.core.run import WORKER_LEASE, Lease
from mainspring.definitions import Project, ViewDef
from mainspring.events.log import Log
from mainspring.loop.builds import CATCH_UP, Build, begin
from mainspring.loop.consumers import asked_anew
from mainspring.loop.desk import open_desk
from mainspring.loop.ledger import Ledger
from mainspring.loop.telling import ask_worker

LOOK_S = 0.2


def ask(config: Config, project: Project, view: ViewDef, *, now_us: int, actor: str) -> None:
    """Say that a version of a view shall be built from history: anew if it has state, ahead of its apply if not."""
    label = f"{view.name}@{view.version}"
    numbers = {"view": view.name, "version": view.version, "definition": view.describe()}
    with open_desk(config, project) as desk:
        desk.ledger.decide(
            "backfill",
            f"backfill-{label}-{now_us}",
            now_us,
            subject=label,
            actor=actor,
            reason=f"{view.name} is built from history",
            numbers=numbers,
        )


def backfill(
    config: Config, project: Project, view: ViewDef, clock: Clock, *, actor: str, told: Callable[[Build], None]
) -> Build:
    """Build a version of a view from history, and wait until it is there.

    Args:
        config: The project's settings.
        project: Its definitions.
        view: One of its views.
        clock: Where the moment of the decision comes from.
        actor: Who asks.
        told: Hears how far it has come.

    Returns:
        What was built.

    Raises:
        UnavailableError: The worker that was to do it has gone (MS-L165).
    """
    lease = Lease(config.run / WORKER_LEASE)
    if lease.acquire():
        try:
            ask(config, project, view, now_us=clock.now_us(), actor=actor)
            return _here(config, project, view, clock, told)
        finally:
            lease.release()
    ask(config, project, view, now_us=clock.now_us(), actor=actor)
    build = Build(view.name, view.version)
    for build in _watched(config, view):
        told(build)
    return build


def _here(config: Config, project: Project, view: ViewDef, clock: Clock, told: Callable[[Build], None]) -> Build:
    """Nobody folds: do as the worker would."""
    from mainspring.features import OnlineStore

    limits = config.limits
    found: list[Build] = []
    with (
        OnlineStore.open(config.state_path, limits.state_map_bytes, writable=True) as store,
        Log.open(config.log_path, limits.log_map_bytes) as log,
        open_desk(config, project) as desk,
    ):
        folder, builds = begin(config, project, desk.catalog, store, log, found.append)
        while builds.step():
            told(_of(view, builds.now))
        while records := log.read(store.folded_offset(), CATCH_UP):  # it serves once the others stand there too
            folder.fold(records)
        for build in found:
            say_built(desk.ledger, build, clock.now_us())
        return _of(view, builds.now)


def _of(view: ViewDef, builds: tuple[Build, ...]) -> Build:
    return next(b for b in builds if (b.view, b.version) == (view.name, view.version))


def say_built(ledger: Ledger, build: Build, now_us: int) -> None:
    """Say which version has been built, and how fast: what ``plan`` estimates the next one by."""
    label = f"{build.view}@{build.version}"
    ledger.decide(
        "backfilled",
        f"backfilled-{label}-{now_us}",
        now_us,
        subject=label,
        reason=f"{build.events:,} events were replayed in {build.seconds:.1f} s",
        numbers={"events": build.events, "seconds": build.seconds, "view": build.view, "version": build.version},
    )


def _watched(config: Config, view: ViewDef) -> Iterator[Build]:
    """How far the running worker has come, until it says that it has built the version."""
    label, pause = f"{view.name}@{view.version}", threading.Event()
    build = Build(view.name, view.version)
    lease = Lease(config.run / WORKER_LEASE)
    with Catalog.open(config.catalog_url) as catalog:
        while label in asked_anew(catalog):
            if lease.acquire():
                lease.release()
                raise UnavailableError(
                    "MS-L165",
                    "the worker has gone; it goes on with the backfill when it is back",
                    where=str(config.run),
                    hint="mainspring worker",
                )
            build = next((b for b in _building(config) if (b.view, b.version) == (view.name, view.version)), build)
            yield build
            pause.wait(LOOK_S)
        done = [d for d in catalog.decisions("backfilled") if d.subject == label][-1].numbers
    yield Build(view.name, view.version, done["events"], done["events"], done["seconds"], is_built=True)


def _building(config: Config) -> list[Build]:
    """What the worker says that it builds; nothing while its door is not open."""
    said = ask_worker(config, "/features") or {"builds": []}
    told = ("view", "version", "events", "done", "seconds", "is_built")
    return [Build(**{name: row[name] for name in told}) for row in said["builds"]]
