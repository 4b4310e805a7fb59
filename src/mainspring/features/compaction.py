"""Making hops of a key's sealed blocks, and putting late events into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

from mainspring.features.hops import Hop, ends_of, node_of, pack_hop, row_bytes, unpack_hop
from mainspring.features.layout import Layout
from mainspring.features.places import Triple, first_of, last_of
from mainspring.features.state import D_EVENTS, D_FIRST, D_LAST, are_summed, part_of, unpack_events

EVENT_STAMPS = 3  # time, known_at, offset of an event, beside its columns


class Parts(Protocol):
    """What a key has behind its head: values by number."""

    def load(self, number: int) -> bytes:
        """A part's bytes."""

    def save(self, number: int, raw: bytes) -> None:
        """Store a part."""

    def drop(self, number: int) -> None:
        """Forget a part."""


@dataclass
class _Making:
    """A hop that is being filled."""

    number: int
    hop: Hop
    events: int
    first: Triple
    last: Triple


@dataclass(frozen=True, eq=False)
class HopMaker:
    """Makes hops of one key's blocks.

    Attributes:
        layout: Of the view.
        parts: The key's.
        next_number: Gives a part's number that was never used.
        block: Events of a sealed block.
    """

    layout: Layout
    parts: Parts
    next_number: Callable[[], int]
    block: int

    @cached_property
    def _most_hops(self) -> int:
        """How many hops a block may span to be worth it: with more, its events take less room than their hops."""
        event_bytes = 8 * (EVENT_STAMPS + len(self.layout.columns))
        return max(1, self.block * event_bytes // row_bytes(self.layout))

    def is_worth(self, nodes: np.ndarray, before_us: int) -> np.ndarray:
        """Of which blocks hops are to be made, before ``Layout.hops_before_us``: bool[n]."""
        spans = nodes[:, D_LAST] // self.layout.hop - nodes[:, D_FIRST] // self.layout.hop + 1
        return np.asarray(~are_summed(nodes) & (nodes[:, D_LAST] < before_us) & (spans <= self._most_hops))

    def made(self, nodes: np.ndarray, before_us: int) -> np.ndarray:
        """Nodes of the same events, with hops instead of the blocks that are worth it."""
        rows: list[np.ndarray] = []
        making: _Making | None = None
        for node, worth in zip(nodes, self.is_worth(nodes, before_us), strict=True):
            if not worth:
                if making is not None:
                    rows.append(self._node(making))
                making = None
                rows.append(node)
                continue
            if making is None and rows and are_summed(rows[-1][None])[0]:
                making = self._opened(rows.pop())
            for number, events in self._by_hop(unpack_events(self.parts.load(part_of(node)))):
                if making is None or making.number != number:
                    if making is not None:
                        rows.append(self._node(making))
                    making = _Making(number, Hop.nothing(self.layout), 0, *ends_of(events))
                self._add(making, events)
            self.parts.drop(part_of(node))
        if making is not None:
            rows.append(self._node(making))
        return np.array(rows).reshape(len(rows), nodes.shape[1])

    def with_late(self, before: np.ndarray | None, home: np.ndarray, late: np.ndarray) -> list[np.ndarray]:
        """Nodes in the place of a hop's and, if it is a hop's too, of the one before it, with late events in them.

        Args:
            before: The node before it, if that is a hop's.
            home: Node of the hop whose end the events come before.
            late: int64[3 + C, m], after the end of the node before.
        """
        rows: list[np.ndarray] = []
        making = None if before is None else self._opened(before)
        its_own = self._opened(home)
        for number, events in self._by_hop(late):
            if number == its_own.number:
                self._add(its_own, events)
                continue
            if making is None or making.number != number:
                if making is not None:
                    rows.append(self._node(making))
                making = _Making(number, Hop.nothing(self.layout), 0, *ends_of(events))
            self._add(making, events)
        if making is not None:
            rows.append(self._node(making))
        return [*rows, self._node(its_own)]

    def _by_hop(self, events: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Events of each hop, in order."""
        numbers = events[0] // self.layout.hop
        cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), events.shape[1]]
        for a, b in pairwise(cuts):
            yield int(numbers[a]), events[:, a:b]

    def _add(self, making: _Making, events: np.ndarray) -> None:
        first, last = ends_of(events)
        making.hop.absorb(self.layout, events)
        making.events += events.shape[1]
        making.first, making.last = min(making.first, first), max(making.last, last)

    def _opened(self, node: np.ndarray) -> _Making:
        """A hop taken out of the store again."""
        number = part_of(node)
        hop = unpack_hop(self.parts.load(number))
        self.parts.drop(number)
        start = int(node[D_FIRST]) // self.layout.hop
        return _Making(start, hop, int(node[D_EVENTS]), first_of(node), last_of(node))

    def _node(self, making: _Making) -> np.ndarray:
        """Store a hop; its node."""
        number = self.next_number()
        self.parts.save(number, pack_hop(making.hop))
        return node_of(making.hop, number, making.events, making.first, making.last)
