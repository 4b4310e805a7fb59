"""The definitions that were applied, not whatever their file says by now.

``mainspring apply`` keeps the file's text. A process that starts anew goes on with it: a file that is being edited,
that does not run or that is gone changes nothing until it is applied. What it imports from beside it is not kept.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from mainspring.core.config import Config
from mainspring.core.errors import MainspringError
from mainspring.definitions.project import load_project
from mainspring.definitions.values import Project

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


def _kept(config: Config) -> Path:
    return config.home / "definitions.py"
