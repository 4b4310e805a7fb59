"""A model's output rules, compiled once: they act on what is answered, whoever answers, and say so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from mainspring.definitions import SourceDef
from mainspring.definitions.values import RuleDef
from mainspring.serving.inference import Choice, Expressions
from mainspring.serving.table import Row


def ruled(
    rules: Rules | None, choices: Sequence[Choice], rows: Sequence[Row], times_us: Sequence[int]
) -> Sequence[Choice]:
    """The choices, with what the rules make of their outputs where a model has any."""
    return choices if rules is None else rules.apply(choices, rows, times_us)


class Rules:
    """Rules in the order in which they act.

    Args:
        rules: Of the model.
        source: Of its requests.
    """

    def __init__(self, rules: Sequence[RuleDef], source: SourceDef) -> None:
        self._rules = rules
        self._when = Expressions([rule.when.json for rule in rules if rule.when is not None], source, ())

    def apply(self, choices: Sequence[Choice], rows: Sequence[Row], times_us: Sequence[int]) -> Sequence[Choice]:
        """The choices with what the rules make of their outputs; a row without an output has none of its own.

        An override whose condition is null, or cannot be computed, does not act.
        """
        conditions, _, _ = self._when.evaluate(rows, np.array(times_us, np.int64), (), {})
        raw = np.array([np.nan if choice.output is None else choice.output for choice in choices])
        answered = raw.copy()
        acted: list[tuple[str, list[bool]]] = []
        number = 0
        for rule in self._rules:
            if rule.when is not None:
                where = np.asarray(conditions[number], np.float64) == 1.0
                number += 1
            else:
                where = answered < rule.value if rule.below else answered > rule.value
            where &= ~np.isnan(raw)
            if where.any():
                answered[where] = rule.value
                acted.append((rule.name, where.tolist()))
        if not acted:
            return choices
        values = answered.tolist()
        out = []
        for row, choice in enumerate(choices):
            names = tuple(name for name, where in acted if where[row])
            out.append(replace(choice, answered=values[row], rules=names) if names else choice)
        return out
