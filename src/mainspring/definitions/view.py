"""``ms.feature_view`` and ``ms.lookup``: a class of aggregates, or a table, becomes a frozen ``ViewDef``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean, is_name, snake_case
from mainspring.core.spans import parse_span
from mainspring.definitions import lines
from mainspring.definitions.aggregates import Pending
from mainspring.definitions.features import AGGREGATES, NUMERIC, Aggregate, ViewDef, event_schema
from mainspring.definitions.kinds import list_of_kind, number
from mainspring.definitions.mention import mention
from mainspring.definitions.source import Source, Table, place_of_caller
from mainspring.definitions.values import Expression, SourceDef

if TYPE_CHECKING:
    import polars as pl

MOST_VALUES = 256  # of last_k and top_k


def source_of(thing: Any, what: str, where: str) -> SourceDef:
    """The definition behind a source's class.

    Raises:
        DefinitionError: ``thing`` is no source (MS-D120).
    """
    if isinstance(thing, type) and issubclass(thing, Source) and thing not in (Source, Table):
        return thing.definition
    raise DefinitionError(
        "MS-D120", f"{what} is {mention(thing)}, not a source", where=where, hint="class Name(ms.Source, time=…)"
    )


def feature_view(
    *sources: type[Source],
    entity: str | tuple[str, ...] | list[str],
    using: Sequence[Any] = (),
    hop: str | None = None,
    fresh: str | None = None,
) -> Callable[[type], ViewDef]:
    """Make a class of aggregates a feature view over the events of ``sources`` for ``entity``.

    Args:
        sources: One or more; the events of several are one stream, null in columns that a source does not have, and
            ``col("_source")`` names where an event is from.
        entity: One column or several, of every source.
        using: Views whose features, as they were at each event, the aggregates may read: ``Card.col("mean_7d")``.
        hop: Windows begin at multiples of this (sawtooth windows), which bounds the state of very busy keys.
        fresh: When the newest folded event of a source is older than this, an incident opens.

    Raises:
        DefinitionError: Unknown column or aggregate, a window that cannot be (MS-D102, MS-D121 to MS-D126).
    """
    place = place_of_caller()
    where = str(place)
    origins = tuple(
        source_of(
            source, "the first argument of feature_view" if len(sources) == 1 else "an argument of feature_view", where
        )
        for source in sources
    )
    keys = (entity,) if isinstance(entity, str) else list_of_kind(entity, str, "entity", "MS-D121", where, '"carrier"')
    _check_sources(origins, where)
    _check_entity(keys, origins, where)
    for view in views_used(using, where):
        _check_entity(view.entity, origins, where)
    hop_us = _span(hop, "hop", "the feature view", where)
    fresh_us = _span(fresh, "fresh", "the feature view", where)

    def build(cls: type) -> ViewDef:
        name = snake_case(cls.__name__)
        features: list[Aggregate] = []
        expressions: dict[str, pl.Expr] = {}
        for attribute, thing in vars(cls).items():
            if attribute.startswith("__"):
                continue
            label = f"{cls.__name__}.{attribute}"
            with lines.at_attribute(place, attribute):
                if not is_name(attribute) or "__" in attribute:
                    raise DefinitionError(
                        "MS-D110", f"{attribute!r} is no name for a feature", where=where, hint="a-z, 0-9 and single _"
                    )
                if isinstance(thing, Pending):
                    features.append(_aggregate(attribute, thing, origins, tuple(using), label, where))
                elif hasattr(thing, "meta"):  # a polars expression, without importing polars
                    expressions[attribute] = thing
                else:
                    what = f"{label} is {mention(thing)}, not an aggregate"
                    hint = "use ms." + ", ms.".join(AGGREGATES)
                    raise DefinitionError("MS-D122", what, where=where, hint=hint)
        if not is_name(name) or not features:
            raise DefinitionError("MS-D122", f"feature view {cls.__name__} has no features", where=where)
        doc = (cls.__doc__ or "").strip()
        view = ViewDef(name, origins, keys, tuple(features), doc, place, (), tuple(using), hop_us, fresh_us)
        taken: set[str] = set()
        named = [(slot, f.name) for f in features for slot in f.slot_names]
        for slot, attribute in (*named, *((name, name) for name in expressions)):
            if slot in taken:
                at = str(lines.line_of_attribute(place, attribute))
                raise DefinitionError("MS-D126", f"two features of {cls.__name__} are named {slot!r}", where=at)
            taken.add(slot)
        return replace(view, derived=tuple(_derived(expressions, view))) if expressions else view

    return build


def lookup(table: type[Any], *columns: str) -> ViewDef:
    """A feature view of a static table: the row that holds for a key, or some columns of it.

    >>> class Plane(Table, key="tailnum"):
    ...     tailnum: str
    ...     seats: int
    >>> lookup(Plane).column_names
    ('plane__seats',)
    """
    place = place_of_caller()
    where = str(place)
    origin = source_of(table, "the argument of lookup", where)
    if not issubclass(table, Table):
        hint = "class Name(ms.Table, key=…)"
        raise DefinitionError("MS-D120", f"{table.__name__} is a source, not a table", where=where, hint=hint)
    wanted = columns or tuple(c for c in origin.columns if c not in (table.key, origin.time))
    _check_entity((table.key,), (origin,), where)
    features = [_aggregate(c, Pending("last", c), (origin,), (), f"{table.__name__}.{c}", where) for c in wanted]
    return ViewDef(origin.name, (origin,), (table.key,), tuple(features), origin.doc, place)


def views_used(using: Any, where: str) -> Sequence[ViewDef]:
    """What ``using=`` names.

    Raises:
        DefinitionError: No list, or something in it that is no feature view (MS-D125).
    """
    if not isinstance(using, list | tuple):
        hint = "using=[…], a list, also of one"
        raise DefinitionError("MS-D125", f"using= is {mention(using)}, not a list", where=where, hint=hint)
    for view in using:
        if not isinstance(view, ViewDef):
            what = f"using= has {mention(view)}, which is no feature view"
            raise DefinitionError("MS-D125", what, where=where, hint="using=[View], of what ms.feature_view makes")
    return using


def _check_sources(origins: tuple[SourceDef, ...], where: str) -> None:
    if not origins or len({o.name for o in origins}) != len(origins):
        raise DefinitionError("MS-D121", "feature_view needs one or more different sources", where=where)
    kinds: dict[str, tuple[str, str]] = {}
    for origin in origins:
        for f in origin.fields:
            kind, other = kinds.setdefault(f.name, (f"{f.kind}{f.dim}", origin.name))
            if kind != f"{f.kind}{f.dim}":
                what = f"{f.name!r} has another type in {other} and {origin.name}"
                raise DefinitionError("MS-D121", what, where=where, hint="rename one of the two columns")


def _check_entity(keys: tuple[str, ...], origins: tuple[SourceDef, ...], where: str) -> None:
    if not keys or len(set(keys)) != len(keys):
        raise DefinitionError("MS-D121", "entity= needs one or more different columns", where=where)
    for origin in origins:
        for key in keys:
            if key not in origin.columns:
                hint = did_you_mean(key, origin.columns)
                raise DefinitionError(
                    "MS-D102", f"source {origin.name} has no column {key!r} for entity=", where=where, hint=hint
                )
            kind = origin.columns[key].kind
            if kind not in ("str", "int", "bool"):
                raise DefinitionError("MS-D121", f"entity {key!r} is {kind}; it must be str, int or bool", where=where)


def _aggregate(
    name: str, pending: Pending, sources: tuple[SourceDef, ...], using: tuple[ViewDef, ...], label: str, where: str
) -> Aggregate:
    from mainspring.definitions.expressions import expression

    schema = event_schema(sources, using)
    of = f"source {' and '.join(s.name for s in sources)}"
    dims = {f.name: f.dim for source in sources for f in source.fields}
    function = AGGREGATES[pending.function]
    value, dim = None, 1
    if pending.value is not None:
        value = expression(pending.value, schema, of=of, where=where)
        if value.kind not in function.takes:
            needs = "numbers" if function.takes == NUMERIC else " or ".join(function.takes)
            raise DefinitionError(
                "MS-D123", f"{label} aggregates {value.kind}; {pending.function} needs {needs}", where=where
            )
        if value.kind == "vector":
            dim = dims.get(pending.value if isinstance(pending.value, str) else value.name, 0)
            if value.inputs != (value.name,) or not dim:
                raise DefinitionError("MS-D123", f"{label} must name a vector column as it is", where=where)
    elif not function.optional:
        raise DefinitionError("MS-D123", f"{label} needs a value", where=where)
    condition = None
    if pending.where is not None:
        condition = expression(pending.where, schema, of=of, where=where)
        if condition.kind != "bool":
            raise DefinitionError("MS-D123", f"where= of {label} is {condition.kind}, not bool", where=where)
    if not isinstance(pending.k, int) or not 1 <= pending.k <= MOST_VALUES:
        raise DefinitionError("MS-D124", f"k={pending.k!r} of {label} must be 1 to {MOST_VALUES}", where=where)
    if pending.q is not None and not 0 <= number(pending.q, f"q= of {label}", "MS-D124", where, "q=0.95") <= 1:
        raise DefinitionError("MS-D124", f"q={pending.q!r} of {label} must lie between 0 and 1", where=where)
    return Aggregate(
        name,
        pending.function,
        value,
        _span(pending.window, "window", label, where),
        _span(pending.ttl, "ttl", label, where),
        condition,
        pending.k,
        pending.q,
        _span(pending.half_life, "half_life", label, where),
        _span(pending.per, "per", label, where),
        dim,
    )


def _derived(expressions: Mapping[str, pl.Expr], view: ViewDef) -> Iterator[Expression]:
    """Expressions over the view's own columns; one may use those written before it."""
    from mainspring.definitions.expressions import POLARS_TYPES, expression, renamed

    schema = dict(view.own_schema)
    earlier: dict[str, str] = {}
    for name, expr in expressions.items():
        of = f"feature view {view.name}"
        with lines.at_attribute(view.place, name):
            frozen = expression(expr, schema, of=of, where=str(view.place), name=name)
        text = renamed(frozen.json, earlier)
        inputs = tuple(dict.fromkeys(c for c in frozen.inputs if c not in earlier))
        inputs += tuple(c for e in frozen.inputs if e in earlier for c in _inputs(earlier[e]) if c not in inputs)
        yield Expression(text, name, frozen.kind, tuple(dict.fromkeys(inputs)))
        earlier[name] = text
        schema[name] = POLARS_TYPES[frozen.kind]


def _inputs(text: str) -> list[str]:
    from mainspring.definitions.expressions import parse

    return parse(text).meta.root_names()


def _span(text: str | None, word: str, label: str, where: str) -> int | None:
    span = None if text is None else parse_span(text, said=f"{word}={text!r} of {label}", where=where)
    if span is not None and span <= 0:
        raise DefinitionError("MS-D124", f"{word}={text!r} of {label} must be longer than nothing", where=where)
    return span
