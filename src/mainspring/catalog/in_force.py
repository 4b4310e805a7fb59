"""The definitions in force: those that the catalog knows to have been applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mainspring.catalog.plan import IN_FORCE
from mainspring.core.config import Config
from mainspring.definitions import Project, load_project
from mainspring.definitions.applied import load_applied


def in_force(project: Project, applied: Mapping[str, Mapping[str, Any]], config: Config) -> Project:
    """What was applied last, read again once it is no longer what was read here.

    Args:
        project: What was read here.
        applied: What the catalog knows, as ``Project.describe`` describes it.
        config: The project's settings.

    Raises:
        MainspringError: The file has to be read, and cannot be.
    """
    wanted, known = _versions(applied), project.describe()
    if not wanted or applied == known:
        return project
    fresh = load_applied(config)
    if fresh.describe() != applied:  # the apply is about to keep the file, or has just done so
        file = load_project(config.definitions)
        if file.describe() == applied or _versions(fresh.describe()) != wanted:
            fresh = file
    described = fresh.describe()
    return fresh if described != known and _versions(described) == wanted else project


def _versions(described: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Version by kind and name of what is described, and what of a model is no part of its version."""
    return {
        (kind, name): (one["version"], *(one.get(part, {}) for part in IN_FORCE))
        for kind, named in described.items()
        for name, one in named.items()
    }
