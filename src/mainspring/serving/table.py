"""The rows of requests, also by column: most of what is done with a batch is done to a column of it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Row = tuple[Any, ...]
Column = Sequence[Any]


class Table(Sequence[Row]):
    """Checked rows that came as columns or are used as such; each is made of the other when it is asked for.

    Args:
        rows: The rows, or
        columns: Their columns, at least one.
    """

    __slots__ = ("_columns", "_floats", "_rows")

    def __init__(self, rows: Sequence[Row] | None = None, *, columns: Sequence[Column] | None = None) -> None:
        self._rows = rows
        self._columns = columns
        self._floats: dict[tuple[int, ...], npt.NDArray[np.float64]] = {}

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Table:
        """Rows as a table, if they are none."""
        return rows if isinstance(rows, Table) else cls(rows)

    @property
    def columns(self) -> Sequence[Column]:
        """One a column of the source; none of no rows."""
        if self._columns is None:
            self._columns = list(zip(*self.rows, strict=True))
        return self._columns

    @property
    def rows(self) -> Sequence[Row]:
        """One tuple a row."""
        if self._rows is None:
            self._rows = list(zip(*self.columns, strict=True))
        return self._rows

    def floats(self, places: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Columns of numbers, float64[places, rows]: made once for all who ask for the same ones. None is NaN."""
        found = self._floats.get(places)
        if found is None:
            every, n = self.columns, len(self)
            columns = [every[i] for i in places] if n else [()] * len(places)
            try:  # half as long as numpy takes to see what is in a list
                raw = struct.pack(f"{len(places) * n}d", *chain.from_iterable(columns))
                found = np.frombuffer(raw).reshape(len(places), n)
            except struct.error:
                found = np.array(columns, np.float64)
            self._floats[places] = found
        return found

    def __len__(self) -> int:
        """How many rows."""
        return len(self.columns[0]) if self._rows is None else len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """Row by row."""
        return iter(self.rows)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Table: ...

    def __getitem__(self, place: int | slice) -> Row | Table:
        """A row, or some of them."""
        if isinstance(place, int):
            return self.rows[place]
        if self._rows is not None:
            return Table(self._rows[place])
        return Table(columns=[column[place] for column in self.columns])


def column_of(rows: Sequence[Row], place: int) -> Column:
    """One value of each row."""
    if not isinstance(rows, Table):
        return [row[place] for row in rows]
    columns = rows.columns
    return columns[place] if columns else ()


def columns_after(parts: Iterable[Sequence[Column]]) -> list[list[Any]]:
    """Columns of parts, one after the other; none of no parts."""
    whole: list[list[Any]] = []
    for part in parts:
        whole = whole or [[] for _ in part]
        for column, more in zip(whole, part, strict=True):
            column.extend(more)
    return whole


def joined(parts: Sequence[Sequence[Row]]) -> Sequence[Row]:
    """Rows of several requests, one after the other."""
    if len(parts) == 1:
        return parts[0]
    if any(type(part) is Table for part in parts):  # isinstance asks the abstract class, for more than all the rest
        columns = columns_after(Table.of(part).columns for part in parts if part)
        return Table(columns=columns) if columns else Table([])
    return list(chain.from_iterable(parts))
