"""The offline driver: the features of any moments, from history, by the functions that serve them live."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.errors import ConfigError
from mainspring.definitions import ViewDef
from mainspring.features import kernels as k
from mainspring.features.history import codes_of, group_events, instants
from mainspring.features.layout import LONGEST_US, compile_view

BLOCK = 64  # of events that share a summary; near the root of the events in a long window
THREADS = 2


def replay(
    view: ViewDef,
    events: pl.DataFrame,
    keys: pl.DataFrame,
    t_us: Any,
    known_us: Any = None,
    known_offset: Any = None,
    threads: int = THREADS,
) -> tuple[np.ndarray, np.ndarray]:
    """Answer moments (t, k) from history.

    An event counts if ``t − window <= time < t`` and it was known: ``known_at < known_us`` for historical rows, or
    ``_offset <= known_offset`` for what was served live.

    Args:
        view: Whose features.
        events: History of the view's source: its columns, ``_time``, ``_known_at``, ``_offset``; any order.
        keys: The entity's columns, one row a moment; nulls name no entity.
        t_us: int64[n], microseconds since 1970 UTC, or a datetime column.
        known_us: int64[n], a datetime column or one number; this or ``known_offset``.
        known_offset: int64[n] or one number.
        threads: Moments are answered on this many.

    Returns:
        Values float64[n, F], NaN for null, and status uint8[n, F], in the order of ``view.features``.

    Raises:
        ConfigError: Neither or both of ``known_us`` and ``known_offset`` (MS-F102).
    """
    if (known_us is None) == (known_offset is None):
        raise ConfigError(
            "MS-F102", "a moment needs known_us= or known_offset=, one of them", where=f"view {view.name}"
        )
    layout = compile_view(view)
    t = np.clip(_whole(t_us, len(keys)), -LONGEST_US, LONGEST_US)
    limit = _whole(known_offset, len(keys)) if known_us is None else _whole(known_us, len(keys)) - 1
    out = np.tile(layout.null, (len(keys), 1))
    status = np.tile(layout.null_status, (len(keys), 1))

    grouped = group_events(layout, events)
    asked = codes_of(keys.select(view.entity), grouped.keys)
    key_rows = np.empty(len(grouped.keys) + 1, np.int64)
    rows = np.empty(int(np.count_nonzero(asked >= 0)), np.int64)
    if not len(rows):
        return out, status
    k.group(asked, len(grouped.keys), key_rows, rows)

    times = grouped.events[0]
    stamps = grouped.events[2 if known_us is None else 1]
    values = grouped.values
    key_blocks, starts = _cut(grouped.starts)
    newest = np.empty(len(starts) - 1, np.int64)
    sums = np.empty((len(newest), len(layout.columns), k.SUMMARY))
    past = np.zeros((len(layout.columns), k.SUMMARY))
    past_ints = np.zeros((len(layout.columns), k.PAST_INTS), np.int64)
    moments = asked[rows], t[rows], limit[rows], rows

    with ThreadPoolExecutor(threads) as pool:
        _share(pool, threads, len(newest), lambda a, b: k.summarise_blocks(values, stamps, starts, a, b, newest, sums))
        laid_out = times, stamps, values, starts, newest, sums, past, past_ints, grouped.starts, key_blocks
        answers = layout.plan, layout.windows, out, status
        _share(pool, threads, len(rows), lambda a, b: k.read(*laid_out, *moments, a, b, *answers))
    return out, status


def _whole(numbers: Any, n: int) -> np.ndarray:
    """Instants or offsets as a writable int64[n]."""
    if isinstance(numbers, pl.Series):
        numbers = instants(numbers) if isinstance(numbers.dtype, pl.Datetime) else numbers.to_numpy()
    return np.broadcast_to(np.asarray(numbers, np.int64), n).copy()


def _cut(key_events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut keys into blocks: first block of each key int64[keys + 1], first event of each block int64[B + 1]."""
    blocks = -(-np.diff(key_events) // BLOCK)
    key_blocks = np.concatenate(([0], np.cumsum(blocks)))
    within = np.arange(key_blocks[-1]) - np.repeat(key_blocks[:-1], blocks)
    starts = np.repeat(key_events[:-1], blocks) + within * BLOCK
    return key_blocks.astype(np.int64), np.append(starts, key_events[-1]).astype(np.int64)


def _share(pool: ThreadPoolExecutor, threads: int, n: int, work: Callable[[int, int], None]) -> None:
    """Do ``work(first, after)`` over 0 … n in pieces, on all threads."""
    piece = max(1, min(8192, -(-n // (4 * threads))))
    for done in [pool.submit(work, a, min(a + piece, n)) for a in range(0, n, piece)]:
        done.result()
