"""The catalog as the other rooms see it: each question and each change is one short transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mainspring.catalog import (
    champions,
    checks,
    datasets,
    decisions,
    definitions,
    incidents,
    keys,
    projection,
    rollouts,
    routing,
    stacks,
    versions,
)
from mainspring.catalog.database import Database
from mainspring.catalog.datasets import Dataset
from mainspring.catalog.decisions import Decision
from mainspring.catalog.definitions import Definition
from mainspring.catalog.incidents import BadWindow, Incident
from mainspring.catalog.rollouts import Rollout
from mainspring.catalog.routing import Route
from mainspring.catalog.stacks import Stack
from mainspring.catalog.versions import Version
from mainspring.core.closing import Closing
from mainspring.core.errors import NotFoundError
from mainspring.core.keys import Key


class Catalog(Closing):
    """What exists: definitions, training sets, model versions, rollouts, routes, incidents, decisions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Catalog:
        """Open the catalog at an SQLAlchemy URL, and create it when there is none.

        Raises:
            ConfigError: A database this release does not have (MS-C005).
            FormatError: A schema version it does not know (MS-C041).
        """
        return cls(Database.open(url))

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    # changes

    def project(self, events: Iterable[tuple[int, Mapping[str, Any]]], upto: int | None = None) -> int:
        """Apply ``_decision`` events, each once; see `projection.project`. Returns how many were new."""
        with self._database.write() as connection:
            return projection.project(connection, events, upto)

    def apply_definitions(self, description: Mapping[str, Any], at_us: int, actor: str) -> None:
        """Make what `Project.describe` says current, without a decision: for tests and tools."""
        with self._database.write() as connection:
            definitions.apply(connection, description, at_us, actor)

    # questions

    def objection(self, row: Mapping[str, Any]) -> str:
        """Why a row of ``_decision`` would change nothing now, or nothing: asked before a person's is written."""
        with self._database.rehearse() as connection:
            return projection.objection(connection, row)

    def projected_offset(self) -> int:
        """Up to which offset of the log decisions have been projected."""
        with self._database.read() as connection:
            return projection.projected_offset(connection)

    def definitions(self) -> dict[str, dict[str, Any]]:
        """What is in force, in the shape of `Project.describe`."""
        with self._database.read() as connection:
            return definitions.current(connection)

    def defined(self, kind: str) -> tuple[str, ...]:
        """Names of the sources, views, models, checks or composites (``kind``) that are in force."""
        with self._database.read() as connection:
            return definitions.names(connection, kind)

    def definition(self, kind: str, name: str, version: str) -> Definition | None:
        """One version of a source, view or model (``kind`` in the plural), or None."""
        with self._database.read() as connection:
            return definitions.find(connection, kind, name, version)

    def definition_versions(self, kind: str, name: str) -> tuple[Definition, ...]:
        """Every version of a source, view or model that was ever applied, oldest first."""
        with self._database.read() as connection:
            return definitions.versions(connection, kind, name)

    def dataset(self, model: str, hash: str) -> Dataset | None:
        """One training set, or None."""
        with self._database.read() as connection:
            return datasets.find(connection, model, hash)

    def datasets(self, model: str) -> tuple[Dataset, ...]:
        """Training sets of a model, oldest first."""
        with self._database.read() as connection:
            return datasets.of_model(connection, model)

    def version(self, model: str, version: str) -> Version:
        """One version of a model.

        Raises:
            NotFoundError: It has none of that name (MS-C020).
        """
        with self._database.read() as connection:
            found = versions.find(connection, model, version)
        if found is None:
            raise NotFoundError("MS-C020", f"model {model} has no version {version}", hint="mainspring status")
        return found

    def versions(self, model: str | None = None) -> tuple[Version, ...]:
        """Versions of a model, or of all, oldest first."""
        with self._database.read() as connection:
            return versions.of_model(connection, model)

    def champion(self, model: str) -> Version | None:
        """The version that serves, or None before the first release."""
        with self._database.read() as connection:
            return versions.find(connection, model, champions.champion(connection, model))

    def rollout(self, model: str) -> Rollout | None:
        """The rollout of a model that is running or paused, or None."""
        with self._database.read() as connection:
            return rollouts.alive(connection, model)

    def rollouts(self, model: str | None = None) -> tuple[Rollout, ...]:
        """Rollouts of a model, or of all, oldest first."""
        with self._database.read() as connection:
            return rollouts.listed(connection, model)

    def routes(self) -> tuple[Route, ...]:
        """The route of every model that has a champion."""
        with self._database.read() as connection:
            return routing.routes(connection)

    def stacks(self) -> tuple[Stack, ...]:
        """The weights of stacks that are in force."""
        with self._database.read() as connection:
            return stacks.listed(connection)

    def stack(self, composite: str, definition: str) -> Stack | None:
        """The weights by which a version of a composite answers, or None: it answers the mean."""
        found = (one for one in self.stacks() if (one.composite, one.definition) == (composite, definition))
        return next(found, None)

    def generation(self) -> int:
        """A number that rises whenever a route may have changed."""
        with self._database.read() as connection:
            return routing.generation(connection)

    def incidents(self, *, is_open: bool = False, source: str | None = None) -> tuple[Incident, ...]:
        """Incidents in the order they opened."""
        with self._database.read() as connection:
            return incidents.listed(connection, is_open=is_open, source=source)

    def holds(self, source: str) -> list[tuple[int, int | None]]:
        """When labels of a source are held: ``(held_us, closed_us or None)`` of its incidents that hold them."""
        found = self.incidents(source=source)
        return [(one.held_us, one.closed_us) for one in found if one.numbers.get("blocking", True)]

    def bad_windows(self, sources: Iterable[str]) -> tuple[BadWindow, ...]:
        """Windows of some sources that failed a blocking check: what they reach teaches nothing."""
        with self._database.read() as connection:
            return incidents.bad_windows(connection, sources)

    def check_results(self, check: str | None = None, limit: int = 1_000) -> tuple[checks.Result, ...]:
        """What checks said of their windows, the latest first: of one, or of all."""
        with self._database.read() as connection:
            return checks.listed(connection, check, limit)

    def listed_keys(self) -> tuple[Key, ...]:
        """Every key that there ever was, oldest first."""
        with self._database.read() as connection:
            return keys.listed(connection)

    def key_changes(self) -> int:
        """A number that rises whenever a key is made or revoked."""
        with self._database.read() as connection:
            return keys.changes(connection)

    def decisions(self, *kinds: str, model: str | None = None, limit: int | None = None) -> tuple[Decision, ...]:
        """Decisions of some kinds (of all when none is named) in the log's order; with ``limit`` the latest so many."""
        with self._database.read() as connection:
            return decisions.listed(connection, kinds, model, limit)

    def decision(self, decision_id: str) -> Decision | None:
        """One decision by its id, or None."""
        with self._database.read() as connection:
            return decisions.find(connection, decision_id)

    def knows(self, decision_id: str) -> bool:
        """Whether a decision has been projected."""
        with self._database.read() as connection:
            return decisions.known(connection, decision_id)

    def decision_counts(self) -> dict[str, int]:
        """How many decisions of each kind there are."""
        with self._database.read() as connection:
            return decisions.counted(connection)
