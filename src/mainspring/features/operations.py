"""The operations of compiled expressions: numpy over columns with nulls, by polars' rules to the bit.

A column is its values and which of them are null (None if none is). Values in the place of a null are arbitrary, but
for texts, where they are None. A column of one value stands for every row. What polars computes in a way of its own is
said at the operation; ``tests/features/test_request.py`` holds all of it against polars.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
Nulls = npt.NDArray[np.bool_] | None
Column = tuple[Values, Nulls]
Operation = Callable[..., Column]

_FEW = 64
"""Numbers in a list that is compared one by one rather than sorted."""
_LONG_BITS = 64
_BIGGEST = 2.0**63


def either(a: Nulls, b: Nulls) -> Nulls:
    """Null in one or the other."""
    if a is None:
        return b
    return a if b is None else a | b


def arithmetic(function: Callable[[Any, Any], Any]) -> Operation:
    """Of two columns of one type; whole numbers wrap around."""
    return lambda a, b: (function(a[0], b[0]), either(a[1], b[1]))


def unary(function: Callable[[Any], Any]) -> Operation:
    """Of one column; nulls stay."""
    return lambda a: (function(a[0]), a[1])


def over_reciprocal(function: Callable[[Values, Values, Values], Any]) -> Operation:
    """Of a column and a constant float: polars multiplies by the constant's reciprocal instead of dividing by it."""
    return lambda a, b: (function(a[0], b[0], a[0] * (1.0 / b[0])), either(a[1], b[1]))


def over_quotient(function: Callable[[Values, Values, Values], Any]) -> Operation:
    """Of two float columns and their quotient."""
    return lambda a, b: (function(a[0], b[0], a[0] / b[0]), either(a[1], b[1]))


def quotient(_a: Values, _b: Values, ratio: Values) -> Values:
    """``/``."""
    return ratio


def floor_quotient(_a: Values, _b: Values, ratio: Values) -> Any:
    """``//`` of floats."""
    return np.floor(ratio)


def remainder(a: Values, b: Values, ratio: Values) -> Any:
    """``%`` of floats, as polars takes it."""
    return a - b * np.floor(ratio)


def whole_division(function: Callable[[Any, Any], Any]) -> Operation:
    """``//`` and ``%`` of whole numbers: null where the divisor is 0."""

    def run(a: Column, b: Column) -> Column:
        zero = b[0] == 0
        if not zero.any():
            return function(a[0], b[0]), either(a[1], b[1])
        values = function(a[0], np.where(zero, np.ones_like(b[0]), b[0]))
        return values, either(np.broadcast_to(zero, values.shape), either(a[1], b[1]))

    return run


# --- comparisons: NaN equals itself and is greater than everything else -----------------------------------------------


def _greater(a: Values, b: Values) -> Any:
    return (a > b) | ((a != a) & (b == b))


def _at_least(a: Values, b: Values) -> Any:
    return (a >= b) | (a != a)


def _equal(a: Values, b: Values) -> Any:
    return (a == b) | ((a != a) & (b != b))


_ORDERED: dict[str, Callable[[Any, Any], Any]] = {
    "Gt": np.greater,
    "GtEq": np.greater_equal,
    "Lt": np.less,
    "LtEq": np.less_equal,
    "Eq": np.equal,
    "NotEq": np.not_equal,
}
_FLOATS: dict[str, Callable[[Any, Any], Any]] = {
    "Gt": _greater,
    "GtEq": _at_least,
    "Lt": lambda a, b: _greater(b, a),
    "LtEq": lambda a, b: _at_least(b, a),
    "Eq": _equal,
    "NotEq": lambda a, b: ~_equal(a, b),
}
_FLOAT_AND_NUMBER: dict[str, Callable[[Any, Any], Any]] = _ORDERED | {
    "Gt": lambda a, b: ~(a <= b),  # the other side is no NaN: a NaN on this one is greater
    "GtEq": lambda a, b: ~(a < b),
}
COMPARISONS = tuple(_ORDERED)


def compares(op: str, *, floats: bool, number: bool = False) -> Callable[[Any, Any], Any]:
    """How ``op`` compares two columns of one type; ``number`` says that the right one is a constant and no NaN."""
    if not floats:
        return _ORDERED[op]
    return _FLOAT_AND_NUMBER[op] if number else _FLOATS[op]


def comparison(compare: Callable[[Any, Any], Any], *, texts: bool = False) -> Operation:
    """Null if either side is."""
    if texts:
        return _texts_compared(compare)
    return lambda a, b: (compare(a[0], b[0]), either(a[1], b[1]))


def _texts_compared(compare: Callable[[Any, Any], Any]) -> Operation:
    def run(a: Column, b: Column) -> Column:
        nulls = either(a[1], b[1])
        left, right = (_filled(c) for c in (a, b))
        return np.asarray(compare(left, right), np.bool_), nulls

    return run


def _filled(column: Column) -> Values:
    return column[0] if column[1] is None else np.where(column[1], "", column[0])


def with_nulls_equal(compare: Operation, *, negated: bool) -> Operation:
    """``eq_missing`` and ``ne_missing``: null is a value like any other."""

    def run(a: Column, b: Column) -> Column:
        same, nulls = compare(a, b)
        if nulls is not None:
            same = np.where(nulls, no_nulls(a) == no_nulls(b), same)
        return (~same if negated else same), None

    return run


def no_nulls(column: Column) -> Values:
    """Which rows are null, also where none is."""
    return np.zeros(len(column[0]), np.bool_) if column[1] is None else column[1]


# --- logic ------------------------------------------------------------------------------------------------------------


def conjunction(a: Column, b: Column) -> Column:
    """``&``: false wins over null."""
    if a[1] is None and b[1] is None:
        return a[0] & b[0], None
    false = (~a[0] & ~no_nulls(a)) | (~b[0] & ~no_nulls(b))
    return ~false, (no_nulls(a) | no_nulls(b)) & ~false


def disjunction(a: Column, b: Column) -> Column:
    """``|``: true wins over null."""
    if a[1] is None and b[1] is None:
        return a[0] | b[0], None
    true = (a[0] & ~no_nulls(a)) | (b[0] & ~no_nulls(b))
    return true, (no_nulls(a) | no_nulls(b)) & ~true


def folded(operation: Operation) -> Operation:
    """Of two columns as of many, from left to right."""

    def run(first: Column, *rest: Column) -> Column:
        for other in rest:
            first = operation(first, other)
        return first

    return run


def is_null(column: Column) -> Column:
    """Which rows are null."""
    return no_nulls(column), None


def is_not_null(column: Column) -> Column:
    """Which rows are not null."""
    return ~no_nulls(column), None


def choice(predicate: Column, then: Column, otherwise: Column) -> Column:
    """``when``: a null condition does not hold."""
    holds = predicate[0] if predicate[1] is None else predicate[0] & ~predicate[1]
    values = np.where(holds, then[0], otherwise[0])
    if then[1] is None and otherwise[1] is None:
        return values, None
    return values, np.where(holds, no_nulls(then), no_nulls(otherwise))


def first_of(a: Column, b: Column) -> Column:
    """``coalesce`` and ``fill_null``: the second where the first is null."""
    if a[1] is None:
        return a
    return np.where(a[1], b[0], a[0]), None if b[1] is None else a[1] & b[1]


def between(low: Callable[[Any, Any], Any], high: Callable[[Any, Any], Any]) -> Operation:
    """``is_between``: both comparisons hold."""

    def run(x: Column, least: Column, most: Column) -> Column:
        above = low(x[0], least[0]), either(x[1], least[1])
        return conjunction(above, (high(x[0], most[0]), either(x[1], most[1])))

    return run


def member_of_texts(texts: frozenset[str]) -> Operation:
    """``is_in`` of texts."""
    return lambda a: (np.fromiter((text in texts for text in a[0]), np.bool_, len(a[0])), a[1])


def member_of_numbers(numbers: Values) -> Operation:
    """``is_in`` of numbers; NaN is in a list that has one."""
    has_nan = bool((numbers != numbers).any())

    def run(a: Column) -> Column:
        found = (a[0][:, None] == numbers).any(axis=1) if len(numbers) <= _FEW else np.isin(a[0], numbers)
        return (found | (a[0] != a[0]) if has_nan else found), a[1]

    return run


# --- numbers ----------------------------------------------------------------------------------------------------------


def extreme(compare: Callable[[Any, Any], Any], *, floats: bool) -> Operation:
    """``max_horizontal`` and ``min_horizontal``: nulls and NaN count only if all are; a tie goes right."""

    def run(a: Column, b: Column) -> Column:
        right = compare(b[0], a[0])
        if floats:
            right = right | (a[0] != a[0])
            right = right & ((b[0] == b[0]) | (a[0] != a[0]))
        if a[1] is not None:
            right = right | a[1]
        if b[1] is not None:
            right = right & ~b[1]
        nulls = None if a[1] is None or b[1] is None else a[1] & b[1]
        return np.where(right, b[0], a[0]), nulls

    return run


def clipped(*, low: bool, high: bool) -> Operation:
    """``clip``: a bound that is null or NaN does not bound; the lower one goes first."""

    def run(a: Column, *bounds: Column) -> Column:
        values = a[0]
        below = above = None
        if low:
            below = values < bounds[0][0]
            if bounds[0][1] is not None:
                below = below & ~bounds[0][1]
        if high:
            above = values > bounds[-1][0]
            if bounds[-1][1] is not None:
                above = above & ~bounds[-1][1]
        if above is not None:
            values = np.where(above, bounds[-1][0], values)
        if below is not None:
            values = np.where(below, bounds[0][0], values)
        return values, a[1]

    return run


def sign(values: Values) -> Values:
    """−1, 0 or 1; zeros keep their sign, NaN stays."""
    if values.dtype.kind != "f":
        return np.sign(values)
    return np.where((values > 0) | (values < 0), np.sign(values), values)


def rounded(decimals: int) -> Callable[[Values], Values]:
    """Half to even at ``decimals`` digits; what overflows on the way stays as it is."""
    if not decimals:
        return np.rint
    scale = 10.0**decimals

    def run(values: Values) -> Values:
        scaled = values * scale
        return np.where(np.isfinite(scaled), np.rint(scaled) / scale, values)

    return run


def by_libm(function: Callable[[float], float]) -> Callable[[Values], Values]:
    """A function of the C library for each value: polars calls it too, numpy has its own, which differ by an ulp."""
    return lambda values: np.array([function(v) for v in values.tolist()], np.float64)


def log(x: float) -> float:
    """Natural logarithm, as IEEE 754 has it."""
    if x > 0.0:
        return math.log(x)
    return -math.inf if x == 0.0 else math.nan


def log1p(x: float) -> float:
    """Logarithm of 1 + x, as IEEE 754 has it."""
    if x > -1.0:
        return math.log1p(x)
    return -math.inf if x == -1.0 else math.nan


def exp(x: float) -> float:
    """Exponential; infinite where it overflows."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def power(x: float, y: float) -> float:
    """``x ** y`` as IEEE 754 has it."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0.0 and y % 2.0 == 1.0 else math.inf
    except ValueError:
        if x == 0.0:  # a negative power of zero
            return math.copysign(math.inf, x) if y % 2.0 == 1.0 else math.inf
        return math.nan


def powers(a: Column, b: Column) -> Column:
    """``**`` of floats, by the C library."""
    left, right = np.broadcast_arrays(a[0], b[0])
    values = np.array([power(x, y) for x, y in zip(left.tolist(), right.tolist(), strict=True)], np.float64)
    return values, either(a[1], b[1])


def to_number(dtype: Any) -> Operation:
    """To another number type that holds every value."""
    return lambda a: (a[0].astype(dtype), a[1])


def to_whole(dtype: Any, *, strict: bool) -> Operation:
    """Towards zero; what does not fit is null, or an error if ``strict``."""
    limits = np.iinfo(dtype)

    def run(a: Column) -> Column:
        values = a[0]
        if values.dtype.kind == "f":
            whole = np.trunc(values)
            low, high = float(limits.min), min(float(limits.max), _BIGGEST)
            fits = (whole >= low) & ((whole < high) if limits.bits == _LONG_BITS else (whole <= high))  # NaN does not
            values = np.where(fits, whole, 0.0)
        else:
            fits = (values >= limits.min) & (values <= limits.max)
        lost = ~fits if a[1] is None else ~fits & ~a[1]
        if not lost.any():
            return values.astype(dtype), a[1]
        if strict:
            raise ValueError(f"{a[0][lost][0]} does not fit a whole number of {limits.bits} bits")
        return values.astype(dtype), either(a[1], lost)

    return run
