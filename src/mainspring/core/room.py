"""How many connections a door has room for, and who they are."""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainspring.core.connection import Connection

TOLD = 128
"""Connections over the limit that may be there to be told so; more are hung up on, or they take the last files."""

_LOOK_EVERY_S = 0.1  # for who is idle: while all are busy, who comes must not cost a look at all of them


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
        self._idle: deque[tuple[float, Connection]] = deque()  # as they were last seen, who has been for longest first
        self._look_at_s = 0.0

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

    def free_place(self, before_s: float) -> bool:
        """Let go who has been idle for longest, if since before then; returns whether there was anybody.

        Args:
            before_s: On the event loop's clock; always by the same time before now.
        """
        if not self._idle and before_s >= self._look_at_s:
            self._look_at_s = before_s + _LOOK_EVERY_S
            seen = [(since_s, one) for one in self.inside if (since_s := one.idle_since()) is not None]
            self._idle.extend(sorted((one for one in seen if one[0] < before_s), key=itemgetter(0)))
        while self._idle:
            since_s, connection = self._idle.popleft()
            if connection in self.inside and connection.idle_since() == since_s:
                self.inside.discard(connection)
                connection.abort()
                return True
        return False

    def forget(self) -> None:
        """Keep nobody in memory who may have gone."""
        self._idle.clear()
