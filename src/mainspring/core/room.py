"""How many connections a door has room for, and who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainspring.core.connection import Connection

TOLD = 128
"""Connections over the limit that may be there to be told so; more are hung up on, or they take the last files."""


class Room:
    """The connections of a door.

    Args:
        most: How many are served at once.

    Attributes:
        inside: Those that are served.
        turned_away: Those that are told that there is no room, until they have gone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.inside: set[Connection] = set()
        self.turned_away: set[Connection] = set()

    def everybody(self) -> tuple[Connection, ...]:
        """All that are open."""
        return (*self.inside, *self.turned_away)

    def has_place(self, arriving: int) -> bool:
        """Whether one more would be served, once so many are there that have yet to arrive."""
        return len(self.inside) + arriving < self._most

    def may_tell(self, arriving: int) -> bool:
        """Whether one more may be told that there is no room."""
        return len(self.inside) + len(self.turned_away) + arriving < self._most + TOLD

    def enter(self, connection: Connection) -> bool:
        """A connection is made; returns whether it is served."""
        is_served = len(self.inside) < self._most
        (self.inside if is_served else self.turned_away).add(connection)
        return is_served

    def leave(self, connection: Connection) -> None:
        """A connection is closed."""
        self.inside.discard(connection)
        self.turned_away.discard(connection)
