"""A batch whose features have been read, and that is being scored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import msgspec

from mainspring.core.traces import Attributes
from mainspring.serving.batcher import Slice
from mainspring.serving.composed import Composed
from mainspring.serving.layout import Gathered
from mainspring.serving.served import Served


class Work(msgspec.Struct, frozen=True, eq=False, dict=True):
    """A batch on its way to its answers.

    Attributes:
        slices: Whose rows, one after the other.
        started_s: When its features began to be read, and ``read_s`` when they were, on ``time.perf_counter``.
    """

    served: Served | Composed
    slices: Sequence[Slice]
    gathered: Gathered
    times_us: Sequence[int]
    started_s: float
    read_s: float

    def tell(self, scored_s: float) -> None:
        """Give each request that has a span its parts: what it waited for, on ``time.perf_counter``."""
        for one in self.slices:
            trace = one.job.trace
            if trace is not None:
                rows: Attributes = {"mainspring.rows": one.stop - one.start}
                batch: Attributes = {
                    "mainspring.model": self.served.model.name,
                    "mainspring.batch_rows": len(self.times_us),
                }
                trace.part("queue", one.job.received_s, self.started_s, rows)
                trace.part("features", self.started_s, self.read_s, batch)
                trace.part("model", self.read_s, scored_s, batch)

    @property
    def requests(self) -> int:
        """Of how many requests the rows are."""
        return requests_of(self.slices)

    @cached_property
    def _rows(self) -> dict[Slice, range]:
        """The places of each slice's rows."""
        found: dict[Slice, range] = {}
        at = 0
        for one in self.slices:
            found[one] = range(at, at + one.stop - one.start)
            at = found[one].stop
        return found

    def places(self, wanted: Collection[Slice]) -> list[int]:
        """The rows of some of the slices, in their order."""
        return [place for one in wanted for place in self._rows[one]]

    def part(self, wanted: Collection[Slice]) -> Work:
        """The work of some of the slices, in their order."""
        places = self.places(wanted)
        times_us = [self.times_us[i] for i in places]
        return Work(self.served, tuple(wanted), self.gathered.part(places), times_us, self.started_s, self.read_s)


def requests_of(slices: Sequence[Slice]) -> int:
    """Of how many requests the rows of slices are."""
    return len({id(one.job) for one in slices})
