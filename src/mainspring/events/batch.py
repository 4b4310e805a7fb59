"""Rows of one source that came together, as what the log writes of them rather than an object each."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import overload

import msgspec

from mainspring.definitions.values import SourceDef
from mainspring.events.contract import Row
from mainspring.events.drafts import Ack, Draft
from mainspring.events.record import FORMAT, HEADER, KEY

encode_row = msgspec.msgpack.Encoder().encode
decode_row = msgspec.msgpack.Decoder(tuple).decode
Raws = Callable[[], Sequence[bytes | msgspec.Raw]]


class Drafts(Sequence[Draft]):
    """Checked, live rows of one source; a sequence of drafts for whoever has to look at each.

    Attributes:
        source: Whose they are.
    """

    __slots__ = ()
    source: SourceDef

    @property
    @abstractmethod
    def latest_us(self) -> int:
        """The newest event's time."""

    @abstractmethod
    def draft(self, place: int) -> Draft:
        """One row."""

    @abstractmethod
    def records(self, number: int, start: int, known_us: int, now_us: int) -> list[tuple[bytes, bytes]]:
        """What the log keeps of them, by key.

        Args:
            number: Of their shape.
            start: Offset of the first.
            known_us: When the first becomes known.
            now_us: When they are written.
        """

    @overload
    def __getitem__(self, place: int) -> Draft: ...

    @overload
    def __getitem__(self, place: slice) -> list[Draft]: ...

    def __getitem__(self, place: int | slice) -> Draft | list[Draft]:
        """One row, or some."""
        if isinstance(place, slice):
            return [self.draft(i) for i in range(*place.indices(len(self)))]
        return self.draft(place)


class Batch(Drafts):
    """Rows that came as rows.

    Attributes:
        bodies: The rows as the log stores them.
        times: Event times, int64 microseconds.
        idents: Their ids as text; None where the source has none.
        first_wins: As of a ``Draft``.
    """

    __slots__ = ("_came_as", "_raws", "_rows", "_sender", "bodies", "first_wins", "idents", "source", "times")

    def __init__(
        self,
        source: SourceDef,
        bodies: Sequence[bytes],
        times: Sequence[int],
        idents: Sequence[str] | None,
        sender: str,
        *,
        rows: Sequence[Row] | None = None,
        raws: Raws | None = None,
        first_wins: bool = False,
    ) -> None:
        self.source = source
        self.bodies = bodies
        self.times = times
        self.idents = idents
        self.first_wins = first_wins
        self._sender = sender
        self._rows = rows
        self._raws = raws
        self._came_as: Sequence[bytes | msgspec.Raw] | None = None

    @classmethod
    def of_rows(
        cls,
        source: SourceDef,
        rows: Sequence[Row],
        sender: str,
        raws: Raws | None = None,
        *,
        first_wins: bool = False,
    ) -> Batch:
        """Of rows.

        Args:
            source: Whose.
            rows: Checked values.
            sender: Who sent them.
            raws: Gives the bytes that each came as, asked once, and only if they are looked at one by one; None: made
                from the row.
            first_wins: As of a ``Draft``.
        """
        place = source.places[source.time]
        times: list[int] = [row[place] for row in rows]
        idents = None
        if source.id is not None:
            place = source.places[source.id]
            idents = [str(row[place]) for row in rows]
        bodies = list(map(encode_row, rows))
        return cls(source, bodies, times, idents, sender, rows=rows, raws=raws, first_wins=first_wins)

    def __len__(self) -> int:
        """How many rows."""
        return len(self.bodies)

    @property
    def latest_us(self) -> int:
        """The newest event's time."""
        return max(self.times)

    def records(self, number: int, start: int, known_us: int, now_us: int) -> list[tuple[bytes, bytes]]:
        """A record a row."""
        return records_of(self.bodies, self.times, number, start, known_us, now_us)

    def draft(self, place: int) -> Draft:
        """One row."""
        if self._came_as is None and self._raws is not None:
            self._came_as = self._raws()
        raw = None if self._came_as is None else bytes(self._came_as[place])
        row = decode_row(self.bodies[place]) if self._rows is None else self._rows[place]
        return Draft(self.source, row, raw, False, self._sender, None, self.first_wins)


def records_of(
    bodies: Iterable[bytes], times: Sequence[int], number: int, start: int, known_us: int, now_us: int
) -> list[tuple[bytes, bytes]]:
    """Rows as the log keeps them, a record each, by key: see ``Drafts.records``."""
    n, told = len(times), (repeat(FORMAT), repeat(0), repeat(number), repeat(0))
    headers = map(HEADER.pack, *told, times, range(known_us, known_us + n), repeat(now_us))
    return list(zip(map(KEY, range(start, start + n)), map(operator.add, headers, bodies), strict=True))


class Accepted(Sequence[Ack]):
    """Rows all of which were accepted, at offsets from ``first`` on."""

    __slots__ = ("_idents", "first", "size")

    def __init__(self, first: int, size: int, idents: Sequence[str] | None) -> None:
        self.first = first
        self.size = size
        self._idents = idents

    @property
    def last(self) -> int:
        """Offset of the last."""
        return self.first + self.size - 1

    def __len__(self) -> int:
        """How many."""
        return self.size

    @overload
    def __getitem__(self, place: int) -> Ack: ...

    @overload
    def __getitem__(self, place: slice) -> list[Ack]: ...

    def __getitem__(self, place: int | slice) -> Ack | list[Ack]:
        """What became of one row, or of some."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(self.size))]
        place = range(self.size)[place]
        return Ack("accepted", self.first + place, None, None if self._idents is None else self._idents[place])
