"""Formulas over the fields of one record, as a mend may write them: a closed subset of Python's expressions.

Numbers, texts, ``True``, ``False``, ``None``, names of fields; ``+ - * / // %``, comparisons, ``and or not``,
``a if c else b``; ``abs(x)``, ``round(x)``, ``round(x, n)``, ``float(x)``, ``int(x)``, ``str(x)``, ``lower(x)``,
``upper(x)``, ``strip(x)``, ``replace(x, old, new)``, ``coalesce(x, y, …)``. A formula is read, never evaluated as
Python. Null in arithmetic, in a function or in a comparison gives null, as in the expressions of definitions.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mainspring.core.errors import ConfigError, ContractError

_MOST_CHARACTERS = 500
_MOST_TEXT = 65_536
_MOST_BITS = 256
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {  # with the least and the most arguments
    "abs": (abs, 1, 1),
    "round": (round, 1, 2),
    "float": (float, 1, 1),
    "int": (int, 1, 1),
    "str": (str, 1, 1),
    "lower": (str.lower, 1, 1),
    "upper": (str.upper, 1, 1),
    "strip": (str.strip, 1, 1),
    "replace": (str.replace, 3, 3),
}
Value = Callable[[Mapping[str, Any]], Any]


def formula(text: str) -> Value:
    """What a formula gives for the fields of a record.

    Returns:
        A function of the fields; it raises ContractError (MS-E136) where it cannot be computed for them.

    Raises:
        ConfigError: It is none, or says something beyond the subset (MS-E137).

    Example:
        >>> formula("delay_s / 60 if unit == 's' else delay")({"delay_s": 90, "unit": "s"})
        1.5
    """
    try:
        if len(text) > _MOST_CHARACTERS:
            raise _NoFormulaError(f"more than {_MOST_CHARACTERS} characters")
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        hint = "such as arr_delay_s / 60, or replace(carrier, 'United', 'UA')"
        raise ConfigError("MS-E137", f"this is no formula: {text[:100]!r}", why=why, hint=hint) from None

    def compute(fields: Mapping[str, Any]) -> Any:
        try:
            return value(fields)
        except (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
            raise ContractError("MS-E136", f"{text[:100]!r} cannot be computed: {error}", where="$") from None

    return compute


def fields_of(text: str) -> list[str]:
    """The fields that a formula asks for, in its order.

    Example:
        >>> fields_of("lower(carrier) == 'ua' and delay_s > 60")
        ['carrier', 'delay_s']
    """
    nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    named = [node for node in nodes if isinstance(node, ast.Name) and id(node) not in called]
    return list(dict.fromkeys(node.id for node in sorted(named, key=lambda node: (node.lineno, node.col_offset))))


def condition(text: str, flags: Collection[str]) -> Value:
    """A formula that is true, false or null of a record: a comparison, a flag, or ``and``, ``or``, ``not`` of these.

    Args:
        text: The formula.
        flags: Fields that are true or false themselves.

    Raises:
        ConfigError: It is no formula (MS-E137), or gives a number or a text (MS-E138).

    Example:
        >>> condition("delay_s > 60 and not cancelled", ["cancelled"])({"delay_s": 90, "cancelled": False})
        True
    """
    found = formula(text)
    wrong = _no_condition(ast.parse(text.strip(), mode="eval").body, flags)
    if wrong is not None:
        hint = f"compare it with something: {wrong} > 0, {wrong} == 'UA'"
        raise ConfigError("MS-E138", f"{wrong!r} is no condition: it is neither true nor false", where=text, hint=hint)
    return found


def _no_condition(node: ast.expr, flags: Collection[str]) -> str | None:
    """The part of a formula that stands for true or false and is neither."""
    match node:
        case ast.Compare() | ast.Constant(value=bool()):
            return None
        case ast.Name(id=name) if name in flags:
            return None
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            parts = [operand]
        case ast.BoolOp(values=parts) | ast.Call(func=ast.Name(id="coalesce"), args=parts):
            pass
        case ast.IfExp(test=test, body=body, orelse=orelse):
            parts = [test, body, orelse]
        case _:
            return ast.unparse(node)[:60]
    return next((wrong for part in parts if (wrong := _no_condition(part, flags)) is not None), None)


class _NoFormulaError(ValueError):
    """Something that the subset does not have."""


def _value(node: ast.expr) -> Value:  # noqa: PLR0911  one return a kind of node
    match node:
        case ast.Constant(value=str() | int() | float() | None):
            constant = node.value
            return lambda _: constant
        case ast.Name(id=name):
            return lambda fields: _field(fields, name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _value(operand)
            return lambda fields: _null_safe(operator.neg, inner(fields))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _value(operand)
            return lambda fields: _null_safe(operator.not_, inner(fields))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            one, other, do = _value(left), _value(right), _BINARY[type(op)]
            return lambda fields: _bounded(_null_safe(_arithmetic(do), one(fields), other(fields)))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            one, other, do = _value(left), _value(right), _COMPARE[type(op)]
            return lambda fields: _null_safe(do, one(fields), other(fields))
        case ast.BoolOp(op=op, values=nodes):
            values = [_value(one) for one in nodes]
            every = isinstance(op, ast.And)
            return lambda fields: (all if every else any)(one(fields) for one in values)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            condition, then, otherwise = _value(test), _value(body), _value(orelse)
            return lambda fields: then(fields) if condition(fields) else otherwise(fields)
        case ast.Call(func=ast.Name(id=name), args=nodes, keywords=[]):
            return _call(name, [_value(one) for one in nodes])
    raise _NoFormulaError(f"{ast.unparse(node)[:60]!r} is not among what a formula may say")


def _call(name: str, values: list[Value]) -> Value:
    if name == "coalesce" and values:
        return lambda fields: next((found for one in values if (found := one(fields)) is not None), None)
    found = _FUNCTIONS.get(name)
    if found is None:
        raise _NoFormulaError(f"no function {name!r}; there are {', '.join([*_FUNCTIONS, 'coalesce'])}")
    do, least, most = found
    if not least <= len(values) <= most:
        raise _NoFormulaError(f"{name} takes {least} values" + (f" to {most}" if most != least else ""))
    return lambda fields: _bounded(_null_safe(do, *(one(fields) for one in values)))


def _field(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f"the record has no field {name!r}")
    return fields[name]


def _null_safe(do: Callable[..., Any], *values: Any) -> Any:
    return None if any(value is None for value in values) else do(*values)


def _arithmetic(do: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """On two numbers; texts only add up: ``'a' * 10**9`` and ``'%99999d' % 1`` are no arithmetic."""

    def run(one: Any, other: Any) -> Any:
        are_texts = isinstance(one, str) or isinstance(other, str)
        if are_texts and (do is not operator.add or type(one) is not type(other)):
            raise TypeError(f"{one!r:.40} and {other!r:.40} are not two numbers")
        return do(one, other)

    return run


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MOST_TEXT:
        raise ValueError("the text grows too long")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError("the number grows too large")
    return value
