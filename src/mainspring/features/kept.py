"""What a key has let go of, or taken together into hops, as far as scans still need it.

One int64 array for each such row of ``Layout.scan_plan``, named after what it answers (``name_of``): the format, then
``last_k`` and vectors: (time, known_at, offset, bits …) of each value kept, in the order of the answer;
``ewma``: a decay (``decay``); ``trend``: a line (``line``); ``approx_distinct``: registers, eight in an int64;
``distinct``, ``top_k``, ``quantile``: the different numbers that were counted, sorted, then their counts, so these grow
by 16 bytes with each different value (``quantile``: each bucket).
Events may be let go of in any order, and parts be joined in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mainspring.core.errors import FormatError
from mainspring.features import kernels as k
from mainspring.features import slides as s
from mainspring.features.compiled import compiled
from mainspring.features.decay import (
    ANY,
    BASE,
    CUT,
    DECAY,
    NEWEST,
    VALUES,
    WEIGHTS,
    change_decay,
    move_to,
    settle_decay,
    weight_of,
)
from mainspring.features.latest import KEPT_TRIPLE
from mainspring.features.line import LINE, change_line, settle_line
from mainspring.features.sketches import REGISTERS, register_of
from mainspring.features.tallies import number_of
from mainspring.features.wide import add_whole

if TYPE_CHECKING:
    from mainspring.features.layout import Layout

FORMAT = 1
Parts = dict[str, np.ndarray]
_I, _F = "int64[::1]", "float64[::1]"


def absorb(layout: Layout, parts: Parts, events: np.ndarray, *, every: bool = False) -> None:
    """Let go of events of one key: they go into ``parts``, which is empty (of parts named here) at first.

    Args:
        layout: Of the view.
        parts: Changed in place.
        events: int64[3 + C, n]: time, known_at, offset, then the bits of the columns.
        every: For scans with a window too.

    Raises:
        FormatError: A part of another release (MS-F903).
    """
    for name, row, parameter in _named(layout, every=every):
        function, column = int(row[k.P_FUNCTION]), 3 + int(row[k.P_COLUMN])
        seen = np.ascontiguousarray(events[:, ~np.isnan(events[column].view(np.float64))])
        old = _checked(name, parts[name]) if name in parts else np.empty(0, np.int64)
        body = _more(function, old, seen, column, int(row[k.P_SLOTS]), parameter)
        parts[name] = np.concatenate((np.array([FORMAT]), body))


def merge(layout: Layout, parts: Parts, other: Mapping[str, np.ndarray], *, every: bool = False) -> None:
    """Let go of what ``other`` has let go of too.

    Args:
        layout: Of the view.
        parts: Changed in place.
        other: Of other events of the key.
        every: For scans with a window too.

    Raises:
        FormatError: A part of another release (MS-F903).
    """
    for name, row, _ in _named(layout, every=every):
        found = [_checked(name, one[name]) for one in (parts, other) if name in one]
        if found:
            parts[name] = np.concatenate((np.array([FORMAT]), join(row, found)))


def _named(layout: Layout, *, every: bool) -> list[tuple[str, np.ndarray, float]]:
    """Each part of a view once: its name, and a row of the scan plan that it answers, with its parameter."""
    found: dict[str, tuple[str, np.ndarray, float]] = {}
    for row, parameter in zip(layout.scan_plan, layout.scan_parameters.tolist(), strict=True):
        if every or layout.scan_windows[row[k.P_WINDOW]] == k.UNBOUNDED:
            name = name_of(row, parameter)
            found.setdefault(name, (name, row, parameter))
    return list(found.values())


def lay_out(layout: Layout, pasts: Sequence[Mapping[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Parts as ``scans.answer`` takes them: all one after another int64[…], and int64[P, R + 1], where each begins.

    Args:
        layout: Of the view.
        pasts: The parts of each key that has let go of anything; other names in it are passed over.
    """
    if not layout.scans:
        return np.empty(0, np.int64), np.zeros((len(pasts), 1), np.int64)
    windows = layout.scan_windows[layout.scan_plan[:, k.P_WINDOW]]
    names = [
        name_of(row, parameter) if window == k.UNBOUNDED else ""
        for row, parameter, window in zip(layout.scan_plan, layout.scan_parameters, windows, strict=True)
    ]
    return in_a_row([[_checked(name, p[name]) if name in p else None for name in names] for p in pasts], len(names))


def in_a_row(pasts: Sequence[Sequence[np.ndarray | None]], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The bodies of parts, of each key one for each row of the scan plan or None, as ``lay_out`` returns them."""
    bodies = [body for past in pasts for body in past]
    sizes = np.array([0 if b is None else len(b) for b in bodies], np.int64).reshape(len(pasts), rows)
    starts = np.zeros((len(pasts), rows + 1), np.int64)
    np.cumsum(sizes, axis=1, out=starts[:, 1:])
    starts += np.concatenate(([0], np.cumsum(sizes.sum(axis=1))))[:-1, None].astype(np.int64)
    found = [b for b in bodies if b is not None]
    return np.concatenate(found) if found else np.empty(0, np.int64), starts


def join(row: np.ndarray, bodies: Sequence[np.ndarray]) -> np.ndarray:
    """The body of a part of all events of several: at least one, all of the same row of a scan plan."""
    if len(bodies) == 1:
        return bodies[0]
    function, slots = int(row[k.P_FUNCTION]), int(row[k.P_SLOTS])
    if function in (s.F_LAST_K, s.F_FIRST, s.F_LAST):
        size = KEPT_TRIPLE + (1 if function == s.F_LAST_K else slots)
        return _chosen(function, np.concatenate(bodies).reshape(-1, size), slots)
    if function == s.F_EWMA:
        newest_first = sorted(bodies, key=lambda b: -int(b[NEWEST]))
        total = newest_first[0].copy()
        for body in newest_first[1:]:
            add_decay(total, np.array(body))
        return total
    if function == s.F_TREND:
        total = np.zeros(LINE, np.int64)
        for body in bodies:
            total += body
            settle_line(total)
        return total
    if function == s.F_APPROX_DISTINCT:
        return np.asarray(np.max([body.view(np.uint8) for body in bodies], axis=0).view(np.int64))
    halves = [len(body) // 2 for body in bodies]
    numbers = [body[:half] for body, half in zip(bodies, halves, strict=True)]
    counts = [body[half:] for body, half in zip(bodies, halves, strict=True)]
    return _counted(np.concatenate(numbers), np.concatenate(counts))


def size_of(row: np.ndarray) -> int:
    """About how many bytes the part of a row of a scan plan takes, beside what grows with different values."""
    function, slots = int(row[k.P_FUNCTION]), int(row[k.P_SLOTS])
    if function in (s.F_LAST_K, s.F_FIRST, s.F_LAST):
        return 8 * (KEPT_TRIPLE + 1) * slots
    return {s.F_EWMA: 8 * DECAY, s.F_TREND: 8 * LINE, s.F_APPROX_DISTINCT: REGISTERS}.get(function, 32)


def body_of(row: np.ndarray, parameter: float, parts: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The body of the part that answers a row of a scan plan; None if there is none.

    Raises:
        FormatError: A part of another release (MS-F903).
    """
    name = name_of(row, parameter)
    return _checked(name, parts[name]) if name in parts else None


def name_of(row: np.ndarray, parameter: float) -> str:
    """Name of the part of one row of a scan plan: the same for rows that answer the same."""
    return f"scan-{row[k.P_FUNCTION]}-{row[k.P_COLUMN]}-{row[k.P_SLOTS]}-{parameter:g}"


def _checked(name: str, part: np.ndarray) -> np.ndarray:
    if part[0] != FORMAT:
        hint = "use the release that wrote it, or delete the state folder: it is rebuilt from the lake and the log"
        raise FormatError("MS-F903", f"{name} of a past has format {part[0]}, this release reads {FORMAT}", hint=hint)
    return part[1:]


def _more(function: int, old: np.ndarray, events: np.ndarray, column: int, slots: int, parameter: float) -> np.ndarray:
    """A part's body with more events in it: those with a value in ``column``."""
    if function in (s.F_LAST_K, s.F_FIRST, s.F_LAST):
        size = KEPT_TRIPLE + (1 if function == s.F_LAST_K else slots)
        rows = np.concatenate((events[:3], events[column : column + size - KEPT_TRIPLE])).T
        return _chosen(function, np.concatenate((old.reshape(-1, size), rows)), slots)
    bits = events[column]
    if function == s.F_EWMA:
        body = old.copy() if len(old) else np.zeros(DECAY, np.int64)
        add_decayed(body, events[0], bits.view(np.float64), int(parameter))
    elif function == s.F_TREND:
        body = old.copy() if len(old) else np.zeros(LINE, np.int64)
        add_to_line(body, events[0], bits.view(np.float64))
    elif function == s.F_APPROX_DISTINCT:
        body = old.copy() if len(old) else np.zeros(REGISTERS // 8, np.int64)
        raise_registers(body, bits)
    else:
        numbers, counts = np.empty_like(bits), np.ones(len(bits), np.int64)
        numbers_of(function, bits, numbers)
        half = len(old) // 2
        body = _counted(np.concatenate((old[:half], numbers)), np.concatenate((old[half:], counts)))
    return body


def _chosen(function: int, rows: np.ndarray, slots: int) -> np.ndarray:
    """Of rows that begin with (time, known_at, offset) those that are answers, in the order of the answer."""
    order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
    order = order[:1] if function == s.F_FIRST else order[::-1][: slots if function == s.F_LAST_K else 1]
    return np.ascontiguousarray(rows[order]).ravel()


def _counted(numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Each number once, sorted, then its counts."""
    different, places = np.unique(numbers, return_inverse=True)
    total = np.zeros(len(different), np.int64)
    np.add.at(total, places, counts)
    return np.concatenate((different, total))


@compiled(f"void({_I}, {_I})")
def add_decay(decay: np.ndarray, other: np.ndarray) -> None:
    """Add a settled decay whose newest event is not newer; what has become too old fades below the sums' unit."""
    shift = other[BASE] - decay[BASE]
    for first, after in ((VALUES, WEIGHTS), (WEIGHTS, DECAY)):
        for i in range(first, after):
            place = shift + 32 * (i - first)
            if other[i] == 0 or place <= -64:
                continue
            if place >= 0:
                add_whole(decay[first:after], other[i], 1, place, False)
            else:
                decay[first] += other[i] >> -place
    settle_decay(decay)


@compiled(f"void({_I}, {_I}, {_F}, int64)")
def add_decayed(decay: np.ndarray, times: np.ndarray, column: np.ndarray, half_life: int) -> None:
    """Add events in any order; what is too old is left out, and what has become too old fades below the sums' unit."""
    for i in range(times.shape[0]):
        q = times[i] // half_life
        if decay[ANY] and q < decay[NEWEST] - CUT:
            continue
        move_to(decay, q)
        change_decay(decay, q, weight_of(times[i], half_life, q), column[i], False)
    settle_decay(decay)


@compiled(f"void({_I}, {_I}, {_F})")
def add_to_line(line: np.ndarray, times: np.ndarray, column: np.ndarray) -> None:
    """Add events in any order."""
    for i in range(times.shape[0]):
        change_line(line, times[i], column[i], False)
    settle_line(line)


@compiled(f"void({_I}, {_I})")
def raise_registers(registers: np.ndarray, bits: np.ndarray) -> None:
    """Add values to registers that are eight in an int64."""
    for i in range(bits.shape[0]):
        code = register_of(bits[i])
        at, shift = code >> 9, 8 * ((code >> 6) & 7)
        if code & 63 > (registers[at] >> shift) & 255:
            registers[at] = (registers[at] & ~(255 << shift)) | ((code & 63) << shift)


@compiled(f"void(int64, {_I}, {_I})")
def numbers_of(function: int, bits: np.ndarray, numbers: np.ndarray) -> None:
    """What is counted of each value."""
    for i in range(bits.shape[0]):
        numbers[i] = number_of(function, bits[i])
