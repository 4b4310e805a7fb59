"""Operations of compiled expressions on texts: arrays of objects, None where null."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mainspring.features.operations import Column, Operation, Values, either, no_nulls


def objects(texts: Sequence[Any]) -> Values:
    """Texts, or other values that numpy has no type for, as an array; None is null."""
    out = np.empty(len(texts), np.object_)
    for place, text in enumerate(texts):  # numpy would take vectors apart
        out[place] = text
    return out


def of_texts(function: Callable[[str], str]) -> Operation:
    """A text for each text."""
    return lambda a: (objects([None if text is None else function(text) for text in a[0]]), a[1])


def tested(function: Callable[[str], bool]) -> Operation:
    """Whether something holds for each text."""
    return lambda a: (np.array([text is not None and function(text) for text in a[0]], np.bool_), a[1])


def measured(function: Callable[[str], int]) -> Operation:
    """A count for each text."""
    return lambda a: (np.array([0 if text is None else function(text) for text in a[0]], np.uint32), a[1])


def joined(a: Column, b: Column) -> Column:
    """``+`` of texts."""
    left, right = np.broadcast_arrays(a[0], b[0])
    texts = [None if x is None or y is None else x + y for x, y in zip(left, right, strict=True)]
    return objects(texts), either(a[1], b[1])


def sliced(offset: int, length: int | None) -> Callable[[str], str]:
    """Characters from ``offset`` on, which counts from the end if negative; as polars cuts what lies outside."""

    def run(text: str) -> str:
        begin = offset if offset >= 0 else len(text) + offset
        end = len(text) if length is None else begin + length
        return text[max(begin, 0) : max(end, 0)]

    return run


def cased(method: str) -> Callable[[str], str]:
    """``to_lowercase`` and ``to_uppercase``; beyond ASCII by polars, whose Unicode tables are its own."""

    def run(text: str) -> str:
        if text.isascii():
            return text.lower() if method == "to_lowercase" else text.upper()
        import polars as pl

        return str(getattr(pl.Series([text]).str, method)()[0])

    return run


def to_text(a: Column) -> Column:
    """Whole numbers and bools as polars writes them."""
    nulls = np.broadcast_to(no_nulls(a), a[0].shape)
    words = [str(v).lower() if isinstance(v, bool) else str(v) for v in a[0].tolist()]
    return objects([None if null else word for word, null in zip(words, nulls, strict=True)]), a[1]
