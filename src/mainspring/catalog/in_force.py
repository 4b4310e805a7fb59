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
    wanted = _versions(applied)
    if not wanted or wanted == _versions(project.describe()):
        return project
    for load in (load_applied, _load_file):  # of an apply that is about to keep the file, the second has it
        fresh = load(config)
        if _versions(fresh.describe()) == wanted:
            return fresh
    return project


def _load_file(config: Config) -> Project:
    return load_project(config.definitions)


def _versions(described: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Version by kind and name of what is described, and what of a model is no part of its version."""
    return {
        (kind, name): (one["version"], *(one.get(part, {}) for part in IN_FORCE))
        for kind, named in described.items()
        for name, one in named.items()
    }
