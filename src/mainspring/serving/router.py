"""Which variant answers a unit: sticky, random, and with the probability of the assignment, which is logged."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

Variant = Literal["champion", "challenger"]

_TO_UNIT = 2.0**-53


def uniform(salt: str, unit: str) -> float:
    """A number in [0, 1) that is fixed for a unit under a salt, and independent between salts.

    Args:
        salt: The rollout's salt; each rollout takes a new one, or the same users would always go first.
        unit: The label's key of the request as text.
    """
    key = salt.encode()[:64]
    digest = blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return (int.from_bytes(digest, "big") >> 11) * _TO_UNIT


def assign(salt: str, unit: str, weight: float) -> tuple[Variant, float]:
    """The variant of a unit, and the probability of that assignment.

    As the weight rises along a ramp, units only move from champion to challenger, never back.

    Args:
        salt: The rollout's salt.
        unit: The label's key of the request as text.
        weight: The challenger's share of traffic, in [0, 1].

    >>> assign("rollout 7", "ann", 0.0)
    ('champion', 1.0)
    >>> assign("rollout 7", "ann", 1.0)
    ('challenger', 1.0)
    """
    if weight > 0.0 and uniform(salt, unit) < weight:
        return "challenger", weight
    return "champion", 1.0 - weight
