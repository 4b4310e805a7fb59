"""Used views in the live fold: read as of each event of a batch, in the transaction that folds it.

Used views are folded before those that use them, whole batches at a time; what an event may see of them is told by when
their events became known. Two things cannot be seen away in that manner: an event that a correction has taken out, and
one so late that it goes straight into what the view has let go of, or into a hop. Before either, a batch is cut if an
event in front of it asks for the same entity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.features.enrich import FrameOf, answered_columns, replayed_columns
from mainspring.features.entities import Entities
from mainspring.features.keys import encode_key
from mainspring.features.layout import LONGEST_US, Layout
from mainspring.features.reader import Reader
from mainspring.features.streams import row_name

if TYPE_CHECKING:
    from mainspring.events.record import Record
    from mainspring.features.corrections import Versions
    from mainspring.features.store import OnlineStore, Root, ViewState
    from mainspring.features.streams import Batch, Stream


class UsedViews:
    """What the events of views see of the views that they use.

    Args:
        layouts: Of all the views that are folded, by ``name@version``.
        store: Being folded into.
        versions: Of the store.
    """

    def __init__(self, layouts: Mapping[str, Layout], store: OnlineStore, versions: Versions) -> None:
        self._layouts = layouts
        self._versions = versions
        self._reader = Reader((), store, 0)

    def frame(
        self,
        txn: Any,
        root: Root,
        states: Mapping[str, ViewState],
        stream: Stream,
        batch: Batch,
        frame_of: FrameOf | None,
    ) -> pl.DataFrame:
        """The batch's frame with what the used views answered at each of its events.

        Args:
            txn: The fold's own.
            root: Of the store, as it was before the batch.
            states: Of the views that are folded now; a used view that is not among them is null.
            stream: Whose batch.
            batch: Of the log.
            frame_of: Where used views are replayed from; None: they are read as they stand.
        """
        times, knowns = batch.stamps[0], batch.stamps[1]
        if frame_of is not None:
            return batch.frame.with_columns(replayed_columns(stream.using, batch.frame, times, knowns, frame_of))
        columns: list[pl.Series] = []
        for used in stream.using:
            label = f"{used.name}@{used.version}"
            layout, state = self._layouts[label], states.get(label)
            values = np.full((len(times), layout.width), np.nan)
            if state is not None:
                own = Entities.of(batch.frame, used.entity)
                keys = [own.keys[code] if code >= 0 else None for code in own.codes.tolist()]
                snapshot = self._reader.within(txn, root)
                moments = np.clip(times, -LONGEST_US, LONGEST_US)
                values, _ = snapshot.read_known(layout, state, keys, moments, knowns - 1)
            # History that comes behind the clock asks for what may have been let go of.
            columns += answered_columns(used, values, times, np.maximum(knowns, root.clock_us))
        return batch.frame.with_columns(columns)

    def pieces(
        self, txn: Any, root: Root, states: Mapping[str, ViewState], records: Sequence[Record]
    ) -> Iterator[Sequence[Record]]:
        """Runs of ``records`` to be folded one after the other, within one transaction.

        Args:
            txn: The fold's own.
            root: Of the store, as it was before the batch.
            states: Of the views that are folded now, by label.
            records: In the order of the log.
        """
        askers: dict[str, set[str]] = {}
        for label in states:
            view = self._layouts[label].view
            for used in view.using:
                askers.setdefault(f"{used.name}@{used.version}", set()).update(s.name for s in view.sources)
        watches = [
            _Watch(self._layouts[label], states[label], names, root.clock_us, self._versions)
            for label, names in askers.items()
            if _can_lose(self._layouts[label])
        ]
        first = 0
        for i, record in enumerate(records if watches else ()):
            if any(watch.loses(txn, record) for watch in watches):
                yield records[first:i]
                first = i
                for watch in watches:
                    watch.begin()
            for watch in watches:
                watch.note(record)
        yield records[first:]


class _Watch:
    """One used view in a piece of a batch.

    Args:
        layout: Of the view.
        state: Of the view.
        askers: Names of the sources whose events ask it.
        clock_us: As it was before the batch.
        versions: Of the store.
    """

    def __init__(self, layout: Layout, state: ViewState, askers: set[str], clock_us: int, versions: Versions) -> None:
        self._entity = layout.view.entity
        self._state = state
        self._askers = askers
        self._versions = versions
        self._sources = {s.name: s.corrects is not None for s in layout.view.sources}
        keeps_past = layout.keeps_past and not layout.keeps_all
        self._horizon_us = clock_us - layout.keep_us if keeps_past else None
        if layout.makes_hops:
            self._horizon_us = layout.hops_before_us(clock_us)
        self._asked: set[bytes] = set()  # keys that an event of the piece has asked for
        self._moved: dict[bytes, bytes] = {}  # where corrections of the piece have left a row

    def begin(self) -> None:
        """Begin a new piece."""
        self._asked.clear()
        self._moved.clear()

    def loses(self, txn: Any, record: Record) -> bool:
        """Whether a record takes something away that an event before it in the piece may have seen."""
        if not self._asked or record.source not in self._sources:
            return False
        if self._horizon_us is not None and record.time_us < self._horizon_us and self._key(record) in self._asked:
            return True
        if not self._sources[record.source] or record.id is None:
            return False
        row = row_name(record.source, record.id)
        before = self._moved[row] if row in self._moved else self._versions.key_of(txn, self._state, row)
        return before in self._asked

    def note(self, record: Record) -> None:
        """Remember whom a record asks for, and where it leaves its row."""
        if record.source in self._askers and (key := self._key(record)) is not None:
            self._asked.add(key)
        if self._sources.get(record.source) and record.id is not None:
            self._moved[row_name(record.source, record.id)] = self._key(record) or b""

    def _key(self, record: Record) -> bytes | None:
        row = record.to_dict()
        return encode_key([row.get(name) for name in self._entity])


def _can_lose(layout: Layout) -> bool:
    corrected = any(s.corrects is not None for s in layout.view.sources)
    return corrected or layout.makes_hops or (layout.keeps_past and not layout.keeps_all)
