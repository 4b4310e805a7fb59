"""Rules on what a model says, in force with the next apply: never negative, capped, overridden by the business."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.definitions.features import MOMENT
from mainspring.definitions.kinds import list_of_kind, number, one_of_kind
from mainspring.definitions.source import place_of_caller
from mainspring.definitions.values import Place, RuleDef, SourceDef


@dataclass(frozen=True)
class Rule:
    """What a rule's word was given, before a model says of which requests it is."""

    name: str
    value: Any
    when: Any
    place: Place


def at_least(value: float) -> Rule:
    """Nothing below ``value`` is answered: a delay that cannot be negative."""
    place = place_of_caller()
    shown = number(value, "at_least()", "MS-D156", str(place), "ms.at_least(0)")
    return Rule(f"at least {shown:g}", value, "below", place)


def at_most(value: float) -> Rule:
    """Nothing above ``value`` is answered: a cap."""
    place = place_of_caller()
    shown = number(value, "at_most()", "MS-D156", str(place), "ms.at_most(100)")
    return Rule(f"at most {shown:g}", value, "above", place)


def override(*, when: Any, value: float, reason: str) -> Rule:
    """``value`` is answered where ``when``, an expression over the request's columns, is true.

    Args:
        when: Such as ``col("is_staff")``.
        value: What is answered then.
        reason: Why, in a few words: it is in the answer and in the log.
    """
    place = place_of_caller()
    name = one_of_kind(reason, str, "reason", "MS-D156", str(place), 'reason="staff fly free"')
    return Rule(name, value, when, place)


def bound_rules(rules: Any, request: SourceDef, task: str, where: str) -> tuple[RuleDef, ...]:
    """Rules checked against the columns of a model's requests.

    Raises:
        DefinitionError: They are no list of rules, one gives what the model could not say (MS-D156), or reads what
            requests do not have (MS-D102 to MS-D105).
    """
    hint = "ms.at_least(0), ms.at_most(100), ms.override(when=…, value=…, reason=…)"
    return tuple(_bound(rule, request, task) for rule in list_of_kind(rules, Rule, "rules", "MS-D156", where, hint))


def _bound(rule: Rule, request: SourceDef, task: str) -> RuleDef:
    where = str(rule.place)
    is_share = task == "binary_classification"
    value = rule.value
    if not isinstance(value, (bool, int, float)) or not isfinite(value) or (is_share and not 0 <= value <= 1):
        why = "the prediction is the probability of true" if is_share else "the prediction is a number"
        raise DefinitionError("MS-D156", f"rule {rule.name!r} answers {value!r}", where=where, why=why)
    if not rule.name.strip():
        raise DefinitionError("MS-D156", "an override needs its reason", where=where, hint='reason="staff fly free"')
    if isinstance(rule.when, str) and rule.when in ("below", "above"):
        return RuleDef(rule.name, float(value), below=rule.when == "below")
    from mainspring.definitions.expressions import POLARS_TYPES, expression

    schema = dict(request.schema) | {MOMENT: POLARS_TYPES["datetime"]}
    when = expression(rule.when, schema, of=f"request {request.name}", where=where, name="when")
    if when.kind != "bool":
        what = f"override(when=…) gives {when.kind}, not true or false"
        raise DefinitionError("MS-D156", what, where=where, hint='when=col("amount") > 1_000')
    return RuleDef(rule.name, float(value), when=when)
