"""What a feature value is, beside its number."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Status of a feature value, as reads and replays answer it (uint8)."""

    PRESENT = 0
    MISSING = 1
    EXPIRED = 2
    DEFAULT = 3
    UNAVAILABLE = 4
    ERASED = 5
