"""Summaries of runs of events, and trees of them: what lets a read of a long window touch few events.

Nodes of all levels are numbered together: first the leaves (blocks of events) of all keys, then one sentinel, then the
groups of leaves, groups of groups and so on. ``nodes`` int64[N, 8] has the columns ``N_…`` below, one cache line a
node; the children of a node lie next to each other. A leaf ends where the next one begins, and the sentinel begins
where all events end. Blocks and groups may have any size, and a node need not have a parent.

A window from the middle of one group to the middle of another would take up to all children of both. So each child
knows the summary of its siblings up to itself (``N_HEAD``) and from itself on (``N_TAIL``), numbered after all levels:
a window takes two summaries a level, and only on the top one, or within one group, node after node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.crew import Crew
from mainspring.features.exact import add, two_product, two_sum

# What a column's summaries hold and a window's walk gathers, as bits; the number of non-null values is always there.
COUNT, SUM, SQUARES, EXTREMES, LATEST, FIRST, SCAN = 1, 2, 4, 8, 16, 32, 64
# Columns of a summary: count, sum as s + c ± r, sum of squares as double-double, min, max.
S_N, S_S, S_C, S_R, S_Q, S_QC, S_MIN, S_MAX = range(8)
SUMMARY = 8
RUN = 256  # squares that are added before their double-double is brought into order
# Columns of the nodes: first event; first leaf; the leaf after its last; node of the next level it belongs to, −1 if
# none; greatest stamp, NEVER for a node without a summary; least stamp of a correction, NEVER if nothing in it is.
# Of a node with a parent, the run of its siblings up to itself, and from itself on: nodes too, on no level.
N_BEGIN, N_LEAF, N_AFTER, N_UP, N_NEWEST, N_UNTIL, N_HEAD, N_TAIL = range(8)
NODE = 8
NEVER = np.iinfo(np.int64).max

_I, _I2, _F, _F2, _F3 = "int64[::1]", "int64[:, ::1]", "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree without summaries yet.

    Attributes:
        nodes: int64[N, 8]; all stamps are NEVER.
        children: For each upper level its first node, and the first child of each node.
    """

    nodes: np.ndarray
    children: tuple[tuple[int, np.ndarray], ...]


def grow(begins: np.ndarray, key_leaves: np.ndarray, fan_out: int) -> Tree:
    """Group leaves, then groups, until no key has more than one node on the top level.

    Args:
        begins: int64[B + 1], first event of each leaf, and the end of all events.
        key_leaves: int64[keys + 1], first leaf of each key, and the end.
        fan_out: Children of a node; the last one of a key may have fewer, a single node gets no parent.
    """
    levels = [key_leaves]
    runs = 0
    while True:
        above = np.empty_like(key_leaves)
        widest, more = group_counts(levels[-1], fan_out, above)
        if widest <= 1:
            break
        levels.append(above)
        runs += more
    offsets = [0, *(np.cumsum([firsts[-1] for firsts in levels]) + 1).tolist()]  # a sentinel follows the leaves
    nodes = np.empty((offsets[-1] + runs, NODE), np.int64)
    blank(nodes, begins)
    children = []
    run = offsets[-1]
    for offset, below, here, above in zip(offsets[1:], offsets, levels, levels[1:], strict=False):
        child = np.empty(above[-1], np.int64)
        run = group_nodes(nodes, here, above, below, offset, fan_out, child, run)
        children.append((offset, child))
    return Tree(nodes, tuple(children))


@compiled(f"void({_I2}, {_I})", allocates=False)
def blank(nodes: np.ndarray, begins: np.ndarray) -> None:
    """Nodes without parents or stamps; the first ones are leaves."""
    for node in range(nodes.shape[0]):
        nodes[node, N_UP] = -1
        nodes[node, N_NEWEST] = nodes[node, N_UNTIL] = NEVER
    for leaf in range(begins.shape[0]):
        nodes[leaf, N_BEGIN], nodes[leaf, N_LEAF], nodes[leaf, N_AFTER] = begins[leaf], leaf, leaf + 1


@compiled(f"UniTuple(int64, 2)({_I}, int64, {_I})", allocates=False)
def group_counts(firsts: np.ndarray, fan_out: int, above: np.ndarray) -> tuple[int, int]:
    """First node of each key on the level above that of ``firsts``.

    Returns:
        The greatest number of nodes that a key has below, and how many runs of siblings need nodes of their own.
    """
    above[0] = widest = runs = 0
    for key in range(firsts.shape[0] - 1):
        width = firsts[key + 1] - firsts[key]
        widest = max(widest, width)
        above[key + 1] = above[key] + ((width + fan_out - 1) // fan_out if width > 1 else 0)
        if width > 1:
            runs += 2 * (max(fan_out - 2, 0) * (width // fan_out) + max(width % fan_out - 2, 0))
    return widest, runs


@compiled(f"int64({_I2}, {_I}, {_I}, int64, int64, int64, {_I}, int64)", allocates=False)
def group_nodes(
    nodes: np.ndarray,
    firsts: np.ndarray,
    above: np.ndarray,
    below: int,
    offset: int,
    fan_out: int,
    child: np.ndarray,
    run: int,
) -> int:
    """Fill the level of nodes from ``offset`` on, over the level from ``below`` on, and the runs of siblings below.

    Returns:
        The node after the last run; the first one is ``run``.
    """
    for key in range(firsts.shape[0] - 1):
        for group in range(above[key], above[key + 1]):
            low = below + firsts[key] + (group - above[key]) * fan_out
            high = min(low + fan_out, below + firsts[key + 1])
            up = offset + group
            child[group] = low
            nodes[up, N_BEGIN], nodes[up, N_LEAF] = nodes[low, N_BEGIN], nodes[low, N_LEAF]
            nodes[up, N_AFTER] = nodes[high - 1, N_AFTER]
            for node in range(low, high):
                nodes[node, N_UP] = up
                head = tail = up
                if node == low < high - 1:
                    head = node
                elif node < high - 1:
                    head, run = run, run + 1
                    nodes[head, N_BEGIN], nodes[head, N_LEAF] = nodes[low, N_BEGIN], nodes[low, N_LEAF]
                    nodes[head, N_AFTER] = nodes[node, N_AFTER]
                if low < node == high - 1:
                    tail = node
                elif low < node:
                    tail, run = run, run + 1
                    nodes[tail, N_BEGIN], nodes[tail, N_LEAF] = nodes[node, N_BEGIN], nodes[node, N_LEAF]
                    nodes[tail, N_AFTER] = nodes[high - 1, N_AFTER]
                nodes[node, N_HEAD], nodes[node, N_TAIL] = head, tail
    return run


@compiled(f"boolean({_I}, {_I}, uint64, int64)", allocates=False)
def seen(stamps: np.ndarray, untils: np.ndarray, i: int, limit: int) -> bool:
    """Whether event ``i`` is known at ``limit`` and not yet corrected; ``untils`` is empty if nothing is."""
    return bool(stamps[i] <= limit and (untils.shape[0] == 0 or limit < untils[i]))


@compiled(f"boolean({_I2}, int64, int64)", allocates=False)
def whole(nodes: np.ndarray, node: int, limit: int) -> bool:
    """Whether a node has a summary and every event in it is seen at ``limit``."""
    return bool(nodes[node, N_NEWEST] <= limit < nodes[node, N_UNTIL])


@compiled("UniTuple(float64, 2)(float64, float64, float64)", allocates=False)
def add_square(q: float, qc: float, x: float) -> tuple[float, float]:
    """Add ``x`` squared to a double-double, whose parts may come to overlap: ``two_sum`` them every ``RUN`` times.

    Not each time: that would make a chain of nine dependent additions of what is otherwise one.
    """
    square, error = two_product(x, x)
    q, e = two_sum(q, square)
    return q, qc + (e + error)


@compiled("UniTuple(float64, 3)(float64, float64, float64, float64, float64, float64)", allocates=False)
def add_sum(s: float, c: float, r: float, s2: float, c2: float, r2: float) -> tuple[float, float, float]:
    """Add the double-double ``s2 + c2 ± r2`` to ``s + c ± r``."""
    s, e = two_sum(s, s2)
    c, f = two_sum(c, c2)
    c, g = two_sum(c, e)
    return s, c, r + r2 + (abs(f) + abs(g))


@compiled(f"void({_F2}, int64, int64, int64, int64, {_F})", allocates=False)
def summarise_column(values: np.ndarray, column: int, needs: int, low: int, high: int, out: np.ndarray) -> None:
    """Summary of the events ``low`` to ``high`` of one column, as far as ``needs`` asks, into float64[SUMMARY]."""
    n, s, c, r, q, qc = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    least, greatest = np.inf, -np.inf
    if needs & SQUARES:
        for begin in range(low, high, RUN):
            for i in range(np.uint64(begin), np.uint64(min(begin + RUN, high))):
                x = values[column, i]
                if x == x:
                    n += 1.0
                    s, c, r = add(s, c, r, x)
                    q, qc = add_square(q, qc, x)
            q, qc = two_sum(q, qc)
    elif needs & SUM:
        for i in range(np.uint64(low), np.uint64(high)):
            x = values[column, i]
            if x == x:
                n += 1.0
                s, c, r = add(s, c, r, x)
    elif needs:
        for i in range(np.uint64(low), np.uint64(high)):
            x = values[column, i]
            n += 1.0 if x == x else 0.0
    if needs & EXTREMES:
        for i in range(np.uint64(low), np.uint64(high)):
            x = values[column, i]
            least = min(least, x)
            greatest = max(greatest, x)
    out[S_N], out[S_S], out[S_C], out[S_R], out[S_Q], out[S_QC] = n, s, c, r, q, qc
    out[S_MIN], out[S_MAX] = least, greatest


@compiled(f"void({_F2}, {_I}, int64, int64, {_F2})", allocates=False)
def summarise(values: np.ndarray, needs: np.ndarray, low: int, high: int, out: np.ndarray) -> None:
    """Summary of the events ``low`` to ``high``, for every column, into ``out`` float64[C, SUMMARY]."""
    for column in range(needs.shape[0]):
        summarise_column(values, column, needs[column], low, high, out[column])


@compiled(f"void({_F2}, {_I}, {_I}, {_I2}, {_I}, int64, int64, {_F3})", allocates=False)
def summarise_nodes(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    nodes: np.ndarray,
    needs: np.ndarray,
    first: int,
    after: int,
    sums: np.ndarray,
) -> None:
    """Summaries ``sums`` float64[C, N, SUMMARY] and stamps of the leaves ``first`` to ``after``."""
    for node in range(first, after):
        low, high = nodes[node, N_BEGIN], nodes[node + 1, N_BEGIN]
        newest, until = np.iinfo(np.int64).min, NEVER
        for i in range(low, high):
            newest = max(newest, stamps[i])
        if untils.shape[0]:
            for i in range(low, high):
                until = min(until, untils[i])
        nodes[node, N_NEWEST], nodes[node, N_UNTIL] = newest, until
    for column in range(needs.shape[0]):
        if needs[column]:
            for node in range(first, after):
                low, high = nodes[node, N_BEGIN], nodes[node + 1, N_BEGIN]
                summarise_column(values, column, needs[column], low, high, sums[column, node])


@compiled(f"void({_F}, {_F})", allocates=False)
def merge(into: np.ndarray, other: np.ndarray) -> None:
    """Add another summary."""
    if other[S_N] == 0.0:
        return
    into[S_N] += other[S_N]
    s, c, r = add_sum(into[S_S], into[S_C], into[S_R], other[S_S], other[S_C], other[S_R])
    into[S_S], into[S_C], into[S_R] = s, c, r
    q, e = two_sum(into[S_Q], other[S_Q])
    into[S_Q], into[S_QC] = two_sum(q, e + (into[S_QC] + other[S_QC]))
    into[S_MIN] = min(into[S_MIN], other[S_MIN])
    into[S_MAX] = max(into[S_MAX], other[S_MAX])


@compiled(f"void({_F3}, int64, int64, int64, int64)", allocates=False)
def join(sums: np.ndarray, column: int, a: int, b: int, to: int) -> None:
    """Make the summary of node ``to`` that of ``a`` and ``b`` together, or of ``a`` if they are the same."""
    own, one = sums[column, to], sums[column, a]
    for i in range(SUMMARY):
        own[i] = one[i]
    if a != b:
        merge(own, sums[column, b])


@compiled(f"void({_I2}, {_I}, {_I}, int64, int64, int64, {_F3})", allocates=False)
def merge_nodes(
    nodes: np.ndarray, child: np.ndarray, needs: np.ndarray, offset: int, first: int, after: int, sums: np.ndarray
) -> None:
    """Summaries and stamps of the nodes ``first`` to ``after`` of the upper level that begins at ``offset``.

    Args:
        nodes: int64[N, 8].
        child: int64, first child of each node of the level.
        needs: int64[C], what summaries hold.
        offset: First node of the level.
        first: Which of its nodes are filled: from this one, counted on the level,
        after: to the one before this.
        sums: float64[C, N, SUMMARY].
    """
    for place in range(first, after):
        low = high = child[place]
        while high < offset and nodes[high, N_UP] == offset + place:
            high += 1
        newest, until = nodes[low, N_NEWEST], nodes[low, N_UNTIL]
        for node in range(low + 1, high):
            newest, until = max(newest, nodes[node, N_NEWEST]), min(until, nodes[node, N_UNTIL])
            nodes[nodes[node, N_HEAD], N_NEWEST], nodes[nodes[node, N_HEAD], N_UNTIL] = newest, until
        nodes[offset + place, N_NEWEST], nodes[offset + place, N_UNTIL] = newest, until
        newest, until = nodes[high - 1, N_NEWEST], nodes[high - 1, N_UNTIL]
        for node in range(high - 2, low, -1):
            newest, until = max(newest, nodes[node, N_NEWEST]), min(until, nodes[node, N_UNTIL])
            nodes[nodes[node, N_TAIL], N_NEWEST], nodes[nodes[node, N_TAIL], N_UNTIL] = newest, until
        for column in range(needs.shape[0]):
            if needs[column]:
                join(sums, column, low, low, offset + place)
                for node in range(low + 1, high):
                    join(sums, column, low if node == low + 1 else nodes[node - 1, N_HEAD], node, nodes[node, N_HEAD])
                for node in range(high - 2, low, -1):
                    join(
                        sums,
                        column,
                        high - 1 if node == high - 2 else nodes[node + 1, N_TAIL],
                        node,
                        nodes[node, N_TAIL],
                    )


def build(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    starts: np.ndarray,
    needs: np.ndarray,
    block: int,
    fan_out: int,
    crew: Crew,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tree over the events of some keys, with all summaries.

    Args:
        values: float64[C, n].
        stamps: int64[n].
        untils: int64[n] or int64[0].
        starts: int64[keys + 1], first event of each key, and the end.
        needs: int64[C], what summaries hold.
        block: Events of a leaf.
        fan_out: Children of a node.
        crew: Who works.

    Returns:
        ``nodes`` int64[N, 8], ``sums`` float64[C, N, SUMMARY] and the first leaf of each key int64[keys + 1].
    """
    key_leaves = np.empty_like(starts)
    cut_keys(starts, block, key_leaves)
    begins = np.empty(key_leaves[-1] + 1, np.int64)
    cut_leaves(starts, key_leaves, block, begins)
    tree = grow(begins, key_leaves, fan_out)
    nodes = tree.nodes
    sums = np.empty((len(needs), len(nodes), SUMMARY))
    bounds = crew.even(len(begins) - 1)
    crew.share(bounds, lambda a, b: summarise_nodes(values, stamps, untils, nodes, needs, a, b, sums))
    for offset, child in tree.children:
        crew.share(crew.even(len(child)), lambda a, b: merge_nodes(nodes, child, needs, offset, a, b, sums))  # noqa: B023
    return nodes, sums, key_leaves


@compiled(f"void({_I}, int64, {_I})", allocates=False)
def cut_keys(starts: np.ndarray, block: int, key_leaves: np.ndarray) -> None:
    """First leaf of each key, if each is cut into blocks."""
    key_leaves[0] = 0
    for key in range(starts.shape[0] - 1):
        key_leaves[key + 1] = key_leaves[key] + (starts[key + 1] - starts[key] + block - 1) // block


@compiled(f"void({_I}, {_I}, int64, {_I})", allocates=False)
def cut_leaves(starts: np.ndarray, key_leaves: np.ndarray, block: int, begins: np.ndarray) -> None:
    """First event of each leaf, and the end."""
    for key in range(starts.shape[0] - 1):
        for leaf in range(key_leaves[key], key_leaves[key + 1]):
            begins[leaf] = starts[key] + (leaf - key_leaves[key]) * block
    begins[key_leaves[-1]] = starts[-1]
