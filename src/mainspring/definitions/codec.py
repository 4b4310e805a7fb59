"""Read back what ``describe()`` wrote: sources and views of releases that are older than the definitions file.

A release keeps its own feature versions. The worker folds them and the gateway reads them from the release's package,
after the definitions file has moved on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mainspring.core.errors import FormatError
from mainspring.core.times import parse_time, to_datetime
from mainspring.definitions.values import Aggregate, Constraint, Expression, Field, SourceDef, ViewDef


def source_from(described: Mapping[str, Any]) -> SourceDef:
    """The source that ``SourceDef.describe`` described.

    Raises:
        FormatError: It is no description of a source (MS-D170).
    """
    try:
        fields = tuple(_field(f) for f in described["fields"])
        return SourceDef(described["name"], fields, described["time"], described["id"], described["known_at"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("MS-D170", f"no description of a source: {error!r}") from error


def view_from(described: Mapping[str, Any]) -> ViewDef:
    """The feature view that ``ViewDef.describe`` described; its version is the same.

    Raises:
        FormatError: It is no description of a feature view (MS-D170).
    """
    from polars.exceptions import PolarsError

    try:
        source = source_from(described["source"])
        features = tuple(_aggregate(f, source) for f in described["features"])
        return ViewDef(described["name"], source, tuple(described["entity"]), features)
    except (KeyError, TypeError, ValueError, PolarsError) as error:
        raise FormatError("MS-D170", f"no description of a feature view: {error!r}") from error


def _field(described: Mapping[str, Any]) -> Field:
    constraints = tuple(Constraint(name, tuple(args)) for name, args in described["constraints"])
    default, has_default = described.get("default"), "default" in described
    if described["kind"] == "datetime" and default is not None:
        default = to_datetime(parse_time(default))
    return Field(described["name"], described["kind"], described["nullable"], constraints, default, has_default)


def _aggregate(described: Mapping[str, Any], source: SourceDef) -> Aggregate:
    value, where = (expression_from(described[part], source.schema) for part in ("value", "where"))
    window_us, ttl_us = described["window_us"], described["ttl_us"]
    return Aggregate(described["name"], described["function"], value, window_us, ttl_us, where)


def expression_from(text: str | None, schema: Mapping[str, Any], name: str = "") -> Expression | None:
    """The expression whose JSON is ``text``, over columns of ``schema``.

    Raises:
        ValueError: Its type is none that definitions have.
    """
    if text is None:
        return None
    import polars as pl

    from mainspring.definitions.expressions import kind_of, parse

    expr = parse(text)
    kind = kind_of(pl.LazyFrame(schema=dict(schema)).select(expr.alias("x")).collect_schema()["x"])
    if kind is None:
        raise ValueError(f"{expr} has no kind that definitions know")
    return Expression(text, name or expr.meta.output_name(), kind, tuple(dict.fromkeys(expr.meta.root_names())))
