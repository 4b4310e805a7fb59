"""The project that a command works on: its settings, definitions, clock and stores, opened when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.core.clock import Clock, SharedClock, WallClock
from mainspring.core.config import Config, load_config
from mainspring.core.errors import NotFoundError
from mainspring.core.names import did_you_mean

if TYPE_CHECKING:
    from mainspring.catalog import Catalog
    from mainspring.definitions import ModelDef, Project, SourceDef
    from mainspring.events.history import History


class Workspace:
    """A project's folder, seen from the command line."""

    def __init__(self, root: Path, test_clock: Path | None = None) -> None:
        self._root = root
        self.clock: Clock = WallClock() if test_clock is None else SharedClock(test_clock)

    @cached_property
    def config(self) -> Config:
        """The settings in ``mainspring.toml``."""
        return load_config(self._root.resolve())

    @cached_property
    def project(self) -> Project:
        """The definitions file, loaded."""
        from mainspring.definitions import load_project

        return load_project(self.config.definitions)

    def model(self, name: str) -> ModelDef:
        """A model of the definitions file.

        Raises:
            NotFoundError: There is none of that name (MS-C051).
        """
        models = self.project.models
        if name not in models:
            raise NotFoundError("MS-C051", f"no model {name!r} is defined", hint=did_you_mean(name, models))
        return models[name]

    def source(self, name: str) -> SourceDef:
        """A source of the definitions file.

        Raises:
            NotFoundError: There is none of that name (MS-C052).
        """
        sources = self.project.sources
        if name not in sources:
            raise NotFoundError("MS-C052", f"no source {name!r} is defined", hint=did_you_mean(name, sources))
        return sources[name]

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        """The catalog, closed at the end."""
        from mainspring.catalog import Catalog

        with Catalog.open(self.config.catalog_url) as opened:
            yield opened

    @contextmanager
    def history(self) -> Iterator[History]:
        """All events known: the lake and the tail of the log, caught up."""
        from mainspring.events.history import History
        from mainspring.events.lake import Lake
        from mainspring.events.log import Log

        log = Log.open(self.config.log_path, self.config.limits.log_map_bytes)
        try:
            history = History(self.project, log, Lake(self.config.lake_path))
            history.catch_up()
            yield history
        finally:
            log.close()
