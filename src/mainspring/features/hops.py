"""Hops: what a view with ``hop=`` keeps of events that no window is cut within any more.

A moment lies at most the grace behind the folded clock and a window begins at a multiple of the hop, so a hop that
ended before floor(clock − grace, hop) is in a window as a whole or not at all. Its events become one **hop**: the exact
sums of its values and of their squares, count, extremes, first and last value of each column, and for scans what
``kept`` keeps. All of these merge without loss, so answers are those of the events themselves. A hop is seen by every
moment, whatever the moment knew: an event that comes so late changes what was known before, as it does what was let go
of.

Its node is that of a block (``nodes``), but ``SUMMED`` is set in the number, and the part of that number is the hop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mainspring.features import kept
from mainspring.features import kernels as k
from mainspring.features.compiled import compiled
from mainspring.features.exact import DIGITS, carry, expansion, rounded, two_sum
from mainspring.features.spread import moment_var
from mainspring.features.state import (
    D_EVENTS,
    D_FIRST,
    D_KNOWN,
    D_LAST,
    D_NUMBER,
    D_OFFSET,
    D_SUMS,
    ENDS,
    FORMAT,
    LONG_AGO,
    SUMMED,
    node_width,
    triple,
    unknown_format,
)
from mainspring.features.tree import S_C, S_MAX, S_MIN, S_N, S_Q, S_QC, S_R, S_S, SQUARES, SUMMARY
from mainspring.features.wide import add_whole, settle

if TYPE_CHECKING:
    from mainspring.features.layout import Layout

SQUARE_DIGITS = 136  # of 32 bits, in units of 2^-2148: every sum of squares of floats is a whole number of them
_SQUARE_UNIT = 2148
_I, _I2, _F, _F2 = "int64[::1]", "int64[:, ::1]", "float64[::1]", "float64[:, ::1]"
_ENCODE = msgspec.msgpack.Encoder().encode
_Numbers = list[tuple[int, bytes]]
_DECODE = msgspec.msgpack.Decoder(tuple[int, bytes, bytes, _Numbers, _Numbers, list[tuple[str, bytes]]]).decode


@dataclass(frozen=True, slots=True, eq=False)
class Hop:
    """What events of one key in one hop amount to.

    Attributes:
        moments: float64[S, PAST] and
        ints: int64[S, PAST_INTS], as of ``kernels.absorb``.
        squares: int64[S, SQUARE_DIGITS], exact sums of squares; of no columns if none needs them.
        parts: As of ``kept.absorb``, for every scan.
    """

    moments: np.ndarray
    ints: np.ndarray
    squares: np.ndarray
    parts: kept.Parts

    @classmethod
    def nothing(cls, layout: Layout) -> Hop:
        """Of no events."""
        summed = len(layout.needs)
        squares = summed if (layout.needs & SQUARES).any() else 0
        return cls(
            np.zeros((summed, k.PAST)),
            np.zeros((summed, k.PAST_INTS), np.int64),
            np.zeros((squares, SQUARE_DIGITS), np.int64),
            {},
        )

    def absorb(self, layout: Layout, events: np.ndarray) -> None:
        """Add events, int64[3 + C, n] in order."""
        events = np.array(events, order="C")  # the store's own bytes are read-only
        values = events[3 : 3 + len(layout.needs)].view(np.float64)
        k.absorb(events[0], events[1], events[2], values, self.moments, self.ints)
        add_squares(values[: len(self.squares)], self.squares)
        kept.absorb(layout, self.parts, events, every=True)

    def merge(self, layout: Layout, other: Hop) -> None:
        """Add another hop's events."""
        merge_moments(self.moments, self.ints, other.moments, other.ints)
        self.squares[:] += other.squares
        for digits in self.squares:
            settle(digits)
        kept.merge(layout, self.parts, other.parts, every=True)

    @property
    def bytes(self) -> int:
        """What it takes in memory, nearly."""
        parts = sum(part.nbytes for part in self.parts.values())
        return self.moments.nbytes + self.ints.nbytes + self.squares.nbytes + parts + 500

    def var(self, column: int) -> tuple[int, int]:
        """Sample variance of at least two values of a column as a fraction, exact."""
        n = int(self.moments[column, S_N])
        total, squares = _number_of(self.ints[column, k.PAST_DIGITS :]), _number_of(self.squares[column])
        return n * squares - total * total, n * (n - 1) << _SQUARE_UNIT


def row_bytes(layout: Layout) -> int:
    """About what a hop of a view takes in the store."""
    scans = {kept.name_of(r, p): kept.size_of(r) for r, p in zip(layout.scan_plan, layout.scan_parameters, strict=True)}
    squares = 64 if (layout.needs & SQUARES).any() else 0
    return 8 * node_width(len(layout.needs)) + 80 + len(layout.needs) * (160 + squares) + sum(scans.values())


def pack_hop(hop: Hop) -> bytes:
    """A hop's bytes."""
    return _ENCODE(
        (
            FORMAT,
            hop.moments.tobytes(),
            np.ascontiguousarray(hop.ints[:, : k.PAST_DIGITS]).tobytes(),
            [_pack_number(digits) for digits in hop.ints[:, k.PAST_DIGITS :]],
            [_pack_number(digits) for digits in hop.squares],
            [(name, part.tobytes()) for name, part in hop.parts.items()],
        )
    )


def unpack_hop(raw: Any) -> Hop:
    """A hop, writable but for its parts.

    Raises:
        FormatError: A format that this release does not know (MS-F901).
    """
    form, moments, ends, sums, squares, parts = _DECODE(raw)
    if form != FORMAT:
        raise unknown_format(form)
    ints = np.empty((len(sums), k.PAST_INTS), np.int64)
    ints[:, : k.PAST_DIGITS] = np.frombuffer(ends, np.int64).reshape(len(sums), k.PAST_DIGITS)
    for row, packed in zip(ints, sums, strict=True):
        row[k.PAST_DIGITS :] = _unpack_number(packed, DIGITS)
    wide = np.empty((len(squares), SQUARE_DIGITS), np.int64)
    for row, packed in zip(wide, squares, strict=True):
        row[:] = _unpack_number(packed, SQUARE_DIGITS)
    return Hop(
        np.frombuffer(moments).reshape(len(sums), k.PAST).copy(),
        ints,
        wide,
        {name: np.frombuffer(body, np.int64) for name, body in parts},
    )


def _number_of(digits: np.ndarray) -> int:
    """A settled number of digits of 32 bits."""
    return int.from_bytes(digits.astype(np.uint32).tobytes(), "little", signed=True)


def _pack_number(digits: np.ndarray) -> tuple[int, bytes]:
    """Bytes of zero that come first, and the others, as few as say it."""
    number = _number_of(digits)
    zeros = ((number & -number).bit_length() - 1) // 8 if number else 0
    number >>= 8 * zeros
    return zeros, number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def _unpack_number(packed: tuple[int, bytes], digits: int) -> np.ndarray:
    zeros, body = packed
    raw = (int.from_bytes(body, "little", signed=True) << 8 * zeros).to_bytes(4 * digits, "little", signed=True)
    found = np.frombuffer(raw, np.uint32).astype(np.int64)
    found[-1] = np.frombuffer(raw[-4:], np.int32)[0]
    return found


@compiled(f"void({_F2}, {_I2})")
def add_squares(values: np.ndarray, squares: np.ndarray) -> None:
    """Add the squares of each column's values that are not null."""
    for column in range(squares.shape[0]):
        digits = squares[column]
        for i in range(values.shape[1]):
            x = values[column, i]
            if x != x or x == 0.0:
                continue
            fraction, exponent = math.frexp(abs(x))
            number = np.int64(fraction * 9007199254740992.0)  # 53 bits
            place = exponent - 53 + 1074
            if place < 0:  # subnormal: the low bits are zero
                number >>= -place
                place = 0
            add_whole(digits, number, number, 2 * place, False)
            if i & 0xFFFF == 0xFFFF:
                settle(digits)
        settle(digits)


@compiled(f"void({_F2}, {_I2}, {_F2}, {_I2})")
def merge_moments(past: np.ndarray, ints: np.ndarray, other: np.ndarray, other_ints: np.ndarray) -> None:
    """Add what ``kernels.absorb`` made of other events to ``past`` and its ``ints``."""
    for column in range(past.shape[0]):
        own, more = past[column], other[column]
        if more[S_N] == 0.0:
            continue
        none = own[S_N] == 0.0
        for at, place, sign in ((0, k.P_LAST, 1), (3, k.P_FIRST, -1)):
            order = 0
            for part in range(at, at + 3):
                if order == 0:
                    order = np.sign(other_ints[column, part] - ints[column, part])
            if none or order == sign:
                ints[column, at : at + 3] = other_ints[column, at : at + 3]
                own[place] = more[place]
        own[S_N] += more[S_N]
        digits = ints[column, k.PAST_DIGITS :]
        for i in range(DIGITS):
            digits[i] += other_ints[column, k.PAST_DIGITS + i]
        carry(digits)
        own[S_S], own[S_C], own[S_R] = expansion(digits)
        q, e = two_sum(own[S_Q], more[S_Q])
        own[S_Q], own[S_QC] = two_sum(q, e + (own[S_QC] + more[S_QC]))
        own[S_MIN] = more[S_MIN] if none else min(own[S_MIN], more[S_MIN])
        own[S_MAX] = more[S_MAX] if none else max(own[S_MAX], more[S_MAX])


@compiled(f"void({_F2}, {_I2}, {_I})")
def _describe(moments: np.ndarray, ints: np.ndarray, node: np.ndarray) -> None:
    """Fill the summaries and the ends of a node."""
    columns = moments.shape[0]
    own = node.view(np.float64)
    for column in range(columns):
        at, end = D_SUMS + column * SUMMARY, D_SUMS + columns * SUMMARY + column * ENDS
        own[at : at + SUMMARY] = moments[column, :SUMMARY]
        node[end : end + ENDS] = 0
        if moments[column, S_N] == 0.0:
            own[at + S_MIN], own[at + S_MAX] = np.inf, -np.inf
            own[end + 1] = own[end + 3] = np.nan
        else:
            node[end], node[end + 2] = ints[column, 3], ints[column, 0]
            own[end + 1], own[end + 3] = moments[column, k.P_FIRST], moments[column, k.P_LAST]


def node_of(hop: Hop, number: int, events: int, first: Sequence[int], last: Sequence[int]) -> np.ndarray:
    """The node of a hop whose part has this number: int64[node_width]."""
    node = np.empty(node_width(len(hop.moments)), np.int64)
    node[D_NUMBER], node[D_EVENTS] = number | SUMMED, events
    node[D_FIRST : D_FIRST + 3], node[D_LAST : D_LAST + 3] = first, last
    node[D_KNOWN] = node[D_OFFSET] = LONG_AGO
    _describe(hop.moments, hop.ints, node)
    return node


def ends_of(events: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(time, known_at, offset) of the first and of the last of some events."""
    return triple(events, 0), triple(events, events.shape[1] - 1)


def answer_of(row: np.ndarray, hop: Hop, *, is_exact: bool) -> float:
    """What one row of a plan that sums answers over all events of a hop.

    Args:
        row: Of a plan: of sum, mean, var or std.
        hop: Of at least one value, two for var and std.
        is_exact: Whether the sums of squares hold all of its events; else var is as near as a double-double is.
    """
    column, function = int(row[k.P_COLUMN]), int(row[k.P_FUNCTION])
    n = float(hop.moments[column, S_N])
    if function in (k.F_SUM, k.F_MEAN):
        total = float(rounded(np.ascontiguousarray(hop.ints[column, k.PAST_DIGITS :])))
        return total if function == k.F_SUM else total / n
    if not is_exact:
        own = hop.moments[column]
        var = float(moment_var(n, own[S_S], own[S_C], own[S_R], own[S_Q], own[S_QC], True))
        return var if function == k.F_VAR else math.sqrt(var)
    above, below = hop.var(column)
    return _ratio(above, below) if function == k.F_VAR else _root(above, below)


def _ratio(above: int, below: int) -> float:
    try:
        return above / below
    except OverflowError:
        return math.inf


def _root(above: int, below: int) -> float:
    """Square root of a fraction, to some 60 bits before it is rounded."""
    if not above:
        return 0.0
    shift = max(0, 128 - (above.bit_length() - below.bit_length()))
    shift += shift & 1
    root = math.isqrt((above << shift) // below)
    try:
        return math.ldexp(root, -shift // 2)
    except OverflowError:
        return math.inf
