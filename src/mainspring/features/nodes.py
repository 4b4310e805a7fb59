"""Nodes: what is known of a block, or of a group of blocks, without reading its events."""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.state import D_EVENTS, D_FIRST, D_KNOWN, D_LAST, D_NUMBER, D_OFFSET, D_SUMS, ENDS
from mainspring.features.tree import S_MAX, S_MIN, SUMMARY, merge, summarise

_I, _I2, _F2 = "int64[::1]", "int64[:, ::1]", "float64[:, ::1]"


@compiled(f"void({_I2}, {_F2}, {_I}, int64, {_I})")
def describe(events: np.ndarray, values: np.ndarray, needs: np.ndarray, number: int, node: np.ndarray) -> None:
    """Make the node of a block.

    Args:
        events: int64[3 + C, n], in order, at least one.
        values: Those of its columns that have summaries, float64[S, n]: the same memory.
        needs: int64[S], what these hold of each.
        number: The block's.
        node: int64[node_width], to be filled.
    """
    columns, n = values.shape
    node[D_NUMBER], node[D_EVENTS] = number, n
    for part in range(3):
        node[D_FIRST + part], node[D_LAST + part] = events[part, 0], events[part, n - 1]
    node[D_KNOWN], node[D_OFFSET] = events[1, 0], events[2, 0]
    for i in range(n):
        node[D_KNOWN] = max(node[D_KNOWN], events[1, i])
        node[D_OFFSET] = max(node[D_OFFSET], events[2, i])
    own = node.view(np.float64)
    sums = own[D_SUMS : D_SUMS + columns * SUMMARY].reshape(columns, SUMMARY)
    summarise(values, needs, 0, n, sums)
    at = D_SUMS + columns * SUMMARY
    for column in range(columns):
        node[at : at + ENDS] = 0
        own[at + 1] = own[at + 3] = np.nan
        for i in range(n):
            if values[column, i] == values[column, i]:
                node[at], node[at + 1] = events[0, i], events[3 + column, i]
                break
        for back in range(n):
            i = n - 1 - back
            if values[column, i] == values[column, i]:
                node[at + 2], node[at + 3] = events[0, i], events[3 + column, i]
                break
        at += ENDS


@compiled(f"void({_I2}, int64, {_I})")
def gather(nodes: np.ndarray, number: int, node: np.ndarray) -> None:
    """Make the node of a group from those of its blocks.

    Args:
        nodes: int64[n, node_width], in the order of their events, at least one.
        number: The group's.
        node: int64[node_width], to be filled.
    """
    n, width = nodes.shape
    columns = (width - D_SUMS) // (SUMMARY + ENDS)
    node[:] = 0
    node[D_NUMBER] = number
    node[D_FIRST : D_FIRST + 3] = nodes[0, D_FIRST : D_FIRST + 3]
    node[D_LAST : D_LAST + 3] = nodes[n - 1, D_LAST : D_LAST + 3]
    node[D_KNOWN], node[D_OFFSET] = nodes[0, D_KNOWN], nodes[0, D_OFFSET]
    own = node.view(np.float64)
    for column in range(columns):
        at, ends = D_SUMS + column * SUMMARY, D_SUMS + columns * SUMMARY + column * ENDS
        sums = own[at : at + SUMMARY]
        sums[S_MIN], sums[S_MAX] = np.inf, -np.inf
        own[ends + 1] = own[ends + 3] = np.nan
        for i in range(n):
            other = nodes[i].view(np.float64)
            merge(sums, other[at : at + SUMMARY])
            if other[ends + 1] == other[ends + 1]:
                if own[ends + 1] != own[ends + 1]:
                    node[ends : ends + 2] = nodes[i, ends : ends + 2]
                node[ends + 2 : ends + 4] = nodes[i, ends + 2 : ends + 4]
    for i in range(n):
        node[D_EVENTS] += nodes[i, D_EVENTS]
        node[D_KNOWN] = max(node[D_KNOWN], nodes[i, D_KNOWN])
        node[D_OFFSET] = max(node[D_OFFSET], nodes[i, D_OFFSET])


@compiled(f"Tuple(({_I2}, {_I}))({_I2}, int64)")
def thin(nodes: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Hollow leaves: of each node the events that hold a column's first or last value, one for all columns at a time.

    Args:
        nodes: int64[n, node_width].
        columns: C, of which the first have summaries.

    Returns:
        Events int64[3 + C, m] in the order of their times, known_at and offset the node's greatest, values NaN but for
        those that are first or last; and int64[n], how many are each node's, at least one.
    """
    n, width = nodes.shape
    summed = (width - D_SUMS) // (SUMMARY + ENDS)
    out = np.empty((3 + columns, n * (2 * summed + 1)), np.int64)
    bits = np.array([np.nan]).view(np.int64)[0]
    counts = np.empty(n, np.int64)
    at = 0
    for i in range(n):
        begin = at
        own = nodes[i].view(np.float64)
        for end in (0, 2):  # firsts, then lasts: at one time, a first comes before a last
            for column in range(summed):
                place = D_SUMS + summed * SUMMARY + column * ENDS + end
                if own[place + 1] != own[place + 1]:
                    continue
                time = nodes[i, place]
                row = at
                while row > begin and out[0, row - 1] > time:
                    row -= 1
                is_there = row > begin and out[0, row - 1] == time and out[3 + column, row - 1] == bits
                if is_there and end == 2:
                    is_there = out[2, row - 1] == 1
                if not is_there:
                    for later in range(at, row, -1):
                        for r in range(3 + columns):
                            out[r, later] = out[r, later - 1]
                    out[0, row], out[2, row] = time, end >> 1
                    for r in range(3, 3 + columns):
                        out[r, row] = bits
                    row += 1
                    at += 1
                out[3 + column, row - 1] = nodes[i, place + 1]
        if at == begin:
            out[0, at] = nodes[i, D_FIRST]
            out[3:, at] = bits
            at += 1
        out[1, begin:at], out[2, begin:at] = nodes[i, D_KNOWN], nodes[i, D_OFFSET]
        counts[i] = at - begin
    return np.ascontiguousarray(out[:, :at]), counts
