"""Writes to the state of one view: events of many keys at once, and removals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mainspring.features.entities import KeyEvents
from mainspring.features.heads import append
from mainspring.features.layout import Layout
from mainspring.features.places import Triple
from mainspring.features.state import HEAD, Sizes
from mainspring.features.store import KeyParts, OnlineStore, ViewState, head_key, head_keys
from mainspring.features.tiers import KeyState


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """The state of a view in one transaction.

    Attributes:
        txn: Of the store.
        commit: The transaction's number.
        sizes: How many events make a block, and so on; by the view's width if None.
        horizon_us: Events before it are outside every window that may still be asked about.
        hops_before_us: ``Layout.hops_before_us``.
        offset: Of the log, that the fold reaches.
    """

    store: OnlineStore
    txn: Any
    commit: int
    layout: Layout
    state: ViewState
    sizes: Sizes | None
    horizon_us: int
    hops_before_us: int
    offset: int

    def append(self, events: KeyEvents) -> None:
        """Fold events: in one call for all keys that need their tails only, then key by key."""
        keys, starts, order, columns = events.keys, events.starts, events.order, events.columns
        if not keys:
            return
        sizes = self.sizes or Sizes.of(len(self.layout.columns))
        trims = 0 if self.layout.keeps_past else 1
        places = head_keys(self.state, keys)
        with self.txn.cursor(self.store.heads) as cursor:
            known = dict(cursor.getmulti(places))
            raws = [known.get(place, b"") for place in places]
            old = np.frombuffer(bytearray().join(raws) or bytearray(8), np.int64)
            old_at = np.zeros(len(keys) + 1, np.int64)
            np.cumsum([len(raw) >> 3 for raw in raws], out=old_at[1:])
            new = np.empty(len(old) + len(keys) * HEAD + columns.shape[0] * len(order), np.int64)
            new_at, slow = np.empty(len(keys) + 1, np.int64), np.empty(len(keys), np.int64)
            batch = columns, order, starts, sizes.tail, self.horizon_us, trims, self.offset
            more = append(old, old_at, *batch, new, new_at, slow)
            heads = new[: new_at[-1]].tobytes()  # slices of bytes: those of a memoryview cost the collector
            ends = (new_at << 3).tolist()
            cursor.putmulti([(place, heads[a:b]) for place, a, b in zip(places, ends, ends[1:], strict=False) if b > a])
        for i in slow[:more].tolist():
            key = self._read(places[i], raws[i])
            mine = np.take(columns, order[starts[i] : starts[i + 1]], axis=1)
            keeps_past, before_us = self.layout.keeps_past, self.hops_before_us
            self.state.too_old += key.insert(mine, self.horizon_us, keeps_past=keeps_past, hops_before_us=before_us)
            self._write(places[i], key)

    def remove(self, removed: Mapping[bytes, Sequence[Triple]]) -> None:
        """Take events out, by their key and (time, known_at, offset); those that are not there are skipped."""
        for name, stamps in removed.items():
            place = head_key(self.state, name)
            key = self._read(place, self.txn.get(place, db=self.store.heads))
            if key.remove_all(stamps):
                self._write(place, key)

    def _read(self, place: bytes, raw: bytes | None) -> KeyState:
        sizes = self.sizes or Sizes.of(len(self.layout.columns))
        return KeyState.read(raw, KeyParts(self.store, self.txn, place), self.layout, sizes)

    def _write(self, place: bytes, key: KeyState) -> None:
        head = key.flush(self.offset, self.commit)
        if key.is_empty:
            self.txn.delete(place, db=self.store.heads)
        else:
            self.txn.put(place, head, db=self.store.heads)
