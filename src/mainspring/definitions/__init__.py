"""The words that a definitions file is written in, and the frozen values it becomes. No I/O beyond loading it."""

from mainspring.definitions import check
from mainspring.definitions.about import About
from mainspring.definitions.aggregates import (
    age,
    approx_distinct,
    count,
    distinct,
    ewma,
    first,
    last,
    last_k,
    max,  # noqa: A004  the field's word for this aggregate
    mean,
    min,  # noqa: A004  the field's word for this aggregate
    quantile,
    rate,
    std,
    sum,  # noqa: A004  the field's word for this aggregate
    time_since,
    top_k,
    trend,
    var,
)
from mainspring.definitions.check import CheckDef
from mainspring.definitions.codec import expression_from, source_from, view_from
from mainspring.definitions.composition import CompositeDef, cascade, ensemble
from mainspring.definitions.constraints import between, dim, length, one_of, pattern
from mainspring.definitions.dataset import Dataset
from mainspring.definitions.features import AGGREGATES, MOMENT, SOURCE, Aggregate, Feature, ViewDef
from mainspring.definitions.label import label
from mainspring.definitions.marks import PII, alias, deprecated, describe, pii
from mainspring.definitions.model import model
from mainspring.definitions.otherwise import otherwise
from mainspring.definitions.project import collect, load_project
from mainspring.definitions.release import LOSSES, METRICS, Latency, Monitor, Rollout, every, gate, guard, when_worse
from mainspring.definitions.rules import at_least, at_most, override
from mainspring.definitions.source import Source, Table
from mainspring.definitions.values import (
    COMPATIBLE,
    Constraint,
    Exclude,
    Expression,
    Field,
    Gate,
    Guard,
    LabelDef,
    ModelDef,
    MonitorDef,
    OtherwiseDef,
    Project,
    RetrainRule,
    RolloutDef,
    SourceDef,
    exclude,
)
from mainspring.definitions.view import feature_view, lookup

__all__ = [
    "AGGREGATES",
    "COMPATIBLE",
    "LOSSES",
    "METRICS",
    "MOMENT",
    "PII",
    "SOURCE",
    "About",
    "Aggregate",
    "CheckDef",
    "CompositeDef",
    "Constraint",
    "Dataset",
    "Exclude",
    "Expression",
    "Feature",
    "Field",
    "Gate",
    "Guard",
    "LabelDef",
    "Latency",
    "ModelDef",
    "Monitor",
    "MonitorDef",
    "OtherwiseDef",
    "Project",
    "RetrainRule",
    "Rollout",
    "RolloutDef",
    "Source",
    "SourceDef",
    "Table",
    "ViewDef",
    "age",
    "alias",
    "approx_distinct",
    "at_least",
    "at_most",
    "between",
    "cascade",
    "check",
    "collect",
    "count",
    "deprecated",
    "describe",
    "dim",
    "distinct",
    "ensemble",
    "every",
    "ewma",
    "exclude",
    "expression_from",
    "feature_view",
    "first",
    "gate",
    "guard",
    "label",
    "last",
    "last_k",
    "length",
    "load_project",
    "lookup",
    "max",
    "mean",
    "min",
    "model",
    "one_of",
    "otherwise",
    "override",
    "pattern",
    "pii",
    "quantile",
    "rate",
    "source_from",
    "std",
    "sum",
    "time_since",
    "top_k",
    "trend",
    "var",
    "view_from",
    "when_worse",
]
