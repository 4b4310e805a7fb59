"""How an ensemble is laid out for the compiled code of ``walk``: everything that it needs in one array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mainspring.models.walk import FIRST, FURTHER, GROUP, HEAD, LEAVES, ROWS, SPLIT, STRETCH, WALKS, WHOLE

Ints = npt.NDArray[np.int64]
Plan = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Trees, node by node, those of one tree together.

    Attributes:
        tree: Number of each node's tree.
        first: The root of each tree, its first node.
        below: Of a split, the node on the left; likewise ``above`` on the right.
        column: Of a split, one more than in the copies of a row, which lie side by side; 0 of a leaf.
        word: Of a split, the key of the threshold; of a leaf, the bits of its value.
        levels: The splits of each level, in the order of the trees.
        missing: How many of the first columns can be missing: the second copy has these.
        base: Bits of what is added to the sum of the leaves.
        link: What that is put into.
    """

    tree: Ints
    first: Ints
    below: Ints
    above: Ints
    column: Ints
    word: Ints
    levels: tuple[Ints, ...]
    missing: int
    base: int
    link: int


def walk_plan(trees: Ensemble) -> Plan:
    """What ``walk`` takes: the nodes of each tree level by level, the children of one side by side."""
    count, nodes = len(trees.first), len(trees.tree)
    place, filled, depths = np.zeros(nodes, np.int64), np.ones(count, np.int64), np.zeros(count, np.int64)
    place[trees.first] = trees.first
    for depth, front in enumerate(trees.levels, 1):
        of = trees.tree[front]
        depths[of] = depth
        left = trees.first[of] + filled[of] + 2 * (np.arange(len(of)) - np.searchsorted(of, of))
        filled += 2 * np.bincount(of, minlength=count)
        place[trees.below[front]], place[trees.above[front]] = left, left + 1
    words = np.zeros((nodes + 1, 2), np.int64)  # the last one fills up a group
    words[place, 0] = trees.word
    words[place, 1] = (trees.column << 16) + np.where(trees.column > 0, place[trees.below] - place, 0)
    groups = _groups(trees.first, depths, nodes)
    head = [count, trees.link, trees.base, len(groups), trees.missing]
    return np.concatenate([head, groups.reshape(-1), words.reshape(-1)]).astype(np.int32)


def _groups(roots: Ints, depths: Ints, blank: int) -> Ints:
    """Trees of about the same depth side by side."""
    order = np.argsort(depths, kind="stable")
    count = -(-len(order) // WALKS)
    groups = np.empty((count, GROUP), np.int64)
    spare = count * WALKS - len(order)
    groups[:, :WALKS] = np.r_[roots[order], [blank] * spare].reshape(count, WALKS)
    groups[:, WALKS:-1] = np.r_[order, [len(order)] * spare].reshape(count, WALKS)
    groups[:, -1] = np.r_[depths[order], [0] * spare].reshape(count, WALKS).max(axis=1)
    return groups


def sweep_plan(trees: Ensemble) -> Plan:
    """What ``sweep`` takes."""
    is_leaf = trees.column == 0
    below = is_leaf.astype(np.int64)  # leaves below each node, itself included
    for front in reversed(trees.levels):
        below[front] = below[trees.below[front]] + below[trees.above[front]]
    before = np.zeros(len(below), np.int64)  # leaves of the tree to the left of each node
    for front in trees.levels:
        before[trees.below[front]] = before[front]
        before[trees.above[front]] = before[front] + below[trees.below[front]]
    leaves = below[trees.first]
    stretches = -(-leaves // LEAVES)
    last = np.cumsum(stretches) - 1  # of each tree: that of its first leaves

    # Each split, once for each stretch from which going right takes leaves.
    inner = np.flatnonzero(~is_leaf)
    begin, end = before[inner], before[inner] + below[trees.below[inner]]
    times = (end - 1) // LEAVES - begin // LEAVES + 1
    which = np.repeat(np.arange(len(inner)), times)
    stretch = (begin // LEAVES)[which] + np.arange(len(which)) - _starts(times)[which]
    from_bit, to_bit = (np.clip(one[which] - LEAVES * stretch, 0, LEAVES) for one in (begin, end))
    node, of = inner[which], last[trees.tree[inner[which]]] - stretch
    words = np.column_stack([ROWS * trees.column[node], trees.word[node], ~((1 << to_bit) - (1 << from_bit))])
    order = np.argsort(of, kind="stable")
    counts = np.bincount(of, minlength=stretches.sum())
    room = np.maximum(counts, 1)  # a stretch without a split is given one that leaves all it has
    splits = np.tile(np.array([0, 0, -1]), (room.sum(), 1))
    splits[_starts(room)[of[order]] + np.arange(len(of)) - _starts(counts)[of[order]]] = words[order]

    values = np.zeros(leaves.sum() + LEAVES, np.int64)
    values[_starts(leaves)[trees.tree[is_leaf]] + before[is_leaf]] = trees.word[is_leaf]
    tree = np.repeat(np.arange(len(leaves)), stretches)
    number = last[tree] - np.arange(len(tree))  # within its tree
    places = HEAD + STRETCH * len(tree) + SPLIT * _starts(room)
    first_leaf = HEAD + STRETCH * len(tree) + splits.size + _starts(leaves)[tree] + LEAVES * number
    part = np.where(stretches[tree] == 1, WHOLE, np.where(number == 0, FIRST, FURTHER))
    table = np.column_stack([places, places + SPLIT * room, first_leaf, part])
    head = [len(leaves), trees.link, trees.base, len(tree), trees.missing]
    return np.concatenate([head, table.reshape(-1), splits.reshape(-1), values]).astype(np.uint32).view(np.int32)


def _starts(counts: Ints) -> Ints:
    starts: Ints = np.cumsum(counts) - counts
    return starts
