"""A model's answers, kept for a while: whoever asks the same again is told the same, without features or model.

The key is made of the model, its version, the variant, the versions of its views, and the values of all columns that
any of it reads, but for the request's time: an answer is at most its ``ttl`` old, in every respect. Each lane has a
cache of its own, which goes with the routes that it was made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec
from cachetools import TLRUCache
from msgspec.structs import replace

from mainspring.core.clock import Clock
from mainspring.definitions.values import CacheDef
from mainspring.serving.batcher import Slice, runs
from mainspring.serving.inference import Choice, Repeated
from mainspring.serving.layout import DEFAULT
from mainspring.serving.served import Served
from mainspring.serving.table import Row

ENTRY_BYTES = 1_600
"""What an entry takes beside its key and values: objects and their places in the cache, measured (CPython 3.11)."""
_ENCODE = msgspec.msgpack.Encoder().encode
VARIANT = "champion"


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    choice: Choice
    until_us: int
    size: int


class Cache:
    """The answers of one model, as long as the same routes serve it.

    Args:
        served: Who answers.
        declared: How long and how much.
        clock: The gateway's.
    """

    def __init__(self, served: Served, declared: CacheDef, clock: Clock) -> None:
        self.served = served
        self._ttl_us = declared.ttl_us
        self._places = served.reads
        self._head = _head_of(served)
        self._kept: TLRUCache[bytes, _Kept] = TLRUCache(
            declared.max_bytes, lambda _, kept, __: kept.until_us, clock.now_us, lambda kept: kept.size
        )

    def is_of(self, served: object) -> bool:
        """Whether these are the answers of the same versions, by the same definition."""
        return isinstance(served, Served) and served.model is self.served.model and served.route == self.served.route

    @property
    def size_bytes(self) -> int:
        """What is kept, about."""
        return int(self._kept.currsize)

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    def split(self, slices: Sequence[Slice]) -> tuple[list[Slice], list[Choice], list[Slice]]:
        """The rows whose answer is known, these answers, and the other rows."""
        known: list[Slice] = []
        choices: list[Choice] = []
        other: list[Slice] = []
        for one in slices:
            found = [self._kept.get(self._key(row)) for row in one.job.rows[one.start : one.stop]]
            known += runs(one.job, [kept is not None for kept in found], one.start)
            other += runs(one.job, [kept is None for kept in found], one.start)
            choices += [kept.choice for kept in found if kept is not None]
        return known, choices, other

    def keep(self, row: Row, at_us: int, choice: Choice, id: str, place: int, folded: int) -> None:
        """Keep an answer, if it is whole: by the champion, from features that could all be read.

        Args:
            row: What was asked.
            at_us: The moment of the request.
            choice: What was answered, before output rules.
            id: Of the prediction.
            place: Of the row in what the model saw.
            folded: Offset of the log folded into the features.
        """
        inputs = choice.inputs
        if choice.output is None or choice.fallback is not None or choice.variant != VARIANT or inputs is None:
            return
        if (inputs.status[place] >= DEFAULT).any():
            return
        key = self._key(row)
        alone = inputs.alone(place)
        size = ENTRY_BYTES + 2 * len(key) + alone.values.nbytes + alone.status.nbytes + alone.text_bytes
        if size > self._kept.maxsize:
            return
        kept = replace(choice, inputs=alone, repeats=Repeated(id, folded))
        self._kept[key] = _Kept(kept, at_us + self._ttl_us, size)

    def _key(self, row: Row) -> bytes:
        return self._head + _ENCODE([row[place] for place in self._places])


def _head_of(served: Served) -> bytes:
    """What a key has of who answers: 16 bytes of a hash."""
    version = served.champion.version if served.champion is not None else ""
    views = sorted((view.name, view.version) for view, _ in served.views)
    return blake2b(_ENCODE([served.model.name, version, VARIANT, views]), digest_size=16).digest()
