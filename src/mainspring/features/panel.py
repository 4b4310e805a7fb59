"""Views that are read together, compiled: the heads of all of them are looked over and answered in one call each.

A call of a compiled function costs Python about two microseconds before it does anything, and each array made on the
way there half of one: a batch of one row would pay that once a view, and more than its answers take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

from mainspring.features import kernels as k
from mainspring.features.arena import assemble
from mainspring.features.body import B_EVENTS, B_LEAVES, B_PAST, PACKED, Body
from mainspring.features.compiled import compiled
from mainspring.features.layout import LONGEST_US, Layout
from mainspring.features.past import INTS, MOMENTS
from mainspring.features.state import D_SUMS, ENDS, FORMAT, H_KEPT, H_SERIAL, HAS_PAST, HEAD, unknown_format
from mainspring.features.tree import SUMMARY

NOBODY = b"\xff\x00\x00\x00\x00\x00\x00\x00"
"""Stands for the head of an entity that has none: a word of no format, with no events."""
EVERYTHING = k.NEVER - 1  # a limit that hides nothing
NOBODY_WORD = int.from_bytes(NOBODY, "little")
# Columns of the table, a row a view, and one more with the ends: columns of its events, how many have summaries, its
# hop, whether this call answers it; its first row of the plan, first window and first value.
T_COLUMNS, T_SUMMED, T_HOP, T_ANSWERED, T_PLAN, T_WINDOW, T_OUT = range(7)
_TABLE = 7

_I, _I2, _F, _F2, _B, _B2 = (
    "int64[::1]",
    "int64[:, ::1]",
    "float64[::1]",
    "float64[:, ::1]",
    "uint8[::1]",
    "uint8[:, ::1]",
)


@compiled(f"int64({_I}, {_I2}, {_I}, {_I}, {_I2})")
def _survey(words: np.ndarray, table: np.ndarray, firsts: np.ndarray, at: np.ndarray, behind: np.ndarray) -> int:
    """Find where heads begin, and which keys have more than their tails: how many, or −1 − format of one that is other.

    Args:
        words: int64, heads one after another, or ``NOBODY``.
        table: int64[V + 1, T].
        firsts: int64[V + 1], first key of each view, and the end.
        at: int64[keys + 1], to hold where each begins, and the end.
        behind: int64[keys, 2], to hold those that have more, each with its serial.
    """
    place, found = 0, 0
    for view in range(firsts.shape[0] - 1):
        columns = table[view, T_COLUMNS]
        for key in range(firsts[view], firsts[view + 1]):
            at[key] = place
            word = words[place] if place < words.shape[0] else 0
            if word == NOBODY_WORD:
                place += 1
                continue
            events = word >> 32
            if word & 0xFF != FORMAT or (word >> 16) & 0xFFFF != columns or events < 0 or place + HEAD > words.shape[0]:
                return -1 - (word & 0xFF)
            if words[place + H_KEPT] > 0 or word & (HAS_PAST << 8):
                behind[found, 0], behind[found, 1] = key, words[place + H_SERIAL]
                found += 1
            place += HEAD + (3 + columns) * events
    at[behind.shape[0]] = place
    return found if place == words.shape[0] else -1


@compiled(
    f"boolean({_I}, {_I}, int64, {_I}, {_I2}, {_I}, {_I}, int64, {_I2}, {_I2}, {_F}, {_I}, {_F}, {_B}, "
    f"{_I}, {_I}, {_F}, {_I}, {_F2}, {_B2})"
)
def _answer(
    words: np.ndarray,
    at: np.ndarray,
    by: int,
    firsts: np.ndarray,
    which: np.ndarray,
    t_us: np.ndarray,
    limits: np.ndarray,
    since_us: int,
    table: np.ndarray,
    plan: np.ndarray,
    parameters: np.ndarray,
    windows: np.ndarray,
    null: np.ndarray,
    null_status: np.ndarray,
    packed: np.ndarray,
    behind: np.ndarray,
    past: np.ndarray,
    past_ints: np.ndarray,
    out: np.ndarray,
    status: np.ndarray,
) -> bool:
    """For each view ``assemble``, then ``kernels.read``: arrays that Python never sees cost it nothing.

    Of rows that ask the same of one key, one is answered.

    Args:
        words: int64, heads one after another, or ``NOBODY``.
        at: int64[keys + 1], where each begins, and the end.
        by: The row of events that visibility is judged by: 1 known_at, 2 offset.
        firsts: int64[V + 1], first key of each view, and the end.
        which: int64[V, n], the key that each moment is of in each view.
        t_us: int64[n], the moments.
        limits: int64[n], the greatest visible stamp of each; or int64[0].
        since_us: Moments before it are late.
        table: int64[V + 1, T].
        plan: int64[F, PLAN] of all views, one after another.
        parameters: float64[F].
        windows: int64[W] of all views, likewise.
        null: float64[S], what an entity without events answers.
        null_status: uint8[S].
        packed: int64, what lies behind tails (``Body.packed``), one after another.
        behind: int64, the keys that these are of, rising.
        past: float64, what keys have let go of: for each view [P, S, PAST], one after another.
        past_ints: int64, the rest of it.
        out: float64[S, n], to hold the values; of a view that is not answered here, ``null``.
        status: uint8[S, n].

    Returns:
        Whether any moment is late.
    """
    n, late = t_us.shape[0], False
    moments, twins = np.empty((4, n), np.int64), np.empty(n, np.int64)
    untils = np.empty(0, np.int64)
    place, body, moment_at, ints_at = 0, 0, 0, 0
    for j in range(n):
        late |= min(max(t_us[j], -LONGEST_US), LONGEST_US) < since_us
    for view in range(table.shape[0] - 1):
        own, after = table[view], table[view + 1]
        for s in range(own[T_OUT], after[T_OUT]):
            for j in range(n):
                out[s, j], status[s, j] = null[s], null_status[s]
        columns, summed = own[T_COLUMNS], own[T_SUMMED]
        end, bodies, pasts = place, body, 0
        while bodies < behind.shape[0] and behind[bodies] < firsts[view + 1]:
            pasts += packed[end + B_PAST]
            leaf = 1 + D_SUMS + summed * (SUMMARY + ENDS)
            end += PACKED + (3 + columns) * packed[end + B_EVENTS] + leaf * packed[end + B_LEAVES]
            bodies += 1
        if own[T_ANSWERED]:
            m, first = 0, firsts[view]
            latest = np.full(firsts[view + 1] - first, -1, np.int64)
            for j in range(n):
                key = which[view, j]
                twin = latest[key - first]
                if twin >= 0 and t_us[twin] == t_us[j] and (limits.shape[0] == 0 or limits[twin] == limits[j]):
                    twins[j] = twin
                    continue
                twins[j], latest[key - first] = -1, j
                if words[at[key]] != NOBODY_WORD:
                    moments[k.M_T, m] = min(max(t_us[j], -LONGEST_US), LONGEST_US)
                    moments[k.M_LIMIT, m] = limits[j] if limits.shape[0] else EVERYTHING
                    moments[k.M_ROW, m], moments[k.M_KEY, m] = j, key - first
                    m += 1
            size, more = pasts * summed * k.PAST, pasts * summed * k.PAST_INTS
            if m:
                times, stamps, values, nodes, sums, keys = assemble(
                    words,
                    at[first : firsts[view + 1] + 1],
                    columns,
                    summed,
                    by,
                    packed[place:end],
                    behind[body:bodies] - first,
                )
                k.read(
                    times,
                    stamps,
                    untils,
                    values,
                    nodes,
                    sums,
                    past[moment_at : moment_at + size].reshape((pasts, summed, k.PAST)),
                    past_ints[ints_at : ints_at + more].reshape((pasts, summed, k.PAST_INTS)),
                    keys,
                    moments,
                    0,
                    m,
                    plan[own[T_PLAN] : after[T_PLAN]],
                    parameters[own[T_PLAN] : after[T_PLAN]],
                    windows[own[T_WINDOW] : after[T_WINDOW]],
                    own[T_HOP],
                    out[own[T_OUT] : after[T_OUT]],
                    status[own[T_OUT] : after[T_OUT]],
                )
            if firsts[view + 1] - first < n:
                for j in range(n):
                    if twins[j] >= 0:
                        for s in range(own[T_OUT], after[T_OUT]):
                            out[s, j], status[s, j] = out[s, twins[j]], status[s, twins[j]]
            moment_at += size
            ints_at += more
        place, body = end, bodies
    return late


_NO_INTS, _NO_FLOATS = np.empty(0, np.int64), np.empty(0)


@dataclass(frozen=True, eq=False)
class Panel:
    """Some views, in an order.

    Attributes:
        layouts: Of each.
        slots: The places of each one's values among those of all.
        table: int64[V + 1, T].
        plan: int64[F, PLAN], the plans one after another.
        parameters: float64[F].
        windows: int64[W].
        null: float64[S], what an entity without events answers.
        null_status: uint8[S].
        has_scans: Whether any view has answers that need the events themselves.
    """

    layouts: tuple[Layout, ...]
    slots: tuple[slice, ...]
    table: np.ndarray
    plan: np.ndarray
    parameters: np.ndarray
    windows: np.ndarray
    null: np.ndarray
    null_status: np.ndarray
    has_scans: bool

    @staticmethod
    @lru_cache(maxsize=1_024)
    def of(layouts: tuple[Layout, ...]) -> Panel:
        """Of some views, which may come more than once; made once."""
        table = np.empty((len(layouts) + 1, _TABLE), np.int64)
        for row, one in zip(table, layouts, strict=False):
            row[:T_PLAN] = len(one.columns), len(one.needs), one.hop, not one.scans
        for column, sizes in (
            (T_PLAN, [len(one.plan) for one in layouts]),
            (T_WINDOW, [len(one.windows) for one in layouts]),
            (T_OUT, [one.width for one in layouts]),
        ):
            table[:, column] = [*accumulate(sizes, initial=0)]
        ends = table[:, T_OUT].tolist()
        return Panel(
            layouts,
            tuple(slice(a, b) for a, b in pairwise(ends)),
            table,
            np.concatenate([one.plan for one in layouts]),
            np.concatenate([one.parameters for one in layouts]),
            np.concatenate([one.windows for one in layouts]),
            np.concatenate([one.null for one in layouts]),
            np.concatenate([one.null_status for one in layouts]),
            any(one.scans for one in layouts),
        )

    def survey(self, words: np.ndarray, firsts: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
        """Where heads begin, int64[keys + 1] with the end; keys with more than tails, each with its serial.

        Args:
            words: int64, heads one after another, ``NOBODY`` where there is none.
            firsts: int64[V + 1], the first key of each view, and the end.

        Raises:
            FormatError: A head is of a format that this release does not know (MS-F901).
        """
        keys = int(firsts[-1])
        at, behind = np.empty(keys + 1, np.int64), np.empty((keys, 2), np.int64)
        found = _survey(words, self.table, firsts, at, behind)
        if found < 0:
            raise unknown_format(-1 - found)
        return at, behind[:found].tolist() if found else []

    def answer(
        self,
        words: np.ndarray,
        at: np.ndarray,
        by: int,
        firsts: np.ndarray,
        which: np.ndarray,
        t_us: np.ndarray,
        limits: np.ndarray | None,
        since_us: int,
        bodies: Mapping[int, Body],
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Answer moments by the first plans of all views without scans.

        Args:
            words: int64, heads one after another, ``NOBODY`` where there is none.
            at: int64[keys + 1], where each begins, and the end.
            by: The row of events that visibility is judged by: 1 known_at, 2 offset.
            firsts: int64[V + 1], the first key of each view, and the end.
            which: int64[V, n], the key that each moment is of in each view.
            t_us: int64[n], microseconds since 1970 UTC.
            limits: int64[n], what each moment sees; None: everything.
            since_us: Moments before it are late.
            bodies: What lies behind tails, of those keys of views without scans that have anything there, in order.

        Returns:
            Values float64[S, n] and status uint8[S, n]; of views with scans, what an entity without events answers.
            Then whether any moment is late.
        """
        packed = behind = past_ints = _NO_INTS
        past = _NO_FLOATS
        if bodies:
            packed = np.frombuffer(bytearray().join([body.packed for body in bodies.values()]), np.int64)
            behind = np.array([*bodies], np.int64)
            pasts = [body.past for body in bodies.values() if body.past is not None]
            if pasts:
                past = np.concatenate([one[MOMENTS].ravel() for one in pasts])
                past_ints = np.concatenate([one[INTS].ravel() for one in pasts])
        shape = self.null.shape[0], t_us.shape[0]
        out, status = np.empty(shape), np.empty(shape, np.uint8)
        limits = _NO_INTS if limits is None else limits
        asked = words, at, by, firsts, which, t_us, limits, since_us
        plans = self.table, self.plan, self.parameters, self.windows, self.null, self.null_status
        late = _answer(*asked, *plans, packed, behind, past, past_ints, out, status)
        return out, status, late
