"""The values of one column of many rows, in the least form that says them: what all rows share is said once.

A column is what its rows would have held: ``values`` gives them, the same objects that a row decoded from the log has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.core.errors import FormatError
from mainspring.core.ids import PredictionIds
from mainspring.core.numbers import array_texts, nullable

SAME, EACH, INTS, FLOATS, NUMBERED, ARRAYS, CODES = range(7)
_ENCODE = msgspec.json.Encoder().encode
_INT64, _FLOAT64 = np.dtype("<i8"), np.dtype("<f8")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "datetime": (int,),
    "float": (float, int),
    "bool": (bool,),
    "vector": (list,),
}
_FORMS: Mapping[str, tuple[int, ...]] = {
    "str": (SAME, EACH, NUMBERED, ARRAYS, CODES),
    "int": (SAME, EACH, INTS),
    "datetime": (SAME, EACH, INTS),
    "float": (SAME, EACH, FLOATS),
}
_ANY_KIND = (SAME, EACH)


class Cells(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A column of n rows.

    Attributes:
        form: How ``data`` says the values. ``SAME``: it is the value of all. ``EACH``: a list of them. ``INTS``: int64,
            ``FLOATS``: float64, little-endian bytes; NaN is None. ``NUMBERED``: texts ``more``-number, the numbers as
            int64. ``ARRAYS``: JSON arrays of w floats, as float64[n, w], with texts of all rows by place in ``more``.
            ``CODES``: JSON arrays of w small numbers, as uint8[n, w]; a row of zeros is an empty text.
        width: w, where rows are arrays.
    """

    form: int
    data: Any
    width: int = 0
    more: Any = None

    @classmethod
    def same(cls, value: Any) -> Cells:
        """One value for all rows."""
        return cls(SAME, value)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Cells:
        """Values of any kind, one a row."""
        first = values[0]
        is_same = values[-1] == first and values.count(first) == len(values)  # the last one mostly says no
        if is_same and not _is_ambiguous(first):
            return cls(SAME, first)
        return cls(EACH, values if isinstance(values, list) else list(values))

    @classmethod
    def of_kind(cls, kind: str, values: Sequence[Any]) -> Cells:
        """Values of a column of a source, as its contract has checked them."""
        if kind == "float":
            return cls.floats(values)
        return cls.ints(values) if kind in ("int", "datetime") and None not in values else cls.of(values)

    @classmethod
    def ints(cls, values: Sequence[int]) -> Cells:
        """Whole numbers of 64 bits."""
        return cls(INTS, np.array(values, _INT64).tobytes())

    @classmethod
    def floats(cls, values: Sequence[float | None] | npt.NDArray[np.float64]) -> Cells:
        """Floats, none of which is NaN, and None; in an array, which is not copied on the way, NaN is None."""
        return cls(FLOATS, np.asarray(values, _FLOAT64).tobytes())

    @classmethod
    def ids(cls, ids: PredictionIds) -> Cells:
        """Ids of predictions."""
        return cls(NUMBERED, np.array(ids.numbers, _INT64).tobytes(), 0, ids.epoch)

    @classmethod
    def arrays(cls, values: npt.NDArray[np.float64], texts: Mapping[int, Sequence[str | None]]) -> Cells:
        """JSON arrays: float64[n, w], NaN for null, and the texts of the places that hold some, n each."""
        held = {place: list(column) for place, column in texts.items()}
        return cls(ARRAYS, np.ascontiguousarray(values, _FLOAT64).tobytes(), values.shape[1], held)

    @classmethod
    def codes(cls, codes: npt.NDArray[np.uint8]) -> Cells:
        """JSON arrays of small numbers: uint8[n, w]."""
        if not codes.any():
            return cls(SAME, "")
        return cls(CODES, np.ascontiguousarray(codes).tobytes(), codes.shape[1])

    def numbers(self) -> npt.NDArray[np.int64]:
        """What ``INTS`` and ``NUMBERED`` hold."""
        return np.frombuffer(self.data, _INT64)

    def values(self, n: int) -> Sequence[Any]:
        """The value of each of the n rows.

        Raises:
            FormatError: It is of a form that this release does not know (MS-E901).
        """
        form = self.form
        if form == SAME:
            return [self.data] * n
        if form == EACH:
            return cast("list[Any]", self.data)
        if form == INTS:
            return cast("list[int]", self.numbers().tolist())
        if form == FLOATS:
            return nullable(np.frombuffer(self.data, _FLOAT64))
        if form == NUMBERED:
            return list(PredictionIds(self.more, self.numbers().tolist()))
        if form == ARRAYS:
            return self._array_texts(n)
        if form == CODES:
            rows = [self.data[i * self.width : (i + 1) * self.width] for i in range(n)]
            texts = {row: _ENCODE(list(row)).decode() if any(row) else "" for row in set(rows)}
            return [texts[row] for row in rows]
        raise _unknown(form)

    def _array_texts(self, n: int) -> list[str]:
        floats = np.frombuffer(self.data, _FLOAT64).reshape(n, self.width)
        rows: Sequence[Sequence[Any]] = floats.tolist()
        if self.more:
            columns = list(zip(*rows, strict=True))
            for place, texts in self.more.items():
                columns[place] = texts
            rows = list(zip(*columns, strict=True))
        return array_texts(rows, has_infinite=bool(np.isinf(floats).any()))

    def part(self, n: int, places: npt.NDArray[np.intp] | slice) -> Cells:
        """The rows at ``places`` of the n that there are.

        Raises:
            FormatError: It is of a form that this release does not know (MS-E901).
        """
        form = self.form
        if form == SAME:
            return self
        if form == EACH:
            return Cells(EACH, _picked(self.data, places))
        if form in (INTS, FLOATS, NUMBERED):
            if isinstance(places, slice) and places.step is None:
                start, stop, _ = places.indices(n)
                return Cells(form, self.data[8 * start : 8 * stop], 0, self.more)
            return Cells(form, np.frombuffer(self.data, _INT64)[places].tobytes(), 0, self.more)
        if form == ARRAYS:
            values = np.frombuffer(self.data, _FLOAT64).reshape(n, self.width)[places]
            return Cells.arrays(values, {at: _picked(texts, places) for at, texts in self.more.items()})
        if form == CODES:
            return Cells.codes(np.frombuffer(self.data, np.uint8).reshape(n, self.width)[places])
        raise _unknown(form)

    def fault(self, n: int, kind: str, *, nullable: bool) -> str:
        """What is wrong with it as a column of n rows of a kind; empty if nothing is. It may come from outside."""
        data, form = self.data, self.form
        if form == SAME:  # by far the most columns are such, or floats
            is_one = data.__class__ in _TYPES[kind] or (nullable and data is None)
            return "" if is_one else f"a value is no {kind}"
        if form == FLOATS and kind == "float" and data.__class__ is bytes and len(data) == 8 * n and self.width >= 0:
            return ""
        if form not in _FORMS.get(kind, _ANY_KIND):
            return f"form {form} is not one of {kind}"
        if form == EACH:
            is_whole = isinstance(data, list) and len(data) == n
            return _fault_of_values(data, kind, nullable=nullable) if is_whole else f"not {n} values"
        each = {CODES: self.width, ARRAYS: 8 * self.width}.get(form, 8)
        if not isinstance(data, bytes) or self.width < 0 or len(data) != n * each:
            return f"not {n} values"
        if form == NUMBERED:
            is_epoch = isinstance(self.more, str) and 0 < len(self.more) <= 100
            return "" if is_epoch and (self.numbers() >= 0).all() else "ids without an epoch"
        return _fault_of_texts(self.more, n, self.width) if form == ARRAYS else ""


def _unknown(form: int) -> FormatError:
    """The error of a column of the log that nothing here can read: what it means is not to be guessed."""
    what = f"a column of the log is of form {form}, which this release does not know"
    return FormatError("MS-E901", what, hint="read it with the release that wrote it")


def _fault_of_values(values: Sequence[Any], kind: str, *, nullable: bool) -> str:
    if kind == "str":
        try:
            "".join(values)  # looks at each, faster than a loop
        except TypeError:
            pass
        else:
            return ""
    types = set(map(type, values)) - ({type(None)} if nullable else set())
    return "" if types <= {*_TYPES[kind]} else f"a value is no {kind}"


def _fault_of_texts(texts: Any, n: int, width: int) -> str:
    if not isinstance(texts, dict) or not all(isinstance(at, int) and 0 <= at < width for at in texts):
        return "texts without a place"
    if not all(isinstance(column, list) and len(column) == n for column in texts.values()):
        return f"not {n} texts"
    return "" if set(map(type, chain.from_iterable(texts.values()))) <= {str, type(None)} else "a text is none"


def _picked(values: Sequence[Any], places: npt.NDArray[np.intp] | slice) -> list[Any]:
    if isinstance(places, slice):
        return list(values[places])
    return [values[i] for i in places.tolist()]


def values_of(columns: Sequence[Cells], n: int) -> list[Sequence[Any]]:
    """``values`` of each column; those of floats are looked at together, for half of what they take one by one."""
    floats = [one.data for one in columns if one.form == FLOATS]
    together = np.frombuffer(b"".join(floats), _FLOAT64).reshape(len(floats), n)
    if np.isnan(together).any():
        return [one.values(n) for one in columns]
    each = iter(together.tolist())
    return [next(each) if one.form == FLOATS else one.values(n) for one in columns]


def joined(parts: Sequence[tuple[Cells, int]]) -> Cells:
    """Columns one after the other, each with its number of rows; at least one."""
    first = parts[0][0]
    if len(parts) == 1:
        return first
    if all(one.form == first.form and one.width == first.width for one, _ in parts):
        if first.form == SAME and all(one.data == first.data and not _is_ambiguous(one.data) for one, _ in parts):
            return first
        if first.form in (INTS, FLOATS, CODES) or (
            first.form == NUMBERED and all(one.more == first.more for one, _ in parts)
        ):
            return Cells(first.form, b"".join(one.data for one, _ in parts), first.width, first.more)
        if first.form == ARRAYS and all(one.more.keys() == first.more.keys() for one, _ in parts):
            texts = {at: list(chain.from_iterable(one.more[at] for one, _ in parts)) for at in first.more}
            return Cells(ARRAYS, b"".join(one.data for one, _ in parts), first.width, texts)
    return Cells(EACH, list(chain.from_iterable(one.values(n) for one, n in parts)))


def _is_ambiguous(value: Any) -> bool:
    """Whether there may be others that are equal to it: a zero has two signs, and a list may hold some."""
    return (value.__class__ is float and value == 0.0) or value.__class__ is list
