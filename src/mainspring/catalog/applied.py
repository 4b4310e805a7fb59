"""The definitions in force: those that were applied, not whatever their file says by now.

``mainspring apply`` keeps the file's text. A process that starts anew goes on with it: a file that is being edited,
that does not run or that is gone changes nothing until it is applied. What it imports from beside it is not kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mainspring.catalog.plan import IN_FORCE
from mainspring.core.config import Config
from mainspring.core.errors import MainspringError
from mainspring.definitions import Project, load_project

_log = logging.getLogger(__name__)


def keep(config: Config, text: bytes) -> None:
    """Keep the text of a definitions file that is in force now.

    Raises:
        OSError: The disk is full or broken.
    """
    path = _kept(config)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load_applied(config: Config) -> Project:
    """The definitions that were applied last; the file's where nothing was, or where what was kept cannot be read.

    Raises:
        DefinitionError: The file has to be read, and cannot be.
    """
    path = _kept(config)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return load_project(config.definitions)
    try:
        return load_project(config.definitions, text)
    except MainspringError as error:
        _log.warning("%s, the definitions as they were applied, cannot be read, so their file is: %s", path, error)
        return load_project(config.definitions)


def has_changed(config: Config) -> bool:
    """Whether the file says something else than what was applied last, be it a comment; not where nothing was."""
    try:
        kept = _kept(config).read_bytes()
    except FileNotFoundError:
        return False
    try:
        return config.definitions.read_bytes() != kept
    except OSError:
        return True


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


def _kept(config: Config) -> Path:
    return config.home / "definitions.py"


def _versions(described: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Version by kind and name of what is described, and what of a model is no part of its version."""
    return {
        (kind, name): (one["version"], *(one.get(part, {}) for part in IN_FORCE))
        for kind, named in described.items()
        for name, one in named.items()
    }
