"""Mainspring: from raw events to a served, watched, self-renewing model.

A definitions file needs ``import mainspring as ms`` and ``from mainspring import col``; everything it may say is listed
in ``__all__``, and so are ``Client`` and ``AsyncClient``, which send events and ask for predictions. Names are imported
when first used, so that importing the package is cheap.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polars import col, lit, when

    from mainspring.client import AsyncClient, Client
    from mainspring.definitions import (
        Cache,
        Dataset,
        Latency,
        Monitor,
        Rollout,
        Source,
        Table,
        age,
        alias,
        approx_distinct,
        at_least,
        at_most,
        between,
        cascade,
        check,
        count,
        deprecated,
        describe,
        dim,
        distinct,
        ensemble,
        every,
        ewma,
        exclude,
        feature_view,
        first,
        gate,
        guard,
        label,
        last,
        last_k,
        length,
        lookup,
        max,  # noqa: A004  the field's word for this aggregate
        mean,
        min,  # noqa: A004  the field's word for this aggregate
        model,
        one_of,
        otherwise,
        override,
        pattern,
        pii,
        quantile,
        rate,
        std,
        sum,  # noqa: A004  the field's word for this aggregate
        time_since,
        top_k,
        trend,
        var,
        when_worse,
    )

# Before any library loads OpenMP: threads that spin while they wait take the cores from the gateway beside them, and on
# a busy machine make training itself five times slower (LightGBM, 2 cores at load 5: 17.8 s, waiting passively 3.2 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Cache",
    "Client",
    "Dataset",
    "Latency",
    "Monitor",
    "Rollout",
    "Source",
    "Table",
    "age",
    "alias",
    "approx_distinct",
    "at_least",
    "at_most",
    "between",
    "cascade",
    "check",
    "col",
    "count",
    "deprecated",
    "describe",
    "dim",
    "distinct",
    "ensemble",
    "every",
    "ewma",
    "exclude",
    "feature_view",
    "first",
    "gate",
    "guard",
    "label",
    "last",
    "last_k",
    "length",
    "lit",
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
    "std",
    "sum",
    "time_since",
    "top_k",
    "trend",
    "var",
    "when",
    "when_worse",
]

_AGGREGATES = (
    "age",
    "approx_distinct",
    "count",
    "distinct",
    "ewma",
    "first",
    "last",
    "last_k",
    "max",
    "mean",
    "min",
    "quantile",
    "rate",
    "std",
    "sum",
    "top_k",
    "trend",
    "var",
)
_HOMES = {
    "AsyncClient": "mainspring.client",
    "Client": "mainspring.client",
    "col": "polars",
    "lit": "polars",
    "when": "polars",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mainspring' has no attribute {name!r}{_hint(name)}", name=name)
    return getattr(import_module(_HOMES.get(name, "mainspring.definitions")), name)


def _hint(name: str) -> str:
    if name.startswith("_"):  # asked by Python itself, at each import of a submodule too
        return ""
    from difflib import get_close_matches

    near = get_close_matches(name, __all__, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; aggregates are {', '.join(_AGGREGATES)}"


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
