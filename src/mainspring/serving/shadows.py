"""The shadows of one lane: answered batches that the challenger scores afterwards, in a later tick or in a thread."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from time import perf_counter

from mainspring.serving.answers import Batch
from mainspring.serving.beside import Beside
from mainspring.serving.composed import Composed
from mainspring.serving.inference import Scored
from mainspring.serving.metrics import ModelMetrics
from mainspring.serving.pace import SLOW_US
from mainspring.serving.panel import Panel

_log = logging.getLogger(__name__)


class Shadows:
    """A bounded queue of answered batches.

    Args:
        panel: Asks the challenger.
        beside: Where one that is slow is asked.
        metrics: What is counted.
        max_rows: Rows that may wait; beyond it batches are logged without their shadow.
        write: Logs a batch with what its shadow said.
    """

    def __init__(
        self,
        panel: Panel,
        beside: Beside,
        metrics: ModelMetrics,
        max_rows: int,
        write: Callable[[Batch, Scored | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._panel = panel
        self._beside = beside
        self._metrics = metrics
        self._max_rows = max_rows
        self._write = write
        self._waiting: deque[Batch] = deque()
        self._rows = 0
        self._aside: tuple[Batch, Future[Scored | None]] | None = None
        self._is_finishing = False

    def put(self, batch: Batch) -> None:
        """Have a batch scored soon, and then logged."""
        rows = len(batch.ids)
        if self._rows + rows > self._max_rows:
            self._metrics.shadow_skipped += rows
            self._write(batch, None)
            return
        self._rows += rows
        self._waiting.append(batch)
        self._loop.call_soon(self._next)

    def finish(self) -> None:
        """Score and log all that waits, now."""
        self._is_finishing = True
        if self._aside is not None:
            batch, found = self._aside
            wait([found])
            self._back(batch)
        while self._waiting:
            self._next()

    def _next(self) -> None:
        if not self._waiting or self._aside is not None:
            return  # ``finish`` came first, or the one before is still being scored
        batch = self._waiting.popleft()
        rows = len(batch.ids)
        self._rows -= rows
        served, now_s = batch.served, perf_counter()
        scorer = None if isinstance(served, Composed) else served.challenger

        def ask() -> Scored | None:
            return None if isinstance(served, Composed) else self._panel.shadow(served, batch.gathered, now_s)

        if scorer is not None and scorer.pace.expects_us(rows) > SLOW_US and not self._is_finishing:
            self._aside = batch, self._beside.run(ask, lambda: self._back(batch))
        else:
            self._log(batch, ask)

    def _back(self, batch: Batch) -> None:
        if self._aside is not None and self._aside[0] is batch:
            found = self._aside[1]
            self._aside = None
            self._log(batch, found.result)
            self._next()

    def _log(self, batch: Batch, found: Callable[[], Scored | None]) -> None:
        pair: Scored | None = None
        try:
            pair = found()
        except Exception:  # noqa: BLE001  a shadow's bug is seen, and its batch is logged without it
            _log.exception("a shadow of %s could not be scored", self._metrics.model)
            self._metrics.variants["challenger"].failed("internal", len(batch.ids))
        if pair is not None:
            self._panel.heard("challenger", pair, perf_counter(), batch.requests)
        self._write(batch, pair)
