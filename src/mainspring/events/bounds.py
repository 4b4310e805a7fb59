"""What a value of the right type must also be: finite, UTF-8, in its set or range, of its pattern, length or dim."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from mainspring.core.times import from_datetime
from mainspring.definitions.values import OPERATIONS, Constraint, Field, SourceDef

Check = Callable[[Any], Any]
"""Gives the value as it is stored, or raises."""

NO_TEXT = "Expected text, got bytes that are no UTF-8"
MIN_TIME_US = -62_135_596_800_000_000  # 0001-01-01, and 9999-12-31 below: what a datetime can show
MAX_TIME_US = 253_402_300_799_999_999


class OutOfBoundsError(Exception):
    """A value of the right type that its column does not take; ``within`` is the path to a part of it."""

    def __init__(self, code: str, what: str, within: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.within = within


def check_of(field: Field, source: SourceDef) -> Check | None:
    """One function for all the checks of a column that its type does not make; None when there are none."""
    checks: list[Check] = []
    if field.kind == "datetime":
        checks.append(_instant)
    if field.kind == "float":
        checks.append(_finite_or_null if field.nullable else _finite)
    if field.kind == "str":
        checks.append(_text)
    if field.kind == "vector":
        checks.append(_vector(field.dim))
    checks += [constraint_check(c, field.kind) for c in constraints_of(field, source)]
    if not checks:
        return None
    if len(checks) == 1:
        return checks[0]

    def run(value: Any) -> Any:
        for check in checks:
            value = check(value)
            if value is None:
                return None
        return value

    return run


def constraints_of(field: Field, source: SourceDef) -> list[Constraint]:
    """What a column declares, but for a vector's length; a word of correction is one of three."""
    found = [c for c in field.constraints if c.name != "dim"]
    return [*found, Constraint("one_of", OPERATIONS)] if field.name == source.corrects else found


def takes_default(field: Field, source: SourceDef) -> bool:
    """Whether a column's own default keeps to its checks: if not, rows that lack the column are refused."""
    check = check_of(field, source)
    if check is None or field.default is None:
        return True
    try:
        check(field.default)
    except OutOfBoundsError:
        return False
    return True


def _instant(value: datetime | int) -> int:
    time_us = value if isinstance(value, int) else from_datetime(value)
    if MIN_TIME_US <= time_us <= MAX_TIME_US:
        return time_us
    raise OutOfBoundsError("MS-E104", "Expected a time in the years 1 to 9999")


def _finite(value: float) -> float:
    if value - value == 0.0:
        return value
    raise OutOfBoundsError("MS-E104", f"Expected a finite `float`, got `{value}`")


def _finite_or_null(value: float) -> float | None:
    if value - value == 0.0:
        return value
    if value != value:
        return None
    raise OutOfBoundsError("MS-E104", f"Expected a finite `float`, got `{value}`")


def _vector(dim: int) -> Check:
    def check(value: list[float]) -> list[float]:
        if len(value) != dim:
            raise OutOfBoundsError("MS-E103", f"Expected a vector of {dim} numbers, got {len(value)}")
        total = sum(value)
        if total - total != 0.0:  # one of them is not finite, or only their sum is not
            for place, x in enumerate(value):
                if x - x != 0.0:
                    raise OutOfBoundsError("MS-E104", f"Expected a finite `float`, got `{x}`", f"[{place}]")
        return value

    return check


def _text(value: str) -> str:
    if is_utf8(value):
        return value
    raise OutOfBoundsError("MS-E104", NO_TEXT)


def is_utf8(text: str) -> bool:
    r"""Whether a text can be stored: one that was read with ``surrogateescape`` may hold bytes that are none.

    >>> is_utf8("é"), is_utf8("\udcff")
    (True, False)
    """
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def constraint_check(constraint: Constraint, kind: str) -> Check:
    """The check of one constraint on a column of ``kind``."""
    args = constraint.args
    test: Callable[[Any], bool]
    if constraint.name == "one_of":
        known = frozenset(args)
        shown = ", ".join(repr(a) for a in args[:12]) + (" …" if len(args) > 12 else "")
        test, said = (lambda value: value in known), f"one of {shown}"
    elif constraint.name == "between":
        low, high = args
        test, said = (lambda value: low <= value <= high), f"`{kind}` between {low} and {high}"
    elif constraint.name == "pattern":
        matches = re.compile(args[0]).fullmatch
        test, said = (lambda value: matches(value) is not None), f"`str` matching {args[0]!r}"
    else:
        low, high = args
        test, said = (lambda value: low <= len(value) <= high), f"`str` of {low} to {high} characters"

    def check(value: Any) -> Any:
        if test(value):
            return value
        got = repr(value)
        raise OutOfBoundsError("MS-E103", f"Expected {said}, got {got if len(got) <= 80 else got[:77] + '...'}")

    return check
