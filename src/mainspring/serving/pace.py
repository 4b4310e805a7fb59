"""How long a model takes for a batch, learnt as it runs: what is slow is scored beside the event loop."""

from __future__ import annotations

SLOW_US = 2_000
"""A batch that is expected to take longer goes to a thread: ONNX Runtime lets go of the interpreter meanwhile."""
_FEW = 8
_WEIGHT = 0.2
_RELAX = 0.02


class Pace:
    """Two moving averages: of a run of a few rows, and of a row in a run of many."""

    __slots__ = ("_few_us", "_row_us")

    def __init__(self) -> None:
        self._few_us = 0.0
        self._row_us = 0.0

    def observe(self, rows: int, took_us: int) -> None:
        """Learn from a run of ``rows``."""
        if rows <= _FEW:
            self._few_us += (took_us - self._few_us) * (_WEIGHT if self._few_us else 1.0)
        else:
            self._row_us += (took_us / rows - self._row_us) * (_WEIGHT if self._row_us else 1.0)

    def relax(self) -> None:
        """Trust a little less in what was slow: it has not been asked, because it would have been too late."""
        self._few_us *= 1.0 - _RELAX
        self._row_us *= 1.0 - _RELAX

    def knows(self, rows: int) -> bool:
        """Whether runs of about so many rows have been observed."""
        return (self._few_us if rows <= _FEW else self._row_us) > 0.0

    def expects_us(self, rows: int) -> float:
        """How long a run of ``rows`` will take, as far as is known."""
        return max(self._few_us, self._row_us * rows)
