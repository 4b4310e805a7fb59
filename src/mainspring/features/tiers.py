"""The state of one key, taken apart, changed and put together again: whatever touches more than its tail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from mainspring.features.compaction import HopMaker, Parts
from mainspring.features.hops import unpack_hop
from mainspring.features.layout import Layout
from mainspring.features.nodes import describe, gather
from mainspring.features.past import Past, absorb, absorb_hop, pack_past, unpack_past
from mainspring.features.places import (
    Triple,
    count_before,
    cuts_of,
    first_of,
    home_of,
    homes_of,
    joined,
    last_of,
    place_of,
)
from mainspring.features.state import (
    D_EVENTS,
    D_LAST,
    D_NUMBER,
    DIRECTORY,
    FIRST_NUMBER,
    GROUP,
    H_CHANGED,
    H_FLOOR,
    H_FORMAT,
    H_GROUPS,
    H_KEPT,
    H_NODES,
    H_NUMBER,
    H_OLDEST,
    H_OPEN,
    H_SERIAL,
    HAS_PAST,
    HEAD,
    LONG_AGO,
    NEVER,
    OPEN,
    PAST,
    SUMMED,
    Sizes,
    are_summed,
    check_word,
    no_events,
    node_width,
    pack_events,
    pack_nodes,
    part_of,
    triple,
    unpack_events,
    unpack_nodes,
    word_of,
)


@dataclass(slots=True)
class KeyState:
    """One key's state in a transaction. ``flush`` writes what has changed.

    Attributes:
        parts: The key's.
        layout: Of the view.
        sizes: How many of what make the next larger thing.
        head: int64[HEAD], as it was read; the counts and the floor are kept up to date.
        tail: int64[3 + C, n].
    """

    parts: Parts
    layout: Layout
    sizes: Sizes
    head: np.ndarray
    tail: np.ndarray
    _open: np.ndarray | None = None
    _group: np.ndarray | None = None
    _directory: np.ndarray | None = None
    _past: Past | None = None
    _changed: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, raw: Any, parts: Parts, layout: Layout, sizes: Sizes) -> KeyState:
        """A key's state from its head's bytes; None or nothing for a key that was never seen.

        Raises:
            FormatError: A format that this release does not know (MS-F901).
        """
        columns = len(layout.columns)
        if not raw:
            head = np.zeros(HEAD, np.int64)
            head[H_FORMAT], head[H_NUMBER], head[H_OLDEST] = word_of(columns, 0), FIRST_NUMBER, NEVER
            head[H_FLOOR : H_FLOOR + 3] = LONG_AGO
            return cls(parts, layout, sizes, head, no_events(columns))
        words = np.frombuffer(raw, np.int64)
        _, _, n = check_word(int(words[0]))
        return cls(parts, layout, sizes, words[:HEAD].copy(), words[HEAD:].reshape(3 + columns, n))

    def flush(self, offset: int, serial: int) -> bytes:
        """Write the parts that have changed.

        Args:
            offset: Of the log, that the fold reaches.
            serial: Greater than that of any earlier commit: two states behind a tail never have the same.

        Returns:
            The head's bytes.
        """
        flags, _, _ = check_word(int(self.head[H_FORMAT]))
        if OPEN in self._changed:
            self._keep(OPEN, self.open_block.shape[1], lambda: pack_events(self.open_block))
        if GROUP in self._changed:
            self._keep(GROUP, len(self.group), lambda: pack_nodes(self.group))
        if DIRECTORY in self._changed:
            self._keep(DIRECTORY, len(self.directory), lambda: pack_nodes(self.directory))
        if PAST in self._changed:
            self.parts.save(PAST, pack_past(self.past))
            flags |= HAS_PAST
        if self._changed:
            self.head[H_SERIAL] = serial
            self._changed.clear()
        if not self.head[H_KEPT]:
            self.head[H_FLOOR : H_FLOOR + 3] = LONG_AGO
        self.head[H_FORMAT] = word_of(len(self.layout.columns), self.tail.shape[1], flags)
        self.head[H_CHANGED] = offset
        self.head[H_OLDEST] = self._oldest_us()
        return self.head.tobytes() + self.tail.tobytes()

    def _keep(self, number: int, n: int, pack: Any) -> None:
        if n:
            self.parts.save(number, pack())
        else:
            self.parts.drop(number)

    def _oldest_us(self) -> int:
        """Time of the last event of the part to be let go of next."""
        for nodes, n in ((DIRECTORY, H_GROUPS), (GROUP, H_NODES)):
            if self.head[n]:
                return int((self.directory if nodes == DIRECTORY else self.group)[0, D_LAST])
        return int(self.head[H_FLOOR]) if self.head[H_OPEN] else NEVER

    # --- parts, read when they are first needed -----------------------------------------------------------------------

    @property
    def open_block(self) -> np.ndarray:
        """Events of the open block."""
        if self._open is None:
            known = self.head[H_OPEN] > 0
            self._open = unpack_events(self.parts.load(OPEN)) if known else no_events(len(self.layout.columns))
        return self._open

    @open_block.setter
    def open_block(self, events: np.ndarray) -> None:
        self._open = np.ascontiguousarray(events)
        self.head[H_OPEN] = events.shape[1]
        self._changed.add(OPEN)

    @property
    def group(self) -> np.ndarray:
        """Nodes of the newest sealed blocks."""
        if self._group is None:
            known = self.head[H_NODES] > 0
            self._group = unpack_nodes(self.parts.load(GROUP)) if known else self._no_nodes()
        return self._group

    @group.setter
    def group(self, nodes: np.ndarray) -> None:
        self._group = nodes
        self.head[H_NODES] = len(nodes)
        self._changed.add(GROUP)

    @property
    def directory(self) -> np.ndarray:
        """Nodes of the sealed groups."""
        if self._directory is None:
            known = self.head[H_GROUPS] > 0
            self._directory = unpack_nodes(self.parts.load(DIRECTORY)) if known else self._no_nodes()
        return self._directory

    @directory.setter
    def directory(self, nodes: np.ndarray) -> None:
        self._directory = nodes
        self.head[H_GROUPS] = len(nodes)
        self._changed.add(DIRECTORY)

    @property
    def past(self) -> Past:
        """What was let go of; empty if nothing was."""
        if self._past is None:
            flags, _, _ = check_word(int(self.head[H_FORMAT]))
            self._past = unpack_past(self.parts.load(PAST)) if flags & HAS_PAST else {}
        return self._past

    @property
    def floor(self) -> Triple:
        """(time, known_at, offset) that nothing behind the tail comes after."""
        t, known, offset = self.head[H_FLOOR : H_FLOOR + 3].tolist()
        return (t, known, offset)

    def _no_nodes(self) -> np.ndarray:
        return np.empty((0, node_width(len(self.layout.needs))), np.int64)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of the key."""
        flags, _, _ = check_word(int(self.head[H_FORMAT]))
        return not (self.tail.shape[1] or self.head[H_KEPT] or self._past or flags & HAS_PAST)

    # --- changes ------------------------------------------------------------------------------------------------------

    def insert(self, new: np.ndarray, horizon_us: int, *, keeps_past: bool, hops_before_us: int = LONG_AGO) -> int:
        """Fold events of the key, late or not, and let go of what lies behind the horizon.

        Args:
            new: int64[3 + C, m], in the order (time, known_at, offset).
            horizon_us: Events before it are outside every window that may still be asked about.
            keeps_past: Whether what is let go of goes on to count in windows without a beginning.
            hops_before_us: ``Layout.hops_before_us``.

        Returns:
            How many events were too old and count nowhere.
        """
        old = int(np.searchsorted(new[0], horizon_us))
        if old and keeps_past:  # what is let go of stays older than all that is kept
            old = min(old, self._before_everything_kept(new))
            if old:
                self._absorb(new[:, :old])
        new = new[:, old:]
        behind = count_before(new, self.floor)
        if behind:
            self._insert_behind(new[:, :behind])
            new = new[:, behind:]
        if new.shape[1]:
            self.tail = joined(self.tail, new)
        if not keeps_past:
            self.tail = self.tail[:, int(np.searchsorted(self.tail[0], horizon_us)) :]
        if self.tail.shape[1] > self.sizes.tail:
            self._spill(self.tail.shape[1] - self.sizes.keep)
        self._seal_what_is_full()
        self._let_go(horizon_us, keeps_past=keeps_past)
        if self.layout.makes_hops:
            self._make_hops(hops_before_us)
        return 0 if keeps_past else old

    def remove_all(self, stamps: Iterable[Triple]) -> int:
        """Take out the events at these (time, known_at, offset), wherever they are; how many were still there."""
        return sum(self.remove(at) for at in stamps)

    def remove(self, at: Triple) -> bool:
        """Take one event out, wherever it is; whether it was there."""
        place = place_of(self.tail, at)
        if place is not None:
            self.tail = np.delete(self.tail, place, axis=1)
            return True
        if self.head[H_OPEN] and at >= triple(self.open_block, 0):
            place = place_of(self.open_block, at)
            if place is not None:
                self.open_block = np.delete(self.open_block, place, axis=1)
                self.head[H_KEPT] -= 1
            return place is not None
        if self.head[H_GROUPS] and at <= last_of(self.directory[-1]):
            home = home_of(self.directory, at)
            number = int(self.directory[home, D_NUMBER])
            nodes = self._without(unpack_nodes(self.parts.load(number)), at)
            if nodes is not None:
                self.parts.drop(number)
                self.directory = np.concatenate(
                    (self.directory[:home], self._seal_groups(nodes), self.directory[home + 1 :])
                )
            return nodes is not None
        nodes = self._without(self.group, at)
        if nodes is not None:
            self.group = nodes
        return nodes is not None

    def _without(self, nodes: np.ndarray, at: Triple) -> np.ndarray | None:
        """Nodes of the same blocks without one event; None if none of them has it. Small neighbours become one."""
        home = home_of(nodes, at)
        if home == len(nodes):
            return None
        events = self._events_of(nodes[home])
        place = place_of(events, at)
        if place is None:
            return None
        self.parts.drop(int(nodes[home, D_NUMBER]))
        self.head[H_KEPT] -= 1
        events, low, high = np.delete(events, place, axis=1), home, home + 1
        for other in (home - 1, home + 1):
            if 0 <= other < len(nodes) and events.shape[1] + int(nodes[other, D_EVENTS]) <= self.sizes.block:
                beside = self._events_of(nodes[other])
                self.parts.drop(int(nodes[other, D_NUMBER]))
                events = np.concatenate((beside, events) if other < home else (events, beside), axis=1)
                low, high = min(low, other), max(high, other + 1)
        made = self._seal(events) if events.shape[1] else self._no_nodes()
        return np.concatenate((nodes[:low], made, nodes[high:]))

    def _before_everything_kept(self, new: np.ndarray) -> int:
        """How many of ``new`` come before all that is kept."""
        if self.head[H_GROUPS] or self.head[H_NODES]:
            return count_before(new, first_of((self.directory if self.head[H_GROUPS] else self.group)[0]))
        if self.head[H_OPEN] or self.tail.shape[1]:
            return count_before(new, triple(self.open_block if self.head[H_OPEN] else self.tail, 0))
        return int(new.shape[1])

    def _insert_behind(self, new: np.ndarray) -> None:
        """Fold events that come before the floor."""
        self.head[H_KEPT] += new.shape[1]
        if self.head[H_GROUPS]:
            inside = count_before(new, last_of(self.directory[-1]))
            if inside:
                self._insert_into_groups(new[:, :inside])
                new = new[:, inside:]
        if self.head[H_NODES] and new.shape[1]:
            inside = count_before(new, last_of(self.group[-1]))
            if inside:
                self.group = self._insert_into_blocks(self.group, new[:, :inside])
                new = new[:, inside:]
        if new.shape[1]:
            self.open_block = joined(self.open_block, new)

    def _insert_into_groups(self, new: np.ndarray) -> None:
        rows, done = [], 0
        for home, a, b in homes_of(self.directory, new):
            number = part_of(self.directory[home])
            nodes = self._insert_into_blocks(unpack_nodes(self.parts.load(number)), new[:, a:b])
            self.parts.drop(number)
            rows += [self.directory[done:home], self._seal_groups(nodes)]
            done = home + 1
        self.directory = np.concatenate((*rows, self.directory[done:]))

    def _insert_into_blocks(self, nodes: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Nodes of the blocks with ``new`` in them, all of which come before the end of the last one."""
        rows = list(nodes)
        summed = are_summed(nodes)
        for home, a, b in reversed(list(homes_of(nodes, new))):
            if summed[home]:
                is_beside = bool(home and summed[home - 1])
                before = rows[home - 1] if is_beside else None
                rows[home - is_beside : home + 1] = self._hop_maker.with_late(before, rows[home], new[:, a:b])
            else:
                events = joined(self._events_of(nodes[home]), new[:, a:b])
                self.parts.drop(part_of(nodes[home]))
                rows[home : home + 1] = list(self._seal(events))
        return np.array(rows).reshape(len(rows), nodes.shape[1])

    @property
    def _hop_maker(self) -> HopMaker:
        return HopMaker(self.layout, self.parts, self._number, self.sizes.block)

    def _make_hops(self, before_us: int) -> None:
        """Make hops of all blocks that are worth it: in sealed groups, then in the open one."""
        done = int(np.argmin(np.append(are_summed(self.directory), False)))
        while done < len(self.directory) and self.directory[done, D_LAST] < before_us:
            if are_summed(self.directory[done : done + 1])[0]:
                done += 1
                continue
            number = part_of(self.directory[done])
            nodes = self._hop_maker.made(unpack_nodes(self.parts.load(number)), before_us)
            self.parts.drop(number)
            first = done
            if done and self._count_of(done - 1) + len(nodes) <= self.sizes.fan:
                first = done - 1
                number = part_of(self.directory[first])
                nodes = np.concatenate((unpack_nodes(self.parts.load(number)), nodes))
                self.parts.drop(number)
            made = self._seal_groups(nodes)
            made[:, D_NUMBER] |= SUMMED
            self.directory = np.concatenate((self.directory[:first], made, self.directory[done + 1 :]))
            done = first + len(made)
        if done == len(self.directory) and self._hop_maker.is_worth(self.group, before_us).any():
            self.group = self._hop_maker.made(self.group, before_us)

    def _count_of(self, group: int) -> int:
        """How many nodes a sealed group has."""
        _, _, n = check_word(int.from_bytes(self.parts.load(part_of(self.directory[group]))[:8], "little"))
        return n

    def _spill(self, n: int) -> None:
        """Move the oldest events of the tail into the open block."""
        self.head[H_FLOOR : H_FLOOR + 3] = triple(self.tail, n - 1)
        self.head[H_KEPT] += n
        self.open_block = np.concatenate((self.open_block, self.tail[:, :n]), axis=1)
        self.tail = self.tail[:, n:]

    def _seal_what_is_full(self) -> None:
        full = int(self.head[H_OPEN]) // self.sizes.block * self.sizes.block
        if full:
            sealed = [
                self._seal(self.open_block[:, a : a + self.sizes.block]) for a in range(0, full, self.sizes.block)
            ]
            self.group = np.concatenate((self.group, *sealed))
            self.open_block = self.open_block[:, full:]
        full = int(self.head[H_NODES]) // self.sizes.fan * self.sizes.fan
        if full:
            self.directory = np.concatenate((self.directory, self._seal_groups(self.group[:full])))
            self.group = self.group[full:]

    def _seal(self, events: np.ndarray) -> np.ndarray:
        """Store events as one sealed block, or as several if late ones have made them many; their nodes."""
        needs, cuts = self.layout.needs, cuts_of(events.shape[1], self.sizes.block)
        nodes = np.empty((len(cuts) - 1, node_width(len(self.layout.needs))), np.int64)
        for node, (a, b) in zip(nodes, pairwise(cuts), strict=True):
            own = np.array(events[:, a:b], order="C")
            number = self._number()
            self.parts.save(number, pack_events(own))
            describe(own, own[3 : 3 + len(needs)].view(np.float64), needs, number, node)
        return nodes

    def _seal_groups(self, nodes: np.ndarray) -> np.ndarray:
        """Store nodes as sealed groups, the nodes of these."""
        cuts = cuts_of(len(nodes), self.sizes.fan) if len(nodes) else [0]
        made = np.empty((len(cuts) - 1, nodes.shape[1]), np.int64)
        for node, (a, b) in zip(made, pairwise(cuts), strict=True):
            number = self._number()
            self.parts.save(number, pack_nodes(nodes[a:b]))
            gather(np.array(nodes[a:b]), number, node)
        return made

    def _let_go(self, horizon_us: int, *, keeps_past: bool) -> None:
        """Let go of parts that lie wholly behind the horizon: whole groups first, then blocks, then the open block."""
        while self.head[H_GROUPS] and self.directory[0, D_LAST] < horizon_us:
            number = part_of(self.directory[0])
            for node in unpack_nodes(self.parts.load(number)):
                self._let_go_of_block(node, keeps_past=keeps_past)
            self.parts.drop(number)
            self.directory = self.directory[1:]
        if self.head[H_GROUPS]:
            return
        while self.head[H_NODES] and self.group[0, D_LAST] < horizon_us:
            self._let_go_of_block(self.group[0], keeps_past=keeps_past)
            self.group = self.group[1:]
        if self.head[H_OPEN] and not self.head[H_NODES] and self.open_block[0, -1] < horizon_us:
            if keeps_past:
                self._absorb(self.open_block)
            self.head[H_KEPT] -= self.head[H_OPEN]
            self.open_block = no_events(len(self.layout.columns))

    def _let_go_of_block(self, node: np.ndarray, *, keeps_past: bool) -> None:
        if keeps_past and are_summed(node[None])[0]:
            absorb_hop(self.layout, self.past, unpack_hop(self.parts.load(part_of(node))))
            self._changed.add(PAST)
        elif keeps_past:
            self._absorb(self._events_of(node))
        self.parts.drop(part_of(node))
        self.head[H_KEPT] -= node[D_EVENTS]

    def _absorb(self, events: np.ndarray) -> None:
        absorb(self.layout, self.past, events)
        self._changed.add(PAST)

    def _events_of(self, node: np.ndarray) -> np.ndarray:
        return unpack_events(self.parts.load(int(node[D_NUMBER])))

    def _number(self) -> int:
        number = int(self.head[H_NUMBER])
        self.head[H_NUMBER] += 1
        return number
