"""Answers of a cascade that are there and may still become better: the next member is asked beside the event loop.

Nobody waits for it longer than may be: at its time a request is answered with what is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from time import perf_counter

from mainspring.serving.batcher import Slice
from mainspring.serving.beside import Beside
from mainspring.serving.council import Hearing
from mainspring.serving.inference import Scored
from mainspring.serving.panel import Verdict
from mainspring.serving.work import Work

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Refining:
    """Work that waits for a member.

    Attributes:
        so_far: What is answered at a slice's time.
        timers: Of the slices that have no answer yet.
        found: Done once the member has been asked.
    """

    work: Work
    hearing: Hearing
    so_far: Verdict
    timers: dict[Slice, asyncio.TimerHandle]
    found: Future[object] | None = None


class Refiner:
    """Refines the batches of one lane.

    Args:
        loop: Of the gateway.
        beside: Where members are asked.
        heard: Told of each run, and of how many requests, also of one that came too late for everybody.
        answer: Answers work with a verdict.
        fail: Tells the clients of slices that a bug of ours has spoilt their answer.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        beside: Beside,
        heard: Callable[[Sequence[tuple[str, Scored]], int], None],
        answer: Callable[[Work, Verdict], None],
        fail: Callable[[Collection[Slice]], None],
    ) -> None:
        self._loop = loop
        self._beside = beside
        self._heard = heard
        self._answer = answer
        self._fail = fail
        self._under_way: list[_Refining] = []
        self.free_s = 0.0

    def put(self, work: Work, hearing: Hearing, takes_us: float) -> None:
        """Have the next member asked, which will take so long; every slice is answered once."""
        self.free_s = max(self.free_s, perf_counter()) + takes_us * 1e-6
        one = _Refining(work, hearing, hearing.verdict(), {})
        for slice_ in work.slices:
            until_s = max(hearing.until_s(place) for place in work.places((slice_,)))
            delay_s = max(0.0, until_s - perf_counter())
            one.timers[slice_] = self._loop.call_later(delay_s, self._overdue, one, slice_)
        self._under_way.append(one)
        one.found = self._beside.run(hearing.advance, lambda: self._back(one))

    def finish(self) -> None:
        """Answer all that is refined, now."""
        for one in tuple(self._under_way):
            if one.found is not None:
                wait([one.found])
            self._back(one)

    def _overdue(self, one: _Refining, slice_: Slice) -> None:
        del one.timers[slice_]
        self._tell(one, (slice_,), one.so_far)

    def _back(self, one: _Refining) -> None:
        """A member has been asked, perhaps in vain."""
        if one not in self._under_way:
            return  # ``finish`` came first
        self._under_way.remove(one)
        if not self._under_way:
            self.free_s = 0.0
        left = tuple(one.timers)
        for timer in one.timers.values():
            timer.cancel()
        one.timers.clear()
        is_sound = one.found is not None and one.found.exception() is None
        if one.found is not None and not is_sound:
            _log.error("a cascade could not be refined", exc_info=one.found.exception())
        self._heard(one.hearing.asked, one.work.requests)
        if left:
            self._tell(one, left, one.hearing.verdict() if is_sound else one.so_far)

    def _tell(self, one: _Refining, slices: Collection[Slice], verdict: Verdict) -> None:
        try:
            self._answer(one.work.part(slices), verdict.part(one.work.places(slices)))
        except Exception:  # noqa: BLE001  a bug must not leave its clients waiting: they are told, and so are we
            _log.exception("a batch of a cascade could not be answered")
            self._fail(slices)
