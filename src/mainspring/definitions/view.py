"""``ms.feature_view`` and its aggregates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean, is_name, snake_case
from mainspring.core.spans import parse_span
from mainspring.definitions.source import Source, place_of_caller
from mainspring.definitions.values import AGGREGATES, Aggregate, SourceDef, ViewDef

if TYPE_CHECKING:
    import polars as pl

_NUMERIC = ("int", "float", "bool")


@dataclass(frozen=True, eq=False)
class Pending:
    """An aggregate before it knows its view."""

    function: str
    value: str | pl.Expr | None
    window: str | None = None
    ttl: str | None = None
    where: pl.Expr | None = None


def count(value: str | pl.Expr | None = None, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """How many events (or non-null values) the window holds; 0 when empty."""
    return Pending("count", value, window, where=where)


def sum(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Correctly rounded exact sum (as ``math.fsum``), whatever the order of events."""
    return Pending("sum", value, window, where=where)


def mean(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Exact sum divided by the count."""
    return Pending("mean", value, window, where=where)


def std(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Sample standard deviation (divisor n − 1); null below two values."""
    return Pending("std", value, window, where=where)


def min(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Least value."""
    return Pending("min", value, window, where=where)


def max(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Greatest value."""
    return Pending("max", value, window, where=where)


def last(
    value: str | pl.Expr, *, window: str | None = None, ttl: str | None = None, where: pl.Expr | None = None
) -> Pending:
    """Latest non-null value; missing once it is older than ``ttl``."""
    return Pending("last", value, window, ttl, where)


def age(*, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Seconds since the latest event."""
    return Pending("age", None, window, where=where)


def source_of(thing: Any, what: str, where: str) -> SourceDef:
    """The definition behind a source's class.

    Raises:
        DefinitionError: ``thing`` is no source (MS-D120).
    """
    if isinstance(thing, type) and issubclass(thing, Source) and thing is not Source:
        return thing.definition
    raise DefinitionError(
        "MS-D120", f"{what} is {thing!r}, not a source", where=where, hint="class Name(ms.Source, time=…)"
    )


def feature_view(source: type[Source], *, entity: str | tuple[str, ...] | list[str]) -> Callable[[type], ViewDef]:
    """Make a class of aggregates a feature view over ``source`` for ``entity`` (one column or several).

    Raises:
        DefinitionError: Unknown column or aggregate, a window that cannot be (MS-D102, MS-D121 to MS-D124).
    """
    place = place_of_caller()
    where = str(place)
    origin = source_of(source, "the first argument of feature_view", where)
    keys = (entity,) if isinstance(entity, str) else tuple(entity)
    if not keys or len(set(keys)) != len(keys):
        raise DefinitionError("MS-D121", "entity= needs one or more different columns", where=where)
    for key in keys:
        if key not in origin.columns:
            hint = did_you_mean(key, origin.columns)
            raise DefinitionError(
                "MS-D102", f"source {origin.name} has no column {key!r} for entity=", where=where, hint=hint
            )
        if origin.columns[key].kind not in ("str", "int", "bool"):
            raise DefinitionError(
                "MS-D121", f"entity {key!r} is {origin.columns[key].kind}; it must be str, int or bool", where=where
            )

    def build(cls: type) -> ViewDef:
        name = snake_case(cls.__name__)
        features = []
        for attribute, pending in vars(cls).items():
            if attribute.startswith("__"):
                continue
            if not isinstance(pending, Pending):
                raise DefinitionError(
                    "MS-D122",
                    f"{cls.__name__}.{attribute} is {pending!r}, not an aggregate",
                    where=where,
                    hint="use ms." + ", ms.".join(AGGREGATES),
                )
            features.append(_aggregate(attribute, pending, origin, f"{cls.__name__}.{attribute}", where))
        if not is_name(name) or not features:
            raise DefinitionError("MS-D122", f"feature view {cls.__name__} has no features", where=where)
        return ViewDef(name, origin, keys, tuple(features), (cls.__doc__ or "").strip(), place)

    return build


def _aggregate(name: str, pending: Pending, origin: SourceDef, label: str, where: str) -> Aggregate:
    from mainspring.definitions.expressions import expression

    if not is_name(name) or "__" in name:
        raise DefinitionError(
            "MS-D110", f"{name!r} is no name for a feature", where=where, hint="a-z, 0-9 and single _"
        )
    of = f"source {origin.name}"
    value = None
    if pending.value is not None:
        value = expression(pending.value, origin.schema, of=of, where=where)
        if pending.function != "count" and value.kind not in _NUMERIC:
            raise DefinitionError(
                "MS-D123", f"{label} aggregates {value.kind}; {pending.function} needs numbers", where=where
            )
    condition = None
    if pending.where is not None:
        condition = expression(pending.where, origin.schema, of=of, where=where)
        if condition.kind != "bool":
            raise DefinitionError("MS-D123", f"where= of {label} is {condition.kind}, not bool", where=where)
    spans: dict[str, int | None] = {}
    for word, text in (("window", pending.window), ("ttl", pending.ttl)):
        span = None if text is None else parse_span(text)
        if span is not None and span <= 0:
            raise DefinitionError("MS-D124", f"{word}={text!r} of {label} must be longer than nothing", where=where)
        spans[word] = span
    return Aggregate(name, pending.function, value, spans["window"], spans["ttl"], condition)
