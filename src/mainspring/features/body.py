"""What lies behind a key's tail, laid out for ``kernels.read``.

Blocks that no asked moment has an edge in are taken whole, from their nodes: they are laid out **hollow**, with nothing
but the events that hold each column's first and last value. So a key of a million events is read from a few dozen
nodes and the blocks at the edges of its windows. Hops (``hops``) are hollow always.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from mainspring.features.hops import Hop, unpack_hop
from mainspring.features.layout import Layout
from mainspring.features.nodes import describe, thin
from mainspring.features.past import Past, unpack_past
from mainspring.features.state import (
    D_FIRST,
    D_KNOWN,
    D_LAST,
    D_OFFSET,
    DIRECTORY,
    GROUP,
    H_FORMAT,
    H_GROUPS,
    H_KEPT,
    H_NODES,
    H_OPEN,
    H_SERIAL,
    HAS_PAST,
    LONG_AGO,
    OPEN,
    PAST,
    are_summed,
    check_word,
    no_events,
    node_width,
    part_of,
    unpack_events,
    unpack_nodes,
)
from mainspring.features.store import KeyParts

# What a packed body begins with: events, leaves, whether some are hollow or hops, whether it has a past.
B_EVENTS, B_LEAVES, B_HOLLOW, B_PAST = range(4)
PACKED = 4
WHOLE_EVENTS = 1_024
"""A key with no more behind its tail is always laid out whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What the moments of a read need to see the events of.

    Attributes:
        edges_us: int64[E], where windows begin and end, rising.
        since_us: Events before it are in no window.
        fine_us: All events from then on are needed: summaries do not do.
        known: A leaf with a greater known_at is not wholly visible.
        offset: A leaf with a greater offset, likewise.
    """

    edges_us: np.ndarray
    since_us: int
    fine_us: int
    known: int
    offset: int

    def looks_into(self, nodes: np.ndarray) -> np.ndarray:
        """Of which blocks or groups the events are needed: bool[n]."""
        first = np.searchsorted(self.edges_us, nodes[:, D_FIRST], side="right")
        last = np.searchsorted(self.edges_us, nodes[:, D_LAST], side="right")
        hidden = (nodes[:, D_KNOWN] > self.known) | (nodes[:, D_OFFSET] > self.offset)
        return np.asarray((first != last) | hidden | (nodes[:, D_LAST] >= self.fine_us))


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """What lies behind a key's tail.

    Attributes:
        serial: ``H_SERIAL`` of the head that it was laid out for.
        events: int64[3 + C, n].
        begins: int64[L], first event of each leaf.
        nodes: int64[L, node_width], of the leaves.
        hollow: int64[H, node_width], of those that are hollow and need not be.
        since_us: Events before it were left out.
        past: What the key has let go of; None if nothing.
        hops: Hops among the leaves by their place there; None of those that nothing but the node was needed of.
        joined: Room for what a reader makes of hops, by where windows begin.
        packed: Counts (``B_…``), then events, begins and nodes, which are views of it: bodies are joined as bytes.
        is_whole: Whether nothing of it is hollow or a hop: it serves whatever asks for no more than it reaches back.
    """

    serial: int
    events: np.ndarray
    begins: np.ndarray
    nodes: np.ndarray
    hollow: np.ndarray
    since_us: int
    past: Past | None
    hops: dict[int, Hop | None] = field(default_factory=dict)
    joined: dict[Any, Any] = field(default_factory=dict)
    packed: bytes = field(init=False)
    is_whole: bool = field(init=False)

    def __post_init__(self) -> None:
        """A body is made once and read often."""
        is_whole = not self.hops and not len(self.hollow)
        n, leaves = self.events.shape[1], len(self.begins)
        counts = np.array((n, leaves, not is_whole, self.past is not None), np.int64)
        parts = self.events, self.begins, self.nodes
        packed = b"".join((counts.tobytes(), *(part.tobytes() for part in parts)))
        begin = PACKED
        words = np.frombuffer(packed, np.int64)
        for name, part in zip(("events", "begins", "nodes"), parts, strict=True):
            object.__setattr__(self, name, words[begin : begin + part.size].reshape(part.shape))
            begin += part.size
        object.__setattr__(self, "packed", packed)
        object.__setattr__(self, "is_whole", is_whole)

    @property
    def bytes(self) -> int:
        """What it takes in memory, nearly."""
        past = 0 if self.past is None else sum(part.nbytes for part in self.past.values())
        hops = sum(hop.bytes for hop in self.hops.values() if hop is not None)
        return self.events.nbytes + self.nodes.nbytes + self.hollow.nbytes + past + hops + 1_000

    def serves(self, asked: Asked) -> bool:
        """Whether it is laid out finely enough."""
        if asked.since_us < self.since_us:
            return False
        if self.is_whole:
            return True
        if any(hop is None and self.nodes[leaf, D_LAST] >= asked.fine_us for leaf, hop in self.hops.items()):
            return False
        return not len(self.hollow) or not asked.looks_into(self.hollow).any()

    def without_hops(self, first: int = 0) -> Body:
        """Itself as far as it is made of events: its leaves from ``first`` on that are no hops."""
        ends = np.append(self.begins[1:], self.events.shape[1])
        leaves = np.array([leaf not in self.hops for leaf in range(len(self.begins))], np.bool_)
        leaves[:first] = False
        counts = (ends - self.begins)[leaves]
        events = np.ascontiguousarray(self.events[:, np.repeat(leaves, ends - self.begins)])
        return replace(self, events=events, begins=np.cumsum(counts) - counts, nodes=self.nodes[leaves], hops={})


def lay_out(head: np.ndarray, parts: KeyParts, layout: Layout, asked: Asked) -> Body:
    """Lay out what lies behind the tail of the key whose head, int64[HEAD], this is."""
    columns, needs = len(layout.columns), layout.needs
    flags, _, _ = check_word(int(head[H_FORMAT]))
    small = int(head[H_KEPT]) <= WHOLE_EVENTS
    since_us = LONG_AGO if small else asked.since_us
    leaves = _Leaves(columns, len(needs))
    chosen = _Chosen(parts, asked, leaves, since_us, all=small)
    if head[H_GROUPS]:
        chosen.add(unpack_nodes(parts.load(DIRECTORY)), are_groups=True)
    if head[H_NODES]:
        chosen.add(unpack_nodes(parts.load(GROUP)), are_groups=False)
    if head[H_OPEN]:
        events = unpack_events(parts.load(OPEN)).copy()
        node = np.empty(node_width(len(needs)), np.int64)
        describe(events, events[3 : 3 + len(needs)].view(np.float64), needs, OPEN, node)
        leaves.add(events, node)
    past = unpack_past(parts.load(PAST)) if flags & HAS_PAST else None
    return leaves.body(int(head[H_SERIAL]), since_us, past)


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """Puts blocks that moments need among the leaves of a body.

    No closure: one that calls itself would keep the transaction, and with it a reader's place in the store, until the
    collector comes.

    Attributes:
        all: Whether they need all events of each.
    """

    parts: KeyParts
    asked: Asked
    leaves: _Leaves
    since_us: int
    all: bool

    def add(self, nodes: np.ndarray, *, are_groups: bool) -> None:
        """Add what lies under the nodes of blocks, or of groups of blocks."""
        nodes = nodes[np.searchsorted(nodes[:, D_LAST], self.since_us) :]
        fine = np.ones(len(nodes), np.bool_) if self.all else self.asked.looks_into(nodes)
        summed = are_summed(nodes) if not are_groups else np.zeros(len(nodes), np.bool_)
        for a, b in _runs(np.where(summed, _HOP, fine)):
            if summed[a]:
                for node in nodes[a:b]:
                    wanted = node[D_LAST] >= self.asked.fine_us
                    self.leaves.add_hop(node, unpack_hop(self.parts.load(part_of(node))) if wanted else None)
                continue
            if not fine[a]:
                self.leaves.add_hollow(np.array(nodes[a:b]))
                continue
            for node in nodes[a:b]:
                raw = self.parts.load(part_of(node))
                if are_groups:
                    self.add(unpack_nodes(raw), are_groups=False)
                else:
                    self.leaves.add(unpack_events(raw), node)


_HOP = 2


def _runs(fine: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of equal answers."""
    if not len(fine):
        return []
    cuts = [0, *(np.flatnonzero(fine[1:] != fine[:-1]) + 1).tolist(), len(fine)]
    return list(pairwise(cuts))


class _Leaves:
    """Leaves of a body in the making."""

    def __init__(self, columns: int, summed: int) -> None:
        self._columns = columns
        self._events = [no_events(columns)]
        self._counts: list[np.ndarray] = []
        self._nodes = [np.empty((0, node_width(summed)), np.int64)]
        self._hollow = list(self._nodes)
        self._hops: dict[int, Hop | None] = {}
        self._leaves = 0

    def add(self, events: np.ndarray, node: np.ndarray) -> None:
        """A leaf with all its events."""
        self._events.append(events)
        self._counts.append(np.array([events.shape[1]]))
        self._nodes.append(node[None])
        self._leaves += 1

    def add_hop(self, node: np.ndarray, hop: Hop | None) -> None:
        """A leaf that is taken whole, always."""
        events, counts = thin(np.array(node[None]), self._columns)
        self._hops[self._leaves] = hop
        self._events.append(events)
        self._counts.append(counts)
        self._nodes.append(node[None])
        self._leaves += 1

    def add_hollow(self, nodes: np.ndarray) -> None:
        """Leaves that are to be taken whole."""
        events, counts = thin(nodes, self._columns)
        self._events.append(events)
        self._counts.append(counts)
        self._nodes.append(nodes)
        self._hollow.append(nodes)
        self._leaves += len(nodes)

    def body(self, serial: int, since_us: int, past: Past | None) -> Body:
        """All of them."""
        counts = np.concatenate((np.zeros(1, np.int64), *self._counts))
        begins = np.cumsum(counts)[:-1]
        events, nodes = np.concatenate(self._events, axis=1), np.concatenate(self._nodes)
        return Body(serial, events, begins, nodes, np.concatenate(self._hollow), since_us, past, self._hops)
