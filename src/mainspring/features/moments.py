"""All the columns of a model at given moments, from history: what training sets hold and what parity compares with.

Views are replayed, then the model's expressions run as the gateway runs them (``features.request``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.definitions import MOMENT, Feature, ModelDef, ViewDef
from mainspring.definitions.features import AGGREGATES
from mainspring.features.history import stream
from mainspring.features.operations import Column
from mainspring.features.request import (
    Answer,
    Program,
    column_types,
    of_series,
    piece,
    view_column,
)
from mainspring.features.shares import Progress, events_read, shares, views_asked
from mainspring.features.status import Status
from mainspring.features.together import narrowed, together

_PIECE = 131_072
"""Rows that expressions are computed for at once: what is in between them is held for so many only."""

FrameOf = Callable[[str], pl.DataFrame]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Moments:
    """What a model sees at some moments.

    Attributes:
        columns: By the feature's name, in the model's order: Float64 with NaN for null, bools as 0 and 1; or String
            with null.
        status: Of each, uint8[n], codes of ``Status``.
        broken: By the name of an expression, the rows for which it cannot be computed, such as a strict cast of what
            does not fit, and why: null in ``columns``. Expressions that could be computed for every row are not there.
    """

    columns: Mapping[str, pl.Series]
    status: Mapping[str, Codes]
    broken: Mapping[str, Mapping[int, str]]

    def is_broken(self, name: str) -> npt.NDArray[np.bool_]:
        """Rows for which a feature cannot be computed: bool[n]."""
        rows = np.zeros(len(self.columns[name]), np.bool_)
        rows[list(self.broken.get(name, ()))] = True
        return rows


@dataclass(frozen=True, eq=False)
class Replayed:
    """A view's answers for some moments.

    Attributes:
        values: float64[n, S], NaN for null; instants are microseconds, texts are words.
        status: uint8[n, S].
        texts: String with null, of each column of texts.
    """

    view: ViewDef
    values: Floats
    status: Codes
    texts: Mapping[str, pl.Series]

    def answer(self, column: str) -> pl.Series:
        """One of the view's columns as a model reads it."""
        if column in self.texts:
            return self.texts[column]
        return pl.Series(column, self.values[:, self.places[column]])

    def column(self, column: str) -> Column:
        """One of the view's columns as expressions read it."""
        place = self.places[column]
        texts = self.texts[column].to_list() if column in self.texts else None
        return view_column(self.view.kinds[place], self.values[:, place], texts)

    @cached_property
    def places(self) -> dict[str, int]:
        """Place of each column among the slots."""
        return {name: place for place, name in enumerate(self.view.column_names)}


def features_at(
    model: ModelDef,
    requests: pl.DataFrame,
    frame_of: FrameOf,
    t_us: Any,
    *,
    known_us: Any = None,
    known_offset: Any = None,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
    memory_bytes: int | None = None,
) -> Moments:
    """The model's columns for moments (t, k), as the gateway gives them at those moments.

    Args:
        model: Whose features, of views, of the request, and expressions over both.
        requests: The request's columns, one row a moment.
        frame_of: History of a source by its name, such as ``History.frame``.
        t_us: The times asked about: microseconds int64[n], or a column of datetimes.
        known_us: Events known before this count; or
        known_offset: events up to this log offset do. One of the two, as ``replay`` takes them.
        only: Names of the features to answer; all of them if None.
        progress: Called now and then with how many events are done with and how many there are, of all views.
        memory_bytes: For one replay at a time, as ``replay`` takes it.
    """
    wanted = [f for f in model.features if only is None or f.name in only]
    read = {f.name for f in wanted} | {name for f in wanted if f.expression is not None for name in f.expression.inputs}
    views = [narrowed(view, read) for view in views_asked(model, only)]
    moment = {"known_us": known_us, "known_offset": known_offset}
    replayed = replay_views(views, requests, frame_of, t_us, **moment, progress=progress, memory_bytes=memory_bytes)
    found, broken = _expressions(model, wanted, requests, replayed, instants_of(t_us))
    status: dict[str, Codes] = {}
    for feature in wanted:
        if feature.view is not None:
            of_view = replayed[feature.view.name]
            found[feature.name] = of_view.answer(feature.name)
            status[feature.name] = of_view.status[:, of_view.places[feature.name]]
        elif feature.expression is None:
            column = requests[feature.name]
            is_text = feature.kind == "str"
            found[feature.name] = column.cast(pl.String) if is_text else column.cast(pl.Float64).fill_null(float("nan"))
        if feature.view is None:
            status[feature.name] = _missing(found[feature.name])
    return Moments({f.name: found[f.name] for f in wanted}, {f.name: status[f.name] for f in wanted}, broken)


def tolerance_of(model: ModelDef, feature: Feature) -> float:
    """Relative difference between live and replay that counts as equal for a feature: the greatest of what it reads."""
    if feature.aggregate is not None:
        return AGGREGATES[feature.aggregate.function].tolerance
    if feature.expression is None:
        return 0.0
    tolerances = (
        AGGREGATES[aggregate.function].tolerance
        for view in model.views_of(feature)
        for aggregate in view.features
        if set(view.columns_of(aggregate)) & set(feature.expression.inputs)
    )
    return max(tolerances, default=0.0)


def replay_views(
    views: Sequence[ViewDef],
    requests: pl.DataFrame,
    frame_of: FrameOf,
    t_us: Any,
    *,
    known_us: Any = None,
    known_offset: Any = None,
    progress: Progress | None = None,
    memory_bytes: int | None = None,
) -> dict[str, Replayed]:
    """The answers of some views for moments (t, k), by name; arguments as of ``features_at``.

    Views over the same events are answered by one replay (``together``).
    """
    from mainspring.features.replay import replay

    is_counted = len(views) > 1 or progress is not None
    groups = together(views, events_read(views, frame_of) if is_counted else [0] * len(views))
    told = shares(progress, [group.events for group in groups])
    moment = {"known_us": known_us, "known_offset": known_offset, "memory_bytes": memory_bytes}
    out: dict[str, Replayed] = {}
    for group, share in zip(groups, told, strict=True):
        whole = group.view
        events = stream(whole, frame_of)
        keys = requests.select(whole.entity)
        values, status = replay(whole, events, keys, t_us, **moment, progress=share)
        if share is not None:
            share(1, 1)
        known: dict[float, str] = {}
        if "str" in whole.kinds:
            from mainspring.features.words import texts_of

            known = texts_of(whole, events)
        for view, own in group.parts:
            texts = {
                name: _texts(name, codes, known)
                for name, kind, codes in zip(view.column_names, view.kinds, values.T[own], strict=True)
                if kind == "str"
            }
            out[view.name] = Replayed(view, values[:, own], status[:, own], texts)
    return out


def replay_view(view: ViewDef, requests: pl.DataFrame, frame_of: FrameOf, t_us: Any, **rest: Any) -> Replayed:
    """One view's answers for moments (t, k); arguments as of ``replay_views``."""
    return replay_views([view], requests, frame_of, t_us, **rest)[view.name]


def _texts(name: str, codes: Floats, known: Mapping[float, str]) -> pl.Series:
    """The texts of words."""
    words, places = np.unique(codes, return_inverse=True)
    found = [None if word != word else known[word] for word in words.tolist()]
    return pl.Series(name, found, pl.String).gather(places)


def instants_of(t_us: Any) -> npt.NDArray[np.int64]:
    """Microseconds, or a column of datetimes, as int64[n]."""
    if isinstance(t_us, pl.Series):
        t_us = t_us.cast(pl.Datetime("us")).cast(pl.Int64) if t_us.dtype.is_temporal() else t_us
        t_us = t_us.to_numpy()
    return np.asarray(t_us, np.int64)


def _expressions(
    model: ModelDef,
    wanted: list[Feature],
    requests: pl.DataFrame,
    replayed: Mapping[str, Replayed],
    t_us: npt.NDArray[np.int64],
) -> tuple[dict[str, pl.Series], dict[str, dict[int, str]]]:
    """Values of the expressions by name, and the rows for which one cannot be computed, as in ``Moments``."""
    computed = [(f.name, f.expression.json) for f in wanted if f.expression is not None]
    if not computed:
        return {}, {}
    schema = column_types(model.request.schema, model.views)
    program = Program(computed, schema)
    columns: dict[str, Column] = {}
    for name in program.inputs:
        if name in model.view_columns:
            columns[name] = replayed[model.view_columns[name].name].column(name)
        elif name == MOMENT:
            columns[name] = np.broadcast_to(t_us, len(requests)), None
        else:
            columns[name] = of_series(requests[name], schema[name])
    parts: list[list[Answer]] = []
    broken: dict[str, dict[int, str]] = {}
    for first in range(0, max(len(requests), 1), _PIECE):
        rows = min(_PIECE, len(requests) - first)
        answers, found = program.answer({name: piece(c, first, rows) for name, c in columns.items()}, rows)
        parts.append(answers)
        for number, whys in found.items():
            broken.setdefault(computed[number][0], {}).update({first + row: why for row, why in whys.items()})
    values = {
        name: pl.concat([_series(name, part[number]) for part in parts]) for number, (name, _) in enumerate(computed)
    }
    return values, broken


def _series(name: str, answer: Answer) -> pl.Series:
    return pl.Series(name, answer, pl.String if isinstance(answer, list) else pl.Float64)


def _missing(column: pl.Series) -> Codes:
    """``MISSING`` where null, ``PRESENT`` elsewhere."""
    null = column.is_null() if column.dtype == pl.String else column.is_nan()
    return null.to_numpy().astype(np.uint8) * np.uint8(Status.MISSING)
