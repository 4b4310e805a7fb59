"""Trees over rows of numbers, compiled, in two ways that give the same answer, bit for bit: ``walk`` and ``sweep``.

A processor that has to guess which child comes next guesses wrong every third time, and waits for each node before it
can ask for the next. ``walk``, for a few rows: a step is arithmetic. A node's right child lies behind its left one, so
the next place is the left child's plus the outcome of the comparison, and a leaf leads to itself. Eight trees of about
the same depth are walked side by side, for as many steps as the deepest of them has, so that their loads overlap.
``sweep``, for more rows: all splits of a tree are put to sixteen rows at a time, a row that goes right loses the leaves
of the left side, and the first leaf that is left is its own (Lucchese et al., QuickScorer, SIGIR 2015). The leaves of a
tree are taken in stretches of 32, from the last to the first, each with the splits that can take some of it.

Comparisons are of whole numbers: those that order as the floats do, and -0.0 is 0.0 (``trees.keys_of``). Each row is
written twice, as far as its values can be missing: in one copy a missing value is the greatest, and goes right, in the
other the least, and goes left. A node looks into the one or the other.

A row's answer does not depend on the rows beside it: its leaves are added in the order of the trees.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mainspring.features.compiled import compiled

WALKS: Final = 8
"""Trees that are walked side by side."""
GROUP: Final = 2 * WALKS + 1
"""Numbers that describe such a group: root and place of each of its trees, and the depth of the deepest."""
HEAD: Final = 5
"""Numbers before the groups."""
ROWS: Final = 16
"""Rows that are swept at a time."""
STRETCH: Final = 4
"""Numbers that describe a stretch of leaves that is swept."""
SPLIT: Final = 3
"""Numbers that describe a split that is swept."""
LEAVES: Final = 32
"""Of a stretch: a bit each."""
FURTHER, FIRST, WHOLE = 0, 1, 2
"""What a stretch is of its tree."""
IDENTITY, LOGISTIC, EXPONENTIAL = 0, 1, 2

LEAST: Final = -(2**31)
GREATEST: Final = 2**31 - 1
INFINITE: Final = 0x7F800000
"""Bits of infinity: those of a NaN, without its sign, are more."""


@compiled("uint64(int32[::1], int32[::1], uint64)", allocates=False)
def _step(nodes: np.ndarray, keys: np.ndarray, at: Any) -> Any:
    """The place of a node's child."""
    way = np.uint64(np.uint32(nodes[np.uint64(2) * at + np.uint64(1)]))
    right = np.uint64(keys[way >> np.uint64(16)] > nodes[np.uint64(2) * at])
    return at + (way & np.uint64(0xFFFF)) + right


@compiled("int32(int32, int32)", allocates=False)
def _key(bits: Any, missing: Any) -> Any:
    """A float, given as its bits, as it is compared; ``missing`` where it is NaN."""
    key = (bits ^ ((bits >> 31) & np.int32(GREATEST))) + np.int32(bits == LEAST)  # that is -0.0
    return missing if (bits & np.int32(GREATEST)) > INFINITE else key


@compiled("float64(float32, float32, int32)", allocates=False)
def _linked(total: Any, base: Any, link: int) -> Any:
    """What the sum of the leaves says, as a float32."""
    total += base
    if link == LOGISTIC:
        return np.float64(np.float32(1.0 / (1.0 + math.exp(-np.float64(total)))))
    if link == EXPONENTIAL:
        return np.float64(np.float32(math.exp(np.float64(total))))
    return np.float64(total)


@compiled("void(float32[:, ::1], int32[::1], float64[::1])")
def walk(matrix: np.ndarray, plan: np.ndarray, out: np.ndarray) -> None:
    """What the trees say of each row: the sum of their leaves in float32, and of that the link, rounded to float32.

    Args:
        matrix: Shape (rows, columns), NaN for missing.
        plan: The number of trees, the link, the bits of what is added to the sum, the number of groups, how many of the
            first columns can be missing. Of each group ``GROUP`` numbers, where those that fill up the last one have
            the place after all trees. And the nodes, two words each: the key of the threshold, and column × 65,536 +
            places to the left child; column 0 is the leaves', whose key is the bits of their value, and who lead to
            themselves.
        out: Shape (rows,), to be filled.
    """
    width, trees, link = matrix.shape[1], plan[0], plan[1]
    groups = HEAD + plan[3] * GROUP
    nodes, values = plan[groups:], plan[groups:].view(np.float32)
    base = plan[2:3].view(np.float32)[0]
    missing, one = np.uint64(plan[4]), np.uint64(1)
    keys, bits = np.empty(1 + width + plan[4], np.int32), matrix.view(np.int32)
    leaves = np.empty(trees + 1, np.float32)
    keys[0] = LEAST
    for row in range(len(matrix)):
        for i in range(np.uint64(width)):
            keys[one + i] = _key(bits[row, i], np.int32(GREATEST))
        for i in range(missing):
            keys[one + np.uint64(width) + i] = _key(bits[row, i], np.int32(LEAST))
        for group in range(HEAD, groups, GROUP):
            a, b = np.uint64(plan[group]), np.uint64(plan[group + 1])
            c, d = np.uint64(plan[group + 2]), np.uint64(plan[group + 3])
            e, f = np.uint64(plan[group + 4]), np.uint64(plan[group + 5])
            g, h = np.uint64(plan[group + 6]), np.uint64(plan[group + 7])
            for _ in range(plan[group + 2 * WALKS]):
                a, b = _step(nodes, keys, a), _step(nodes, keys, b)
                c, d = _step(nodes, keys, c), _step(nodes, keys, d)
                e, f = _step(nodes, keys, e), _step(nodes, keys, f)
                g, h = _step(nodes, keys, g), _step(nodes, keys, h)
            for i, at in enumerate((a, b, c, d, e, f, g, h)):
                leaves[np.uint64(plan[group + WALKS + i])] = values[np.uint64(2) * at]
        total = np.float32(0.0)
        for tree in range(trees):
            total += leaves[tree]
        out[row] = _linked(total, base, link)


def _written(function: Any) -> Any:
    made: Any = intrinsic(function)  # whose type says nothing of how it is called
    return made


@_written
def _survivors(context: Any, keys: Any, plan: Any, split: Any, end: Any, out: Any) -> Any:  # noqa: ARG001  as numba calls it
    """In ``out``, the leaves that the splits of a tree, from one place in the plan to another, leave to ``ROWS`` rows.

    Written for the compiler below numba, which keeps all rows in one register, or in a few.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, place = ir.IntType(32), ir.IntType(64)
        words = ir.VectorType(word, ROWS)
        keys, plan, out = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 1, 4)
        )

        def everywhere(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(words, ir.Undefined), value, word(0))
            return builder.shuffle_vector(one, ir.Constant(words, ir.Undefined), ir.Constant(words, [0] * ROWS))

        def said(number: int) -> Any:
            return builder.load(builder.gep(plan, [builder.add(at, place(number))]))

        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        at, left = builder.phi(place), builder.phi(words)
        column = builder.gep(keys, [builder.sext(said(0), place)])
        row_keys = builder.load(builder.bitcast(column, words.as_pointer()), align=4)
        goes_right = builder.icmp_signed(">", row_keys, everywhere(said(1)))
        now_left = builder.select(goes_right, builder.and_(left, everywhere(said(2))), left)
        following = builder.add(at, place(SPLIT))
        for phi, first, then in ((at, arguments[2], following), (left, ir.Constant(words, [-1] * ROWS), now_left)):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_unsigned("<", following, arguments[3]), loop, after)
        builder.position_at_end(after)
        builder.store(now_left, builder.bitcast(out, words.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(keys, plan, split, end, out), build


@_written
def _first_bit(context: Any, word: Any) -> Any:  # noqa: ARG001  as numba calls it
    """Place of the lowest bit that is set; of none, their number."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.int32(types.int32), build


@compiled("void(float32[:, ::1], int32[::1], float64[::1])")
def sweep(matrix: np.ndarray, plan: np.ndarray, out: np.ndarray) -> None:
    """As ``walk``.

    Args:
        matrix: Shape (rows, columns), NaN for missing.
        plan: As ``walk`` has it, up to ``HEAD``, with the number of stretches for that of groups. Of each stretch the
            places of its first split, behind its last, and of its first leaf, and what it is of its tree.
            The splits, ``SPLIT`` words each: column × ``ROWS``, key, the leaves that going right leaves. And the leaves
            of each tree from left to right, as the bits of their values, and room for one more stretch.
        out: Shape (rows,), to be filled.
    """
    rows, width = matrix.shape
    stretches, link = HEAD + STRETCH * plan[3], plan[1]
    missing, one, many = np.uint64(plan[4]), np.uint64(1), np.uint64(ROWS)
    base, values, bits = plan[2:3].view(np.float32)[0], plan.view(np.float32), matrix.view(np.int32)
    keys, left = np.empty((1 + width + plan[4]) * ROWS, np.int32), np.empty(ROWS, np.int32)
    found, totals = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32)
    keys[:ROWS] = LEAST
    for first in range(np.uint64(0), np.uint64(rows), np.uint64(ROWS)):
        some = np.uint64(min(many, np.uint64(rows) - first))
        for row in range(some):
            for i in range(np.uint64(width)):
                keys[many * (one + i) + row] = _key(bits[first + row, i], np.int32(GREATEST))
            for i in range(missing):
                keys[many * (one + np.uint64(width) + i) + row] = _key(bits[first + row, i], np.int32(LEAST))
        totals[:] = np.float32(0.0)
        for stretch in range(HEAD, stretches, STRETCH):
            _survivors(keys, plan, np.int64(plan[stretch]), np.int64(plan[stretch + 1]), left)
            leaf = np.uint64(plan[stretch + 2])
            if plan[stretch + 3] == WHOLE:
                for row in range(many):
                    totals[row] += values[leaf + np.uint64(_first_bit(left[row]))]
                continue
            for row in range(many):
                value = values[leaf + np.uint64(_first_bit(left[row]) & np.int32(LEAVES - 1))]
                found[row] = value if left[row] != 0 else found[row]
            if plan[stretch + 3] == FIRST:
                for row in range(many):
                    totals[row] += found[row]
        for row in range(some):
            out[first + row] = _linked(totals[row], base, link)
