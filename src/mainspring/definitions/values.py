"""The values that a definitions file becomes: frozen, without I/O, hashable by content; expressions are JSON text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from mainspring.core.ids import content_hash
from mainspring.core.times import from_datetime, to_iso

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["str", "int", "float", "bool", "datetime"]
AGGREGATES = ("count", "sum", "mean", "std", "min", "max", "last", "age")
TASKS = ("binary_classification", "regression")
DAY_US = 86_400_000_000


class Exclude:
    """The type of ``ms.exclude``: a unit without an outcome is left out rather than given a value."""

    def __repr__(self) -> str:
        """As users write it."""
        return "ms.exclude"


exclude = Exclude()


@dataclass(frozen=True)
class Place:
    """File and line of a definition, for errors."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """``file:line``, or nothing when unknown."""
        return f"{self.file}:{self.line}" if self.file else ""


@dataclass(frozen=True)
class Constraint:
    """A row check on one column: ``one_of``, ``between``, ``pattern`` or ``length``, with its arguments."""

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Field:
    """A column of a source."""

    name: str
    kind: Kind
    nullable: bool = False
    constraints: tuple[Constraint, ...] = ()
    default: Any = None
    has_default: bool = False

    def describe(self) -> dict[str, Any]:
        """The field as JSON, for hashing and for showing."""
        out: dict[str, Any] = {"name": self.name, "kind": self.kind, "nullable": self.nullable}
        out["constraints"] = [[c.name, list(c.args)] for c in self.constraints]
        if self.has_default:
            moment = isinstance(self.default, datetime)
            out["default"] = to_iso(from_datetime(self.default)) if moment else self.default
        return out


@dataclass(frozen=True)
class SourceDef:
    """A stream of events: its columns, which one is the id, which one the event time.

    Attributes:
        known_at: Column that says when the system could first have known a historical event; event time if None.
        dedup_us: For how long an id is remembered, in microseconds.
        future_us: How far event time may lie after ``known_at`` before the event goes to quarantine.
    """

    name: str
    fields: tuple[Field, ...]
    time: str
    id: str | None = None
    known_at: str | None = None
    dedup_us: int = 7 * DAY_US
    future_us: int = 300_000_000
    doc: str = ""
    place: Place = field(default=Place(), compare=False)

    def describe(self) -> dict[str, Any]:
        """The contract as JSON: what the version is the hash of."""
        return {
            "name": self.name,
            "fields": [f.describe() for f in self.fields],
            "time": self.time,
            "id": self.id,
            "known_at": self.known_at,
        }

    @cached_property
    def version(self) -> str:
        """Content hash of the contract."""
        return content_hash(self.describe())

    @cached_property
    def columns(self) -> dict[str, Field]:
        """Fields by name."""
        return {f.name: f for f in self.fields}

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Polars types by column name."""
        from mainspring.definitions.expressions import POLARS_TYPES

        return {f.name: POLARS_TYPES[f.kind] for f in self.fields}


@dataclass(frozen=True)
class Expression:
    """A row-level polars expression as JSON text, with the name and kind of its result."""

    json: str
    name: str
    kind: Kind
    inputs: tuple[str, ...]

    @cached_property
    def expr(self) -> pl.Expr:
        """The expression itself, named ``name``."""
        from mainspring.definitions.expressions import parse

        return parse(self.json).alias(self.name)


@dataclass(frozen=True)
class Aggregate:
    """One feature of a view.

    Attributes:
        name: Name within the view.
        function: One of ``AGGREGATES``.
        value: What is aggregated; None for ``count()`` and ``age()``.
        window_us: Window length; None means since the beginning.
        ttl_us: A latest value older than this is missing; None means never.
        where: Only events for which this holds are seen.
    """

    name: str
    function: str
    value: Expression | None = None
    window_us: int | None = None
    ttl_us: int | None = None
    where: Expression | None = None

    def describe(self) -> dict[str, Any]:
        """The aggregate as JSON, for hashing and for showing."""
        return {
            "name": self.name,
            "function": self.function,
            "value": self.value.json if self.value else None,
            "window_us": self.window_us,
            "ttl_us": self.ttl_us,
            "where": self.where.json if self.where else None,
        }


@dataclass(frozen=True)
class ViewDef:
    """A feature view: aggregates over one source, for one entity.

    Attributes:
        entity: Columns of the source (and of any request) that name the entity, at least one.
    """

    name: str
    source: SourceDef
    entity: tuple[str, ...]
    features: tuple[Aggregate, ...]
    doc: str = ""
    place: Place = field(default=Place(), compare=False)

    def describe(self) -> dict[str, Any]:
        """The view as JSON: what the version is the hash of."""
        return {
            "name": self.name,
            "source": self.source.describe(),
            "entity": list(self.entity),
            "features": [f.describe() for f in self.features],
        }

    @cached_property
    def version(self) -> str:
        """Content hash of the view and of its source's contract."""
        return content_hash(self.describe())

    @cached_property
    def retention_us(self) -> int | None:
        """The longest window (or ttl) of the view; None when a feature looks back to the beginning."""
        longest = 0
        for feature in self.features:
            reach = feature.window_us if feature.window_us is not None else feature.ttl_us
            if reach is None:
                return None
            longest = max(longest, reach)
        return longest

    def column(self, feature: Aggregate) -> str:
        """Column name of a feature in training sets and requests: ``view__feature``."""
        return f"{self.name}__{feature.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names of all features, in order."""
        return tuple(self.column(f) for f in self.features)


@dataclass(frozen=True)
class LabelDef:
    """A feature of the future: the first event on the key with ``t <= time < t + within``.

    Attributes:
        on: Column of both the label's source and the request that joins them.
        within_us: The horizon.
        late_us: How much later than the horizon an outcome may become known.
        otherwise: Value of a unit without an event, or ``exclude``.
    """

    source: SourceDef
    on: str
    value: Expression
    within_us: int
    otherwise: Any
    late_us: int = 0
    place: Place = field(default=Place(), compare=False)

    @property
    def horizon_us(self) -> int:
        """From the moment of prediction until a label is mature."""
        return self.within_us + self.late_us

    def describe(self) -> dict[str, Any]:
        """The label as JSON, for hashing and for showing."""
        return {
            "source": self.source.describe(),
            "on": self.on,
            "value": self.value.json,
            "within_us": self.within_us,
            "late_us": self.late_us,
            "otherwise": repr(self.otherwise),
        }


@dataclass(frozen=True)
class Feature:
    """A column that a model sees: of a view, of the request, or an expression over the request."""

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


@dataclass(frozen=True)
class Gate:
    """A condition a candidate must meet: a bound on a metric of the test split, or to beat another on the same rows."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    beats: str | None = None


@dataclass(frozen=True)
class Guard:
    """A condition watched during a rollout.

    Attributes:
        metric: A loss for ``prove`` (``log_loss``, ``brier``, ``zero_one``, ``absolute_error``); ``errors``,
            ``fallbacks`` or ``p99_ms`` for ``veto``.
        margin: Non-inferiority margin of a loss.
        under: Declared ceiling of a veto metric.
        bound: Bound of an unbounded loss (``absolute_error``).
    """

    metric: str
    margin: float | None = None
    under: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class RolloutDef:
    """How a new release earns its traffic: exposure in shadow, shares of a ramp, what must be proved, what may veto."""

    shadow_us: int
    ramp: tuple[float, ...]
    step_us: int
    prove: tuple[Guard, ...]
    veto: tuple[Guard, ...]
    alpha: float
    limit_us: int


@dataclass(frozen=True)
class RetrainRule:
    """When to train again: any of ``worse`` (metric, by, than) or ``every_us``. Rules join with ``|``."""

    worse: tuple[str, float, str] | None = None
    every_us: int | None = None

    def __or__(self, other: RetrainRule) -> RetrainRule:
        """Either rule."""
        return RetrainRule(self.worse or other.worse, self.every_us or other.every_us)


@dataclass(frozen=True)
class MonitorDef:
    """How often a model is judged, and when it is trained again."""

    every_us: int
    retrain: RetrainRule


@dataclass(frozen=True)
class ModelDef:
    """A model: what is asked, what is predicted, from what, and how releases are gated, rolled out and watched."""

    name: str
    request: SourceDef
    label: LabelDef
    task: str
    features: tuple[Feature, ...]
    gates: tuple[Gate, ...]
    rollout: RolloutDef
    monitor: MonitorDef
    fit: Callable[[Any], Any] = field(compare=False)
    code: str = ""
    doc: str = ""
    seed: int = 1
    place: Place = field(default=Place(), compare=False)

    @cached_property
    def views(self) -> tuple[ViewDef, ...]:
        """The feature views that the model reads, each once."""
        seen: dict[str, ViewDef] = {}
        for feature in self.features:
            if feature.view is not None:
                seen[feature.view.name] = feature.view
        return tuple(seen.values())

    def describe(self) -> dict[str, Any]:
        """The model as JSON: what the version is the hash of."""
        return {
            "name": self.name,
            "request": self.request.describe(),
            "label": self.label.describe(),
            "task": self.task,
            "features": [f.describe() for f in self.features],
            "code": content_hash(self.code),
            "seed": self.seed,
        }

    @cached_property
    def version(self) -> str:
        """Content hash of the definition, code of the training function included."""
        return content_hash(self.describe())


@dataclass(frozen=True)
class Project:
    """Everything that one definitions file defines, by name."""

    sources: dict[str, SourceDef]
    views: dict[str, ViewDef]
    models: dict[str, ModelDef]
    path: str = ""

    def describe(self) -> dict[str, Any]:
        """The project as JSON: what ``plan`` compares and the catalog stores."""
        return {
            "sources": {n: s.describe() | {"version": s.version, "doc": s.doc} for n, s in self.sources.items()},
            "views": {n: v.describe() | {"version": v.version, "doc": v.doc} for n, v in self.views.items()},
            "models": {n: m.describe() | {"version": m.version, "doc": m.doc} for n, m in self.models.items()},
        }
