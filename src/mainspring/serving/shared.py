"""What the lanes of one gateway share: its clock and store, its log, the numbers of its predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mainspring.core.clock import Clock
from mainspring.core.ids import PredictionIds
from mainspring.core.traces import Traces
from mainspring.features.reader import Reader
from mainspring.serving.prediction_log import PredictionLog


@dataclass(frozen=True)
class LaneLimits:
    """What one model's lane holds at most.

    Attributes:
        batch_rows: Rows scored at once.
        queued_rows: Rows that may wait; beyond it requests are shed.
        shadow_rows: Rows that may wait for a shadow; beyond it they are logged without one.
        deadline_s: How long a request may wait when its client does not say.
    """

    batch_rows: int = 1_024
    queued_rows: int = 20_000
    shadow_rows: int = 20_000
    deadline_s: float = 5.0


class Numbers:
    """Prediction ids of one start of a gateway: epoch and sequence, so that a gap is seen."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._next = 0

    def take(self, n: int) -> PredictionIds:
        """The next ``n`` ids."""
        first = self._next + 1
        self._next += n
        return PredictionIds(self.epoch, range(first, first + n))


@dataclass(frozen=True, eq=False)
class Shared:
    """What the lanes of a gateway share.

    Attributes:
        clock: Where moments come from.
        reader: Of the online store, for the event loop's thread.
        log: Where answers are logged.
        numbers: Prediction ids.
        max_rows: Rows in one request.
        limits: Of each lane's queue and batch.
        trouble: Told when the online store cannot be read.
        traces: Spans, where they are declared.
    """

    clock: Clock
    reader: Reader
    log: PredictionLog
    numbers: Numbers
    max_rows: int
    limits: LaneLimits
    trouble: Callable[[Exception], None]
    traces: Traces | None = None
