"""What appending an event to the log needs to know of its source."""

from __future__ import annotations

from mainspring.definitions.values import SourceDef
from mainspring.events.record import stored_default
from mainspring.events.seen import Hasher, Memory
from mainspring.events.system import PREDICTION


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
