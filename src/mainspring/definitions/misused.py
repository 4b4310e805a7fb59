"""A word of ``ms`` that was given what it does not take: which, what is missing, and how it is written."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean

EXAMPLES: Mapping[str, str] = {
    "Cache": 'ms.Cache(ttl="10s")',
    "Latency": 'ms.Latency(p50="5ms", p99="20ms")',
    "Monitor": 'ms.Monitor(every="1d", retrain=ms.every("30d"))',
    "Rollout": 'ms.Rollout(shadow="1d", ramp=[0.05, 0.5], prove=[ms.guard("log_loss", margin=0.02)])',
    "Source": 'class Ride(ms.Source, id="ride_id", time="asked_at")',
    "Table": 'class Plane(ms.Table, key="tailnum")',
    "age": 'ms.age(window="24h")',
    "alias": 'ms.alias("old_name")',
    "at_least": "ms.at_least(0)",
    "at_most": "ms.at_most(100)",
    "between": "ms.between(0, 100)",
    "cascade": 'ms.cascade("fraud", quick, careful, sure=0.95)',
    "count": 'ms.count(window="24h")',
    "deprecated": 'ms.deprecated("send amount instead")',
    "describe": 'ms.describe("what was paid", unit="EUR")',
    "dim": "ms.dim(64)",
    "ensemble": 'ms.ensemble("fraud", quick, careful)',
    "every": 'ms.every("30d")',
    "ewma": 'ms.ewma("amount", half_life="6h")',
    "feature_view": '@ms.feature_view(Arrived, entity="carrier")',
    "gate": 'ms.gate("roc_auc", at_least=0.70)',
    "guard": 'ms.guard("log_loss", margin=0.02)',
    "label": 'ms.label(Arrived, on="flight_id", value=col("delay_min") > 15, within="36h", otherwise=ms.exclude)',
    "last_k": 'ms.last_k("amount", 3)',
    "length": "ms.length(1, 20)",
    "lookup": 'ms.lookup(Plane, "year")',
    "model": '@ms.model(request=Scheduled, label=late, task="binary_classification", features=[Carrier, "miles"])',
    "one_of": 'ms.one_of("cash", "card")',
    "otherwise": "ms.otherwise(last_good=True, value=0.5)",
    "override": 'ms.override(when=col("amount") < 5, value=0.0, reason="too small")',
    "pattern": 'ms.pattern("[A-Z]{3}")',
    "pii": 'ms.pii("email")',
    "quantile": 'ms.quantile("amount", 0.95, window="1d")',
    "time_since": 'ms.time_since("opened_at")',
    "top_k": 'ms.top_k("merchant", 3, window="1d")',
    "when_worse": 'ms.when_worse("log_loss", by=0.01)',
}
"""How each word is written that is more than an aggregate of a column."""
_CALLED = re.compile(r"(?:(\w+)\.)?(\w+)\(\) (missing|takes|got)\b(.*)", re.DOTALL)
_QUOTED = re.compile(r"'(\w+)'")


def misuse_of(error: BaseException, where: str) -> DefinitionError | None:
    """What a ``TypeError`` of the definitions file says of a word's arguments; None where it is of something else.

    Args:
        error: Raised where the definitions file calls.
        where: File and line of the call.
    """
    found = _CALLED.match(str(error)) if isinstance(error, TypeError) else None
    if found is None:
        return None
    owner, called, verb, rest = found.groups()
    if owner is not None and called != "__init_subclass__":  # a method of something else, such as col("x").mean()
        return None
    name = owner or called
    ms = import_module("mainspring")
    if name not in ms.__all__:
        return None
    word = getattr(ms, name)
    takes = _takes(word.__init_subclass__ if isinstance(word, type) else word)
    names = _QUOTED.findall(rest)
    shown = f"class …(ms.{name})" if isinstance(word, type) else f"ms.{name}(…)"
    hint = EXAMPLES.get(name, f'ms.{name}("amount", window="24h")')
    if verb == "missing":
        what = f"{shown} lacks {' and '.join(f'{one}=' for one in names)}"
    elif names:
        near = did_you_mean(names[0], takes)
        what, hint = f"{shown} takes no {names[0]}=", f"{near}; {hint}" if near else hint
    else:
        what = f"{shown} takes {_by_place(takes)}; write the others with their names"
    return DefinitionError("MS-D164", what, where=where, hint=hint)


def _takes(word: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(word).parameters
    return {name: one for name, one in found.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}


def _by_place(takes: Mapping[str, inspect.Parameter]) -> str:
    placed = [name for name, one in takes.items() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return f"{' and '.join(placed)} without a name" if placed else "nothing without a name"
