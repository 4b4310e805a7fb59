"""State of one key in one view, as values of the online store.

A **head** is what every fold of the key rewrites: what has changed, and the *tail*, its newest events, as many as make
about 1.5 KB. Behind the tail lie the **open block**, rewritten when the tail spills into it, and **sealed blocks** of
256 events, which never change: a late event puts a new block, with a number of its own, in the place of the one it
belongs to. What is known of a sealed block without reading it is its **node**: its summary, its first and last events
and its newest stamps. Nodes of the newest blocks are one value, the open **group**; each 32 of them are sealed as a
group of their own, and the nodes of sealed groups are one value, the **directory**. So a key of a million events has a
head of one kilobyte, and no fold of it writes more than a few. What a key has let go of is its **past** (``past``). Of
a view with ``hop=``, what no window is cut within any more are **hops** (``hops``), whose nodes lie among those of
blocks.

Layouts, int64 little-endian throughout:
head   12 words (``H_…``), then the tail's events;
block  a word (format u8 · 0 u8 · C u16 · n u32), then events;
nodes  a word (the same, n nodes), then int64[n, 10 + 12 S], S of the C columns having summaries (``Layout.needs``);
events int64[3 + C, n]: time, known_at, offset, then the bits of the columns; in the order of the first three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mainspring.core.errors import FormatError
from mainspring.features.tree import SUMMARY

FORMAT = 4
REBUILD = "stop the worker, delete the state folder and start it again: it is rebuilt from the lake and the log"
"""The hint of an error about a state that cannot be folded on."""

# Words of a head. H_FORMAT: format u8 · flags u8 · C u16 · events in the tail u32. H_CHANGED: offset of the fold that
# wrote it. H_SERIAL: number of the commit that last changed anything behind the tail. H_NUMBER: the next block's or
# group's. H_OPEN: events in the open block. H_NODES: nodes in the open group. H_GROUPS: nodes in the directory. H_KEPT:
# events behind the tail. H_FLOOR: (time, known_at, offset) of the newest of them, LONG_AGO if there are none. H_OLDEST:
# time of the last event of the part to be let go of next, NEVER if there is none.
H_FORMAT, H_CHANGED, H_SERIAL, H_NUMBER, H_OPEN, H_NODES, H_GROUPS, H_KEPT, H_FLOOR = range(9)
H_OLDEST = 11
HEAD = 12
HAS_PAST = 1
# Numbers of the parts that are written over; blocks and groups that are not have numbers from FIRST_NUMBER on.
OPEN, GROUP, DIRECTORY, PAST, FIRST_NUMBER = 0, 1, 2, 3, 16
# Columns of a node: the number of its block or group, how many events, (time, known_at, offset) of the first and of the
# last, greatest known_at and offset, the summaries of the columns, then (time, bits) of each column's first and last
# value.
D_NUMBER, D_EVENTS, D_FIRST, D_LAST, D_KNOWN, D_OFFSET, D_SUMS = 0, 1, 2, 5, 8, 9, 10
ENDS = 4
SUMMED = 1 << 62
"""In a node's number: of a block, that the part of this number is no events but a hop (``hops``); of a group, that hops
have been made of all its blocks that are worth it."""
LONG_AGO = -(1 << 62)
NEVER = (1 << 63) - 1


@dataclass(frozen=True)
class Sizes:
    """How many of what make the next larger thing.

    Attributes:
        tail: Events that a head may hold.
        keep: Events that stay there when it spills, so that those that are a little late still find it.
        block: Events of a sealed block; twice as many, by late events, and it is cut in two.
        fan: Blocks of a group, likewise.
    """

    tail: int
    keep: int
    block: int = 256
    fan: int = 32

    @classmethod
    def of(cls, columns: int) -> Sizes:
        """For a view of so many columns: a head fits into a third of a page of the store."""
        tail = max(4, min(32, 1_536 // (8 * (3 + columns))))
        return cls(tail, tail // 4)


def node_width(summed: int) -> int:
    """Words of a node that sums up so many columns."""
    return D_SUMS + summed * (SUMMARY + ENDS)


def part_of(node: np.ndarray) -> int:
    """Number of the part that a node is of."""
    return int(node[D_NUMBER]) & ~SUMMED


def are_summed(nodes: np.ndarray) -> np.ndarray:
    """Which nodes are of hops, or of groups whose hops are made: bool[n]."""
    return np.asarray(nodes[:, D_NUMBER] & SUMMED != 0)


def no_events(columns: int) -> np.ndarray:
    """Events of nothing: int64[3 + C, 0]."""
    return np.empty((3 + columns, 0), np.int64)


def word_of(columns: int, n: int, flags: int = 0) -> int:
    """The first word of a value."""
    return FORMAT | flags << 8 | columns << 16 | n << 32


def check_word(word: int) -> tuple[int, int, int]:
    """Flags, columns and number of things of a value that begins with ``word``.

    Raises:
        FormatError: A format that this release does not know (MS-F901).
    """
    if word & 0xFF != FORMAT:
        raise unknown_format(word & 0xFF)
    return word >> 8 & 0xFF, word >> 16 & 0xFFFF, word >> 32


def pack_events(events: np.ndarray) -> bytes:
    """A block's bytes."""
    return word_of(events.shape[0] - 3, events.shape[1]).to_bytes(8, "little") + events.tobytes()


def unpack_events(raw: Any) -> np.ndarray:
    """Events of a block, to be read while ``raw`` lasts: int64[3 + C, n].

    Raises:
        FormatError: A format that this release does not know (MS-F901).
    """
    words = np.frombuffer(raw, np.int64)
    _, columns, n = check_word(int(words[0]))
    return words[1:].reshape(3 + columns, n)


def pack_nodes(nodes: np.ndarray) -> bytes:
    """The bytes of a group or of the directory: int64[n, node_width]."""
    summed = (nodes.shape[1] - D_SUMS) // (SUMMARY + ENDS)
    return word_of(summed, len(nodes)).to_bytes(8, "little") + nodes.tobytes()


def unpack_nodes(raw: Any) -> np.ndarray:
    """Nodes, to be read while ``raw`` lasts: int64[n, node_width].

    Raises:
        FormatError: A format that this release does not know (MS-F901).
    """
    words = np.frombuffer(raw, np.int64)
    _, summed, n = check_word(int(words[0]))
    return words[1:].reshape(n, node_width(summed))


def in_order(events: np.ndarray) -> np.ndarray:
    """The same events in the order (time, known_at, offset)."""
    return np.ascontiguousarray(events[:, np.lexsort((events[2], events[1], events[0]))])


def triple(events: np.ndarray, i: int) -> tuple[int, int, int]:
    """(time, known_at, offset) of an event."""
    return (int(events[0, i]), int(events[1, i]), int(events[2, i]))


def unknown_format(form: int) -> FormatError:
    """The error for bytes of another release."""
    return FormatError(
        "MS-F901",
        f"the online store holds format {form}, this release reads {FORMAT}",
        hint=f"use the release that wrote it, or {REBUILD}",
    )
