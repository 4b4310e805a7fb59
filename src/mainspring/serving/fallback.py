"""The last answer of a model's fallback chain: a constant, or a rule over the request, without features or model."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from mainspring.definitions import SourceDef
from mainspring.definitions.values import Expression
from mainspring.serving.inference import Expressions
from mainspring.serving.layout import Row


class Value:
    """What a model declares as ``otherwise(value=…)``, compiled once.

    Args:
        rule: Over the request's columns.
        source: Of the requests.
    """

    def __init__(self, rule: Expression, source: SourceDef) -> None:
        self._rule = Expressions([rule.json], source, ())

    def of(self, rows: Sequence[Row], times_us: Sequence[int]) -> list[float | None]:
        """The value for each row; None where the rule has none."""
        (answer,), _, broken = self._rule.evaluate(rows, np.array(times_us, np.int64), (), {})
        failed = broken.get(0, {})
        values: list[float] = np.asarray(answer, np.float64).tolist()
        return [value if isfinite(value) and row not in failed else None for row, value in enumerate(values)]
