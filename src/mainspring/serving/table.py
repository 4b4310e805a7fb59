"""The rows of requests, also by column: most of what is done with a batch is done to a column of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from mainspring.core.numbers import nullable

Row = tuple[Any, ...]
Column = Sequence[Any]
Floats = npt.NDArray[np.float64]
_NO_FLOATS = np.empty((0, 0))


class Table(Sequence[Row]):
    """Checked rows that came as columns or are used as such; each is made of the other when it is asked for.

    Args:
        rows: The rows, or
        columns: Their columns, at least one; None for those that are among ``numbers``.
        places: Of columns of floats that are kept as one array, which is all that most of them are ever asked for.
        numbers: That array, float64[places, rows]; None is NaN.
    """

    __slots__ = ("_columns", "_floats", "_numbers", "_rows", "places")

    def __init__(
        self,
        rows: Sequence[Row] | None = None,
        *,
        columns: Sequence[Column | None] | None = None,
        places: tuple[int, ...] = (),
        numbers: Floats = _NO_FLOATS,
    ) -> None:
        self._rows = rows
        self._columns = None if columns is None else list(columns)
        self.places = places
        self._numbers = numbers
        self._floats: dict[tuple[int, ...], Floats] = {places: numbers} if places else {}

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Table:
        """Rows as a table, if they are none."""
        return rows if isinstance(rows, Table) else cls(rows)

    @classmethod
    def split(cls, columns: Sequence[Column | Floats], places: tuple[int, ...]) -> Table:
        """A table of columns, of which those of floats, at ``places``, become numbers; they may be arrays already."""
        numbers = _packed([columns[place] for place in places])
        return cls(columns=_without(columns, places), places=places, numbers=numbers)

    @property
    def columns(self) -> Sequence[Column]:
        """One a column of the source; none of no rows."""
        return [self.column(place) for place in range(len(self._parts))]

    @property
    def rows(self) -> Sequence[Row]:
        """One tuple a row."""
        if self._rows is None:
            self._rows = list(zip(*self.columns, strict=True))
        return self._rows

    def column(self, place: int) -> Column:
        """One value of each row; none of no rows."""
        parts = self._parts
        found = parts[place] if parts else ()
        if found is None:
            found = parts[place] = nullable(self._numbers[self.places.index(place)])
        return found

    def floats(self, places: tuple[int, ...]) -> Floats:
        """Columns of numbers, float64[places, rows]: made once for all who ask for the same ones. None is NaN."""
        found = self._floats.get(places)
        if found is None:
            at, numbers, parts = self.places, self._numbers, self._parts
            if at:
                columns = [numbers[at.index(i)] if i in at else self.column(i) for i in places]
            else:  # a wide source's one row makes no call a column
                columns = [parts[i] or () for i in places] if parts else [()] * len(places)
            found = self._floats[places] = _packed(columns)
        return found

    def others(self, places: tuple[int, ...]) -> list[Column | None]:
        """The columns without those at ``places``."""
        parts = self._parts
        if places == self.places:
            return _without(parts, places)
        return _without([None if i in places else self.column(i) for i in range(len(parts))], places)

    @property
    def _parts(self) -> list[Column | None]:
        if self._columns is None:
            self._columns = list(zip(*self.rows, strict=True))
        return self._columns

    def __len__(self) -> int:
        """How many rows."""
        if self._rows is not None:
            return len(self._rows)
        first = next((column for column in self._parts if column is not None), None)
        return self._numbers.shape[1] if first is None else len(first)

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
        if self._columns is None:
            return Table(self.rows[place])
        columns = [None if column is None else column[place] for column in self._columns]
        return Table(columns=columns, places=self.places, numbers=self._numbers[:, place])


def column_of(rows: Sequence[Row], place: int) -> Column:
    """One value of each row."""
    return rows.column(place) if isinstance(rows, Table) else [row[place] for row in rows]


def texts_of(column: Column) -> Column:
    """A column as texts."""
    return column if set(map(type, column)) <= {str} else [str(value) for value in column]


def joined(parts: Sequence[Sequence[Row]]) -> Sequence[Row]:
    """Rows of several requests, one after the other."""
    if len(parts) == 1:
        return parts[0]
    if Table in set(map(type, parts)):  # isinstance asks the abstract class, for more than all the rest
        tables = [Table.of(part) for part in parts if part]
        return _joined(tables) if tables else Table([])
    return list(chain.from_iterable(parts))


def _joined(tables: Sequence[Table]) -> Table:
    places = next((table.places for table in tables if table.places), ())
    numbers = np.concatenate([table.floats(places) for table in tables], axis=1) if places else _NO_FLOATS
    columns: list[Column | None] = []
    for pieces in zip(*(table.others(places) for table in tables), strict=True):
        known = [piece for piece in pieces if piece is not None]
        columns.append(list(chain.from_iterable(known)) if known else None)
    return Table(columns=columns, places=places, numbers=numbers)


def _without(columns: Sequence[Column | Floats | None], places: tuple[int, ...]) -> list[Any]:
    """Columns, with None in some places."""
    left: list[Any] = list(columns)
    for place in places:
        left[place] = None
    return left


def _packed(columns: Sequence[Column | Floats]) -> Floats:
    """Columns of numbers and None as float64[columns, rows]; of no columns nothing."""
    rows = len(columns[0]) if columns else 0
    if np.ndarray in set(map(type, columns)):
        return np.array([column if isinstance(column, np.ndarray) else _packed([column])[0] for column in columns])
    try:  # half as long as numpy takes to see what is in a list
        raw = struct.pack(f"{len(columns) * rows}d", *chain.from_iterable(columns))
    except struct.error:
        return np.array(columns, np.float64).reshape(len(columns), rows)
    return np.frombuffer(raw).reshape(len(columns), rows)
