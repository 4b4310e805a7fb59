"""Build a training set: its rows are past requests, features replayed at each row's moment, labels matured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.definitions import ModelDef, ViewDef
from mainspring.training.labels import Hold, outcomes
from mainspring.training.trainingset import KEYS, Counts, DatasetMeta, SourceState, TrainingSet, save

Frames = Mapping[str, pl.DataFrame]
_INSTANT = pl.Datetime("us")


def sources_of(model: ModelDef) -> tuple[str, ...]:
    """Names of the sources whose history a training set of ``model`` is built from."""
    return tuple(
        dict.fromkeys([model.request.name, model.label.source.name, *(s.name for v in model.views for s in v.sources)])
    )


def build(
    model: ModelDef,
    frames: Frames,
    root: Path,
    *,
    now_us: int,
    between_us: tuple[int | None, int | None] = (None, None),
    holds: Sequence[Hold] = (),
    reuse: TrainingSet | None = None,
    lake_versions: Mapping[str, int] | None = None,
) -> TrainingSet:
    """Build and save the training set of ``model`` as far as it is known at ``now_us``.

    Args:
        model: The definition.
        frames: History by source name (``sources_of``): the source's columns, ``_offset``, ``_id``, ``_time``,
            ``_known_at``.
        root: Folder of all training sets.
        now_us: As of when: only labels mature by then are used.
        between_us: Rows lie at or after the first moment and before the second; None is without end.
        holds: Incidents on the label's source: (opened, closed or None).
        reuse: An earlier set: features of its rows are read instead of replayed where they cannot have changed.
        lake_versions: Version of each source's lake table, for the record.

    Raises:
        NotFoundError: A source's history is not among ``frames`` (MS-T105).
        RefusedError: No row has a mature label (MS-T102).
    """
    for name in sources_of(model):
        if name not in frames:
            raise NotFoundError("MS-T105", f"the history of source {name!r} was not given", where=f"model {model.name}")
    units = _units(model, frames[model.request.name], now_us, between_us)
    became = outcomes(model.label, units, frames[model.label.source.name], now_us, holds)
    due = units["_t"] + model.label.horizon_us <= now_us
    usable = became["matured"] & became["y"].is_not_null()
    counts = Counts(
        units=len(units),
        rows=int(usable.sum()),
        immature=int((~due).sum()),
        held=int((due & ~became["matured"]).sum()),
        excluded=int((became["matured"] & became["y"].is_null()).sum()),
    )
    if not counts.rows:
        why = (
            f"of {counts.units} requests {counts.immature} are immature, {counts.held} held, {counts.excluded} excluded"
        )
        raise RefusedError(
            "MS-T102",
            f"model {model.name} has no row with a mature label",
            why=why,
            hint="mainspring ingest FILE --source SOURCE",
        )
    requests = units.filter(usable)
    keys = requests.select(
        "_offset",
        pl.col("_id").cast(pl.String) if "_id" in requests.columns else pl.lit(None, pl.String).alias("_id"),
        pl.col("unit").cast(pl.String).alias("_unit"),
        "_t",
        "_known_at",
        became.filter(usable)["mature_at_us"].alias("_mature_at"),
        became.filter(usable)["y"].alias("_y"),
        became.filter(usable)["event_offset"].alias("_outcome_offset"),
    ).select([pl.col(name).cast(dtype) for name, dtype in KEYS.items()])
    columns, reused = _features(model, requests, frames, reuse)
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
        label=model.label.describe(),
        reused_rows=reused,
    )
    return save(frame, meta, root)


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
        requests.with_columns(
            pl.col("_time").cast(_INSTANT).cast(pl.Int64).alias("_t"),
            pl.col("_known_at").cast(_INSTANT).cast(pl.Int64),
            pl.col(model.label.on).alias("unit"),
        )
        .filter(inside)
        .sort("_t", "_offset")
    )


def _features(
    model: ModelDef, requests: pl.DataFrame, frames: Frames, reuse: TrainingSet | None
) -> tuple[list[pl.Series], int]:
    """The model's columns for ``requests``, in order, and how many rows of the views' columns were reused at least."""
    found: dict[str, pl.Series] = {}
    of_request = [f for f in model.features if f.view is None]
    if of_request:
        plain = requests.select([f.expression.expr if f.expression else pl.col(f.name) for f in of_request])
        for feature, column in zip(of_request, plain, strict=True):
            found[feature.name] = _as_seen(column.alias(feature.name), text=feature.kind == "str")
    reused = len(requests) if reuse is not None and model.views else 0
    for view in model.views:
        earlier = _unchanged(model, view, requests, _stream(view, frames), reuse) if reuse is not None else None
        values, old = _replayed(view, requests, _stream(view, frames), earlier)
        reused = min(reused, old)
        for i, name in enumerate(view.column_names):
            found[name] = pl.Series(name, values[:, i], dtype=pl.Float32)
    return [found[f.name] for f in model.features], reused


def _as_seen(column: pl.Series, *, text: bool) -> pl.Series:
    """Texts as they are; everything else as float32 with NaN for null: what a model sees."""
    return column.cast(pl.String) if text else column.cast(pl.Float32).fill_null(float("nan"))


def _replayed(
    view: ViewDef, requests: pl.DataFrame, events: pl.DataFrame, earlier: tuple[Any, Any] | None
) -> tuple[npt.NDArray[np.float32], int]:
    """The view's columns, float32 of shape (rows, features), replayed but for the rows that ``earlier`` has."""
    from mainspring.features.replay import replay

    out = np.empty((len(requests), len(view.features)), np.float32)
    new = np.ones(len(requests), np.bool_)
    if earlier is not None:
        rows, values = earlier
        out[rows] = values
        new[rows] = False
    if new.any():
        asked = requests.filter(new)
        values, _ = replay(
            view, events, asked.select(view.entity), asked["_t"].to_numpy(), known_us=asked["_known_at"].to_numpy()
        )
        out[new] = values
    return out, int((~new).sum())


def _unchanged(
    model: ModelDef, view: ViewDef, requests: pl.DataFrame, events: pl.DataFrame, reuse: TrainingSet
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None:
    """Rows of ``requests`` that ``reuse`` has with features that cannot have changed, and those features.

    A row (t, k) sees events known before k. Events that came after ``reuse`` was built are known later than its rows,
    unless history was loaded behind them: rows that such an event could reach are not reused.
    """
    meta = reuse.meta
    state = meta.sources.get(view.sources[0].name)
    requested = meta.sources.get(model.request.name)
    same = meta.views.get(view.name) == view.version and set(view.column_names) <= set(meta.features)
    if not same or state is None or requested is None or requested.version != model.request.version:
        return None
    since = events.filter(pl.col("_offset") > state.last_offset)["_known_at"].cast(_INSTANT).cast(pl.Int64)
    earliest = since.min()
    old = reuse.frame
    if isinstance(earliest, int):
        old = old.filter(pl.col("_known_at") <= earliest)
    old = old.sort("_offset")
    if old.is_empty():
        return None
    offsets, asked = old["_offset"].to_numpy(), requests["_offset"].to_numpy()
    at = np.minimum(np.searchsorted(offsets, asked), len(offsets) - 1)
    rows = np.flatnonzero(offsets[at] == asked)
    values = old.select(view.column_names).to_numpy()[at[rows]]
    return rows, values.astype(np.float32, copy=False)


def _stream(view: ViewDef, frames: Frames) -> pl.DataFrame:
    from mainspring.features.history import stream

    return stream(view, frames.__getitem__)


def _states(model: ModelDef, frames: Frames, lake_versions: Mapping[str, int]) -> dict[str, SourceState]:
    versions = {model.request.name: model.request.version, model.label.source.name: model.label.source.version}
    versions |= {s.name: s.version for view in model.views for s in view.sources}
    out = {}
    for name in sources_of(model):
        last = frames[name]["_offset"].max()
        offset = last if isinstance(last, int) else 0
        out[name] = SourceState(versions[name], len(frames[name]), offset, lake_versions.get(name))
    return out
