"""Replay bucket by bucket: events and moments dealt by a hash of their key, each bucket answered in the cache.

A bucket's events are brought together by key, sorted where they have to be, summarised and read while they are in the
processor's second cache; memory outside it is only streamed through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mainspring.features import grouping, scans, tree
from mainspring.features import kernels as k
from mainspring.features.crew import ALONE, Crew
from mainspring.features.history import Events
from mainspring.features.layout import Layout
from mainspring.features.scratch import Scratch, bytes_of, scratch

BLOCK = 16  # events of a leaf
FAN_OUT = 16  # children of a node
ROWS_A_BUCKET = 1 << 15
_MOST_BUCKETS = 1 << 11


@dataclass(frozen=True, eq=False)
class Dealt:
    """Rows dealt into buckets.

    Attributes:
        bounds: First row of each bucket, and the end.
        words: int64[n].
        columns: int64[n] each.
    """

    bounds: list[int]
    words: np.ndarray
    columns: list[np.ndarray]


def how_many(rows: int) -> int:
    """Buckets for so many events."""
    return max(1, min(rows // ROWS_A_BUCKET, _MOST_BUCKETS))


def room_for(n: int, columns: int) -> int:
    """Bytes of scratch that dealing so many rows of so many columns takes."""
    return bytes_of(n, np.uint32) + (1 + columns) * bytes_of(n, np.int64)


def deal(words: np.ndarray, columns: list[np.ndarray], buckets: int, crew: Crew, room: Scratch) -> Dealt:
    """Deal rows into buckets by a hash of their words; rows of a bucket stay in order."""
    n = len(words)
    chunks = crew.even(n)
    counts = np.zeros((len(chunks) - 1, buckets), np.int64)
    which = {first: i for i, first in enumerate(chunks[:-1])}
    crew.share(chunks, lambda a, b: grouping.count_buckets(words, a, b, counts[which[a]]))
    ends = np.cumsum(counts.T.ravel())
    place = np.ascontiguousarray((ends - counts.T.ravel()).reshape(buckets, -1).T)
    bounds = [*place[0].tolist(), n]
    dealt, out = room.empty(n, np.uint32), room.empty(n, np.int64)
    crew.share(chunks, lambda a, b: grouping.deal(words, a, b, place[which[a]], dealt, out))
    sent = []
    for column in columns:
        to = room.empty(n, np.int64)
        if column.dtype == np.float64:
            crew.share(chunks, lambda a, b: grouping.send_numbers(column, a, b, dealt, to.view(np.float64)))  # noqa: B023
        else:
            crew.share(chunks, lambda a, b: grouping.send(column, a, b, dealt, to))  # noqa: B023  done at once
        sent.append(to)
    return Dealt(bounds, out, sent)


def answer(
    layout: Layout,
    events: Events,
    asked: np.ndarray,
    moments: np.ndarray,
    base: int,
    out: np.ndarray,
    status: np.ndarray,
    crew: Crew,
    step: Callable[[int], None],
) -> None:
    """Answer moments.

    Args:
        layout: Of the view.
        events: All of them.
        asked: int64[m], words of the moments' entities.
        moments: int64[3, m], rows ``M_T``, ``M_LIMIT`` and ``M_ROW``; M_ROW comes to hold whose each answer is.
        base: Place of the first answer.
        out: float64[S, …], to hold the values, a slot each.
        status: uint8[S, …].
        crew: Who works.
        step: Called with how many events more are done with.
    """
    buckets = how_many(len(events.words))
    ones = [i for i, v in enumerate(events.values) if v is None]
    lead = [*events.order, *([] if events.stamp is None else [events.stamp])]
    last = [] if events.until is None else [events.until]
    columns = [*lead, *last, *(v for v in events.values if v is not None)]
    size = room_for(len(events.words), len(columns)) + room_for(len(asked), len(moments))
    with scratch(size) as room:
        history = deal(events.words, columns, buckets, crew, room)
        questions = deal(asked, list(moments), buckets, crew, room)
        shape = _Shape(len(events.order), events.stamp is not None, events.until is not None, ones, len(events.values))
        sizes = np.diff(history.bounds)
        large = sizes > max(ROWS_A_BUCKET * 4, len(events.words) // (4 * crew.threads))
        todo = [int(b) for b in np.argsort(-sizes, kind="stable") if questions.bounds[b] < questions.bounds[b + 1]]

        def one(b: int, inner: Crew = ALONE) -> int:
            _answer_bucket(layout, shape, history, questions, b, moments, base, out, status, inner)
            return int(sizes[b])

        idle = len(events.words) - int(sizes[todo].sum())
        if idle:
            step(idle)
        for b in todo:
            if large[b]:
                step(one(b, crew))
        for rows in crew.each([b for b in todo if not large[b]], one):
            step(rows)


@dataclass(frozen=True, eq=False)
class _Shape:
    """What the columns of dealt events are."""

    order: int
    stamped: bool
    corrected: bool
    ones: list[int]
    values: int


def _answer_bucket(
    layout: Layout,
    shape: _Shape,
    history: Dealt,
    questions: Dealt,
    b: int,
    rows: np.ndarray,
    base: int,
    out: np.ndarray,
    status: np.ndarray,
    crew: Crew,
) -> None:
    low, high = history.bounds[b], history.bounds[b + 1]
    n = high - low
    place, keys, starts = np.empty(n, np.uint32), np.empty(n, np.int64), np.empty(n + 2, np.int64)
    count = grouping.number(history.words[low:high], place, keys, starts)
    starts[count + 1] = n  # one more key, without events, for moments of unknown ones
    starts = starts[: count + 2]

    lead = shape.order + shape.stamped + shape.corrected
    events = np.empty((lead + shape.values, n), np.int64)
    spread = crew.even(n)
    places = [*range(lead), *(lead + i for i in range(shape.values) if i not in shape.ones)]
    for row, column in zip(places, history.columns, strict=True):
        crew.share(spread, lambda a, z: grouping.settle(column[low:high], place, events[row], a, z))  # noqa: B023
    values = events[lead:].view(np.float64)
    for i in shape.ones:
        values[i] = 1.0
    if shape.order > 1:
        crew.share(crew.balanced(starts), lambda a, z: grouping.sort_keys(events, starts, a, z))
    times = events[0]
    stamps = events[shape.order] if shape.stamped else times
    untils = events[lead - 1] if shape.corrected else np.empty(0, np.int64)

    nodes, sums, key_leaves = tree.build(values, stamps, untils, starts, layout.needs, BLOCK, FAN_OUT, crew)
    held = np.zeros((4, count + 2), np.int64)
    held[k.KEY_EVENT], held[k.KEY_LEAF], held[k.KEY_PAST] = starts, key_leaves, -1

    first, after = questions.bounds[b], questions.bounds[b + 1]
    codes, order = np.empty(after - first, np.int64), np.empty(after - first, np.int64)
    grouping.look_up(keys, count, questions.words[first:after], codes)
    firsts = np.empty(count + 2, np.int64)
    k.group(codes, count + 1, firsts, order)
    moments = np.stack([*(column[first:after][order] for column in questions.columns), codes[order]])
    crew.share(crew.balanced(firsts), lambda a, z: grouping.sort_keys(moments, firsts, a, z))
    rows[k.M_ROW, first:after] = moments[k.M_ROW]
    moments[k.M_ROW] = np.arange(base + first, base + after)

    summed = len(layout.needs)
    past = np.empty((0, summed, k.PAST)), np.empty((0, summed, k.PAST_INTS), np.int64)
    laid_out = times, stamps, untils, values, nodes, sums, *past, held, moments
    answers = layout.plan, layout.parameters, layout.windows, layout.hop, out, status
    pieces = crew.even(after - first, 16)
    crew.share(pieces, lambda a, z: k.read(*laid_out, a, z, *answers))
    if layout.scans:
        kept = np.empty(0, np.int64), np.empty((0, len(layout.scan_plan) + 1), np.int64)
        laid = times, stamps, untils, values, held, moments
        crew.share(pieces, lambda a, z: scans.answer(*laid, a, z, *layout.scanned, *kept, out, status))
