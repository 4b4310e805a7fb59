"""Counts of different numbers that can go down as well as up: for ``distinct``, ``top_k``, ``quantile`` and sketches.

Every number that may occur has a *place*, in rising order. Counts are the leaves of a binary tree in one int64 array,
root at 1, leaves from ``tree.shape[0] // 2`` on; a node above is the sum of its two, or the greater of them.
"""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled
from mainspring.features.kernels import M_LIMIT, M_ROW, M_T, MISSING, PRESENT
from mainspring.features.sketches import RANKS, REGISTERS, bucket_of, cardinality, rank_of, register_of, value_of
from mainspring.features.slides import (
    AFRESH,
    ENTERS,
    EVENT,
    F_APPROX_DISTINCT,
    F_DISTINCT,
    F_QUANTILE,
    F_TOP_K,
    LEAVES,
    NUMBER,
    PLACE,
    advance,
)

_MAGNITUDE = (1 << 63) - 1
_I = "int64[::1]"


@compiled(f"int64({_I}, int64)")
def unique(numbers: np.ndarray, n: int) -> int:
    """Sort the first ``n`` numbers and leave each once; how many are left."""
    if n == 0:
        return 0
    numbers[:n].sort()
    kept = 1
    for i in range(1, n):
        if numbers[i] != numbers[kept - 1]:
            numbers[kept] = numbers[i]
            kept += 1
    return kept


@compiled(f"int64({_I}, int64, int64)", allocates=False)
def place_of(numbers: np.ndarray, n: int, number: int) -> int:
    """Place of a number among the first ``n``, which are sorted and hold it."""
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if numbers[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low


@compiled(f"void({_I}, int64, int64)", allocates=False)
def add_to_sums(tree: np.ndarray, place: int, change: int) -> None:
    """Change a count in a tree of sums."""
    i = (tree.shape[0] >> 1) + place
    while i > 0:
        tree[i] += change
        i >>= 1


@compiled(f"int64({_I}, int64)", allocates=False)
def place_of_rank(tree: np.ndarray, rank: int) -> int:
    """The place where the count of all up to it first passes ``rank``, in a tree of sums that holds more than that."""
    i, leaves = 1, tree.shape[0] >> 1
    while i < leaves:
        i <<= 1
        if tree[i] <= rank:
            rank -= tree[i]
            i += 1
    return int(i - leaves)


@compiled(f"void({_I}, int64, int64)", allocates=False)
def put_in_greatest(tree: np.ndarray, place: int, count: int) -> None:
    """Set a count in a tree of the greatest."""
    i = (tree.shape[0] >> 1) + place
    tree[i] = count
    i >>= 1
    while i > 0:
        greatest = max(tree[2 * i], tree[2 * i + 1])
        if tree[i] == greatest:
            break
        tree[i] = greatest
        i >>= 1


@compiled(f"int64({_I})", allocates=False)
def place_of_greatest(tree: np.ndarray) -> int:
    """The first place with the greatest count, in a tree of the greatest."""
    i, leaves = 1, tree.shape[0] >> 1
    while i < leaves:
        i <<= 1
        if tree[i] < tree[i + 1]:
            i += 1
    return int(i - leaves)


@compiled(f"void({_I}, int64, {_I})")
def most_frequent(tree: np.ndarray, k: int, places: np.ndarray) -> None:
    """The ``k`` places with the greatest counts, the first of equals first, −1 where there are fewer, into ``places``.

    ``tree`` holds the greatest and is left as it was.
    """
    counts = np.empty(k, np.int64)
    for j in range(k):
        counts[j] = tree[1]
        places[j] = -1
        if tree[1] > 0:
            places[j] = place_of_greatest(tree)
            put_in_greatest(tree, places[j], 0)
    for j in range(k):
        if places[j] >= 0:
            put_in_greatest(tree, places[j], counts[j])


@compiled("int64(int64)", allocates=False)
def ordered(bits: int) -> int:
    """Bits of a float64 as a number that rises as the float does; ``ordered(ordered(bits))`` is ``bits``."""
    return bits ^ _MAGNITUDE if bits < 0 else bits


@compiled("int64(int64, int64)", allocates=False)
def number_of(function: int, bits: int) -> int:
    """What is counted of the float64 with these bits: the value itself, its bucket, or its register's rank."""
    if function == F_QUANTILE:
        return int(bucket_of(bits))
    return int(register_of(bits) if function == F_APPROX_DISTINCT else ordered(bits))


@compiled(f"int64({_I}, int64)", allocates=False)
def rank_let_go(kept: np.ndarray, register: int) -> int:
    """The rank of a register in what was let go of: eight of them are packed in an int64; 0 if there is nothing."""
    return int((kept[register >> 3] >> (8 * (register & 7))) & 255) if kept.shape[0] else 0


@compiled(f"int64(int64, {_I}, int64, int64, {_I}, {_I}, {_I}, {_I})", allocates=False)
def change(
    function: int,
    tree: np.ndarray,
    place: int,
    by: int,
    numbers: np.ndarray,
    kept: np.ndarray,
    greatest: np.ndarray,
    ranks: np.ndarray,
) -> int:
    """Change one count; by how much the number of different numbers changes (for ``distinct``)."""
    if function == F_QUANTILE:
        add_to_sums(tree, place, by)
        return 0
    leaf = (tree.shape[0] >> 1) + place
    before = tree[leaf]
    now = before + by
    if function == F_TOP_K:
        put_in_greatest(tree, place, now)
        return 0
    tree[leaf] = now
    if function == F_APPROX_DISTINCT and (before == 0 or now == 0):
        register, rank = numbers[place] >> 6, numbers[place] & 63
        top = greatest[register]
        if before == 0 and rank > top:
            greatest[register] = rank
        elif now == 0 and rank == top:
            while place >= 0 and numbers[place] >> 6 == register and tree[leaf] == 0:
                place -= 1
                leaf -= 1
            rank = numbers[place] & 63 if place >= 0 and numbers[place] >> 6 == register else 0
            greatest[register] = max(rank, rank_let_go(kept, register))
        ranks[top] -= 1
        ranks[greatest[register]] += 1
    return (1 if now > 0 else 0) - (1 if before > 0 else 0)


@compiled(
    "void(int64, int64[:, ::1], int64, int64[::1], int64[::1], int64[::1], int64[:, ::1], int64, int64, int64, int64, "
    "int64[::1], int64[::1], float64, int64, int64, float64[:, ::1], uint8[:, ::1])"
)
def answer_tallies(
    function: int,
    scratch: np.ndarray,
    n: int,
    stamps: np.ndarray,
    untils: np.ndarray,
    bits: np.ndarray,
    moments: np.ndarray,
    first: int,
    after: int,
    window: int,
    hop: int,
    at: np.ndarray,
    kept: np.ndarray,
    q: float,
    k: int,
    place: int,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Answer ``distinct``, ``approx_distinct``, ``quantile`` or ``top_k`` at the moments ``first`` to ``after``.

    ``scratch`` holds the ``n`` events as ``slides.begin`` lays them out; ``bits`` are the column's float64 bits.
    ``kept`` is what was let go of: the numbers that were counted, sorted, then their counts; of ``approx_distinct`` the
    registers, eight in an int64. The answer has ``k`` slots from ``place`` on.
    """
    own = 0 if function == F_APPROX_DISTINCT else kept.shape[0] >> 1
    numbers = np.empty(n + own, np.int64)
    for j in range(n):
        numbers[j] = number_of(function, bits[scratch[EVENT, j]])
        scratch[NUMBER, j] = numbers[j]
    numbers[n:] = kept[:own]
    different = unique(numbers, n + own)
    leaves = 2
    while leaves < different:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.int64)
    for j in range(n):
        scratch[PLACE, j] = place_of(numbers, different, scratch[NUMBER, j])
    greatest = np.zeros(REGISTERS if function == F_APPROX_DISTINCT else 0, np.int64)
    ranks = np.zeros(RANKS, np.int64)
    places = np.empty(k, np.int64)
    cell = np.empty(1, np.int64)
    number_as_float = cell.view(np.float64)
    present = 0
    for moment in range(first, after):
        t, limit = moments[M_T, moment], moments[M_LIMIT, moment]
        leave, enter = advance(scratch, n, stamps, untils, t, limit, window, hop, at)
        if at[AFRESH]:
            tree[:] = 0
            ranks[:] = 0
            for register in range(greatest.shape[0]):
                greatest[register] = rank_let_go(kept, register)
                ranks[greatest[register]] += 1
            present = 0
            for j in range(own):
                where = place_of(numbers, different, kept[j])
                present += change(function, tree, where, kept[own + j], numbers, kept, greatest, ranks)
        for j in range(leave):
            present += change(function, tree, scratch[PLACE, scratch[LEAVES, j]], -1, numbers, kept, greatest, ranks)
        for j in range(enter):
            present += change(function, tree, scratch[PLACE, scratch[ENTERS, j]], 1, numbers, kept, greatest, ranks)
        row = moments[M_ROW, moment]
        if function == F_DISTINCT:
            out[place, row], status[place, row] = float(present), PRESENT
        elif function == F_APPROX_DISTINCT:
            out[place, row], status[place, row] = cardinality(ranks), PRESENT
        elif function == F_QUANTILE:
            out[place, row], status[place, row] = np.nan, MISSING
            if tree[1] > 0:
                out[place, row] = value_of(numbers[place_of_rank(tree, rank_of(q, tree[1]))])
                status[place, row] = PRESENT
        else:
            most_frequent(tree, k, places)
            for slot in range(k):
                out[place + slot, row], status[place + slot, row] = np.nan, MISSING
                if places[slot] >= 0:
                    cell[0] = ordered(numbers[places[slot]])
                    out[place + slot, row], status[place + slot, row] = number_as_float[0], PRESENT
