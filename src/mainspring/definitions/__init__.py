"""The words that a definitions file is written in, and the frozen values it becomes. No I/O beyond loading it."""

from mainspring.definitions.codec import expression_from, source_from, view_from
from mainspring.definitions.constraints import between, length, one_of, pattern
from mainspring.definitions.dataset import Dataset
from mainspring.definitions.label import label
from mainspring.definitions.model import LOSSES, METRICS, Monitor, Rollout, every, gate, guard, model, when_worse
from mainspring.definitions.project import collect, load_project
from mainspring.definitions.source import Source
from mainspring.definitions.values import (
    Aggregate,
    Constraint,
    Exclude,
    Expression,
    Feature,
    Field,
    Gate,
    Guard,
    LabelDef,
    ModelDef,
    MonitorDef,
    Project,
    RetrainRule,
    RolloutDef,
    SourceDef,
    ViewDef,
    exclude,
)
from mainspring.definitions.view import age, count, feature_view, last, max, mean, min, std, sum  # noqa: A004

__all__ = [
    "LOSSES",
    "METRICS",
    "Aggregate",
    "Constraint",
    "Dataset",
    "Exclude",
    "Expression",
    "Feature",
    "Field",
    "Gate",
    "Guard",
    "LabelDef",
    "ModelDef",
    "Monitor",
    "MonitorDef",
    "Project",
    "RetrainRule",
    "Rollout",
    "RolloutDef",
    "Source",
    "SourceDef",
    "ViewDef",
    "age",
    "between",
    "collect",
    "count",
    "every",
    "exclude",
    "expression_from",
    "feature_view",
    "gate",
    "guard",
    "label",
    "last",
    "length",
    "load_project",
    "max",
    "mean",
    "min",
    "model",
    "one_of",
    "pattern",
    "source_from",
    "std",
    "sum",
    "view_from",
    "when_worse",
]
