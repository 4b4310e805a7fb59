"""Rows that come as columns, checked a column at a time: what costs a row tens of steps costs a column one.

What is sure is taken; at the least doubt in any column nothing is, and the rows are checked one by one by the contract,
which knows what to say of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from mainspring.definitions.values import Constraint, Field, SourceDef
from mainspring.events.bounds import (
    MAX_TIME_US,
    MIN_TIME_US,
    OutOfBoundsError,
    constraint_check,
    constraints_of,
    is_utf8,
    takes_default,
)
from mainspring.events.record import stored_default

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Column = Sequence[Any]
_INT64 = (-(2**63), 2**63 - 1)
_NUMBERS = frozenset({int, float})
_TYPES: Mapping[str, frozenset[type]] = {
    "str": frozenset({str}),
    "int": frozenset({int}),
    "float": _NUMBERS,
    "bool": frozenset({bool}),
    "datetime": frozenset({int}),
    "vector": frozenset({list}),
}


class Columnar:
    """How columns of one source are checked."""

    def __init__(self, source: SourceDef) -> None:
        self._source = source
        self._constraints = {
            f.name: [(c, constraint_check(c, f.kind)) for c in constraints_of(f, source)] for f in source.fields
        }
        self._defaults = {
            f.name: stored_default(f)
            for f in source.fields
            if (f.has_default or f.nullable) and takes_default(f, source)
        }

    def checked(self, columns: Mapping[str, Column | Floats], n: int) -> list[Column | Floats] | None:
        """All columns of a source, from those that came with ``n`` values, as ``Contract.check`` would make their rows.

        Args:
            columns: Values by a name that senders may use; times are int64 microseconds. One of floats may be an array.
            n: How many rows.

        Returns:
            The columns in the source's order, an array for one that came so, in which NaN is null; None where a value
            is not surely right.
        """
        import numpy as np  # commands that only look at sources do without

        known = self._source.names
        if not columns.keys() <= known.keys() or len({known[name].name for name in columns}) < len(columns):
            return None
        given = {known[name].name: column for name, column in columns.items()}
        if not self._are_floats([(known[name], v) for name, v in columns.items() if isinstance(v, np.ndarray)]):
            return None
        made: list[Column | Floats] = []
        for field in self._source.fields:
            column = given.get(field.name)
            if not isinstance(column, np.ndarray):
                column = self._absent(field, n) if column is None else self._column(field, column)
                if column is None:
                    return None
            made.append(column)
        times = [t for t in made[self._source.places[self._source.time]] if t is not None]
        return None if times and min(times) < 0 else made

    def _are_floats(self, arrays: Sequence[tuple[Field, Floats]]) -> bool:
        """Whether arrays surely are what their fields take."""
        import numpy as np

        if not arrays:
            return True
        if any(field.kind != "float" for field, _ in arrays):
            return False
        numbers = np.array([column for _, column in arrays], np.float64)
        if not np.isfinite(numbers).all():  # all at once: there mostly is nothing to look for one by one
            can_lack = np.array([field.nullable for field, _ in arrays])
            if np.isinf(numbers).any() or np.isnan(numbers[~can_lack]).any():
                return False
        for field, column in arrays:
            constraints = self._constraints[field.name]
            values = column[~np.isnan(column)].tolist() if constraints else ()
            if not all(_holds(c, check, values) for c, check in constraints):
                return False
        return True

    def _absent(self, field: Field, n: int) -> Column | None:
        """What a column has that did not come."""
        return [self._defaults[field.name]] * n if field.name in self._defaults else None

    def _column(self, field: Field, column: Column) -> Column | None:
        """A column as it is stored; None if something may be wrong with it."""
        types = set(map(type, column))
        if field.nullable:
            types.discard(type(None))
        if not types <= _TYPES[field.kind]:
            return None
        found = _CHECKS[field.kind](field, column, types)
        if found is None:
            return None
        values = [v for v in found if v is not None] if field.nullable and self._constraints[field.name] else found
        return found if all(_holds(c, check, values) for c, check in self._constraints[field.name]) else None


def _holds(constraint: Constraint, check: Callable[[Any], Any], values: Column) -> bool:
    """Whether all values keep to a constraint."""
    if not values:
        return True
    if constraint.name == "between":
        values = [min(values), max(values)]
    elif constraint.name == "one_of":
        values = list(set(values))
    try:
        for value in values:
            check(value)
    except OutOfBoundsError:
        return False
    return True


def _floats(field: Field, column: Column, types: set[type]) -> Column | None:
    if int in types:
        try:
            column = [v if v is None else float(v) for v in column]
        except OverflowError:
            return None
    if math.isfinite(sum(filter(None, column))):
        return column
    if not field.nullable:
        return None
    column = [None if v != v else v for v in column]
    return column if math.isfinite(sum(filter(None, column))) else None


def _ints(_field: Field, column: Column, _types: set[type]) -> Column | None:
    return _within(column, *_INT64)


def _times(_field: Field, column: Column, _types: set[type]) -> Column | None:
    return _within(column, MIN_TIME_US, MAX_TIME_US)


def _within(column: Column, low: int, high: int) -> Column | None:
    known = [v for v in column if v is not None]
    return column if not known or (low <= min(known) and max(known) <= high) else None


def _texts(_field: Field, column: Column, _types: set[type]) -> Column | None:
    return column if is_utf8("".join(filter(None, column))) else None


def _vectors(field: Field, column: Column, _types: set[type]) -> Column | None:
    known = [v for v in column if v is not None]
    types = set(map(type, chain.from_iterable(known)))
    if not types <= _NUMBERS or set(map(len, known)) - {field.dim}:
        return None
    if int in types:
        try:
            column = [v if v is None else [float(x) for x in v] for v in column]
        except OverflowError:
            return None
    return column if math.isfinite(sum(chain.from_iterable(v for v in column if v is not None))) else None


_CHECKS: Mapping[str, Callable[[Field, Column, set[type]], Column | None]] = {
    "str": _texts,
    "int": _ints,
    "float": _floats,
    "bool": lambda _field, column, _types: column,
    "datetime": _times,
    "vector": _vectors,
}
