"""The live driver: micro-batches of the log folded into the online store, state and offset in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.definitions import SourceDef, ViewDef
from mainspring.features.history import group_events
from mainspring.features.keys import encode_key
from mainspring.features.layout import Layout, SourceLayout, compile_view, rows_of
from mainspring.features.state import REBUILD, KeyState
from mainspring.features.store import KeyBlocks, OnlineStore, Root, ViewState, head_key

if TYPE_CHECKING:
    from mainspring.events.record import Record

HEADS = 8_192  # remembered between folds; each is at most about 20 KB


def label_of(view: ViewDef) -> str:
    """Name of a view version in the store."""
    return f"{view.name}@{view.version}"


class Folder:
    """Folds the log into the state of some views.

    A view that the store has never seen starts empty if nothing has been folded yet; else it is ``behind`` and stays
    unavailable until ``backfill`` and ``catch_up`` have brought it to the store's offset.

    Args:
        views: The views to fold.
        store: Opened for writing.
    """

    def __init__(self, views: Iterable[ViewDef], store: OnlineStore) -> None:
        self.store = store
        self.layouts = {label_of(view): compile_view(view) for view in views}
        sources: dict[str, tuple[SourceDef, list[Layout]]] = {}
        for layout in self.layouts.values():
            (source,) = layout.view.sources
            sources.setdefault(source.version, (source, []))[1].append(layout)
        self._sources = [SourceLayout(source, layouts) for source, layouts in sources.values()]
        self._heads: dict[bytes, KeyState] = {}  # as of the commit ``_commits``
        self._commits = -1
        with store.write() as (_, root):
            if root.offset == 0:
                for label in self.layouts:
                    if label not in root.views:
                        root.views[label] = _new(root, 0)
            self.offset = root.offset

    @contextmanager
    def _write(self) -> Iterator[tuple[Any, Root]]:
        """A transaction of the store, if nobody else has folded since ours; heads are remembered once it commits."""
        try:
            with self.store.write() as (txn, root):
                self._check(root)
                if root.commits != self._commits + 1:
                    self._heads.clear()
                self._commits = root.commits
                yield txn, root
        except BaseException:
            self._heads.clear()
            raise

    def behind(self) -> list[tuple[ViewDef, int | None]]:
        """Views that are not at the store's offset, each with its own: None for one that needs a backfill."""
        root = self.store.root()
        found = [(layout.view, root.views.get(label)) for label, layout in self.layouts.items()]
        return [
            (view, None if state is None else state.offset)
            for view, state in found
            if state is None or state.offset < root.offset
        ]

    def fold(self, records: Sequence[Record]) -> int:
        """Fold the next records of the log, of any source, in one transaction; the new offset.

        Records at or before the folded offset are skipped. A view that is ahead (backfilled further) waits for its own.

        Raises:
            RefusedError: Another process has folded meanwhile (MS-F304), or records are missing in between (MS-F305).
            BackPressureError: The store is full (MS-F302); nothing was folded.
        """
        records = [r for r in records if r.offset > self.offset]
        if not records:
            return self.offset
        if records[0].offset != self.offset + 1:
            raise RefusedError(
                "MS-F305",
                f"the fold stands at {self.offset}, the next record is {records[0].offset}",
                where=str(self.store.path),
                why="records in between would never count",
                hint=REBUILD,
            )
        end = records[-1].offset
        with self._write() as (txn, root):
            ready = {label: s for label, s in root.views.items() if label in self.layouts and s.offset >= root.offset}
            root.clock_us = max(root.clock_us, *(r.known_at_us for r in records))
            self._update(txn, root, ready, records)
            for state in ready.values():
                state.offset = max(state.offset, end)
            root.offset = end
        self.offset = end
        return end

    def catch_up(self, view: ViewDef, records: Sequence[Record]) -> int:
        """Fold records into one view that is behind; the view's new offset.

        Args:
            view: Backfilled before.
            records: Of the log, without gaps; those that the view or the store has not reached or has passed are
                skipped.

        Raises:
            NotFoundError: The view was never backfilled (MS-F306).
            RefusedError: Records are missing in between (MS-F305).
        """
        label = label_of(view)
        with self._write() as (txn, root):
            state = root.views.get(label)
            if state is None or label not in self.layouts:
                raise NotFoundError("MS-F306", f"view {view.name} has no state", hint=REBUILD)
            records = [r for r in records if state.offset < r.offset <= root.offset]
            if records:
                if records[0].offset != state.offset + 1:
                    what = f"view {view.name} stands at {state.offset}, records go on at {records[0].offset}"
                    raise RefusedError("MS-F305", what, hint=REBUILD)
                self._update(txn, root, {label: state}, records)
                state.offset = records[-1].offset
            return state.offset

    def backfill(self, view: ViewDef, history: pl.DataFrame, upto: int) -> int:
        """Build a view's state anew from history, in one transaction; the number of events that count in it.

        Args:
            view: One of the folder's views.
            history: ``History.frame`` of the view's source; rows after ``upto`` are left out.
            upto: Log offset that the state then stands at. Behind the store's: ``catch_up``. Ahead: it serves once the
                store is there.
        """
        layout = self.layouts[label_of(view)]
        history = history.filter(pl.col("_offset") <= upto)
        with self._write() as (txn, root):
            known = history["_known_at"].max()
            if known is not None:
                newest = history["_known_at"].cast(pl.Datetime("us")).cast(pl.Int64).max()
                root.clock_us = max(root.clock_us, int(newest))  # type: ignore[arg-type]
            horizon_us = root.clock_us - layout.keep_us
            if not layout.keeps_past:
                history = history.filter(pl.col("_time").cast(pl.Datetime("us")).cast(pl.Int64) >= horizon_us)
            old = root.views.get(label_of(view))
            if old is not None:
                self.store.drop(old.id, txn)
            state = root.views[label_of(view)] = _new(root, upto)
            if history.height:
                self._build(txn, layout, state, history, horizon_us)
        return history.height

    def skip_to(self, offset: int) -> int:
        """Move the store's offset on to ``offset`` when every view has been backfilled that far; the store's offset.

        Raises:
            RefusedError: A view has not been backfilled that far (MS-F305).
        """
        with self._write() as (_, root):
            if offset > root.offset:
                for label in self.layouts:
                    state = root.views.get(label)
                    if state is None or state.offset < offset:
                        what = f"view {label} has not been backfilled up to {offset}"
                        raise RefusedError("MS-F305", what, hint=REBUILD)
                root.offset = offset
        self.offset = max(self.offset, offset)
        return self.offset

    def drop(self, label: str) -> None:
        """Remove a view version's state (``name@version``)."""
        with self._write() as (txn, root):
            state = root.views.pop(label, None)
            if state is not None:
                self.store.drop(state.id, txn)

    def _check(self, root: Root) -> None:
        if root.offset != self.offset:
            raise RefusedError(
                "MS-F304",
                f"the store stands at {root.offset}, this folder left it at {self.offset}",
                where=str(self.store.path),
                why="another process has folded meanwhile; going on would count events twice",
                hint="stop one of the two workers",
            )

    def _update(self, txn: Any, root: Root, views: dict[str, ViewState], records: Sequence[Record]) -> None:
        for source in self._sources:
            mine = [r for r in records if r.source == source.source.name]
            wanted = [views.get(label_of(layout.view)) for layout in source.layouts]
            if not mine or not any(wanted):
                continue
            mine.sort(key=lambda r: (r.time_us, r.known_at_us, r.offset))
            rows = rows_of(mine, source.source)
            stamps = np.array([(r.time_us, r.known_at_us, r.offset) for r in mine], np.int64).T
            every = source.values(source.frame(rows))
            for layout, state, values, places in zip(source.layouts, wanted, every, source.entity_places, strict=True):
                if state is None:
                    continue
                events = np.concatenate((stamps, values.view(np.int64)))
                by_key: dict[bytes, list[int]] = {}
                for i, row in enumerate(rows):
                    if mine[i].offset > state.offset:
                        key = encode_key([row[place] for place in places])
                        if key is not None:
                            by_key.setdefault(key, []).append(i)
                horizon_us = root.clock_us - layout.keep_us
                for key, which in by_key.items():
                    self._put(txn, layout, state, key, events[:, which], horizon_us, records[-1].offset)

    def _put(
        self, txn: Any, layout: Layout, state: ViewState, key: bytes, events: np.ndarray, horizon_us: int, offset: int
    ) -> None:
        place = head_key(state.id, key)
        head = self._heads.get(place)
        if head is None:
            raw = txn.get(place, db=self.store.heads)
            head = KeyState.empty(len(layout.columns)) if raw is None else KeyState.unpack(raw)
            if len(self._heads) >= HEADS:
                self._heads.clear()
            self._heads[place] = head
        blocks = KeyBlocks(self.store, txn, place)
        state.too_old += head.insert(events, horizon_us, keeps_past=layout.keeps_past, blocks=blocks)
        head.changed = offset
        head.rewrites += 1
        txn.put(place, head.pack(), db=self.store.heads)

    def _build(self, txn: Any, layout: Layout, state: ViewState, history: pl.DataFrame, horizon_us: int) -> None:
        grouped = group_events(layout, history)
        ends = grouped.starts.tolist()
        for row, a, b in zip(grouped.keys.iter_rows(), ends, ends[1:], strict=False):
            key = encode_key(row)
            if key is not None:
                events = np.ascontiguousarray(grouped.events[:, a:b])
                self._put(txn, layout, state, key, events, horizon_us, state.offset)


def _new(root: Root, offset: int) -> ViewState:
    """State of a view that begins now, under an id that was never used."""
    state = ViewState(root.next_id, offset, generation=root.next_id)
    root.next_id += 1
    return state
