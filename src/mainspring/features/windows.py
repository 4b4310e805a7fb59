"""Where a window's events lie, and what they add up to: positions by galloping, pieces by the tree of summaries."""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.exact import add, two_sum
from mainspring.features.tree import (
    COUNT,
    EXTREMES,
    N_AFTER,
    N_BEGIN,
    N_HEAD,
    N_LEAF,
    N_NEWEST,
    N_TAIL,
    N_UP,
    NEVER,
    RUN,
    S_C,
    S_MAX,
    S_MIN,
    S_N,
    S_Q,
    S_QC,
    S_R,
    S_S,
    SQUARES,
    SUM,
    add_square,
    add_sum,
    seen,
    whole,
)

# A piece of a window: a node, or events low to high that are all seen (WALK) or must be looked at one by one (CHECK).
PIECE_NODE, PIECE_LOW, PIECE_HIGH = range(3)
WALK, CHECK = -1, -2
_MOST_NEGATIVE = np.iinfo(np.int64).min

_I, _I2, _F, _F2, _F3 = "int64[::1]", "int64[:, ::1]", "float64[::1]", "float64[:, ::1]", "float64[:, :, ::1]"


@compiled(f"int64({_I}, int64, int64, int64, int64)", allocates=False)
def seek(sorted_: np.ndarray, low: int, high: int, hint: int, t: int) -> int:
    """The first place from ``low`` to ``high`` whose number is ``t`` or greater; fast if it is near ``hint``."""
    if hint < low or hint > high:
        hint = low
    step = 1
    if hint < high and sorted_[hint] < t:
        low = hint + 1
        while low + step < high and sorted_[low + step] < t:
            low += step + 1
            step <<= 1
        high = min(high, low + step)
    else:
        high = hint
        while high - step >= low and sorted_[high - step] >= t:
            high -= step
            step <<= 1
        low = max(low, high - step)
    while low < high:
        middle = (low + high) >> 1
        if sorted_[middle] < t:
            low = middle + 1
        else:
            high = middle
    return low


@compiled(f"int64({_I2}, int64, int64, int64, int64)", allocates=False)
def leaf_before(nodes: np.ndarray, low: int, high: int, hint: int, event: int) -> int:
    """The last leaf of ``low`` to ``high`` that begins before ``event``, or low − 1; fast if it is near ``hint``."""
    hint = min(max(hint, low), high)
    step = 1
    if hint < high and nodes[hint, N_BEGIN] < event:
        low = hint + 1
        while low + step < high and nodes[low + step, N_BEGIN] < event:
            low += step + 1
            step <<= 1
        high = min(high, low + step)
    else:
        high = hint
        while high - step >= low and nodes[high - step, N_BEGIN] >= event:
            high -= step
            step <<= 1
        low = max(low, high - step)
    while low < high:
        middle = (low + high) >> 1
        if nodes[middle, N_BEGIN] < event:
            low = middle + 1
        else:
            high = middle
    return low - 1


@compiled("int64(int64, int64, int64)", allocates=False)
def left_edge(t: int, window: int, hop: int) -> int:
    """floor(t − window, hop), towards minus infinity."""
    edge = t - window
    over = edge % hop if hop > 1 else 0
    return edge - over if edge >= _MOST_NEGATIVE + over else _MOST_NEGATIVE


@compiled(f"UniTuple(int64, 2)({_I2}, int64, int64, int64, int64, {_I2}, int64)", allocates=False)
def cut(
    nodes: np.ndarray, leaf: int, left: int, right: int, limit: int, pieces: np.ndarray, at: int
) -> tuple[int, int]:
    """Cut the events ``left`` to ``right`` into pieces, from right to left: the largest whole nodes, events between.

    Args:
        nodes: int64[N, 8].
        leaf: The leaf that holds the event before ``right``.
        left: First event.
        right: The event after the last.
        limit: The greatest stamp that is visible.
        pieces: int64[…, 3], room for two pieces a leaf and two more.
        at: How many pieces there are already.

    Returns:
        How many pieces there are, and the leaf that holds the event before ``left``.
    """
    own = at
    while right > left:
        begin = nodes[leaf, N_BEGIN]
        all_seen = whole(nodes, leaf, limit)
        if all_seen and begin >= left and right == nodes[leaf + 1, N_BEGIN]:
            node, up = leaf, nodes[leaf, N_UP]
            while up >= 0:
                run = -1
                if nodes[up, N_BEGIN] >= left:
                    run = nodes[node, N_HEAD]  # the parent itself, if this is its last child
                elif nodes[up, N_AFTER] == leaf + 1:
                    child = node
                    while nodes[child - 1, N_BEGIN] >= left:
                        child -= 1
                    run = nodes[child, N_TAIL]
                if run < 0 or not whole(nodes, run, limit):
                    break
                node = run
                if run != up:
                    break
                up = nodes[up, N_UP]
            right = nodes[node, N_BEGIN]
            leaf = nodes[node, N_LEAF] - 1
            pieces[at, PIECE_NODE] = node
            at += 1
        else:
            low = max(begin, left)
            kind = WALK if all_seen else CHECK
            if at > own and pieces[at - 1, PIECE_NODE] == kind and pieces[at - 1, PIECE_LOW] == right:
                pieces[at - 1, PIECE_LOW] = low
            else:
                pieces[at, PIECE_NODE], pieces[at, PIECE_LOW], pieces[at, PIECE_HIGH] = kind, low, right
                at += 1
            right = low
            if right == begin:
                leaf -= 1
    return at, leaf


@compiled(f"void({_F2}, {_I}, {_I}, {_F3}, int64, int64, {_I2}, int64, int64, int64, {_F})", allocates=False)
def gather(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    sums: np.ndarray,
    column: int,
    limit: int,
    pieces: np.ndarray,
    first: int,
    after: int,
    wanted: int,
    a: np.ndarray,
) -> None:
    """Add the pieces ``first`` to ``after`` of one column to the summary ``a``, as far as ``wanted`` asks."""
    n, least, greatest = a[S_N], a[S_MIN], a[S_MAX]
    if wanted & SQUARES:  # with the extremes, which hide in the time that sums take
        s, c, r, q, qc = a[S_S], a[S_C], a[S_R], a[S_Q], a[S_QC]
        for p in range(first, after):
            node = pieces[p, PIECE_NODE]
            if node >= 0:
                own = sums[column, node]
                n += own[S_N]
                s, c, r = add_sum(s, c, r, own[S_S], own[S_C], own[S_R])
                q, e = two_sum(q, own[S_Q])
                qc += e + own[S_QC]
                least = min(least, own[S_MIN])
                greatest = max(greatest, own[S_MAX])
                if p % RUN == 0:
                    q, qc = two_sum(q, qc)
            else:
                high = pieces[p, PIECE_HIGH]
                for begin in range(pieces[p, PIECE_LOW], high, RUN):
                    for i in range(np.uint64(begin), np.uint64(min(begin + RUN, high))):
                        x = values[column, i]
                        if x == x and (node == WALK or seen(stamps, untils, i, limit)):
                            n += 1.0
                            s, c, r = add(s, c, r, x)
                            q, qc = add_square(q, qc, x)
                            least = min(least, x)
                            greatest = max(greatest, x)
                    q, qc = two_sum(q, qc)
        a[S_S], a[S_C], a[S_R] = s, c, r
        a[S_Q], a[S_QC] = two_sum(q, qc)
    elif wanted & SUM:
        s, c, r = a[S_S], a[S_C], a[S_R]
        for p in range(first, after):
            node = pieces[p, PIECE_NODE]
            if node >= 0:
                own = sums[column, node]
                n += own[S_N]
                s, c, r = add_sum(s, c, r, own[S_S], own[S_C], own[S_R])
            else:
                for i in range(np.uint64(pieces[p, PIECE_LOW]), np.uint64(pieces[p, PIECE_HIGH])):
                    x = values[column, i]
                    if x == x and (node == WALK or seen(stamps, untils, i, limit)):
                        n += 1.0
                        s, c, r = add(s, c, r, x)
        a[S_S], a[S_C], a[S_R] = s, c, r
    elif wanted & COUNT:
        for p in range(first, after):
            node = pieces[p, PIECE_NODE]
            if node >= 0:
                n += sums[column, node, S_N]
            else:
                for i in range(np.uint64(pieces[p, PIECE_LOW]), np.uint64(pieces[p, PIECE_HIGH])):
                    x = values[column, i]
                    n += 1.0 if x == x and (node == WALK or seen(stamps, untils, i, limit)) else 0.0
    if wanted & (SQUARES | EXTREMES) == EXTREMES:
        for p in range(first, after):
            node = pieces[p, PIECE_NODE]
            if node >= 0:
                lowest, highest = sums[column, node, S_MIN], sums[column, node, S_MAX]
                least = min(least, lowest)
                greatest = max(greatest, highest)
            else:
                for i in range(np.uint64(pieces[p, PIECE_LOW]), np.uint64(pieces[p, PIECE_HIGH])):
                    x = values[column, i]
                    if node == WALK or seen(stamps, untils, i, limit):
                        least = min(least, x)
                        greatest = max(greatest, x)
    a[S_N], a[S_MIN], a[S_MAX] = n, least, greatest


@compiled(f"int64({_F2}, {_I}, {_I}, {_I2}, {_F3}, int64, int64, int64, int64, int64)", allocates=False)
def latest_of(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    nodes: np.ndarray,
    sums: np.ndarray,
    column: int,
    leaf: int,
    left: int,
    right: int,
    limit: int,
) -> int:
    """The last seen non-null event from ``left`` to ``right`` (in or after ``leaf``), or −1."""
    while right > left:
        begin = nodes[leaf, N_BEGIN]
        if right == nodes[leaf + 1, N_BEGIN] and nodes[leaf, N_NEWEST] != NEVER and sums[column, leaf, S_N] == 0.0:
            node, up = leaf, nodes[leaf, N_UP]
            while up >= 0 and nodes[up, N_AFTER] == leaf + 1 and sums[column, up, S_N] == 0.0:
                if nodes[up, N_NEWEST] == NEVER:
                    break
                node, up = up, nodes[up, N_UP]
            right = nodes[node, N_BEGIN]
            leaf = nodes[node, N_LEAF] - 1
        else:
            low = max(begin, left)
            for i in range(right - 1, low - 1, -1):
                if values[column, i] == values[column, i] and seen(stamps, untils, i, limit):
                    return i
            right = low
            if right == begin:
                leaf -= 1
    return -1


@compiled(f"int64({_F2}, {_I}, {_I}, {_I2}, {_F3}, int64, int64, int64, int64, int64)", allocates=False)
def earliest_of(
    values: np.ndarray,
    stamps: np.ndarray,
    untils: np.ndarray,
    nodes: np.ndarray,
    sums: np.ndarray,
    column: int,
    leaf: int,
    left: int,
    right: int,
    limit: int,
) -> int:
    """The first seen non-null event from ``left`` (in ``leaf``) to ``right``, or −1."""
    while left < right:
        end = nodes[leaf + 1, N_BEGIN]
        if left == nodes[leaf, N_BEGIN] and nodes[leaf, N_NEWEST] != NEVER and sums[column, leaf, S_N] == 0.0:
            node, up = leaf, nodes[leaf, N_UP]
            while up >= 0 and nodes[up, N_LEAF] == leaf and sums[column, up, S_N] == 0.0:
                if nodes[up, N_NEWEST] == NEVER:
                    break
                node, up = up, nodes[up, N_UP]
            leaf = nodes[node, N_AFTER]
            left = nodes[leaf, N_BEGIN]
        else:
            for i in range(left, min(end, right)):
                if values[column, i] == values[column, i] and seen(stamps, untils, i, limit):
                    return i
            left = end
            leaf += 1
    return -1
