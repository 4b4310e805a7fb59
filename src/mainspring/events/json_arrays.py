"""Columns of JSON arrays as series of text, many rows at once: a third of what they take one by one.

The texts are those of `Cells.values`, to the letter.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.events.cells import ARRAYS, Cells, joined

_BESIDE = 1e16
"""From here on polars writes an exponent in other words, and infinity as null."""
_ENCODE = msgspec.json.Encoder().encode


def array_texts(parts: Sequence[tuple[Cells, int]]) -> pl.Series:
    """A column of text whose parts, each with its number of rows, may hold JSON arrays, of several widths."""
    groups: dict[object, list[int]] = {}
    for place, (cells, _) in enumerate(parts):
        groups.setdefault((cells.width, *cells.more) if cells.form == ARRAYS else None, []).append(place)
    series = [_texts(*_together([parts[place] for place in places])) for places in groups.values()]
    if len(series) == 1:
        return series[0]
    starts = np.cumsum([0, *(n for _, n in parts)])
    order = [np.arange(starts[place], starts[place + 1]) for places in groups.values() for place in places]
    return pl.concat(series).gather(np.argsort(np.concatenate(order)))


def _together(parts: Sequence[tuple[Cells, int]]) -> tuple[Cells, int]:
    return joined(parts), sum(n for _, n in parts)


def _texts(cells: Cells, n: int) -> pl.Series:
    if cells.form != ARRAYS:
        return pl.Series(cells.values(n), dtype=pl.String)
    floats = np.frombuffer(cells.data, np.float64).reshape(n, cells.width)
    if not cells.width or (np.abs(floats) >= _BESIDE).any():
        return pl.Series(cells.values(n), dtype=pl.String)
    if not cells.more:
        return _rows(floats)
    pieces, start = [], 0
    for place in sorted(cells.more):
        pieces += [*_inner(floats[:, start:place]), _quoted(cells.more[place])]
        start = place + 1
    pieces += _inner(floats[:, start:])
    inner = [piece.alias(str(i)) for i, piece in enumerate(pieces)]
    return pl.DataFrame(inner).select(pl.format("[{}]", pl.concat_str(pl.all(), separator=","))).to_series()


def _rows(floats: npt.NDArray[np.float64]) -> pl.Series:
    rows = pl.Series("r", np.ascontiguousarray(floats)).arr.to_list()
    return rows.to_frame().to_struct().struct.json_encode().str.slice(len('{"r":')).str.head(-len("}"))


def _inner(floats: npt.NDArray[np.float64]) -> list[pl.Series]:
    """Each row without its brackets; nothing of rows of nothing."""
    return [_rows(floats).str.slice(1).str.head(-1)] if floats.shape[1] else []


def _quoted(texts: Sequence[str | None]) -> pl.Series:
    words = {text: _ENCODE(text).decode() for text in set(texts)}
    return pl.Series([words[text] for text in texts], dtype=pl.String)
