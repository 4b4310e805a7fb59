"""Row checks that go inside ``Annotated``: a set, a range, a pattern, a length, a dimension."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.core.times import from_datetime
from mainspring.definitions.values import Constraint

_FITS = {
    "one_of": ("str", "int"),
    "between": ("int", "float", "datetime"),
    "pattern": ("str",),
    "length": ("str",),
    "dim": ("vector",),
}


def one_of(*values: str | int) -> Constraint:
    """The value is one of ``values``."""
    return Constraint("one_of", values)


def between(low: float | datetime, high: float | datetime) -> Constraint:
    """The value lies between ``low`` and ``high``, both included."""
    ends = tuple(from_datetime(x) if isinstance(x, datetime) else x for x in (low, high))
    return Constraint("between", ends)


def pattern(regex: str) -> Constraint:
    """The whole text matches ``regex`` (Python syntax)."""
    return Constraint("pattern", (regex,))


def length(low: int, high: int) -> Constraint:
    """The text has from ``low`` to ``high`` characters."""
    return Constraint("length", (low, high))


def dim(numbers: int) -> Constraint:
    """The vector has this many numbers, all finite: ``Annotated[list[float], ms.dim(64)]``."""
    return Constraint("dim", (numbers,))


def check_constraint(constraint: Constraint, kind: str, column: str, where: str) -> None:
    """Refuse a constraint that its column's kind cannot meet.

    Raises:
        DefinitionError: It does not fit, or its arguments are impossible (MS-D114).
    """

    def refuse(why: str) -> DefinitionError:
        args = ", ".join(repr(a) for a in constraint.args)
        return DefinitionError("MS-D114", f"{column}: {constraint.name}({args}) cannot hold", where=where, why=why)

    fits = _FITS[constraint.name]
    if kind not in fits:
        raise refuse(f"it is for {' and '.join(fits)}, the column is {kind}")
    args: tuple[Any, ...] = constraint.args
    if constraint.name == "one_of" and (not args or len(set(args)) != len(args)):
        raise refuse("the values must be there and different")
    if constraint.name in ("between", "length") and not args[0] <= args[1]:
        raise refuse("the low end lies above the high end")
    if constraint.name == "dim" and not (isinstance(args[0], int) and 1 <= args[0] <= 4_096):
        raise refuse("a vector has from 1 to 4096 numbers")
    if constraint.name == "pattern":
        try:
            re.compile(args[0])
        except re.error as error:
            raise refuse(f"no regular expression: {error}") from None
