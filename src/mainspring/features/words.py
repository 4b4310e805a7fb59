"""Texts as numbers: a *word* is a stable 52-bit hash of a text, which a float64 holds exactly.

The hash is XXH64 (Collet) of the utf-8 bytes with seed 0, its upper 52 bits: the same for ever, live and in replay.
Counting, comparing and answering need only words; the texts themselves are kept beside, once each, and looked up when
an answer is shown or given to a model. Two of a million texts share a word with probability 1e-4, two of ten million
with 1e-2: then they count as one text, and read as the one that came first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.features.compiled import compiled

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef
    from mainspring.features.columns import Column

WORD_BITS = 52
_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_BYTES = "Array(uint8, 1, 'C', readonly=True)"


@compiled("uint64(uint64, uint64)")
def _rotated(x: Any, bits: Any) -> Any:
    return (x << bits) | (x >> (np.uint64(64) - bits))


@compiled("uint64(uint64, uint64)")
def _round(lane: Any, number: Any) -> Any:
    lane += number * np.uint64(_P2)
    return np.uint64(_rotated(lane, np.uint64(31))) * np.uint64(_P1)


@compiled(f"uint64({_BYTES}, int64, int64)")
def _number(data: np.ndarray, at: int, size: int) -> Any:
    out = np.uint64(0)
    for i in range(size):
        out |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return out


@compiled(f"uint64({_BYTES}, int64, int64)")
def xxh64(data: np.ndarray, low: int, high: int) -> Any:
    """XXH64 of the bytes ``low`` to ``high``, seed 0."""
    at = low
    if high - low >= 32:
        lanes = np.empty(4, np.uint64)
        lanes[0] = np.uint64(_P1) + np.uint64(_P2)
        lanes[1], lanes[2] = np.uint64(_P2), np.uint64(0)
        lanes[3] = np.uint64(0) - np.uint64(_P1)
        while at + 32 <= high:
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], _number(data, at + 8 * lane, 8))
            at += 32
        h = np.uint64(0)
        for lane, bits in ((0, 1), (1, 7), (2, 12), (3, 18)):
            h += np.uint64(_rotated(lanes[lane], np.uint64(bits)))
        for lane in range(4):
            h = (h ^ np.uint64(_round(np.uint64(0), lanes[lane]))) * np.uint64(_P1) + np.uint64(_P4)
    else:
        h = np.uint64(_P5)
    h += np.uint64(high - low)
    while at + 8 <= high:
        h ^= np.uint64(_round(np.uint64(0), _number(data, at, 8)))
        h = np.uint64(_rotated(h, np.uint64(27))) * np.uint64(_P1) + np.uint64(_P4)
        at += 8
    if at + 4 <= high:
        h ^= np.uint64(_number(data, at, 4)) * np.uint64(_P1)
        h = np.uint64(_rotated(h, np.uint64(23))) * np.uint64(_P2) + np.uint64(_P3)
        at += 4
    while at < high:
        h ^= np.uint64(data[at]) * np.uint64(_P5)
        h = np.uint64(_rotated(h, np.uint64(11))) * np.uint64(_P1)
        at += 1
    h = (h ^ (h >> np.uint64(33))) * np.uint64(_P2)
    h = (h ^ (h >> np.uint64(29))) * np.uint64(_P3)
    return h ^ (h >> np.uint64(32))


@compiled(f"void({_BYTES}, int64[::1], float64[::1])")
def _hash_all(data: np.ndarray, ends: np.ndarray, out: np.ndarray) -> None:
    low = 0
    for i in range(ends.shape[0]):
        out[i] = float(np.uint64(xxh64(data, low, ends[i])) >> np.uint64(64 - WORD_BITS))
        low = ends[i]


def words_of(texts: pl.Series) -> pl.Series:
    """The word of each text as a float64 (a whole number below 2^52), null for null."""
    data = np.frombuffer(texts.str.join("").item().encode(), np.uint8)
    ends = np.cumsum(texts.str.len_bytes().fill_null(0).to_numpy(), dtype=np.int64)
    out = np.empty(len(texts))
    _hash_all(data, ends, out)
    found = pl.Series(texts.name, out)
    return found.set(texts.is_null(), None) if texts.null_count() else found


def identities_of(numbers: pl.Series) -> pl.Series:
    """Whole numbers as float64, different where they are: beyond 2^53, a hash of 52 bits as a fraction below 1."""
    whole = numbers.fill_null(0).to_numpy().astype(np.int64)
    out = whole.astype(np.float64)
    large = (whole > 1 << 53) | (whole < -(1 << 53))
    if large.any():
        h = whole[large].view(np.uint64)
        h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        h ^= h >> np.uint64(33)
        out[large] = ((h >> np.uint64(12)) * 2.0 + 1.0) * 2.0**-53
    found = pl.Series(numbers.name, out)
    return found.set(numbers.is_null(), None) if numbers.null_count() else found


def key_of(word: float) -> bytes:
    """Where a word's text is in a table of words: its number, eight bytes, big-endian."""
    return int(word).to_bytes(8, "big")


def texts_in(columns: Iterable[Column], frame: pl.DataFrame) -> dict[float, str]:
    """Words and texts of those of the columns that answer texts, over the rows of ``frame``."""
    found: dict[float, str] = {}
    for text in dict.fromkeys(c.value.json for c in columns if c.form == "word" and c.value is not None):
        value = next(c.value for c in columns if c.value is not None and c.value.json == text)
        texts = frame.select(value.expr.alias("_")).to_series().drop_nulls().unique()
        found |= dict(zip(words_of(texts).to_list(), texts.to_list(), strict=True))
    return found


def texts_of(view: ViewDef, events: pl.DataFrame) -> dict[float, str]:
    """Words and texts of everything that ``view`` may answer with a text, in its history.

    Args:
        view: Its str features are words in what ``replay`` and ``Snapshot.read`` answer.
        events: History of its sources.
    """
    from mainspring.features.layout import compile_view

    return texts_in(compile_view(view).worded, events)
