"""The sweep: keys that never come back are removed, a few at each fold, once all they have lies behind every window."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from mainspring.features.layout import Layout
from mainspring.features.state import H_FLOOR, HEAD
from mainspring.features.store import OnlineStore, ViewState, view_of

PASSES = 4  # over all heads while the clock moves on by the shortest retention
MOST = 2_000  # heads looked at in one fold
_COUNT = struct.Struct("<4xI")
_TIME = struct.Struct("<q")


class Sweep:
    """Walks the heads of a store, round and round, at the pace of the folded clock."""

    def __init__(self) -> None:
        self._place = b""
        self._clock_us: int | None = None
        self._due = 0.0

    def step(self, store: OnlineStore, txn: Any, views: Mapping[int, tuple[Layout, ViewState]], clock_us: int) -> None:
        """Look at as many heads as the clock's movement since the last step asks for.

        Args:
            store: Where the heads are.
            txn: A write transaction of it.
            views: By their id; those with windows since the beginning keep every key.
            clock_us: The folded clock.
        """
        bounded = {number: found for number, found in views.items() if not found[0].keeps_past}
        moved_us = clock_us - (clock_us if self._clock_us is None else self._clock_us)
        self._clock_us = clock_us
        if not bounded or moved_us <= 0:
            return
        shortest_us = min(layout.keep_us for layout, _ in bounded.values())
        self._due += txn.stat(store.heads)["entries"] * moved_us * PASSES / shortest_us
        n, self._due = int(min(self._due, MOST)), self._due % 1.0
        if n:
            self._look_at(n, store, txn, bounded, clock_us)

    def _look_at(
        self, n: int, store: OnlineStore, txn: Any, views: Mapping[int, tuple[Layout, ViewState]], clock_us: int
    ) -> None:
        dead: list[bytes] = []
        with txn.cursor(store.heads) as cursor:
            found = cursor.set_range(self._place) if self._place else cursor.first()
            for _ in range(n):
                if not found:
                    self._place = b""
                    break
                place, raw = cursor.item()
                view = views.get(view_of(place))
                if view is not None and _newest_us(raw) < clock_us - view[0].keep_us:
                    dead.append(place)
                    view[1].gone += 1
                found = cursor.next()
                self._place = cursor.key() if found else b""
        for place in dead:
            store.drop_key(place, txn)


def _newest_us(head: bytes) -> int:
    """Time of a key's newest event."""
    (n,) = _COUNT.unpack_from(head)
    (newest,) = _TIME.unpack_from(head, 8 * (HEAD + n - 1 if n else H_FLOOR))
    return int(newest)
