"""How long to wait before something is tried again: longer each time, and never all senders at once."""

from __future__ import annotations

import random
from collections.abc import Mapping


class Backoff:
    """Waits that double, each drawn between half and all of it, so that senders that failed together come back apart.

    Args:
        first_s: The first wait.
        most_s: No wait is longer, but for what the server asks for.
    """

    def __init__(self, first_s: float, most_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._rng = rng if rng is not None else random.Random()  # noqa: S311  no secret
        self._next_s = first_s

    def wait_s(self, at_least_s: float = 0.0) -> float:
        """The next wait.

        Args:
            at_least_s: What the server asked for (``Retry-After``); up to a quarter is added to it.
        """
        drawn = self._next_s * self._rng.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._most_s)
        return max(drawn, at_least_s * self._rng.uniform(1.0, 1.25))

    def reset(self) -> None:
        """It went well: begin anew."""
        self._next_s = self._first_s


def retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds of ``Retry-After``; 0 where there are none, or a date."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0.0
