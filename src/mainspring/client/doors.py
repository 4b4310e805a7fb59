"""Where a client finds gateway and intake: at the URLs it is given, or where the project in a folder runs now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from mainspring.core.config import load_config
from mainspring.core.errors import ContractError, UnavailableError
from mainspring.core.names import is_name
from mainspring.core.run import read_door


def door(name: str, url: str | None, project: Path) -> Callable[[], str]:
    """What gives the URL of the door ``name`` as it is now.

    Args:
        name: ``gateway`` or ``intake``.
        url: Given by the user, or None.
        project: Folder of the project, where none is given.
    """
    if url is not None:
        given = url
        return lambda: given
    run = load_config(project).run

    def found() -> str:
        here = read_door(run, name)
        if here is None:
            raise UnavailableError("MS-E506", f"no {name} is running", where=str(project), hint="mainspring up")
        return here

    return found


def path_part(name: str, what: str) -> str:
    """A name as a part of a path.

    Raises:
        ContractError: It is no name (MS-E507).
    """
    if not is_name(name):
        raise ContractError("MS-E507", f"{name[:100]!r} is no name of a {what}", hint="names are [a-z0-9_]+")
    return quote(name)
