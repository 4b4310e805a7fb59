"""Features of features: each event of a view that uses others carries their features, as they were at that event.

At an event with time t that became known at k, a used view answers the moment (t, k): its events before t that were
known before k. An event more than the grace late (t < k − 1 h) has none of them: live the used view would answer
``unavailable``, so history says null too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.definitions.expressions import UTC_US
from mainspring.features.keys import encode_key
from mainspring.features.layout import GRACE_US
from mainspring.features.streams import row_name

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef
    from mainspring.events.record import Record
    from mainspring.features.corrections import Versions
    from mainspring.features.layout import Layout
    from mainspring.features.store import ViewState

FrameOf = Callable[[str], pl.DataFrame]
"""History of a source by its name."""


def with_features(view: ViewDef, events: pl.DataFrame, frame_of: FrameOf) -> pl.DataFrame:
    """``events`` with the features of the views that ``view`` uses, replayed at each event.

    Args:
        view: Whose ``using``.
        events: Of the view's sources: their columns, ``_time``, ``_known_at``.
        frame_of: History of a source by its name.
    """
    from mainspring.features.history import instants

    times, knowns = instants(events["_time"]), instants(events["_known_at"])
    columns = [c for used in view.using for c in replayed_columns(used, events, times, knowns, frame_of)]
    return events.with_columns(columns)


def replayed_columns(
    view: ViewDef,
    events: pl.DataFrame,
    times: np.ndarray,
    knowns: np.ndarray,
    frame_of: FrameOf,
) -> list[pl.Series]:
    """What a used view answered at each event, from history.

    Args:
        view: The used view.
        events: Its entity's columns are read.
        times: int64[n], microseconds: the events' times.
        knowns: int64[n], when they became known.
        frame_of: History of a source by its name.
    """
    from mainspring.features.history import stream
    from mainspring.features.replay import replay

    values, _ = replay(view, stream(view, frame_of), events.select(view.entity), times, known_us=knowns)
    return answered_columns(view, values, times, knowns)


def answered_columns(view: ViewDef, values: np.ndarray, times: np.ndarray, knowns: np.ndarray) -> list[pl.Series]:
    """What a used view answers as columns of the events that asked: null where it has no answer; texts are left out.

    Args:
        view: The used view.
        values: float64[n, S], NaN for null.
        times: int64[n], microseconds: the events' times.
        knowns: int64[n], when they became known.
    """
    late = times < knowns - GRACE_US
    columns = []
    for name, kind, answers in zip(view.column_names, view.kinds, values.T, strict=True):
        if kind == "str":
            continue
        column = pl.Series(name, np.where(late, np.nan, answers)).fill_nan(None)
        columns.append(column.cast(pl.Int64).cast(UTC_US) if kind == "datetime" else column)
    return columns


class Pieces:
    """Cuts a batch so that no event sees, through a used view, what became known after it.

    A used view is read as of each event, by when its own events became known. Two things cannot be seen away in that
    manner: an event that a correction has taken out, and one so late that it goes straight into what the view has let
    go of. Before either, a batch is cut if an event in front of it asks for the same entity.

    Args:
        layouts: Views that are used by a view of the batch, with their state.
        users: Names of the sources whose events ask each of them, by ``name@version``.
        versions: Of the store.
        horizons: By ``name@version``: where what a view has let go of begins.
    """

    def __init__(
        self,
        used: Mapping[str, tuple[Layout, ViewState]],
        users: Mapping[str, set[str]],
        versions: Versions,
        horizons: Mapping[str, int],
    ) -> None:
        self._used = used
        self._users = users
        self._versions = versions
        self._horizons = horizons
        self._risky = {label for label, (layout, _) in used.items() if self._can_lose(layout)}

    def of(self, txn: Any, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """Runs of ``records`` to be folded one after the other, within one transaction."""
        if not self._risky:
            yield records
            return
        first = 0
        asked: dict[str, set[bytes]] = {label: set() for label in self._risky}
        moved: dict[str, dict[bytes, bytes]] = {label: {} for label in self._risky}
        for i, record in enumerate(records):
            if any(self._loses(txn, label, record, asked[label], moved[label]) for label in self._risky):
                yield records[first:i]
                first = i
                for label in self._risky:
                    asked[label].clear()
                    moved[label].clear()
            for label in self._risky:
                self._note(label, record, asked[label], moved[label])
        yield records[first:]

    @staticmethod
    def _can_lose(layout: Layout) -> bool:
        corrected = any(s.corrects is not None for s in layout.view.sources)
        return corrected or (layout.keeps_past and not layout.keeps_all)

    def _loses(self, txn: Any, label: str, record: Record, asked: set[bytes], moved: Mapping[bytes, bytes]) -> bool:
        """Whether a record takes something away from a used view that an event before it in the piece may have seen."""
        layout, state = self._used[label]
        source = next((s for s in layout.view.sources if s.name == record.source), None)
        if source is None or not asked:
            return False
        if layout.keeps_past and record.time_us < self._horizons[label] and _key(layout, record) in asked:
            return True
        if source.corrects is None or record.id is None:
            return False
        ident = row_name(record.source, record.id)
        before = moved[ident] if ident in moved else self._versions.key_of(txn, state, ident)
        return before in asked

    def _note(self, label: str, record: Record, asked: set[bytes], moved: dict[bytes, bytes]) -> None:
        layout, _ = self._used[label]
        key = None
        if record.source in self._users[label]:
            key = _key(layout, record)
            if key is not None:
                asked.add(key)
        source = next((s for s in layout.view.sources if s.name == record.source), None)
        if source is not None and source.corrects is not None and record.id is not None:
            moved[row_name(record.source, record.id)] = key or _key(layout, record) or b""


def _key(layout: Layout, record: Record) -> bytes | None:
    row = record.to_dict()
    return encode_key([row.get(name) for name in layout.view.entity])
