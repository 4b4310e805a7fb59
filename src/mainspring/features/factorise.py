"""Entities as words: an int64 for each row that is equal where the entity is, whatever its columns.

A single column of whole numbers is its own word. Texts, and entities of several columns, are numbered by hash tables
that compare the whole text or pair, so that no two entities ever share a word; each thread numbers rows of its own, and
then what it found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from mainspring.features.compiled import compiled
from mainspring.features.crew import Crew
from mainspring.features.grouping import mixed

_RI, _RB = "Array(int64, 1, 'C', readonly=True)", "Array(uint8, 1, 'C', readonly=True)"
_I = "int64[::1]"
_Numbering = Callable[[np.ndarray, int, int, np.ndarray, np.ndarray], int]


def words_of(frame: pl.DataFrame, asked: pl.DataFrame, crew: Crew) -> tuple[np.ndarray, np.ndarray]:
    """Words of the entities in ``frame`` and in ``asked`` (the same columns; no nulls in either).

    Returns:
        int64[n] and int64[m].
    """
    asked = asked.select([pl.col(name).cast(dtype) for name, dtype in frame.schema.items()])
    if frame.width == 1 and not _is_text(frame.dtypes[0]):
        return _whole(frame.to_series()), _whole(asked.to_series())
    both = pl.concat([frame, asked])
    words = _words(both.to_series(0), crew)
    for i in range(1, both.width):
        words = _paired(words, _words(both.to_series(i), crew), crew)
    return words[: frame.height], words[frame.height :]


def hashes_of(frame: pl.DataFrame) -> np.ndarray:
    """A hash of each row's entity by its content, the same in every frame: uint64[n]. Two entities may share one."""
    out = np.zeros(frame.height, np.uint64)
    for column in frame:
        if _is_text(column.dtype):
            hash_texts(*_bytes_of(column), out)
        else:
            hash_numbers(_whole(column), out)
    return out


def _is_text(dtype: pl.DataType) -> bool:
    return not (dtype.is_integer() or dtype == pl.Boolean)


def _whole(column: pl.Series) -> np.ndarray:
    return np.ascontiguousarray(column.cast(pl.Int64).to_numpy(), np.int64)


def _bytes_of(column: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Where each text begins, and the end: int64[n + 1]; and the bytes of all texts: uint8."""
    if not len(column):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    array = column.cast(pl.String).rechunk().to_arrow()
    _, begins, data = array.buffers()
    offsets = np.frombuffer(begins, np.int64, len(array) + 1, 8 * array.offset)
    return offsets, np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


def _words(column: pl.Series, crew: Crew) -> np.ndarray:
    if not _is_text(column.dtype):
        return _whole(column)
    offsets, data = _bytes_of(column)
    return _numbered(len(column), crew, lambda *rows: number_texts(offsets, data, *rows))


def _paired(a: np.ndarray, b: np.ndarray, crew: Crew) -> np.ndarray:
    return _numbered(len(a), crew, lambda *rows: number_pairs(a, b, *rows))


def _numbered(n: int, crew: Crew, numbering: _Numbering) -> np.ndarray:
    """Number all rows: first each chunk alone, then the first rows of each number that the chunks gave."""
    codes, rows = np.empty(n, np.int64), np.empty(0, np.int64)
    chunks = crew.even(n, 1)

    def number(first: int, after: int) -> np.ndarray:
        firsts = np.empty(after - first, np.int64)
        return firsts[: numbering(rows, first, after, codes, firsts)]

    found = crew.share(chunks, number)
    if len(found) < 2:
        return codes
    firsts = np.concatenate(found)
    numbers = np.empty(len(firsts), np.int64)
    numbering(firsts, 0, len(firsts), numbers, np.empty(len(firsts), np.int64))
    ends = np.cumsum([len(f) for f in found])
    whose = dict(zip(chunks, (numbers[end - len(f) : end] for f, end in zip(found, ends, strict=True)), strict=False))
    crew.share(chunks, lambda a, b: renumber(codes, a, b, whose[a]))
    return codes


@compiled(f"void({_I}, int64, int64, {_I})", allocates=False)
def renumber(codes: np.ndarray, first: int, after: int, numbers: np.ndarray) -> None:
    """Give the rows ``first`` to ``after`` the number that stands for theirs."""
    for row in range(np.uint64(first), np.uint64(after)):
        codes[row] = numbers[np.uint64(codes[row])]


@compiled(f"uint64({_RI}, {_RB}, int64)", allocates=False)
def text_hash(offsets: np.ndarray, data: np.ndarray, row: int) -> np.uint64:
    """A hash of a text's bytes (FNV-1a, its bits mixed)."""
    h = np.uint64(0xCBF29CE484222325)
    for i in range(np.uint64(offsets[row]), np.uint64(offsets[row + 1])):
        h = (h ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    return np.uint64(mixed(np.int64(h)))


@compiled(f"void({_RI}, {_RB}, uint64[::1])", allocates=False)
def hash_texts(offsets: np.ndarray, data: np.ndarray, out: np.ndarray) -> None:
    """Mix the hashes of texts into ``out``."""
    for row in range(out.shape[0]):
        out[row] = mixed(np.int64(out[row] * np.uint64(31) + text_hash(offsets, data, row)))


@compiled(f"void({_RI}, uint64[::1])", allocates=False)
def hash_numbers(numbers: np.ndarray, out: np.ndarray) -> None:
    """Mix the hashes of numbers into ``out``."""
    for row in range(out.shape[0]):
        out[row] = mixed(np.int64(out[row] * np.uint64(31) + mixed(numbers[row])))


@compiled(f"boolean({_RI}, {_RB}, int64, int64)", allocates=False)
def same_text(offsets: np.ndarray, data: np.ndarray, a: int, b: int) -> bool:
    """Whether two texts have the same bytes."""
    length = offsets[a + 1] - offsets[a]
    same = bool(length == offsets[b + 1] - offsets[b])
    i = 0
    while same and i < length:
        same = bool(data[np.uint64(offsets[a] + i)] == data[np.uint64(offsets[b] + i)])
        i += 1
    return same


@compiled(f"{_I}({_I}, int64, {_I})")
def _rehashed(table: np.ndarray, n: int, hashes: np.ndarray) -> np.ndarray:
    """A table four times as large of the first ``n`` numbers."""
    size = np.uint64(4 * table.shape[0])
    out = np.full(size, -1, np.int64)
    for code in range(n):
        at = np.uint64(hashes[code]) & (size - np.uint64(1))
        while out[at] >= 0:
            at = (at + np.uint64(1)) & (size - np.uint64(1))
        out[at] = code
    return out


@compiled(f"int64({_RI}, {_RB}, {_I}, int64, int64, {_I}, {_I})")
def number_texts(
    offsets: np.ndarray,
    data: np.ndarray,
    rows: np.ndarray,
    first: int,
    after: int,
    codes: np.ndarray,
    firsts: np.ndarray,
) -> int:
    """Number texts in the order in which they first come.

    Args:
        offsets: Where each text begins, and the end.
        data: Bytes.
        rows: Which text each place holds; empty if place i holds text i.
        first: First place.
        after: The place after the last.
        codes: To hold the number of each place.
        firsts: To hold the first text of each number.

    Returns:
        How many there are.
    """
    table = np.full(1024, -1, np.int64)
    hashes = np.empty(firsts.shape[0], np.int64)
    n = 0
    for place in range(first, after):
        row = rows[place] if rows.shape[0] else place
        h = text_hash(offsets, data, row)
        mask = np.uint64(table.shape[0] - 1)
        at = h & mask
        code = table[at]
        while code >= 0 and not (np.uint64(hashes[code]) == h and same_text(offsets, data, row, firsts[code])):
            at = (at + np.uint64(1)) & mask
            code = table[at]
        if code < 0:
            code = n
            table[at], hashes[code], firsts[code] = code, np.int64(h), row
            n += 1
            if 2 * n > table.shape[0]:
                table = _rehashed(table, n, hashes)
        codes[place] = code
    return n


@compiled(f"int64({_RI}, {_RI}, {_I}, int64, int64, {_I}, {_I})")
def number_pairs(
    a: np.ndarray,
    b: np.ndarray,
    rows: np.ndarray,
    first: int,
    after: int,
    codes: np.ndarray,
    firsts: np.ndarray,
) -> int:
    """Number pairs of words, as ``number_texts`` does texts."""
    table = np.full(1024, -1, np.int64)
    hashes = np.empty(firsts.shape[0], np.int64)
    n = 0
    for place in range(first, after):
        row = rows[place] if rows.shape[0] else place
        h = np.uint64(mixed(np.int64(mixed(a[row]) + np.uint64(b[row]))))
        mask = np.uint64(table.shape[0] - 1)
        at = h & mask
        code = table[at]
        while code >= 0 and not (a[firsts[code]] == a[row] and b[firsts[code]] == b[row]):
            at = (at + np.uint64(1)) & mask
            code = table[at]
        if code < 0:
            code = n
            table[at], hashes[code], firsts[code] = code, np.int64(h), row
            n += 1
            if 2 * n > table.shape[0]:
                table = _rehashed(table, n, hashes)
        codes[place] = code
    return n
