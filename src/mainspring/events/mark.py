"""How far a lake is complete, and which tables it has: a file in its folder, kept by the process that writes the lake.

Losing the file costs time, never an event: each table knows what it has. With it a table whose own log was taken away
is not taken for one that was never written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

NAME = "_flushed"


@dataclass(frozen=True)
class Mark:
    """What the writer of a lake says of it.

    Attributes:
        offset: Of the log, up to which everything is in the lake.
        tables: Sources that have a table.
    """

    offset: int = 0
    tables: frozenset[str] = frozenset()


def read_mark(lake: Path) -> Mark:
    """The mark in a lake's folder; the empty one where there is none that can be read."""
    try:
        first, *names = (lake / NAME).read_text(encoding="ascii").split() or [""]
    except (FileNotFoundError, UnicodeDecodeError):
        return Mark()
    return Mark(int(first), frozenset(names)) if first.isdigit() else Mark()


def write_mark(lake: Path, mark: Mark) -> None:
    """Put a mark in the place of the one that is there; readers see the one or the other."""
    lake.mkdir(parents=True, exist_ok=True)
    scratch = lake / f"{NAME}.{os.getpid()}"
    scratch.write_text("\n".join([str(mark.offset), *sorted(mark.tables)]), encoding="ascii")
    scratch.replace(lake / NAME)
