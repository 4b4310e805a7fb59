"""Expressions compiled to a tape of numpy operations: the closed subset of polars, read from polars' own JSON.

Types are polars': it is asked for the type of each part, and operands are brought to that type before an operation, as
polars does. What is the same text is computed once. A part that the subset does not have is ``Outside``: ``request``
then leaves that whole expression to polars.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from mainspring.definitions.expressions import UTC_US, parse
from mainspring.features import instants, texts
from mainspring.features import operations as do
from mainspring.features.operations import Column, Operation

DURATION = pl.Duration("us")
NUMPY_TYPES: dict[Any, Any] = {
    pl.Int8(): np.int8,
    pl.Int16(): np.int16,
    pl.Int32(): np.int32,
    pl.Int64(): np.int64,
    pl.UInt32(): np.uint32,
    pl.Float64(): np.float64,
    pl.Boolean(): np.bool_,
    pl.String(): np.object_,
    UTC_US: np.int64,
    DURATION: np.int64,
}
"""The types that values on a tape have, and how numpy holds them."""

_INSTANTS = (UTC_US, DURATION)
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"Plus": np.add, "Minus": np.subtract, "Multiply": np.multiply}
_SHORT = (pl.Int8(), pl.Int16(), pl.UInt32())
_WRAP = {"Multiply": _SHORT, "Minus": (pl.UInt32(),)}
_WHOLE: dict[str, Callable[[Any, Any], Any]] = {"FloorDivide": np.floor_divide, "Modulus": np.remainder}
_RATIOS = {"TrueDivide": do.quotient, "FloorDivide": do.floor_quotient, "Modulus": do.remainder}
_LOGIC: dict[str, Operation] = {
    "And": do.conjunction,
    "LogicalAnd": do.conjunction,
    "Or": do.disjunction,
    "LogicalOr": do.disjunction,
    "Xor": do.arithmetic(np.logical_xor),
}
_CLOSED = {"Both": ("GtEq", "LtEq"), "Left": ("GtEq", "Lt"), "Right": ("Gt", "LtEq"), "None": ("Gt", "Lt")}
_OF_NUMBERS: dict[str, Callable[[Any], Any]] = {
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Abs": np.abs,
    "Negate": np.negative,
    "Sign": do.sign,
}
_MOST_DECIMALS = 15
_POWERS: dict[float, Callable[[Any], Any]] = {
    0.5: np.sqrt,
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
}
"""Constant exponents that polars does not leave to the C library; other whole ones have ways of their own."""
_SAFE_FUNCTIONS = {"Log1p": do.log1p, "Exp": do.exp}
_FLOAT_TESTS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "Boolean.IsNan": (np.isnan, False),
    "Boolean.IsNotNan": (lambda x: ~np.isnan(x), True),
    "Boolean.IsFinite": (np.isfinite, True),
    "Boolean.IsInfinite": (np.isinf, False),
}
"""Tests of a float, and what they say of a whole number."""
_TEXT_TESTS: dict[str, Callable[[str], Callable[[str], bool]]] = {
    "StringExpr.StartsWith": lambda part: lambda text: text.startswith(part),
    "StringExpr.EndsWith": lambda part: lambda text: text.endswith(part),
    "StringExpr.Contains": lambda part: lambda text: part in text,
}


_FAULTS = (
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
)
"""What polars' JSON of an unknown shape raises, and polars itself of a constant that cannot be computed."""


class Outside(Exception):
    """An expression, or a part of it, is not of the subset."""


@dataclass(frozen=True)
class Node:
    """A value on the tape.

    Attributes:
        place: Register that holds it.
        dtype: Its polars type.
        constant: Its one value, if it does not depend on the row.
        wraps: A short number type in which something of it is multiplied, or taken away below zero; else empty.
    """

    place: int
    dtype: Any
    constant: Column | None = None
    wraps: str = ""


class Tape:
    """Compiles expressions over one schema, then runs them all at once.

    Args:
        schema: Polars types of the columns that expressions may read.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._empty = pl.DataFrame(schema=dict(schema))
        self._registers: list[Column | None] = []
        self._steps: list[tuple[Operation, tuple[int, ...], int]] = []
        self._columns: dict[str, int] = {}
        self._known: dict[str, Node] = {}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that it reads."""
        return tuple(self._columns)

    def compile(self, text: str) -> Node:
        """Put an expression on the tape.

        Raises:
            Outside: It is not of the subset; nothing is put on the tape then.
        """
        before = (list(self._registers), list(self._steps), dict(self._columns), dict(self._known))
        try:
            return self._node(json.loads(text))
        except Outside:
            self._registers, self._steps, self._columns, self._known = before
            raise
        except _FAULTS as error:
            self._registers, self._steps, self._columns, self._known = before
            raise Outside(f"{type(error).__name__}: {error}") from error

    def run(self, columns: Mapping[str, Column]) -> list[Column | None]:
        """All registers for a batch: ``registers[node.place]`` is a node's column, of one value if it is constant.

        Raises:
            ValueError: A strict cast of a value that does not fit.
        """
        registers = self._registers.copy()
        for name, place in self._columns.items():
            registers[place] = columns[name]
        with np.errstate(all="ignore"):
            for operation, places, to in self._steps:
                registers[to] = operation(*[registers[place] for place in places])
        return registers

    # --- parts --------------------------------------------------------------------------------------------------------

    def _node(self, tree: Any) -> Node:
        text = json.dumps(tree)
        if text not in self._known:
            ((kind, body),) = tree.items()
            if '"Column"' not in text:
                if kind not in _CONSTANTS:  # polars gives such a part one type alone and another inside a whole
                    raise Outside("a computation of constants")
                kind = "Literal"
            make = _KINDS.get(kind)
            if make is None:
                raise Outside(kind)
            self._known[text] = make(self, body, tree)
        return self._known[text]

    def _dtype(self, tree: Any) -> Any:
        """The type that polars gives a part, which must be one that tapes have."""
        dtype = self._empty.select(parse(json.dumps(tree)).alias("x")).schema["x"]
        if dtype not in NUMPY_TYPES:
            raise Outside(str(dtype))
        return dtype

    def _emit(self, dtype: Any, operation: Operation, *nodes: Node) -> Node:
        place = len(self._registers)
        constants = [node.constant for node in nodes]
        found = [c for c in constants if c is not None]
        if len(found) == len(constants):
            with np.errstate(all="ignore"):
                return self._constant(dtype, operation(*found))
        self._registers.append(None)
        self._steps.append((operation, tuple(node.place for node in nodes), place))
        return Node(place, dtype, wraps=next((node.wraps for node in nodes if node.wraps), ""))

    def _constant(self, dtype: Any, column: Column) -> Node:
        self._registers.append(column)
        return Node(len(self._registers) - 1, dtype, column)

    def _as(self, node: Node, dtype: Any) -> Node:
        """A number brought to a type that polars has chosen for an operation."""
        if node.dtype == dtype:
            return node
        if node.dtype == pl.Null():
            empty = texts.objects([None]) if dtype == pl.String() else np.zeros(1, NUMPY_TYPES[dtype])
            return self._constant(dtype, (empty, np.ones(1, np.bool_)))
        if not (_is_number(node.dtype) or node.dtype == pl.Boolean()) or not _is_number(dtype):
            raise Outside(f"{node.dtype} as {dtype}")
        narrows = node.dtype.is_float() and not dtype.is_float()
        if narrows and (node.constant is None or not np.isfinite(node.constant[0]).all()):
            raise Outside(f"{node.dtype} as {dtype}")
        return self._emit(dtype, do.to_number(NUMPY_TYPES[dtype]), node)

    def _float(self, tree: Any) -> Node:
        return self._as(self._node(tree), pl.Float64())

    # --- kinds of parts -----------------------------------------------------------------------------------------------

    def _column(self, name: str, _: Any) -> Node:
        dtype = self._schema[name]
        if dtype not in NUMPY_TYPES:
            raise Outside(str(dtype))
        if name not in self._columns:
            self._columns[name] = len(self._registers)
            self._registers.append(None)
        return Node(self._columns[name], dtype)

    def _alias(self, body: Any, _: Any) -> Node:
        return self._node(body[0])

    def _literal(self, _: Any, tree: Any) -> Node:
        """Whatever has no column in it: polars says what it is, once."""
        value = self._empty.select(parse(json.dumps(tree)).alias("x"))["x"]
        if len(value) != 1:
            raise Outside("a series")
        if value.dtype == pl.Null():
            return self._constant(value.dtype, (np.zeros(1, np.int8), np.ones(1, np.bool_)))
        if value.dtype not in NUMPY_TYPES:
            raise Outside(str(value.dtype))
        return self._constant(value.dtype, column_of(value))

    def _ternary(self, body: Any, tree: Any) -> Node:
        dtype = self._dtype(tree)
        predicate = self._node(body["predicate"])
        if predicate.dtype != pl.Boolean():
            raise Outside(str(predicate.dtype))
        branches = (self._as(self._node(body[name]), dtype) for name in ("truthy", "falsy"))
        return self._emit(dtype, do.choice, predicate, *branches)

    def _cast(self, body: Any, tree: Any) -> Node:
        if body["options"] not in ("Strict", "NonStrict"):
            raise Outside(str(body["options"]))
        strict = body["options"] == "Strict"
        node = self._node(body["expr"])
        to = self._dtype(tree)
        if node.dtype == to or node.dtype == pl.Null():
            return self._as(node, to)
        if node.dtype in _INSTANTS and to == pl.Int64():
            return self._emit(to, lambda a: a, node)
        if not (_is_number(node.dtype) or node.dtype == pl.Boolean()):
            raise Outside(f"{node.dtype} to {to}")
        if to.is_float():
            return self._as(node, to)
        if to.is_integer():
            return self._emit(to, do.to_whole(NUMPY_TYPES[to], strict=strict), node)
        if to == pl.Boolean():
            return self._emit(to, do.unary(lambda values: values != 0), node)
        if to == pl.String() and not node.dtype.is_float():
            return self._emit(to, texts.to_text, node)
        raise Outside(f"{node.dtype} to {to}")

    def _binary(self, body: Any, tree: Any) -> Node:
        op = body["op"]
        left, right = self._node(body["left"]), self._node(body["right"])
        if op in _LOGIC:
            sides = (self._as(node, pl.Boolean()) for node in (left, right))
            return self._emit(pl.Boolean(), _LOGIC[op], *sides)
        if op in do.COMPARISONS:
            return self._comparison(op, left, right)
        if op in ("EqValidity", "NotEqValidity"):
            left, right, compare = self._compared("Eq", left, right)
            missing = do.with_nulls_equal(compare, negated=op == "NotEqValidity")
            return self._emit(pl.Boolean(), missing, left, right)
        return self._arithmetic(op, left, right, self._dtype(tree))

    def _comparison(self, op: str, left: Node, right: Node) -> Node:
        left, right, compare = self._compared(op, left, right)
        return self._emit(pl.Boolean(), compare, left, right)

    def _compared(self, op: str, left: Node, right: Node) -> tuple[Node, Node, Operation]:
        common = _common(left.dtype, right.dtype)
        left, right = self._as(left, common), self._as(right, common)
        number = right.constant is not None and not bool((right.constant[0] != right.constant[0]).any())
        compare = do.compares(op, floats=common.is_float(), number=number)
        return left, right, do.comparison(compare, texts=common == pl.String())

    def _arithmetic(self, op: str, left: Node, right: Node, dtype: Any) -> Node:
        if dtype == pl.String():
            if op != "Plus":
                raise Outside(op)
            return self._emit(dtype, texts.joined, self._as(left, dtype), self._as(right, dtype))
        if left.dtype in _INSTANTS or right.dtype in _INSTANTS:
            if left.dtype not in _INSTANTS or right.dtype not in _INSTANTS or op not in ("Plus", "Minus"):
                raise Outside(f"{op} of {left.dtype} and {right.dtype}")
            return self._emit(dtype, do.arithmetic(_ARITHMETIC[op]), left, right)
        left, right = self._as(left, dtype), self._as(right, dtype)
        if op in _ARITHMETIC:
            made = self._emit(dtype, do.arithmetic(_ARITHMETIC[op]), left, right)
            return replace(made, wraps=str(dtype)) if dtype in _WRAP.get(op, ()) else made
        if op in _RATIOS and dtype.is_float():
            over = do.over_quotient if right.constant is None else do.over_reciprocal
            return self._emit(dtype, over(_RATIOS[op]), left, right)
        if op in _WHOLE:
            return self._emit(dtype, do.whole_division(_WHOLE[op]), left, right)
        raise Outside(op)

    def _function(self, body: Any, tree: Any) -> Node:
        name, options = _named(body["function"])
        make = _FUNCTIONS.get(name)
        if make is None:
            make = _FUNCTIONS.get(name.rpartition(".")[0])
            options = name.rpartition(".")[2]
        if make is None:
            raise Outside(name)
        return make(self, name, body["input"], options, tree)

    # --- functions ----------------------------------------------------------------------------------------------------

    def _of_number(self, name: str, trees: Any, options: Any, _: Any) -> Node:
        node = self._node(trees[0])
        if not _is_number(node.dtype):
            raise Outside(f"{name} of {node.dtype}")
        if name in ("Floor", "Ceil", "Round") and not node.dtype.is_float():
            return node
        if name == "Round":
            if options["mode"] != "HalfToEven" or not 0 <= options["decimals"] <= _MOST_DECIMALS:
                raise Outside(str(options))
            return self._emit(node.dtype, do.unary(do.rounded(options["decimals"])), node)
        return self._emit(node.dtype, do.unary(_OF_NUMBERS[name]), node)

    def _of_float(self, name: str, trees: Any, _: Any, tree: Any) -> Node:
        if self._dtype(tree) != pl.Float64():
            raise Outside(name)
        x = self._float(trees[0])
        if name == "Pow.Sqrt":
            return self._emit(x.dtype, do.unary(np.sqrt), x)
        if name == "Log":
            base = self._float(trees[1])
            if base.constant is None or base.constant[1] is not None:
                raise Outside("a logarithm whose base is no number")
            scale = do.log(float(base.constant[0][0]))
            logarithm = do.by_libm(do.log)
            return self._emit(x.dtype, do.unary(lambda values: logarithm(values) / scale), x)
        return self._emit(x.dtype, do.unary(do.by_libm(_SAFE_FUNCTIONS[name])), x)

    def _power(self, _: str, trees: Any, __: Any, tree: Any) -> Node:
        base, exponent = (self._node(part) for part in trees)
        dtype = self._dtype(tree)
        if dtype.is_integer():
            if exponent.constant is None or exponent.constant[1] is not None or int(exponent.constant[0][0]) < 0:
                raise Outside("a power that may be negative")
            times = int(exponent.constant[0][0])
            return self._emit(dtype, do.unary(lambda values: np.power(values, times)), self._as(base, dtype))
        if base.dtype == pl.Boolean() or exponent.dtype == pl.Boolean():
            raise Outside("a power of a bool")
        base, exponent = self._as(base, dtype), self._as(exponent, dtype)
        if exponent.constant is not None:
            value = math.nan if exponent.constant[1] is not None else float(exponent.constant[0][0])
            if value in _POWERS:
                return self._emit(dtype, do.unary(_POWERS[value]), base)
            if value.is_integer() or not math.isfinite(value):
                raise Outside(f"a power of {value}")
        return self._emit(dtype, do.powers, base, exponent)

    def _clip(self, _: str, trees: Any, options: Any, tree: Any) -> Node:
        dtype = self._dtype(tree)
        if not _is_number(dtype):
            raise Outside(f"clip of {dtype}")
        nodes = [self._as(self._node(part), dtype) for part in trees]
        return self._emit(dtype, do.clipped(low=options["has_min"], high=options["has_max"]), *nodes)

    def _extreme(self, name: str, trees: Any, _: Any, tree: Any) -> Node:
        dtype = self._dtype(tree)
        if not _is_number(dtype) and dtype not in _INSTANTS:
            raise Outside(f"{name} of {dtype}")
        compare = np.greater_equal if name == "MaxHorizontal" else np.less_equal
        nodes = [self._as(self._node(part), dtype) for part in trees]
        return self._emit(dtype, do.folded(do.extreme(compare, floats=dtype.is_float())), *nodes)

    def _first(self, _: str, trees: Any, __: Any, tree: Any) -> Node:
        dtype = self._dtype(tree)
        return self._emit(dtype, do.folded(do.first_of), *(self._as(self._node(part), dtype) for part in trees))

    def _float_test(self, name: str, trees: Any, _: Any, __: Any) -> Node:
        node = self._node(trees[0])
        if not _is_number(node.dtype):
            raise Outside(f"{name} of {node.dtype}")
        test, of_whole = _FLOAT_TESTS[name]
        if node.dtype.is_float():
            return self._emit(pl.Boolean(), do.unary(test), node)
        return self._emit(pl.Boolean(), do.unary(lambda values: np.full(len(values), of_whole)), node)

    def _null_test(self, name: str, trees: Any, _: Any, __: Any) -> Node:
        operation = do.is_null if name == "Boolean.IsNull" else do.is_not_null
        return self._emit(pl.Boolean(), operation, self._node(trees[0]))

    def _logic(self, name: str, trees: Any, _: Any, __: Any) -> Node:
        nodes = [self._as(self._node(part), pl.Boolean()) for part in trees]
        if name == "Boolean.Not":
            return self._emit(pl.Boolean(), do.unary(np.logical_not), *nodes)
        operation = do.conjunction if name == "Boolean.AllHorizontal" else do.disjunction
        return self._emit(pl.Boolean(), do.folded(operation), *nodes)

    def _between(self, _: str, trees: Any, options: Any, __: Any) -> Node:
        nodes = [self._node(part) for part in trees]
        if any(node.dtype == pl.Null() for node in nodes):
            raise Outside("is_between without a bound")
        common = nodes[0].dtype
        for node in nodes[1:]:
            common = _common(common, node.dtype)
        if common == pl.String():
            raise Outside("is_between of texts")
        low, high = (do.compares(op, floats=common.is_float()) for op in _CLOSED[options["closed"]])
        return self._emit(pl.Boolean(), do.between(low, high), *(self._as(node, common) for node in nodes))

    def _member(self, _: str, trees: Any, options: Any, __: Any) -> Node:
        node = self._node(trees[0])
        if options["nulls_equal"] or "Literal" not in trees[1]:
            raise Outside("is_in of anything but a list")
        listed = pl.select(pl.Expr.deserialize(io.StringIO(json.dumps(trees[1])), format="json").alias("x"))["x"]
        if not isinstance(listed.dtype, pl.List) or len(listed) != 1:
            raise Outside("is_in of anything but a list")
        values = listed.explode().drop_nulls()
        if node.dtype == pl.String() and values.dtype in (pl.String(), pl.Null()):
            return self._emit(pl.Boolean(), do.member_of_texts(frozenset(values.to_list())), node)
        if not (_is_number(node.dtype) or node.dtype == pl.Boolean()) or not (
            values.dtype == node.dtype or (values.dtype.is_integer() and node.dtype.is_integer())
        ):
            raise Outside(f"is_in of {node.dtype} in {values.dtype}")
        return self._emit(pl.Boolean(), do.member_of_numbers(values.to_numpy()), node)

    def _instant(self, name: str, trees: Any, options: Any, tree: Any) -> Node:
        node = self._node(trees[0])
        part = name.split(".")[1]
        if part in instants.TOTALS:
            if node.dtype != DURATION:
                raise Outside(f"{part} of {node.dtype}")
            operation = instants.total(instants.TOTALS[part], fractional=options["fractional"])
            return self._emit(self._dtype(tree), operation, node)
        if node.dtype != UTC_US:
            raise Outside(f"{part} of {node.dtype}")
        if part == "TimeStamp":
            return self._emit(pl.Int64(), instants.timestamp(options), node)
        return self._emit(self._dtype(tree), instants.part(part), node)

    def _text(self, name: str, trees: Any, options: Any, _: Any) -> Node:
        node = self._node(trees[0])
        if node.dtype != pl.String():
            raise Outside(f"{name} of {node.dtype}")
        if name in _TEXT_TESTS:
            part = self._fixed(trees[1])
            if name == "StringExpr.Contains" and not options["literal"]:
                raise Outside("a regular expression")
            if not isinstance(part, str):
                raise Outside(f"{name} of {part!r}")
            return self._emit(pl.Boolean(), texts.tested(_TEXT_TESTS[name](part)), node)
        if name == "StringExpr.LenChars":
            return self._emit(pl.UInt32(), texts.measured(len), node)
        if name == "StringExpr.LenBytes":
            return self._emit(pl.UInt32(), texts.measured(lambda text: len(text.encode())), node)
        if name == "StringExpr.Slice":
            offset, length = (self._fixed(part) for part in trees[1:])
            if not isinstance(offset, int) or not (length is None or isinstance(length, int)):
                raise Outside(name)
            return self._emit(node.dtype, texts.of_texts(texts.sliced(offset, length)), node)
        method = {"StringExpr.Lowercase": "to_lowercase", "StringExpr.Uppercase": "to_uppercase"}[name]
        return self._emit(node.dtype, texts.of_texts(texts.cased(method)), node)

    def _fixed(self, tree: Any) -> Any:
        """The value of an argument that must not depend on the row; None if it is null."""
        constant = self._node(tree).constant
        if constant is None:
            raise Outside("an argument that depends on the row")
        return None if constant[1] is not None and constant[1][0] else constant[0].tolist()[0]


def column_of(series: pl.Series) -> Column:
    """A polars series of a type that tapes have as a column."""
    nulls = series.is_null().to_numpy() if series.null_count() else None
    if series.dtype == pl.String():
        return texts.objects(series.to_list()), nulls
    if series.dtype in _INSTANTS:
        series = series.cast(pl.Int64)
    filler = False if series.dtype == pl.Boolean() else 0
    return series.fill_null(filler).to_numpy(), nulls


def _is_number(dtype: Any) -> bool:
    return bool(dtype.is_numeric())


def _common(a: Any, b: Any) -> Any:
    """The type in which two values are compared."""
    if a == b or b == pl.Null():
        return a
    if a == pl.Null():
        return b
    if not all(_is_number(dtype) or dtype == pl.Boolean() for dtype in (a, b)):
        raise Outside(f"{a} beside {b}")
    return pl.Float64() if a.is_float() or b.is_float() else pl.Int64()


def _named(function: Any) -> tuple[str, Any]:
    """A function's name (``Boolean.IsIn``) and its options, out of polars' JSON."""
    path: list[str] = []
    while isinstance(function, dict) and len(function) == 1 and next(iter(function))[0].isupper():
        ((name, function),) = function.items()
        path.append(name)
    if isinstance(function, str):
        return ".".join([*path, function]), None
    return ".".join(path), function


_CONSTANTS = ("Literal", "Alias", "Cast")
_KINDS: dict[str, Callable[[Tape, Any, Any], Node]] = {
    "Column": Tape._column,  # noqa: SLF001  a table of the class's own methods
    "Alias": Tape._alias,  # noqa: SLF001
    "Literal": Tape._literal,  # noqa: SLF001
    "Ternary": Tape._ternary,  # noqa: SLF001
    "Cast": Tape._cast,  # noqa: SLF001
    "BinaryExpr": Tape._binary,  # noqa: SLF001
    "Function": Tape._function,  # noqa: SLF001
}


def _table(groups: Sequence[tuple[Any, Sequence[str]]]) -> dict[str, Any]:
    return {name: make for make, names in groups for name in names}


_FUNCTIONS: dict[str, Callable[[Tape, str, Any, Any, Any], Node]] = _table(
    [
        (Tape._of_number, ("Floor", "Ceil", "Round", "Abs", "Negate", "Sign")),  # noqa: SLF001
        (Tape._of_float, ("Pow.Sqrt", "Log", *_SAFE_FUNCTIONS)),  # noqa: SLF001
        (Tape._power, ("Pow.Generic",)),  # noqa: SLF001
        (Tape._clip, ("Clip",)),  # noqa: SLF001
        (Tape._extreme, ("MaxHorizontal", "MinHorizontal")),  # noqa: SLF001
        (Tape._first, ("Coalesce", "FillNull")),  # noqa: SLF001
        (Tape._float_test, tuple(_FLOAT_TESTS)),  # noqa: SLF001
        (Tape._null_test, ("Boolean.IsNull", "Boolean.IsNotNull")),  # noqa: SLF001
        (Tape._logic, ("Boolean.Not", "Boolean.AllHorizontal", "Boolean.AnyHorizontal")),  # noqa: SLF001
        (Tape._between, ("Boolean.IsBetween",)),  # noqa: SLF001
        (Tape._member, ("Boolean.IsIn",)),  # noqa: SLF001
        (Tape._instant, tuple(f"TemporalExpr.{part}" for part in (*instants.PARTS, *instants.TOTALS, "TimeStamp"))),  # noqa: SLF001
        (
            Tape._text,  # noqa: SLF001
            tuple(f"StringExpr.{name}" for name in ("LenChars", "LenBytes", "Lowercase", "Uppercase", "Slice"))
            + tuple(_TEXT_TESTS),
        ),
    ]
)
