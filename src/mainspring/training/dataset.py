"""Build a training set: its rows are past requests, features replayed at each row's moment, labels matured."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec.structs import replace

from mainspring.catalog import BadWindow
from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.definitions import ModelDef, SourceDef, ViewDef
from mainspring.events.versions import first_asked
from mainspring.training.badwindows import of_label, reached
from mainspring.training.labels import Hold, outcomes
from mainspring.training.served import Served, differences, logged
from mainspring.training.trainingset import (
    KEYS,
    Counts,
    DatasetMeta,
    SourceState,
    TrainingSet,
    Uncomputable,
    save,
)

if TYPE_CHECKING:
    from mainspring.features.shares import Progress

Frames = Mapping[str, pl.DataFrame]
Broken = Mapping[str, Collection[int]]
_INSTANT = pl.Datetime("us")


def sources_of(model: ModelDef) -> tuple[str, ...]:
    """Names of the sources whose history a training set of ``model`` is built from."""
    read = (source.name for view in model.views for source in sources_read(view))
    return tuple(dict.fromkeys([model.request.name, model.label.source.name, *read]))


def sources_read(view: ViewDef) -> Iterator[SourceDef]:
    """The sources whose events a view is made of: its own and those of the views that it uses."""
    yield from view.sources
    for used in view.using:
        yield from sources_read(used)


def build(  # noqa: PLR0913  what a set is made of, by keyword
    model: ModelDef,
    frames: Frames,
    root: Path,
    *,
    now_us: int,
    between_us: tuple[int | None, int | None] = (None, None),
    holds: Sequence[Hold] = (),
    bad: Sequence[BadWindow] = (),
    reuse: TrainingSet | None = None,
    served: Served | None = None,
    lake_versions: Mapping[str, int] | None = None,
    progress: Progress | None = None,
    memory_bytes: int | None = None,
) -> TrainingSet:
    """Build and save the training set of ``model`` as far as it is known at ``now_us``.

    A row for which an expression cannot be computed is left out and counted: whoever may ask could block training else.

    Args:
        model: The definition.
        frames: History by source name (``sources_of``): the source's columns, ``_offset``, ``_id``, ``_time``,
            ``_known_at``.
        root: Folder of all training sets.
        now_us: As of when: only labels mature by then are used.
        between_us: Rows lie at or after the first moment and before the second; None is without end.
        holds: Incidents on the label's source: (opened, closed or None).
        bad: Windows that failed a blocking check: what they reach is left out.
        reuse: An earlier set: features of its rows are read instead of replayed where they cannot have changed.
        served: Predictions: rows are those, with the values that were served, instead of replayed requests.
        lake_versions: Version of each source's lake table, for the record.
        progress: Told by the replay how many events it is done with, and of how many.
        memory_bytes: What a replay may use besides ``frames`` and the rows; the set is the same whatever it is.

    Raises:
        NotFoundError: A source's history is not among ``frames`` (MS-T105).
        RefusedError: No row has a mature label and features that can be computed (MS-T102), or no prediction has the
            model's features (MS-T107).
    """
    for name in sources_of(model):
        if name not in frames:
            raise NotFoundError("MS-T105", f"the history of source {name!r} was not given", where=f"model {model.name}")
    requests = frames[model.request.name]
    told = logged(model, served, requests, now_us, between_us) if served is not None else None
    units = _units(model, requests, now_us, between_us) if told is None else told.units
    events = frames[model.label.source.name]
    became = outcomes(model.label, units, events, now_us, holds, of_label(model, bad))
    due = units["_t"] + model.label.horizon_us <= now_us
    labelled = became["matured"] & became["y"].is_not_null()
    is_left_out = pl.Series(reached(model, units, bad, frames), dtype=pl.Boolean)
    usable = labelled & ~is_left_out
    counts = Counts(
        units=len(units),
        rows=int(usable.sum()),
        immature=int((~due).sum()),
        held=int((due & ~became["matured"]).sum()),
        excluded=int((became["matured"] & became["y"].is_null()).sum()),
        other_features=0 if told is None else told.other_features,
        left_out=int((labelled & is_left_out).sum()),
    )
    if not counts.rows:
        raise _no_row(model, counts)
    requests, became = units.filter(usable), became.filter(usable)
    if told is None:
        columns, broken, reused = _features(model, requests, frames, reuse, progress, memory_bytes)
    else:
        told = told.part(usable)
        columns, broken, reused = [told.columns[f.name] for f in model.features], told.broken(model), 0
    uncomputable = tuple(Uncomputable(name, len(rows)) for name, rows in broken.items())
    if broken:
        is_whole = ~pl.Series(np.isin(np.arange(counts.rows), [row for rows in broken.values() for row in rows]))
        requests, became = requests.filter(is_whole), became.filter(is_whole)
        columns = [column.filter(is_whole) for column in columns]
        told = None if told is None else told.part(is_whole)
        counts = replace(counts, rows=len(requests), uncomputable=counts.rows - len(requests))
        if not counts.rows:
            raise _no_row(model, counts, uncomputable)
    keys = requests.select(
        "_offset",
        pl.col("_id").cast(pl.String) if "_id" in requests.columns else pl.lit(None, pl.String).alias("_id"),
        pl.col("unit").cast(pl.String).alias("_unit"),
        "_t",
        "_known_at",
        became["mature_at_us"].alias("_mature_at"),
        became["y"].alias("_y"),
        became["event_offset"].alias("_outcome_offset"),
    ).select([pl.col(name).cast(dtype) for name, dtype in KEYS.items()])
    differ = differences(model, told, frames.__getitem__, progress, memory_bytes) if told is not None else ()
    frame = keys.hstack(columns)
    lake_versions = lake_versions or {}
    meta = DatasetMeta(
        model=model.name,
        hash="",
        definition_version=model.version,
        created_at_us=now_us,
        from_us=int(keys["_t"][0]),
        until_us=int(keys["_t"][-1]),
        known_until_us=now_us,
        base_rate=float(np.mean(keys["_y"].to_numpy())),
        counts=counts,
        sources=_states(model, frames, lake_versions),
        views={view.name: view.version for view in model.views},
        features=tuple(f.name for f in model.features),
        expressions={f.name: f.expression.json for f in model.features if f.expression is not None},
        label=model.label.describe(),
        reused_rows=reused,
        derived="" if served is None else "served values",
        served=differ,
        holds=tuple(holds),
        bad=tuple(bad),
        uncomputable=uncomputable,
    )
    return save(frame, meta, root)


def _no_row(model: ModelDef, counts: Counts, uncomputable: Sequence[Uncomputable] = ()) -> RefusedError:
    why = (
        f"of {counts.units} requests {counts.immature} are immature, {counts.held} held, "
        f"{counts.excluded} excluded, {counts.left_out} left out for windows that failed a check"
    )
    return RefusedError(
        "MS-T102",
        f"model {model.name} has no row with a mature label",
        why="; ".join((why, *map(str, uncomputable))),
        hint="mainspring ingest FILE --source SOURCE",
    )


def _units(
    model: ModelDef, requests: pl.DataFrame, now_us: int, between_us: tuple[int | None, int | None]
) -> pl.DataFrame:
    """Requests in the order (t, offset) with ``_t``, ``_known_at`` as int64 and ``unit``."""
    t = pl.col("_t")
    since_us, until_us = between_us
    inside = (t < now_us) & (pl.col("_known_at") < now_us)
    if since_us is not None:
        inside &= t >= since_us
    if until_us is not None:
        inside &= t < until_us
    return (
        first_asked(requests)
        .with_columns(
            pl.col("_time").cast(_INSTANT).cast(pl.Int64).alias("_t"),
            pl.col("_known_at").cast(_INSTANT).cast(pl.Int64),
            pl.col(model.label.on).alias("unit"),
        )
        .filter(inside)
        .sort("_t", "_offset")
    )


def _features(
    model: ModelDef,
    requests: pl.DataFrame,
    frames: Frames,
    reuse: TrainingSet | None,
    progress: Progress | None,
    memory_bytes: int | None,
) -> tuple[list[pl.Series], Broken, int]:
    """The model's columns for ``requests``, in order; rows of it that an expression cannot be computed for, by name.

    And how many rows were reused where that is possible: rows of an earlier set could be computed then.
    """
    from mainspring.features.moments import features_at as every_feature_at
    from mainspring.features.shares import events_read, shares, views_asked

    features_at = partial(every_feature_at, memory_bytes=memory_bytes)
    at: dict[str, Any] = {"t_us": requests["_t"].to_numpy(), "known_us": requests["_known_at"].to_numpy()}
    rows = _unchanged(model, requests, frames, reuse) if reuse is not None else None
    same = _same_features(model, reuse.meta) if reuse is not None and rows is not None else frozenset()
    if reuse is None or rows is None or not same:
        found = features_at(model, requests, frames.__getitem__, **at, progress=progress)
        return [_as_seen(found.columns[f.name]) for f in model.features], found.broken, 0
    is_new = np.ones(len(requests), np.bool_)
    is_new[rows[0]] = False
    changed = [f.name for f in model.features if f.name not in same]
    sizes = [sum(events_read(views_asked(model, names), frames.__getitem__)) for names in (changed, same)]
    told = shares(progress, sizes)
    columns: dict[str, pl.Series] = {}
    broken: dict[str, Collection[int]] = {}
    if changed:
        found = features_at(model, requests, frames.__getitem__, only=changed, **at, progress=told[0])
        columns |= {name: _as_seen(column) for name, column in found.columns.items()}
        broken |= found.broken
    asked = requests.filter(is_new)
    new: Mapping[str, pl.Series] = {}
    if len(asked):
        found = features_at(
            model,
            asked,
            frames.__getitem__,
            t_us=asked["_t"].to_numpy(),
            known_us=asked["_known_at"].to_numpy(),
            only=same,
            progress=told[1],
        )
        new, places_of_new = found.columns, np.flatnonzero(is_new)
        broken |= {name: places_of_new[list(rows)].tolist() for name, rows in found.broken.items()}
    places = np.full(len(requests), -1, np.int64)  # in the old rows, then in the new ones behind them
    places[rows[0]] = rows[1]
    places[is_new] = len(reuse.frame) + np.arange(len(asked))
    for name in same:
        old = reuse.frame[name]
        columns[name] = (old.append(_as_seen(new[name])) if len(asked) else old).gather(places)
    return [columns[f.name] for f in model.features], broken, len(rows[0]) if not changed else 0


def _as_seen(column: pl.Series) -> pl.Series:
    """Texts as they are; everything else as float32 with NaN for null: what a model sees."""
    return column if column.dtype == pl.String else column.cast(pl.Float32)


def _same_features(model: ModelDef, meta: DatasetMeta) -> frozenset[str]:
    """Features that say the same in an earlier set: of views of the same version, of expressions with the same text."""
    requested = meta.sources.get(model.request.name)
    if requested is None or requested.version != model.request.version:
        return frozenset()
    return frozenset(
        f.name
        for f in model.features
        if f.name in meta.features
        and all(meta.views.get(view.name) == view.version for view in model.views_of(f))
        and meta.expressions.get(f.name, "") == (f.expression.json if f.expression is not None else "")
    )


def _unchanged(
    model: ModelDef, requests: pl.DataFrame, frames: Frames, reuse: TrainingSet
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """Rows of ``requests`` that ``reuse`` has with features that cannot have changed, and their rows there.

    A row (t, k) sees events known before k. Events that came after ``reuse`` was built are known later than its rows,
    unless history was loaded behind them: rows that such an event could reach are not reused.
    """
    old = reuse.frame.with_row_index("_row")
    for name in {source.name for view in model.views for source in sources_read(view)}:
        state = reuse.meta.sources.get(name)
        if state is None:
            return None
        since = frames[name].filter(pl.col("_offset") > state.last_offset)["_known_at"]
        earliest = since.cast(_INSTANT).cast(pl.Int64).min()
        if isinstance(earliest, int):
            old = old.filter(pl.col("_known_at") <= earliest)
    old = old.sort("_offset")
    if old.is_empty():
        return None
    offsets, asked = old["_offset"].to_numpy(), requests["_offset"].to_numpy()
    at = np.minimum(np.searchsorted(offsets, asked), len(offsets) - 1)
    rows = np.flatnonzero(offsets[at] == asked)
    return rows, old["_row"].to_numpy()[at[rows]].astype(np.int64)


def _states(model: ModelDef, frames: Frames, lake_versions: Mapping[str, int]) -> dict[str, SourceState]:
    versions = {model.request.name: model.request.version, model.label.source.name: model.label.source.version}
    versions |= {s.name: s.version for view in model.views for s in sources_read(view)}
    out = {}
    for name in sources_of(model):
        last = frames[name]["_offset"].max()
        offset = last if isinstance(last, int) else 0
        out[name] = SourceState(versions[name], len(frames[name]), offset, lake_versions.get(name))
    return out
