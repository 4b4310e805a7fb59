"""Make the catalog anew: every decision is an event, and the catalog only what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from mainspring.catalog import Catalog
from mainspring.core import Config, UnavailableError
from mainspring.core.run import WORKER_LEASE, Lease, door_pid
from mainspring.definitions import Project
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Log
from mainspring.events.system import DECISION

DOORS = ("intake", "gateway")


@dataclass(frozen=True)
class Rebuilt:
    """What came of it.

    Attributes:
        decisions: That were projected.
        aside: Where the earlier file is; None when there was none.
    """

    decisions: int
    aside: str | None


def rebuild_catalog(config: Config, project: Project, now_us: int) -> Rebuilt:
    """Project every decision into a new catalog, and put it in the place of the one that is there, which is kept.

    Args:
        config: The project's settings.
        project: Its definitions.
        now_us: For the name that the earlier file gets.

    Raises:
        UnavailableError: A process runs that has the catalog open (MS-C010, MS-L111).
    """
    for door in DOORS:
        pid = door_pid(config.run, door)
        if pid is not None:
            what = f"the {door} runs (pid {pid}) and has the catalog open"
            raise UnavailableError("MS-L111", what, hint="stop it: it would go on with the earlier file")
    lease = Lease(config.run / WORKER_LEASE)
    lease.require("the catalog")
    try:
        path = Path(make_url(config.catalog_url).database or "")
        scratch = path.with_name(f"{path.name}.new")
        for old in _files(scratch):
            old.unlink(missing_ok=True)
        n = _project(config, project, f"sqlite:///{scratch}")
        aside = path.with_name(f"{path.name}.{now_us}.damaged")
        was_there = _move(path, aside)
        _move(scratch, path)
        scratch.with_name(f"{scratch.name}.lock").unlink(missing_ok=True)
        return Rebuilt(n, str(aside) if was_there else None)
    finally:
        lease.release()


def _project(config: Config, project: Project, url: str) -> int:
    with Catalog.open(url) as catalog, Log.open(config.log_path, config.limits.log_map_bytes) as log:
        history = History(project, log, Lake(config.lake_path))
        upto = history.catch_up()
        rows = history.frame(DECISION.name).to_dicts()
        return catalog.project([(row["_offset"], row) for row in rows], upto)


def _files(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))


def _move(path: Path, to: Path) -> bool:
    """Rename what is there, with what SQLite keeps beside it: they belong together. Returns whether anything was."""
    found = [one for one in _files(path) if one.exists()]
    for one in found:
        one.replace(to.with_name(to.name + one.name.removeprefix(path.name)))
    return bool(found)
