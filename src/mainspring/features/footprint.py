"""How much room a view's state takes in the online store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mainspring.features.store import heads_of, parts_of

if TYPE_CHECKING:
    from mainspring.features.layout import Layout
    from mainspring.features.store import OnlineStore, ViewState

MOST_KEYS = 200_000
STAMP_COLUMNS = 3
"""Of each event in a state beside the view's columns: time, known_at, offset."""


@dataclass(frozen=True)
class Footprint:
    """Keys of a view and the bytes of their state, keys and values as the store holds them.

    Attributes:
        is_whole: Whether every key was looked at; else both numbers are of the first ``MOST_KEYS``, without versions of
            rows that may be corrected.
    """

    keys: int
    bytes: int
    is_whole: bool = True

    @property
    def bytes_per_key(self) -> float:
        """Mean bytes of a key's state; 0 without keys."""
        return self.bytes / self.keys if self.keys else 0.0


def footprint(store: OnlineStore, state: ViewState, most_keys: int = MOST_KEYS) -> Footprint:
    """Measure the state of a view.

    Args:
        store: Open in any way.
        state: Of the view.
        most_keys: Look at no more keys than this.
    """
    keys = total = 0
    last = b""
    with store.env.begin(buffers=True) as txn:
        with txn.cursor(store.heads) as cursor:
            for key in heads_of(cursor, state):
                if keys == most_keys:
                    last = key
                    break
                keys += 1
                total += len(cursor.key()) + len(cursor.value())
        with txn.cursor(store.parts) as cursor:
            for _ in parts_of(cursor, state, last):
                total += len(cursor.key()) + len(cursor.value())
        prefix = state.id.to_bytes(4, "big")
        with txn.cursor(store.versions) as cursor:
            found = not last and cursor.set_range(prefix)
            while found and bytes(cursor.key()[:4]) == prefix:
                total += len(cursor.key()) + len(cursor.value())
                found = cursor.next()
    return Footprint(keys, total, is_whole=not last)


def column_share(layout: Layout, columns: int) -> float:
    """Share of a view's state that ``columns`` of its columns are: each is eight bytes an event, like each stamp."""
    return columns / (STAMP_COLUMNS + len(layout.columns))
