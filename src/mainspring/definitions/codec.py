"""Read back what ``describe()`` wrote: sources and views of releases that are older than the definitions file.

A release keeps its own feature versions. The worker folds them and the gateway reads them from the release's package,
after the definitions file has moved on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from mainspring.core.errors import FormatError
from mainspring.core.times import parse_time, to_datetime
from mainspring.definitions.features import Aggregate, ViewDef, event_schema
from mainspring.definitions.values import Constraint, Expression, Field, SourceDef


def source_from(described: Mapping[str, Any]) -> SourceDef:
    """The source that ``SourceDef.describe`` described.

    Raises:
        FormatError: It is no description of a source (MS-D170).
    """
    try:
        fields = tuple(_field(f) for f in described["fields"])
        name, time, known_at = described["name"], described["time"], described["known_at"]
        return SourceDef(name, fields, time, described["id"], known_at, corrects=described.get("corrects"))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("MS-D170", f"no description of a source: {error!r}") from error


def view_from(described: Mapping[str, Any]) -> ViewDef:
    """The feature view that ``ViewDef.describe`` described; its version is the same.

    Raises:
        FormatError: It is no description of a feature view (MS-D170).
    """
    from polars.exceptions import PolarsError

    try:
        sources = tuple(source_from(s) for s in described["sources"])
        using = tuple(view_from(v) for v in described.get("using", ()))
        schema = event_schema(sources, using)
        dims = {f.name: f.dim for source in sources for f in source.fields}
        features = tuple(_aggregate(f, schema, dims) for f in described["features"])
        entity, hop_us = tuple(described["entity"]), described.get("hop_us")
        view = ViewDef(described["name"], sources, entity, features, using=using, hop_us=hop_us)
        derived = described.get("derived", ())
        return replace(view, derived=tuple(_derived(derived, view))) if derived else view
    except (KeyError, TypeError, ValueError, PolarsError) as error:
        raise FormatError("MS-D170", f"no description of a feature view: {error!r}") from error


def _field(described: Mapping[str, Any]) -> Field:
    constraints = tuple(Constraint(name, tuple(args)) for name, args in described["constraints"])
    default, has_default = described.get("default"), "default" in described
    if described["kind"] == "datetime" and default is not None:
        default = to_datetime(parse_time(default))
    name, kind, nullable = described["name"], described["kind"], described["nullable"]
    return Field(name, kind, nullable, constraints, default, has_default, tuple(described.get("aliases", ())))


def _aggregate(described: Mapping[str, Any], schema: Mapping[str, Any], dims: Mapping[str, int]) -> Aggregate:
    value, where = (expression_from(described[part], schema) for part in ("value", "where"))
    return Aggregate(
        described["name"],
        described["function"],
        value,
        described["window_us"],
        described["ttl_us"],
        where,
        described.get("k", 1),
        described.get("q"),
        described.get("half_life_us"),
        described.get("per_us"),
        dims[value.inputs[0]] if value is not None and value.kind == "vector" else 1,
    )


def _derived(described: Iterable[tuple[str, str]], view: ViewDef) -> Iterator[Expression]:
    for name, text in described:
        found = expression_from(text, view.own_schema, name)
        if found is not None:
            yield found


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
