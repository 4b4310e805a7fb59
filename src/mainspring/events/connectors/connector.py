"""What a connector is: something that reads rows from behind a cursor. It keeps nothing itself.

The runner brings rows and cursor to the intake, which writes both in one transaction, and asks on from there. So a
connector that can read again from a cursor loses nothing and brings nothing twice, whenever it is killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec

from mainspring.core.errors import ContractError
from mainspring.definitions.values import SourceDef

WAIT_S = 0.5
"""How long a ``read`` may wait for something to come: the runner looks in between whether it should stop."""


class Arrival(msgspec.Struct, frozen=True):
    """One row as a connector found it.

    Attributes:
        fields: Values by the names that the outside has. What a connector knows of a row besides has a name with ``$``
            (``$topic``), which ``columns`` may map to a column of the source and which else is left out.
        raw: The bytes of a row that came as one JSON object; ``fields`` then holds only names with ``$``.
        place: Where it was found, for quarantine: ``rides.csv line 7``.
        problem: Why it has no fields, for a row that could not be read.
    """

    fields: dict[str, Any] | None = None
    raw: bytes | None = None
    place: str = ""
    problem: ContractError | None = None


class Batch(msgspec.Struct, frozen=True):
    """What one ``read`` gave.

    Attributes:
        cursor: Behind these rows: a value that JSON can hold.
        more: Whether there is more to read at once; the runner else waits for as long as ``every`` says.
    """

    rows: Sequence[Arrival]
    cursor: Any
    more: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every ``[connect.NAME]`` may hold; a connector adds its own.

    Attributes:
        kind: Which connector: a name of ours, or ``file.py:Class`` for one of the project's own.
        source: Where the rows go.
        every: How long to wait when there was nothing more.
        batch: Most rows of one transaction.
        pick: Take the columns that the source knows and leave the others; without it another column is a reason for
            quarantine.
        columns: Column of the source by the name that it has outside.
    """

    kind: str
    source: str
    every: str = "10s"
    batch: int = 1_000
    pick: bool = False
    columns: dict[str, str] = {}


@dataclass(frozen=True)
class Site:
    """What a connector knows of the project: its own name, the project's folder, the source it reads for."""

    name: str
    root: Path
    source: SourceDef


class Connector(Protocol):
    """Reads from one place outside. Made of its settings and a ``Site``; only ``read`` has to be written."""

    settings_type: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Any, site: Site) -> None:
        """Take the settings; reach for nothing yet."""

    def read(self, cursor: Any, limit: int) -> Batch:
        """At most ``limit`` rows behind ``cursor``, in order; None is the beginning.

        Called again with the same cursor it gives the same rows again, and what has come since. It may wait for
        ``WAIT_S`` at most when there is nothing.
        """
        raise NotImplementedError

    def confirm(self, cursor: Any) -> None:
        """Everything up to ``cursor`` is durable: what waits outside for that may be let go of."""
        return

    def check(self) -> Sequence[Arrival]:
        """A few rows, without taking any: whether the settings hold. Raises what is wrong."""
        return self.read(None, 5).rows

    def close(self) -> None:
        """Let go of connections."""
        return
