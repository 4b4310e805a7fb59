"""Where an event goes: the shape that its record has, and what else appending to its source needs."""

from __future__ import annotations

import lmdb
import msgspec

from mainspring.definitions.values import SourceDef
from mainspring.events.record import Shape, stored_default
from mainspring.events.seen import Hasher, Memory
from mainspring.events.system import PREDICTION

_encode = msgspec.msgpack.Encoder().encode


class Target:
    """What appending to one source needs, looked up once."""

    __slots__ = (
        "corrects_at",
        "deprecated",
        "future_us",
        "hasher",
        "id_at",
        "is_prediction",
        "known_at",
        "memory",
        "number",
        "source",
        "time_at",
    )

    def __init__(self, source: SourceDef, number: int, memory: Memory) -> None:
        places = source.places
        self.source = source
        self.number = number
        self.memory = memory
        self.hasher = Hasher(source.name)
        self.time_at = places[source.time]
        self.known_at = places[source.known_at or source.time]
        self.id_at = None if source.id is None else places[source.id]
        self.corrects_at = None if source.corrects is None else places[source.corrects]
        self.future_us = source.future_us
        self.is_prediction = source.name == PREDICTION.name
        self.deprecated = tuple(
            (f"{source.name}:{f.name}", i, stored_default(f)) for i, f in enumerate(source.fields) if f.about.deprecated
        )


class Shapes:
    """The shapes that records of the log have, by number, with the index of their id."""

    def __init__(self, db: lmdb._Database) -> None:
        self._db = db
        self.known: dict[int, tuple[Shape, int | None]] = {}

    def load(self, txn: lmdb.Transaction[bytes]) -> None:
        """Read those that are not known yet."""
        with txn.cursor(db=self._db) as cursor:
            for key, raw in cursor:
                number = int.from_bytes(key, "big")
                if number not in self.known:
                    shape = msgspec.msgpack.decode(raw, type=Shape)
                    self.known[number] = (shape, shape.id_index)

    def number(self, txn: lmdb.Transaction[bytes], source: SourceDef) -> int:
        """The number of a source's shape as it is defined now, stored if it is new."""
        shape = Shape.of(source)
        for number, (known, _) in self.known.items():
            if known == shape:
                return number
        number = max(self.known, default=0) + 1
        txn.put(number.to_bytes(4, "big"), _encode(shape), db=self._db)
        self.known[number] = (shape, shape.id_index)
        return number
