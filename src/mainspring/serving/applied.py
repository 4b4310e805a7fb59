"""The definitions in force: those that were applied, not whatever their file says by now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mainspring.catalog.plan import IN_FORCE
from mainspring.definitions import Project, load_project


def in_force(project: Project, applied: Mapping[str, Mapping[str, Any]], file: Path) -> Project:
    """The file is read again once what was applied is no longer what was read here.

    Args:
        project: What was read here.
        applied: What the catalog knows, as ``Project.describe`` describes it.
        file: The definitions.

    Raises:
        MainspringError: The file cannot be read.
    """
    wanted = _versions(applied)
    if not wanted or wanted == _versions(project.describe()):
        return project
    fresh = load_project(file)
    return fresh if _versions(fresh.describe()) == wanted else project


def _versions(described: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Version by kind and name of what is described, and what of a model is no part of its version."""
    return {
        (kind, name): (one["version"], *(one.get(part, {}) for part in IN_FORCE))
        for kind, named in described.items()
        for name, one in named.items()
    }
