"""The year as a stream: half-hour ticks of events for the intake and requests for the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import polars as pl

from mainspring.demo.flights import EVENT_TIME, Flights

TICK_US = 1_800_000_000
ID_COLUMNS = {"scheduled": "flight_id", "departed": "flight_id", "arrived": "flight_id", "weather": "observation_id"}
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class Batch:
    """What one source says in one tick.

    Attributes:
        body: Newline-delimited JSON, as a sender would write it.
        ids: Ids of the events in it, in order.
    """

    body: bytes
    ids: list[str]

    @property
    def lines(self) -> list[bytes]:
        """One JSON text an event."""
        return self.body.splitlines()


@dataclass(frozen=True)
class Tick:
    """Everything that happens in ``[start_us, end_us)``: events by source, then the requests of that time."""

    start_us: int
    end_us: int
    events: dict[str, Batch]
    requests: Batch | None


def ticks(flights: Flights, start_us: int, end_us: int, step_us: int = TICK_US) -> Iterator[Tick]:
    """The ticks of ``[start_us, end_us)`` in time order; quiet ones too, since the clock passes through them."""
    sources = {name: _Cut(getattr(flights, name), EVENT_TIME[name], ID_COLUMNS[name]) for name in EVENT_TIME}
    for start in range(start_us, end_us, step_us):
        end = min(start + step_us, end_us)
        cut = {name: batch for name, source in sources.items() if (batch := source.between(start, end)) is not None}
        requests = cut.pop("scheduled", None)
        yield Tick(start, end, cut, requests)


class _Cut:
    """A frame in time order whose stretches become bodies without a search from the start."""

    def __init__(self, frame: pl.DataFrame, time: str, id_column: str) -> None:
        self._times = frame[time].dt.epoch("us").to_numpy()
        self._ids = frame[id_column].to_list()
        texts = [
            pl.col(c).dt.strftime("%Y-%m-%dT%H:%M:%SZ") for c, t in frame.schema.items() if isinstance(t, pl.Datetime)
        ]
        self._frame = frame.with_columns(texts)

    def between(self, start_us: int, end_us: int) -> Batch | None:
        low, high = np.searchsorted(self._times, [start_us, end_us], side="left")
        if low == high:
            return None
        rows = self._frame.slice(int(low), int(high - low)).to_dicts()
        return Batch(_ENCODER.encode_lines(rows), self._ids[low:high])
