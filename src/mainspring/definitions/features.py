"""Feature views as values: aggregates, expressions over them, and what a model sees of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mainspring.core.ids import content_hash
from mainspring.definitions.values import Expression, Kind, Place, SourceDef

NUMERIC: tuple[Kind, ...] = ("int", "float", "bool")
_INSTANTS: tuple[Kind, ...] = (*NUMERIC, "datetime")
_SCALARS: tuple[Kind, ...] = (*_INSTANTS, "str")
MOMENT = "_moment"
"""The time asked about, as a column of expressions over features."""
SOURCE = "_source"
"""Name of the event's source, as a column of views over several sources."""


def _extreme(kind: Kind) -> Kind:
    return "datetime" if kind == "datetime" else "float"


def _same(kind: Kind) -> Kind:
    return kind if kind in ("str", "datetime") else "float"


@dataclass(frozen=True)
class Function:
    """What an aggregate function takes and gives.

    Attributes:
        takes: Kinds of value; empty for a function of the events alone.
        gives: Kind of the answer, by the kind of the value.
        optional: Whether the value may be left out.
        tolerance: Relative difference that counts as equal between live and replay: 0 is bit for bit.
    """

    takes: tuple[Kind, ...]
    gives: Callable[[Kind], Kind]
    optional: bool = False
    tolerance: float = 0.0


AGGREGATES: dict[str, Function] = {
    "count": Function(_SCALARS, lambda _: "int", optional=True),
    "sum": Function(NUMERIC, lambda _: "float"),
    "mean": Function(NUMERIC, lambda _: "float"),
    "var": Function(NUMERIC, lambda _: "float", tolerance=1e-12),
    "std": Function(NUMERIC, lambda _: "float", tolerance=1e-12),
    "min": Function(_INSTANTS, _extreme),
    "max": Function(_INSTANTS, _extreme),
    "first": Function((*_SCALARS, "vector"), _same),
    "last": Function((*_SCALARS, "vector"), _same),
    "last_k": Function(_SCALARS, _same),
    "age": Function((), lambda _: "float", optional=True),
    "rate": Function(_SCALARS, lambda _: "float", optional=True),
    "ewma": Function(NUMERIC, lambda _: "float", tolerance=1e-12),
    "trend": Function(NUMERIC, lambda _: "float", tolerance=1e-12),
    "distinct": Function(_SCALARS, lambda _: "int"),
    "approx_distinct": Function(_SCALARS, lambda _: "float"),
    "quantile": Function(NUMERIC, lambda _: "float"),
    "top_k": Function(_SCALARS, _same),
}
"""The aggregate functions, by the name that users write."""


@dataclass(frozen=True)
class Aggregate:
    """One feature of a view.

    Attributes:
        name: Name within the view.
        function: One of ``AGGREGATES``.
        value: What is aggregated; None for ``count()``, ``rate()`` and ``age()``.
        window_us: Window length; None means since the beginning.
        ttl_us: A latest value older than this is missing; None means never.
        where: Only events for which this holds are seen.
        k: How many values ``last_k`` and ``top_k`` answer.
        q: Of ``quantile``, 0 to 1.
        half_life_us: Of ``ewma``: after this long an event weighs half.
        per_us: Unit of time of ``rate`` and ``trend``.
        dim: How many numbers a value is: 1, but for a vector.
    """

    name: str
    function: str
    value: Expression | None = None
    window_us: int | None = None
    ttl_us: int | None = None
    where: Expression | None = None
    k: int = 1
    q: float | None = None
    half_life_us: int | None = None
    per_us: int | None = None
    dim: int = 1

    @property
    def kind(self) -> Kind:
        """Kind of what it answers."""
        return AGGREGATES[self.function].gives(self.value.kind if self.value is not None else "float")

    @property
    def reach_us(self) -> int | None:
        """How far it looks back; None for to the beginning.

        A latest value with a ``ttl`` and without a window is expired for as long again, then forgotten: so keys that
        never come back do not stay for ever.
        """
        if self.window_us is None and self.ttl_us is not None:
            return 2 * self.ttl_us
        return self.window_us

    @property
    def slots(self) -> int:
        """How many values it answers: ``k``, the dimension of a vector, or 1."""
        return self.k * self.dim

    @property
    def slot_names(self) -> tuple[str, ...]:
        """A name for each value: its own, or ``name_1``, ``name_2`` … (latest or most frequent first)."""
        if self.function not in ("last_k", "top_k") and self.dim == 1:
            return (self.name,)
        return tuple(f"{self.name}_{i}" for i in range(1, self.slots + 1))

    def describe(self) -> dict[str, Any]:
        """The aggregate as JSON, for hashing and for showing; what a function does not have is left out."""
        out: dict[str, Any] = {
            "name": self.name,
            "function": self.function,
            "value": self.value.json if self.value else None,
            "window_us": self.window_us,
            "ttl_us": self.ttl_us,
            "where": self.where.json if self.where else None,
        }
        if self.function in ("last_k", "top_k"):
            out["k"] = self.k
        for name in ("q", "half_life_us", "per_us"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name)
        return out


@dataclass(frozen=True)
class ViewDef:
    """A feature view: aggregates over the events of one or more sources, for one entity.

    Attributes:
        sources: Where events come from; those of several are one stream, null in columns that a source does not have.
        entity: Columns of every source (and of any request) that name the entity, at least one.
        features: Aggregates over the events.
        derived: Expressions over the view's own columns and ``_moment``, computed when it is read.
        using: Views whose features, as they were at each event, are columns of it: ``view__feature``.
        hop_us: Windows begin at multiples of this; None means to the microsecond.
        fresh_us: The newest folded event of each source shall not be older; None promises nothing. A level of service,
            not part of the version.
    """

    name: str
    sources: tuple[SourceDef, ...]
    entity: tuple[str, ...]
    features: tuple[Aggregate, ...]
    doc: str = ""
    place: Place = field(default=Place(), compare=False)
    derived: tuple[Expression, ...] = ()
    using: tuple[ViewDef, ...] = ()
    hop_us: int | None = None
    fresh_us: int | None = field(default=None, compare=False)

    def describe(self) -> dict[str, Any]:
        """The view as JSON: what the version is the hash of."""
        out: dict[str, Any] = {
            "name": self.name,
            "sources": [s.describe() for s in self.sources],
            "entity": list(self.entity),
            "features": [f.describe() for f in self.features],
        }
        if self.derived:
            out["derived"] = [[e.name, e.json] for e in self.derived]
        if self.using:
            out["using"] = [v.describe() for v in self.using]
        if self.hop_us is not None:
            out["hop_us"] = self.hop_us
        return out

    @cached_property
    def version(self) -> str:
        """Content hash of the view, of the columns of its sources that it reads, and of the views it uses."""
        return content_hash(self.identity())

    def identity(self) -> dict[str, Any]:
        """What decides its values: its description with those parts alone of its sources' contracts that it reads."""
        read = {name for f in self.features for e in (f.value, f.where) if e is not None for name in e.inputs}
        read |= {*self.entity, *(name for used in self.using for name in used.entity)}
        out = self.describe() | {"sources": [s.read_by(read) for s in self.sources]}
        return out | ({"using": [v.identity() for v in self.using]} if self.using else {})

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Polars types of the columns that its aggregates may read."""
        return event_schema(self.sources, self.using)

    @cached_property
    def own_schema(self) -> dict[str, Any]:
        """Polars types of its own columns by their short names, and of ``_moment``: what ``derived`` may read."""
        from mainspring.definitions.expressions import POLARS_TYPES

        slots = (slot for f in self.features for slot in f.slot_names)
        own = {s: POLARS_TYPES["float" if k == "int" else k] for s, k in zip(slots, self.kinds, strict=True)}
        return own | {MOMENT: POLARS_TYPES["datetime"]}

    @cached_property
    def retention_us(self) -> int | None:
        """How far the view looks back; None when a feature looks back to the beginning."""
        longest = 0
        for feature in self.features:
            if feature.reach_us is None:
                return None
            longest = max(longest, feature.reach_us)
        return longest

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Column of each value of each aggregate, in order, in training sets and requests: ``view__slot``."""
        return tuple(f"{self.name}__{slot}" for f in self.features for slot in f.slot_names)

    @property
    def width(self) -> int:
        """How many features it has: values of its aggregates, and what it derives from them."""
        return len(self.column_names) + len(self.derived)

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Kind of each of ``column_names``."""
        return tuple(f.kind for f in self.features for _ in f.slot_names)

    @cached_property
    def first_slots(self) -> tuple[int, ...]:
        """Place in ``column_names`` of the first value of each aggregate."""
        out, place = [], 0
        for feature in self.features:
            out.append(place)
            place += feature.slots
        return tuple(out)

    def columns_of(self, feature: Aggregate) -> tuple[str, ...]:
        """Columns of one aggregate's values."""
        return tuple(f"{self.name}__{slot}" for slot in feature.slot_names)

    def col(self, name: str) -> Any:
        """A column of this view for an expression of a model or of a view that uses this one.

        Raises:
            DefinitionError: The view has no such feature (MS-D102).
        """
        import polars as pl

        from mainspring.core.errors import DefinitionError
        from mainspring.core.names import did_you_mean
        from mainspring.definitions.source import place_of_caller

        own = [c.removeprefix(f"{self.name}__") for c in self.column_names] + [e.name for e in self.derived]
        if name not in own:
            what = f"feature view {self.name} has no feature {name!r}"
            raise DefinitionError("MS-D102", what, where=str(place_of_caller()), hint=did_you_mean(name, own))
        return pl.col(f"{self.name}__{name}")


@dataclass(frozen=True)
class Feature:
    """A column that a model sees: one value of a view, a column of the request, or an expression over both.

    Attributes:
        view: The view it is a value of; None for a column of the request and for an expression.
        aggregate: The aggregate that answers it.
        expression: Over the request's columns, columns of views (``view__feature``) and ``_moment``.
    """

    name: str
    kind: Kind
    view: ViewDef | None = None
    aggregate: Aggregate | None = None
    expression: Expression | None = None

    def describe(self) -> dict[str, Any]:
        """The feature as JSON, for hashing and for showing."""
        out: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.view is not None:
            out["view"] = self.view.name
            out["view_version"] = self.view.version
        if self.expression is not None:
            out["expression"] = self.expression.json
        return out


def event_schema(sources: tuple[SourceDef, ...], using: tuple[ViewDef, ...]) -> dict[str, Any]:
    """Polars types of an event's columns: of any of the sources, ``_source``, and the features of ``using``."""
    from mainspring.definitions.expressions import POLARS_TYPES

    out: dict[str, Any] = {}
    for source in sources:
        out |= source.schema
    out[SOURCE] = POLARS_TYPES["str"]
    for view in using:
        out |= {
            name: POLARS_TYPES["float" if kind == "int" else kind]
            for name, kind in zip(view.column_names, view.kinds, strict=True)
            if kind != "str"
        }
    return out
