"""The live driver: micro-batches of the log folded into the online store, state and offset in one transaction.

A batch becomes columns once for each stream of sources, and entities once for each set of columns that name them; then
one call a view appends to the heads of all its keys (``heads``); what does not fit there goes key by key (``tiers``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.core.errors import ConfigError, NotFoundError, RefusedError
from mainspring.definitions import ViewDef
from mainspring.definitions.features import SOURCE
from mainspring.events.record import Stretch
from mainspring.events.versions import UNTIL_OFFSET, visible
from mainspring.features.corrections import Versions
from mainspring.features.enrich import FrameOf
from mainspring.features.entities import Entities, KeyEvents
from mainspring.features.history import group_events, instants
from mainspring.features.keys import encode_key
from mainspring.features.layout import Layout, compile_view
from mainspring.features.state import REBUILD, Sizes
from mainspring.features.statistics import Statistics
from mainspring.features.store import BUILDING, OnlineStore, Root, ViewState, shelf_of
from mainspring.features.streams import Stream, streams_of, with_used
from mainspring.features.sweep import Sweep
from mainspring.features.used import UsedViews
from mainspring.features.words import key_of
from mainspring.features.writer import Writer

if TYPE_CHECKING:
    from mainspring.events.record import Record
    from mainspring.features.streams import Batch

WORDS = 1_000_000  # remembered to be stored
BUILT_EVENTS = 50_000  # of a view that is being built, in one transaction


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
        sizes: How many events make a block, and so on; by the views' widths if not given.

    Attributes:
        sources: Names of those whose events the views read.
    """

    def __init__(self, views: Iterable[ViewDef], store: OnlineStore, sizes: Sizes | None = None) -> None:
        self.store = store
        self.layouts = {label_of(view): compile_view(view) for view in with_used(views)}
        self._streams = streams_of(self.layouts.values())
        self.sources = frozenset(source.name for stream in self._streams for source in stream.sources)
        self._sizes = sizes
        self._sweep = Sweep()
        self._statistics = Statistics(store.statistics)
        self._versions = Versions(store.versions)
        self._used = UsedViews(self.layouts, store, self._versions)
        self._words: set[float] = set()  # whose texts are stored, as of the commit ``_commits``
        self._commits = -1
        with store.write() as (_, root):
            if root.offset == 0:
                for label in self.layouts:
                    if label not in root.views:
                        root.views[label] = _new(root, self.layouts[label], 0)
            self.offset = root.offset

    @contextmanager
    def _write(self) -> Iterator[tuple[Any, Root]]:
        """A transaction, if nobody else has folded since our last; what is remembered holds once it commits."""
        try:
            with self.store.write() as (txn, root):
                self._check(root)
                if root.commits != self._commits + 1:
                    self._forget()
                self._commits = root.commits
                yield txn, root
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._statistics.forget()
        self._words.clear()

    def _check(self, root: Root) -> None:
        if root.offset != self.offset:
            raise RefusedError(
                "MS-F304",
                f"the store stands at {root.offset}, this folder left it at {self.offset}",
                where=str(self.store.path),
                why="another process has folded meanwhile; going on would count events twice",
                hint="stop one of the two workers",
            )

    def behind(self) -> list[tuple[ViewDef, int | None]]:
        """Views that are not at the store's offset, each with its own: None for one that needs a backfill."""
        root = self.store.root()
        found = [(layout.view, root.views.get(label)) for label, layout in self.layouts.items()]
        return [
            (view, None if state is None or state.offset == BUILDING else state.offset)
            for view, state in found
            if state is None or state.offset < root.offset or state.offset == BUILDING
        ]

    def fold(self, records: Sequence[Record]) -> int:
        """Fold the next records of the log, of any source, in one transaction; the new offset.

        Records at or before the folded offset are skipped. A view that is ahead (backfilled further) waits for its own.

        Raises:
            RefusedError: Another process has folded meanwhile (MS-F304), or records are missing in between (MS-F305).
            BackPressureError: The store is full (MS-F302); nothing was folded.
        """
        if records and records[0].offset <= self.offset:
            records = [r for r in records if r.offset > self.offset]
        return self.fold_stretch(Stretch.of(records)) if records else self.offset

    def fold_stretch(self, stretch: Stretch) -> int:
        """Fold the next stretch of the log, with the records of ``sources``, as ``fold`` does; the new offset."""
        if stretch.first != self.offset + 1:
            what = f"the fold stands at {self.offset}, the next record is {stretch.first}"
            why = "records in between would never count"
            raise RefusedError("MS-F305", what, where=str(self.store.path), why=why, hint=REBUILD)
        end = stretch.last
        with self._write() as (txn, root):
            ready = self._ready(root)
            if stretch.records:
                self._update(txn, root, ready, stretch.records)
            root.clock_us = max(root.clock_us, stretch.known_at_us)
            for state in ready.values():
                state.offset = max(state.offset, end)
            root.offset = end
            swept = {state.id: (self.layouts[label], state) for label, state in ready.items()}
            self._sweep.step(self.store, txn, swept, root.clock_us)
        self.offset = end
        return end

    def catch_up(self, view: ViewDef, records: Sequence[Record], frame_of: FrameOf | None = None) -> int:
        """Fold records of the log into one view that is behind, up to the store's offset; the view's new offset.

        Args:
            view: One of the folder's views.
            records: Of the log, without gaps; those that the view has passed are skipped.
            frame_of: History of a source by its name, with all of these records in it; for a view that uses others,
                which are farther than it and have let go of what its events saw: that is replayed.

        Raises:
            NotFoundError: The view has no state (MS-F306).
            ConfigError: A view that uses others, without ``frame_of`` (MS-F307).
        """
        if view.using and frame_of is None:
            what = f"view {view.name} uses others: to catch up it needs their history"
            raise ConfigError("MS-F307", what, hint="catch_up(view, records, history.frame)")
        with self._write() as (txn, root):
            label = label_of(view)
            state = root.views.get(label)
            if state is None or state.offset == BUILDING:
                raise NotFoundError("MS-F306", f"view {label} has no state in {self.store.path}", hint=REBUILD)
            mine = [r for r in records if state.offset < r.offset <= root.offset]
            if mine:
                self._update(txn, root, {label: state}, mine, frame_of)
                state.offset = mine[-1].offset
            return state.offset

    def backfill(self, view: ViewDef, history: pl.DataFrame, upto: int) -> int:
        """Build a view's state anew from history, as ``building`` does; the number of events that count in it."""
        return max(of for _, of in self.building(view, history, upto))

    def building(self, view: ViewDef, history: pl.DataFrame, upto: int) -> Iterator[tuple[int, int]]:
        """Build a view's state anew from history, in short transactions between which ``fold`` may be called.

        The view is not served until the last one has been committed, and is to be built anew if that never comes.

        Args:
            view: One of the folder's views.
            history: ``History.frame`` of the view's source; rows after ``upto`` are left out.
            upto: Log offset that the state then stands at. Behind the store's: ``catch_up``. Ahead: it serves once the
                store is there.

        Yields:
            Events done, and how many count in all.
        """
        label = label_of(view)
        layout = self.layouts[label]
        with self._write() as (txn, root):
            old = root.views.get(label)
            if old is not None:
                self.store.drop(old, txn)
                self._forget()
            state = root.views[label] = _new(root, layout, BUILDING)
            number, clock_us = state.id, root.clock_us
        came = history.filter(pl.col("_offset") <= upto)
        if came.height:
            clock_us = max(clock_us, int(instants(came["_known_at"]).max()))
        horizon_us = layout.horizon_us(clock_us)
        latest = self._versions.latest(layout, history, upto, horizon_us)
        counted = visible(came, upto)
        if not layout.keeps_past:
            counted = counted.filter(pl.col("_time").dt.timestamp("us") >= horizon_us)
        grouped = group_events(layout, counted)
        events = grouped.events.shape[1]
        yield 0, events
        with self._write() as (txn, root):
            state = _under_construction(root, label, number)
            self._count_history(txn, layout, state, came)
            self._keep_texts(txn, root, Stream([layout]).texts(came))
        for a in range(0, latest.height, BUILT_EVENTS):
            with self._write() as (txn, root):
                self._versions.put(txn, _under_construction(root, label, number), latest[a : a + BUILT_EVENTS])
        named = [(encode_key(row), i) for i, row in enumerate(grouped.keys.iter_rows())]
        keys = sorted((key, i) for key, i in named if key is not None)
        ranks = np.array([i for _, i in keys], np.int64)
        firsts, ends = grouped.starts[ranks], np.cumsum(np.diff(grouped.starts)[ranks])
        done = 0
        while done < len(keys):
            before = int(ends[done - 1]) if done else 0
            after = max(done + 1, int(np.searchsorted(ends, before + BUILT_EVENTS)))
            starts = np.append(0, ends[done:after] - before)
            order = np.repeat(firsts[done:after] - starts[:-1], np.diff(starts)) + np.arange(starts[-1])
            with self._write() as (txn, root):
                state = _under_construction(root, label, number)
                chosen = KeyEvents([key for key, _ in keys[done:after]], starts, order, grouped.events)
                self._writer(txn, root, layout, state, clock_us, upto).append(chosen)
            done = after
            yield int(ends[done - 1]), events
        with self._write() as (_, root):
            root.clock_us = max(root.clock_us, clock_us)
            _under_construction(root, label, number).offset = upto

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
                self.store.drop(state, txn)
                self._forget()

    def _ready(self, root: Root) -> dict[str, ViewState]:
        """Views that take the next records: they and those that they use stand where the store does, or ahead."""
        ready: dict[str, ViewState] = {}
        for label, layout in self.layouts.items():
            state = root.views.get(label)
            is_there = state is not None and state.offset >= root.offset
            if state is not None and is_there and all(label_of(used) in ready for used in layout.view.using):
                ready[label] = state
        return ready

    def _update(
        self,
        txn: Any,
        root: Root,
        views: dict[str, ViewState],
        records: Sequence[Record],
        frame_of: FrameOf | None = None,
    ) -> None:
        """Fold records into views; what is let go of lies behind the clock as it was before them.

        ``views`` are to be folded, by label; with ``frame_of`` None, those that they use are among them and are read as
        they stand; else used views are replayed from there.
        """
        pieces = self._used.pieces(txn, root, views, records) if frame_of is None else [records]
        for piece in pieces:
            self._fold_piece(txn, root, views, piece, frame_of)

    def _fold_piece(
        self,
        txn: Any,
        root: Root,
        views: dict[str, ViewState],
        records: Sequence[Record],
        frame_of: FrameOf | None,
    ) -> None:
        for stream in self._streams:
            states = [views.get(label_of(layout.view)) for layout in stream.layouts]
            batch = stream.batch(records) if any(states) else None
            if batch is None:
                continue
            if stream.using:
                batch = replace(batch, frame=self._used.frame(txn, root, views, stream, batch, frame_of))
            self._keep_texts(txn, root, stream.texts(batch.frame))
            entities: dict[tuple[str, ...], Entities] = {}
            for layout, state, values in zip(stream.layouts, states, stream.values(batch.frame), strict=True):
                if state is None:
                    continue
                entity = layout.view.entity
                if entity not in entities:
                    entities[entity] = Entities.of(batch.frame, entity)
                own = entities[entity]
                writer = self._writer(txn, root, layout, state, root.clock_us, records[-1].offset)
                counts = batch.stamps[2] > state.offset
                came = counts & (own.codes >= 0) & ~batch.deletes
                self._count(txn, stream, layout, state, batch, values, came)
                if stream.is_corrected:
                    settled = self._versions.settle(txn, layout, state, batch, own.keys, own.codes, writer.horizon_us)
                    writer.remove(settled.removed)
                    counts = settled.counts
                events = np.concatenate((batch.stamps, values.view(np.int64)))
                writer.append(own.grouped(events, counts))

    def _count(
        self,
        txn: Any,
        stream: Stream,
        layout: Layout,
        state: ViewState,
        batch: Batch,
        values: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        """Statistics of what came."""
        for place, source in enumerate(stream.sources):
            which = np.flatnonzero(counts & (batch.source == place))
            if len(which):
                times, knowns = batch.stamps[0][which], batch.stamps[1][which]
                self._statistics.add(txn, state.id, layout, source.name, times, knowns, values[:, which])

    def _count_history(self, txn: Any, layout: Layout, state: ViewState, came: pl.DataFrame) -> None:
        """Statistics of years at once; deletes, and what names no entity, are not counted."""
        known = came.filter(pl.all_horizontal(pl.col(layout.view.entity).is_not_null()))
        if UNTIL_OFFSET in came.columns:
            known = known.filter(pl.col(UNTIL_OFFSET).ne_missing(pl.col("_offset")))
        sources = layout.view.sources
        for source in sources:
            mine = known if len(sources) == 1 else known.filter(pl.col(SOURCE) == source.name)
            if mine.height:
                (values,) = Stream([layout]).values(mine)
                times, knowns = instants(mine["_time"]), instants(mine["_known_at"])
                self._statistics.add(txn, state.id, layout, source.name, times, knowns, values)

    def _keep_texts(self, txn: Any, root: Root, texts: dict[float, str]) -> None:
        """Store the texts of words that are not there yet; of two that share a word, the first one stays."""
        for word, text in texts.items():
            if word in self._words:
                continue
            raw = text.encode()
            if not txn.put(key_of(word), raw, overwrite=False, db=self.store.words):
                root.collisions += txn.get(key_of(word), db=self.store.words) != raw
            self._words.add(word)
        if len(self._words) > WORDS:
            self._words.clear()

    def _writer(self, txn: Any, root: Root, layout: Layout, state: ViewState, clock_us: int, offset: int) -> Writer:
        horizon_us = layout.horizon_us(clock_us)
        before_us = layout.hops_before_us(clock_us)
        return Writer(self.store, txn, root.commits, layout, state, self._sizes, horizon_us, before_us, offset)


def _under_construction(root: Root, label: str, number: int) -> ViewState:
    """The state of a view that is being built.

    Raises:
        RefusedError: It is another one by now (MS-F304).
    """
    state = root.views.get(label)
    if state is None or state.id != number:
        raise RefusedError("MS-F304", f"view {label} is being built by somebody else", hint="stop one of the two")
    return state


def _new(root: Root, layout: Layout, offset: int) -> ViewState:
    """State of a view that begins now, under an id that was never used."""
    state = ViewState(root.next_id, offset, generation=root.next_id, shelf=shelf_of(layout.view.entity))
    root.next_id += 1
    return state
