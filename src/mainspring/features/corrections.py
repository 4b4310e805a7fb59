"""Corrections in the live fold: where the latest version of each row is, so that the next one finds what it replaces.

For each view over a corrected source the store keeps, by source and id, the stamps of the latest version and the key
that it counts for. An entry is forgotten once no version of its row can lie in a window that may still be asked about;
one of a view that looks back to the beginning never is, and such a view lets go of no event.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.definitions.features import SOURCE
from mainspring.events.versions import UNTIL_OFFSET
from mainspring.features.keys import encode_key
from mainspring.features.streams import row_name

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef
    from mainspring.features.layout import Layout
    from mainspring.features.store import ViewState
    from mainspring.features.streams import Batch

_VIEW = struct.Struct(">I")
_ENTRY = struct.Struct("<qqq")  # time, known_at, offset; then the key that it counts for, nothing if for none
_STAMPS = _ENTRY.unpack_from
_SWEPT = 16  # entries looked at in each fold, besides two for each one written


@dataclass(slots=True)
class Settled:
    """What a batch changes in a view.

    Attributes:
        counts: bool[n], which events of the batch are to be folded.
        removed: int64 (time, known_at, offset) of the events that they replace, by key, rising.
    """

    counts: np.ndarray
    removed: dict[bytes, list[tuple[int, int, int]]] = field(default_factory=dict)


class Versions:
    """The latest versions of rows, in a database of the online store."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def settle(
        self,
        txn: Any,
        layout: Layout,
        state: ViewState,
        batch: Batch,
        keys: Sequence[bytes],
        codes: np.ndarray,
        horizon_us: int,
    ) -> Settled:
        """Note the versions of a batch; which of its events count, and which earlier ones count no more.

        Args:
            txn: The fold's own.
            layout: Of the view.
            state: Of the view; events up to its offset are known already.
            batch: Of the view's stream.
            keys: Of the entities.
            codes: int64[n], the key of each event of the batch, −1 for none.
            horizon_us: Events before it are outside every moment that may still be asked about.
        """
        offsets = batch.stamps[2].tolist()
        counts = (batch.stamps[2] > state.offset) & ~batch.deletes
        newest: dict[bytes, int] = {}  # row of the latest version of each id in the batch
        knowns = batch.stamps[1].tolist()
        for i, ident in enumerate(batch.ids):
            if ident is None or offsets[i] <= state.offset:
                continue
            other = newest.get(ident)
            if other is None:
                newest[ident] = i
            else:
                newer = (knowns[i], offsets[i]) > (knowns[other], offsets[other])
                newest[ident] = i if newer else other
                counts[other if newer else i] = False
        settled = Settled(counts)
        if not newest:
            return settled
        times = batch.stamps[0].tolist()
        named = np.where(batch.deletes, -1, codes).tolist()
        prefix = _VIEW.pack(state.id)
        entries: list[tuple[bytes, bytes]] = []
        with txn.cursor(self._db) as cursor:
            places = sorted(newest)
            before = dict(cursor.getmulti([prefix + ident for ident in places]))
            for ident in places:
                i = newest[ident]
                found = before.get(prefix + ident)
                if found is not None:
                    time_us, known_us, offset = _STAMPS(found)
                    if (known_us, offset) > (knowns[i], offsets[i]):  # history behind a version that is known already
                        counts[i] = False
                        continue
                    if replaced := bytes(found[_ENTRY.size :]):
                        settled.removed.setdefault(replaced, []).append((time_us, known_us, offset))
                key = keys[named[i]] if named[i] >= 0 else b""
                entries.append((prefix + ident, _ENTRY.pack(times[i], knowns[i], offsets[i]) + key))
            cursor.putmulti(entries)
        for stamps in settled.removed.values():
            stamps.sort()
        self._sweep(txn, layout, state, horizon_us, 2 * len(entries) + _SWEPT)
        return settled

    def key_of(self, txn: Any, state: ViewState, ident: bytes) -> bytes:
        """The key that the latest version of a row counts for; empty if it counts for none, or is not known."""
        found = txn.get(_VIEW.pack(state.id) + ident, db=self._db)
        return b"" if found is None else bytes(found[_ENTRY.size :])

    def latest(self, layout: Layout, history: pl.DataFrame, upto: int, horizon_us: int) -> pl.DataFrame:
        """What ``put`` is to note of history: the latest versions among the events up to an offset.

        Args:
            layout: Of the view.
            history: ``stream`` of the view.
            upto: The offset.
            horizon_us: As for ``settle``.
        """
        view = layout.view
        corrected = [s.name for s in view.sources if s.corrects is not None]
        if not corrected:
            return pl.DataFrame()
        known = pl.col("_id").is_not_null() & pl.col(SOURCE).is_in(corrected) & (pl.col("_offset") <= upto)
        if not _keeps_all(layout):
            known &= pl.col("_known_at").dt.timestamp("us") >= horizon_us - _future_us(view)
        return (
            history.filter(known)
            .sort("_known_at", "_offset")
            .unique([SOURCE, "_id"], keep="last")
            .select(
                SOURCE,
                "_id",
                pl.col("_time", "_known_at").dt.timestamp("us"),
                "_offset",
                pl.col(UNTIL_OFFSET).eq_missing(pl.col("_offset")).alias("_is_delete"),
                *view.entity,
            )
        )

    def put(self, txn: Any, state: ViewState, latest: pl.DataFrame) -> None:
        """Note the versions that ``latest`` found."""
        prefix = _VIEW.pack(state.id)
        for source, ident, time_us, known_us, offset, is_delete, *parts in latest.iter_rows():
            key = None if is_delete else encode_key(parts)
            place = prefix + row_name(source, ident)
            txn.put(place, _ENTRY.pack(time_us, known_us, offset) + (key or b""), db=self._db)

    def _sweep(self, txn: Any, layout: Layout, state: ViewState, horizon_us: int, limit: int) -> None:
        """Look at some entries, beginning where the last sweep ended, and forget those that nothing can ask for.

        An event's time is at most ``future`` after it was known, and so is that of any older version of its row.
        """
        if _keeps_all(layout):
            return
        before_us = horizon_us - _future_us(layout.view)
        prefix = _VIEW.pack(state.id)
        with txn.cursor(self._db) as cursor:
            found = cursor.set_range(prefix + state.sweep)
            while found and limit and cursor.key()[:4] == prefix:
                limit -= 1
                known_us = _STAMPS(cursor.value())[1]
                found = cursor.delete() if known_us < before_us else cursor.next()
            is_over = not found or cursor.key()[:4] != prefix
            state.sweep = b"" if is_over else bytes(cursor.key()[4:])


def _keeps_all(layout: Layout) -> bool:
    return layout.keeps_past or layout.keeps_all


def _future_us(view: ViewDef) -> int:
    return max(s.future_us for s in view.sources)
