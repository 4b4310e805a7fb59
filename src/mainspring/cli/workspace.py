"""The project that a command works on: its settings, definitions, clock and stores, opened when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.core.clock import Clock, SharedClock, WallClock
from mainspring.core.config import Config, load_config
from mainspring.core.errors import ConfigError, NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.core.times import parse_time

if TYPE_CHECKING:
    from mainspring.catalog import Catalog
    from mainspring.definitions import CompositeDef, ModelDef, Project, SourceDef, ViewDef
    from mainspring.events.history import History
    from mainspring.events.log import Log
    from mainspring.features import OnlineStore


CHANGED = "the definitions file has changed since it was applied, and what runs goes by what was: mainspring plan"
"""Said where somebody may wonder why."""


class Workspace:
    """A project's folder, seen from the command line.

    Args:
        root: The folder.
        test_clock: Shows the moment, instead of the machine's clock.
        as_applied: Work on the definitions in force, whatever the file says by now: for what runs, and for what is done
            in an incident.
    """

    def __init__(self, root: Path, test_clock: Path | None = None, *, as_applied: bool = False) -> None:
        self._root = root
        self._as_applied = as_applied
        self.clock: Clock = WallClock() if test_clock is None else SharedClock(test_clock)

    @cached_property
    def config(self) -> Config:
        """The settings in ``mainspring.toml``."""
        return load_config(self._root.resolve())

    @cached_property
    def project(self) -> Project:
        """The definitions file, loaded, or the definitions in force."""
        if self._as_applied:
            from mainspring.definitions.applied import load_applied

            return load_applied(self.config)
        from mainspring.definitions import load_project

        return load_project(self.config.definitions)

    def model(self, name: str) -> ModelDef:
        """A model of the definitions file.

        Raises:
            NotFoundError: There is none of that name (MS-C051).
        """
        models, composites = self.project.models, self.project.composites
        if name in composites:
            hint = f"its members: {', '.join(one.name for one in composites[name].members)}"
            raise NotFoundError("MS-C051", f"{name} is a composite, not a model", hint=hint)
        if name not in models:
            raise NotFoundError("MS-C051", f"no model {name!r} is defined", hint=did_you_mean(name, models))
        return models[name]

    def served(self, name: str) -> ModelDef | CompositeDef:
        """What answers at ``/predict/NAME``: a model or a composite of the definitions file.

        Raises:
            NotFoundError: There is none of that name (MS-C051).
        """
        known: dict[str, ModelDef | CompositeDef] = {**self.project.models, **self.project.composites}
        if name not in known:
            raise NotFoundError("MS-C051", f"no model {name!r} is defined", hint=did_you_mean(name, known))
        return known[name]

    def source(self, name: str) -> SourceDef:
        """A source of the definitions file.

        Raises:
            NotFoundError: There is none of that name (MS-C052).
        """
        sources = self.project.sources
        if name not in sources:
            raise NotFoundError("MS-C052", f"no source {name!r} is defined", hint=did_you_mean(name, sources))
        return sources[name]

    def view(self, name: str) -> ViewDef:
        """A feature view of the definitions file.

        Raises:
            NotFoundError: There is none of that name (MS-C053).
        """
        views = self.project.views
        if name not in views:
            raise NotFoundError("MS-C053", f"no feature view {name!r} is defined", hint=did_you_mean(name, views))
        return views[name]

    def now_us(self, at: str | None = None) -> int:
        """The moment that a person named in ISO 8601, or the clock's.

        Raises:
            ConfigError: ``at`` is no moment (MS-C076).
        """
        if at is None:
            return self.clock.now_us()
        try:
            return parse_time(at)
        except ValueError:
            raise ConfigError(
                "MS-C076", f"{at!r} is no moment", hint="write it as 2024-03-01T12:00:00Z; without a zone it is UTC"
            ) from None

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        """The catalog, closed at the end."""
        from mainspring.catalog import Catalog

        with Catalog.open(self.config.catalog_url) as opened:
            yield opened

    @contextmanager
    def history(self, *, passes_over: bool = False) -> Iterator[History]:
        """All events known: the lake, perhaps without damaged files, and the tail of the log, caught up."""
        from mainspring.events.history import History
        from mainspring.events.lake import Lake

        with self.log() as log:
            history = History(self.project, log, Lake(self.config.lake_path, passes_over=passes_over))
            history.catch_up()
            yield history

    @contextmanager
    def log(self) -> Iterator[Log]:
        """The log, to be read, closed at the end."""
        from mainspring.events.log import Log

        with Log.open(self.config.log_path, self.config.limits.log_map_bytes) as opened:
            yield opened

    @contextmanager
    def online(self) -> Iterator[OnlineStore | None]:
        """The online store, to be read, closed at the end; None when nothing was ever folded."""
        from mainspring.features.store import OnlineStore

        if not (self.config.state_path / "data.mdb").exists():
            yield None
            return
        with OnlineStore.open(self.config.state_path, self.config.limits.state_map_bytes) as opened:
            yield opened
