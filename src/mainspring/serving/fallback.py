"""The last answer of a model's fallback chain: a constant, or a rule over the request, without features or model."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from mainspring.definitions import SourceDef
from mainspring.definitions.values import Expression
from mainspring.events.system import OTHERWISE
from mainspring.serving.inference import VALUE, Choice, Expressions
from mainspring.serving.table import Row

if TYPE_CHECKING:
    from mainspring.serving.rules import Rules


class Value:
    """What a model declares as ``otherwise(value=…)``, compiled once.

    Args:
        rule: Over the request's columns.
        source: Of the requests.
        task: Of the model: the answer of a binary one is a probability.
    """

    def __init__(self, rule: Expression, source: SourceDef, task: str) -> None:
        self._least, self._most = (0.0, 1.0) if task == "binary_classification" else (-inf, inf)
        self._rule = Expressions([rule.json], source, ())

    def of(self, rows: Sequence[Row], times_us: Sequence[int]) -> list[float | None]:
        """The value for each row; None where the rule has none, or one that the model could not give."""
        (answer,), _, broken = self._rule.evaluate(rows, np.array(times_us, np.int64), (), {})
        failed = broken.get(0, {})
        values: list[float] = np.asarray(answer, np.float64).tolist()
        return [
            value if isfinite(value) and self._least <= value <= self._most and row not in failed else None
            for row, value in enumerate(values)
        ]

    def choices(self, rows: Sequence[Row], times_us: Sequence[int], reason: str) -> list[Choice]:
        """The value as the answer to each row, and why no model was asked; without an output where there is none."""
        values = self.of(rows, times_us)
        return [Choice("fallback", OTHERWISE, None, value, fallback=VALUE, error=reason) for value in values]


class MemberValue:
    """What a composite answers when no member is asked: the value that a member declares, under that member's rules.

    Args:
        declared: Of each member that declares a value, in their order, with its rules; the first one that has a value
            for a row answers it.
    """

    def __init__(self, declared: Sequence[tuple[Value, Rules | None]]) -> None:
        self._declared = declared

    def choices(self, rows: Sequence[Row], times_us: Sequence[int], reason: str) -> list[Choice]:
        """The answer to each row, and why no member was asked; without an output where no member has a value."""
        found = [Choice("fallback", OTHERWISE, None, None, fallback=VALUE, error=reason)] * len(rows)
        for value, rules in self._declared:
            places = [i for i, choice in enumerate(found) if choice.output is None]
            if not places:
                break
            some, moments = [rows[i] for i in places], [times_us[i] for i in places]
            given: Sequence[Choice] = value.choices(some, moments, reason)
            if rules is not None:
                given = rules.apply(given, some, moments)
            for i, choice in zip(places, given, strict=True):
                found[i] = replace(choice, output=choice.answer)  # the rules are the member's: the composite has none
        return found
