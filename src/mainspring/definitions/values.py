"""The values that a definitions file becomes: frozen, without I/O, hashable by content; expressions are JSON text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from mainspring.core.ids import content_hash
from mainspring.core.times import from_datetime, to_iso
from mainspring.definitions.about import About, described

if TYPE_CHECKING:
    import polars as pl

    from mainspring.definitions.check import CheckDef
    from mainspring.definitions.composition import CompositeDef
    from mainspring.definitions.features import Feature, ViewDef

Kind = Literal["str", "int", "float", "bool", "datetime", "vector"]
TASKS = ("binary_classification", "regression")
Compatible = Literal["backward", "forward", "full", "none"]
COMPATIBLE: tuple[Compatible, ...] = ("backward", "forward", "full", "none")
OPERATIONS = ("insert", "update", "delete")
"""What an event of a corrected source may do to the row with its id."""
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
    """A row check on one column: ``one_of``, ``between``, ``pattern``, ``length`` or ``dim``, with its arguments."""

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Field:
    """A column of a source.

    Attributes:
        aliases: Names that the column had before: senders may still use them, and stored events have them.
    """

    name: str
    kind: Kind
    nullable: bool = False
    constraints: tuple[Constraint, ...] = ()
    default: Any = None
    has_default: bool = False
    aliases: tuple[str, ...] = ()
    about: About = field(default=About(), compare=False)

    @property
    def dim(self) -> int:
        """How many numbers a value of the column is: 1, but for a vector."""
        return next((int(c.args[0]) for c in self.constraints if c.name == "dim"), 1)

    def describe(self) -> dict[str, Any]:
        """The field as JSON, for hashing and for showing."""
        out: dict[str, Any] = {"name": self.name, "kind": self.kind, "nullable": self.nullable}
        out["constraints"] = [[c.name, list(c.args)] for c in self.constraints]
        if self.has_default:
            moment = isinstance(self.default, datetime)
            out["default"] = to_iso(from_datetime(self.default)) if moment else self.default
        if self.aliases:
            out["aliases"] = list(self.aliases)
        return out

    def values(self) -> dict[str, Any]:
        """What decides which value a stored event has in the column: its description without the door's checks."""
        out = self.describe() | {"constraints": [[c.name, list(c.args)] for c in self.constraints if c.name == "dim"]}
        if not self.has_default:  # null is null then, wherever it comes from
            del out["nullable"]
        return out


@dataclass(frozen=True)
class SourceDef:
    """A stream of events: its columns, which one is the id, which one the event time.

    Attributes:
        known_at: Column that says when the system could first have known a historical event; event time if None.
        dedup_us: For how long an id is remembered, in microseconds.
        future_us: How far event time may lie after ``known_at`` before the event goes to quarantine.
        corrects: Column that says what an event does to the row with its id: ``insert``, ``update`` (a full row) or
            ``delete``; None for a source whose events are never corrected.
        compatible: What a change of the contract must keep readable: one of ``COMPATIBLE``. No part of the version.
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
    corrects: str | None = None
    compatible: Compatible = field(default="backward", compare=False)
    about: About = field(default=About(), compare=False)
    keep_us: int | None = field(default=None, compare=False)

    def describe(self) -> dict[str, Any]:
        """The contract as JSON: what the version is the hash of."""
        return {"name": self.name, "fields": [f.describe() for f in self.fields]} | self._roles()

    def read_by(self, columns: Iterable[str]) -> dict[str, Any]:
        """What decides the values of some columns, as JSON: a reader of them stays as it is while this does."""
        wanted = {*columns, self.time, self.id, self.known_at, self.corrects}
        fields = sorted((f for f in self.fields if f.name in wanted), key=lambda f: f.name)
        return {"name": self.name, "fields": [f.values() for f in fields]} | self._roles()

    def _roles(self) -> dict[str, Any]:
        corrects = {"corrects": self.corrects} if self.corrects else {}
        return {"time": self.time, "id": self.id, "known_at": self.known_at} | corrects

    @cached_property
    def version(self) -> str:
        """Content hash of the contract."""
        return content_hash(self.describe())

    @cached_property
    def columns(self) -> dict[str, Field]:
        """Fields by name."""
        return {f.name: f for f in self.fields}

    @cached_property
    def names(self) -> dict[str, Field]:
        """Fields by each name that senders and earlier definitions may use: its own, and its aliases."""
        return {name: f for f in self.fields for name in (*f.aliases, f.name)}

    @cached_property
    def float_places(self) -> tuple[int, ...]:
        """Places of the columns that hold floats."""
        return tuple(i for i, f in enumerate(self.fields) if f.kind == "float")

    @cached_property
    def places(self) -> dict[str, int]:
        """Where a column is in a row, by each of its ``names``."""
        return {name: i for i, f in enumerate(self.fields) for name in (*f.aliases, f.name)}

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Polars types by column name."""
        from mainspring.definitions.expressions import polars_type

        return {f.name: polars_type(f) for f in self.fields}


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

    def identity(self) -> dict[str, Any]:
        """What decides the outcomes: the label with that part alone of its source's contract that it reads."""
        return self.describe() | {"source": self.source.read_by((self.on, *self.value.inputs))}


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
class OtherwiseDef:
    """What is answered when a model cannot.

    Attributes:
        last_good: The champion before this one is asked.
        shadow: Then a challenger, also one in shadow.
        blind: A model whose features cannot be read answers all the same.
        value: At last this, over the request's columns; None for an error.
    """

    last_good: bool = True
    shadow: bool = False
    blind: bool = False
    value: Expression | None = None

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        value = None if self.value is None else self.value.json
        return {"last_good": self.last_good, "shadow": self.shadow, "blind": self.blind, "value": value}


@dataclass(frozen=True)
class RuleDef:
    """A rule on what is answered: a floor (``below``), a cap, or an override where ``when`` is true.

    Attributes:
        name: What the answer and the log say when it acts.
        value: What is answered then.
    """

    name: str
    value: float
    below: bool = False
    when: Expression | None = None

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        when = self.when.json if self.when is not None else "below" if self.below else "above"
        return {"name": self.name, "value": self.value, "when": when}


@dataclass(frozen=True)
class LatencyDef:
    """How quickly a model shall answer: microseconds by quantile, such as 0.99."""

    limits: tuple[tuple[float, int], ...]

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {f"p{quantile * 100:g}_us": limit for quantile, limit in self.limits}

    @property
    def tail_us(self) -> int:
        """The limit of the greatest quantile."""
        return self.limits[-1][1]


@dataclass(frozen=True)
class CacheDef:
    """How long an answer of a model may be given again, and how much may be kept.

    Attributes:
        ttl_us: The greatest age of an answer.
        max_bytes: In each worker of the gateway; what was not asked for the longest goes first.
    """

    ttl_us: int
    max_bytes: int

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"ttl_us": self.ttl_us, "max_bytes": self.max_bytes}


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
    using: tuple[ViewDef, ...] = ()
    otherwise: OtherwiseDef | None = None
    rules: tuple[RuleDef, ...] = ()
    latency: LatencyDef | None = None
    cache: CacheDef | None = None

    @cached_property
    def views(self) -> tuple[ViewDef, ...]:
        """The feature views that the model reads, each once: its own and those that its expressions use."""
        seen: dict[str, ViewDef] = {}
        for view in (*(f.view for f in self.features if f.view is not None), *self.using):
            seen[view.name] = view
        return tuple(seen.values())

    @cached_property
    def view_columns(self) -> dict[str, ViewDef]:
        """The view that each column of a view belongs to, by the column's name."""
        return {column: view for view in self.views for column in view.column_names}

    def views_of(self, feature: Feature) -> tuple[ViewDef, ...]:
        """The views that a feature of the model is made of; none for what the request alone tells."""
        if feature.view is not None:
            return (feature.view,)
        inputs = feature.expression.inputs if feature.expression is not None else ()
        read = (self.view_columns[c] for c in inputs if c in self.view_columns)
        return tuple({view.name: view for view in read}.values())

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
        } | ({"using": [[v.name, v.version] for v in self.using]} if self.using else {})

    @cached_property
    def version(self) -> str:
        """Content hash of the definition, code of the training function included.

        Of the contracts of request and label only what the model reads counts.
        """
        read = {self.label.on, *(name for view in self.views for name in view.entity)}
        for feature in self.features:
            read |= {feature.name} if feature.view is None and feature.expression is None else set()
            read |= set(feature.expression.inputs) if feature.expression is not None else set()
        parts = {"request": self.request.read_by(read), "label": self.label.identity()}
        return content_hash(self.describe() | parts)

    def serving(self) -> dict[str, Any]:
        """How it is served, as JSON: in force with the next apply, without a new training."""
        out: dict[str, Any] = {}
        if self.otherwise is not None:
            out["otherwise"] = self.otherwise.describe()
        if self.rules:
            out["rules"] = [rule.describe() for rule in self.rules]
        if self.latency is not None:
            out["latency"] = self.latency.describe()
        if self.cache is not None:
            out["cache"] = self.cache.describe()
        return out

    def releases(self) -> dict[str, Any]:
        """How its releases are gated, rolled out and watched, as JSON: in force as ``serving`` is."""
        gates = [asdict(one) for one in self.gates]
        said = {"gates": gates, "rollout": asdict(self.rollout), "monitor": asdict(self.monitor)}
        found: dict[str, Any] = json.loads(json.dumps(said))
        return found


@dataclass(frozen=True)
class Project:
    """Everything that one definitions file defines, by name."""

    sources: dict[str, SourceDef]
    views: dict[str, ViewDef]
    models: dict[str, ModelDef]
    path: str = ""
    checks: dict[str, CheckDef] = field(default_factory=dict)
    composites: dict[str, CompositeDef] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The project as JSON: what ``plan`` compares and the catalog stores."""
        return {
            "sources": {n: described(s) for n, s in self.sources.items()},
            "views": {n: v.describe() | {"version": v.version, "doc": v.doc} for n, v in self.views.items()},
            "models": {
                n: m.describe() | {"version": m.version, "doc": m.doc, "serving": m.serving(), "releases": m.releases()}
                for n, m in self.models.items()
            },
            "checks": {n: c.describe() | {"version": c.version} for n, c in self.checks.items()},
            "composites": {
                n: c.describe() | {"version": c.version, "serving": c.serving()} for n, c in self.composites.items()
            },
        }
