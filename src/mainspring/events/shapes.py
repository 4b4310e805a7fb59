"""The shapes that records of the log have, each stored once."""

from __future__ import annotations

import lmdb
import msgspec

from mainspring.definitions.values import SourceDef
from mainspring.events.record import Shape

_encode = msgspec.msgpack.Encoder().encode


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
