"""The weights of a stack: how much each member of an ensemble counts, fitted on outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log
from typing import Any, Literal

from mainspring.core.ids import content_hash

Scale = Literal["log_odds", "linear"]
SCALES: dict[str, Scale] = {"binary_classification": "log_odds", "regression": "linear"}
"""On what the members of each task are added up."""
EPS = 1e-6
"""Probabilities are clipped to [EPS, 1 - EPS] before their log-odds are taken: a 0 or a 1 must not decide alone."""
_LESS_THAN_ONE = 1.0 - EPS


@dataclass(frozen=True)
class Weights:
    """Non-negative weights of an ensemble's members.

    Attributes:
        members: Names, in the order of the definition.
        weights: Of each, at least 0; they need not add up to 1.
        intercept: What is added to the weighted sum, on the same scale.
        scale: ``log_odds`` of probabilities, or ``linear`` for values in units of the label.
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    scale: Scale

    def of(self, outputs: Sequence[float]) -> float:
        """What the ensemble answers where these are its members' outputs, each in its place.

        >>> Weights(("a", "b"), (1.0, 0.0), 0.0, "log_odds").of([0.25, 0.9])
        0.25
        """
        total = self.intercept
        if self.scale == "linear":
            for weight, value in zip(self.weights, outputs, strict=True):
                total += weight * value
            return total
        for weight, p in zip(self.weights, outputs, strict=True):
            clipped = EPS if p < EPS else min(p, _LESS_THAN_ONE)
            total += weight * log(clipped / (1.0 - clipped))
        if total >= 0.0:
            return 1.0 / (1.0 + exp(-total))
        odds = exp(total)
        return odds / (1.0 + odds)

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "members": list(self.members),
            "weights": list(self.weights),
            "intercept": self.intercept,
            "scale": self.scale,
        }

    @cached_property
    def version(self) -> str:
        """Content hash."""
        return content_hash(self.describe())


def weights_from(described: Mapping[str, Any]) -> Weights:
    """Weights as `Weights.describe` describes them.

    Raises:
        ValueError: They are none: not one for each member, below 0, not finite, or on no known scale.
        KeyError: A part is missing.
    """
    found = Weights(
        tuple(str(one) for one in described["members"]),
        tuple(float(one) for one in described["weights"]),
        float(described["intercept"]),
        described["scale"],
    )
    if len(found.members) != len(found.weights) or found.scale not in SCALES.values():
        raise ValueError(f"{len(found.weights)} weights of {len(found.members)} members, {found.scale}")
    if not all(0.0 <= one < inf for one in (*found.weights, abs(found.intercept))):
        raise ValueError(f"weights {found.weights} and {found.intercept}")
    return found
