"""Whose the events of a micro-batch are: each entity once, encoded, and a code for each event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mainspring.features.kernels import group
from mainspring.features.keys import encode_key


@dataclass(frozen=True, eq=False)
class Entities:
    """Whose events are.

    Attributes:
        keys: Each entity once, encoded, in order.
        codes: int64[n], index into ``keys`` of each event, −1 where a part is null.
    """

    keys: list[bytes]
    codes: np.ndarray

    @classmethod
    def of(cls, frame: pl.DataFrame, entity: tuple[str, ...]) -> Entities:
        """Of the rows of ``frame``, by the columns ``entity``."""
        columns = [frame[name].to_list() for name in entity]
        names: list[Any] = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        seen: dict[Any, int] = {}
        found = np.array([seen.setdefault(name, len(seen)) for name in names], np.int64)
        encoded = [encode_key((name,) if len(columns) == 1 else name) for name in seen]
        order = sorted((key, i) for i, key in enumerate(encoded) if key is not None)
        ranks = np.full(len(encoded), -1, np.int64)
        ranks[[i for _, i in order]] = np.arange(len(order))
        return cls([key for key, _ in order], ranks[found])

    def grouped(self, columns: np.ndarray, counts: np.ndarray) -> KeyEvents:
        """Events together by key: those of int64[3 + C, n] for which ``counts``, bool[n], holds."""
        codes = np.where(counts, self.codes, -1)
        starts = np.empty(len(self.keys) + 1, np.int64)
        order = np.empty(int(np.count_nonzero(codes >= 0)), np.int64)
        group(codes, len(self.keys), starts, order)
        has_any = np.flatnonzero(np.diff(starts))
        if len(has_any) == len(self.keys):
            return KeyEvents(self.keys, starts, order, columns)
        keys = [self.keys[i] for i in has_any.tolist()]
        return KeyEvents(keys, np.append(starts[has_any], len(order)), order, columns)


@dataclass(frozen=True, eq=False)
class KeyEvents:
    """Events together by key.

    Attributes:
        keys: Encoded, each with events.
        starts: int64[keys + 1], first place in ``order`` of each key, and the end.
        order: Indices of events: the first key's, in the order (time, known_at, offset), then the next one's.
        columns: int64[3 + C, n], the events, as in ``state``.
    """

    keys: list[bytes]
    starts: np.ndarray
    order: np.ndarray
    columns: np.ndarray
