"""Numbers in JSON, which knows neither NaN nor infinity: NaN is null, an infinite number is the text of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

_ENCODER = msgspec.json.Encoder()
_ENCODE = _ENCODER.encode
_INFINITE = {"inf": inf, "-inf": -inf}


def nullable(numbers: npt.NDArray[np.float64]) -> list[float | None]:
    """Floats as values, shape (n,): NaN is None.

    >>> nullable(np.array([1.5, np.nan]))
    [1.5, None]
    """
    values: list[float | None] = numbers.tolist()
    return [None if value != value else value for value in values] if np.isnan(numbers).any() else values


def array_text(values: Sequence[Any]) -> str:
    """A JSON array of numbers, texts and None.

    >>> array_text([0.5, float("nan"), float("-inf"), "inf", None])
    '[0.5,null,"-inf","inf",null]'
    """
    text = _ENCODE(values)
    if b"null" in text and (inf in values or -inf in values):  # the encoder writes null for them
        text = _ENCODE([str(value) if value in (inf, -inf) else value for value in values])
    return text.decode()


def array_texts(rows: Sequence[Sequence[Any]], *, has_infinite: bool) -> list[str]:
    """As ``array_text``, of many at once; quicker where it is known that no number is infinite.

    >>> array_texts([[0.5, float("inf")], ["a", None]], has_infinite=True)
    ['[0.5,"inf"]', '["a",null]']
    """
    if has_infinite:
        return list(map(array_text, rows))
    return _ENCODER.encode_lines(rows).decode().split("\n")[:-1]  # JSON has no line break of its own


def array(values: npt.NDArray[np.float64 | np.float32]) -> list[float | str | None]:
    """Floats as the cells of such an array.

    >>> array(np.array([0.5, np.nan, np.inf]))
    [0.5, None, 'inf']
    """
    return [v if isfinite(v) else None if v != v else str(v) for v in values.tolist()]


def with_infinities(cells: Sequence[Any]) -> list[Any]:
    """Cells of such arrays that are numbers, with the texts of infinite ones as numbers; the rest as it is.

    >>> with_infinities([0.5, None, "-inf"])
    [0.5, None, -inf]
    """
    return [_INFINITE.get(cell, cell) if isinstance(cell, str) else cell for cell in cells]


def floats(cells: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Cells of such arrays that are numbers, as float64 of the same length.

    >>> floats([0.5, None, "inf"]).tolist()
    [0.5, nan, inf]
    """
    return np.array([np.nan if cell is None else cell for cell in with_infinities(cells)], np.float64)
