"""Ids and content hashes: the same content has the same name everywhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, overload

_ID = re.compile(r"(.{1,100})-(0|[1-9][0-9]{0,17})", re.ASCII | re.DOTALL)


def content_hash(value: Any, length: int = 12) -> str:
    """A short hexadecimal name for a JSON-able value, equal for equal content.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def hash128(*parts: bytes) -> bytes:
    """16 bytes that stand for ``parts``, each with its length, so that ("a", "bc") and ("ab", "c") differ."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "little"))
        digest.update(part)
    return digest.digest()


def prediction_id(epoch: str, sequence: int) -> str:
    """Gateway epoch and sequence, so that a gap in what a gateway answered is seen.

    >>> prediction_id("k3f9", 7)
    'k3f9-7'
    """
    return f"{epoch}-{sequence}"


def numbered(ident: str) -> tuple[str, int] | None:
    """Epoch and sequence of a prediction's id; None of any other text.

    >>> numbered("k3f9-7"), numbered("k3f9-07")
    (('k3f9', 7), None)
    """
    match = _ID.fullmatch(ident)
    return None if match is None else (match[1], int(match[2]))


class PredictionIds(Sequence[str]):
    """Ids of one epoch as the numbers that they are; a text is made when it is asked for.

    >>> PredictionIds("k3f9", range(7, 10))[1:][0]
    'k3f9-8'
    """

    __slots__ = ("epoch", "numbers")

    def __init__(self, epoch: str, numbers: Sequence[int]) -> None:
        self.epoch = epoch
        self.numbers = numbers

    def __len__(self) -> int:
        """How many."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[str]:
        """Their texts."""
        epoch = self.epoch
        return iter([f"{epoch}-{number}" for number in self.numbers])

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> PredictionIds: ...

    def __getitem__(self, place: int | slice) -> str | PredictionIds:
        """The text of one, or some of them."""
        if isinstance(place, slice):
            return PredictionIds(self.epoch, self.numbers[place])
        return prediction_id(self.epoch, self.numbers[place])
