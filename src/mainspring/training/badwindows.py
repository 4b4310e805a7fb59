"""Windows of a source that failed a blocking check: what they reach is left out of training sets.

An event of a window reaches a row if it was known at the row's moment and one of the row's features looks back so far.
So what is left of a set is exactly what it would be had the window been good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.catalog import BadWindow
from mainspring.definitions import ModelDef, SourceDef, ViewDef
from mainspring.events.versions import UNTIL_KNOWN_AT
from mainspring.training.labels import Bad

_ENDLESS = np.iinfo(np.int64).max


def of_label(model: ModelDef, windows: Sequence[BadWindow]) -> list[Bad]:
    """Spans of knowing in which an outcome says nothing of its unit, and when they were mended."""
    label = model.label
    read = {label.on, *label.value.inputs}
    return [(w.from_us, w.until_us, w.mended_us) for w in windows if w.source == label.source.name and _is_of(w, read)]


def reached(
    model: ModelDef,
    requests: pl.DataFrame,
    windows: Sequence[BadWindow],
    frames: Mapping[str, pl.DataFrame],
) -> npt.NDArray[np.bool_]:
    """Which requests are themselves of a bad window, or have features that look back to one: bool[n].

    A feature without a window or a ``ttl`` remembers for ever: of those only the window's own rows count. Where every
    event of the window has been corrected, or a mend said which of them were wrong, its reach ends with the last
    correction.

    Args:
        model: What the requests are rows of.
        requests: ``_t`` and ``_known_at`` as int64 microseconds.
        windows: Of any source.
        frames: History by source.
    """
    t, known = requests["_t"].to_numpy(), requests["_known_at"].to_numpy()
    out = np.zeros(len(requests), np.bool_)
    asked = {f.name for f in model.features if f.view is None} | {c for v in model.views for c in v.entity}
    asked |= {c for f in model.features if f.expression is not None for c in f.expression.inputs}
    for window in windows:
        until = _ENDLESS if window.until_us is None else window.until_us
        if window.source == model.request.name and _is_of(window, asked):
            out |= (known >= window.from_us) & (known < until)
        back = [found for view in model.views for found in _reach(view, window)]
        if back:
            end = until if window.until_us is None else until + max(back)
            end = end if window.restored else min(end, _corrected_us(window, frames.get(window.source)))
            end = end if window.mended_us is None else min(end, window.mended_us)
            out |= (known > window.from_us) & (t < end)
    return out


def _reach(view: ViewDef, window: BadWindow) -> Iterator[int]:
    """How far each feature of a view looks back that is made of the window's column."""
    through = [found for used in view.using for found in _reach(used, window)]
    is_own = any(source.name == window.source for source in view.sources)
    for feature in view.features:
        parts = [part for part in (feature.value, feature.where) if part is not None]
        read = {*view.entity, *(name for part in parts for name in part.inputs)}
        back = feature.reach_us or 0
        if is_own and (_is_of(window, read) or (not parts and _is_time(window, view.sources))):
            yield back
        if through:
            yield back + max(through)


def _is_of(window: BadWindow, read: set[str]) -> bool:
    return window.column is None or window.column in read


def _is_time(window: BadWindow, sources: Sequence[SourceDef]) -> bool:
    return any(source.name == window.source and source.time == window.column for source in sources)


def _corrected_us(window: BadWindow, events: pl.DataFrame | None) -> int:
    """When the last event of a window had been corrected; without end while one stands as it came."""
    if events is None or UNTIL_KNOWN_AT not in events.columns:
        return _ENDLESS
    known = pl.col("_known_at").dt.epoch("us")
    within = known >= window.from_us
    if window.until_us is not None:
        within &= known < window.until_us
    ends = events.filter(within)[UNTIL_KNOWN_AT]
    last = None if ends.null_count() or ends.is_empty() else ends.dt.epoch("us").max()
    return int(last) if isinstance(last, int) else _ENDLESS
