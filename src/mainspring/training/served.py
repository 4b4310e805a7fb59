"""Log-and-wait training sets: rows are past predictions, features are the values that were served and logged.

A replay says what a model would have been told; this is what it was told, faults of that day included. Which of the two
a team wants is theirs to choose: the report says, feature by feature, where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.errors import RefusedError
from mainspring.core.numbers import floats
from mainspring.definitions import Feature, ModelDef
from mainspring.events.system import EXPRESSION
from mainspring.events.versions import first_asked
from mainspring.training.trainingset import ServedFeature

if TYPE_CHECKING:
    from mainspring.features.shares import Progress

_INSTANT = pl.Datetime("us")
_LIST = msgspec.json.Decoder(list[Any]).decode
_UNREAD = 3
"""Statuses from ``default`` on: the value could not be read when it was served."""


@dataclass(frozen=True, eq=False)
class Served:
    """Predictions that a training set is made of.

    Attributes:
        predictions: Rows of the ``_prediction`` source, with ``_offset`` and ``_known_at``.
        definitions: How the model was described (``ModelDef.describe``) when each version was trained, by version: it
            says what the values of a prediction are.
    """

    predictions: pl.DataFrame
    definitions: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Logged:
    """Units of a training set and what was served for them, row by row.

    Attributes:
        units: ``_t``, ``_known_at``, ``_offset``, ``_id``, ``unit`` as a training set has them, in its order, with the
            prediction's ``folded`` and, where the request is an event, the request's columns.
        columns: By feature: float32 with NaN for null, or texts.
        unread: By feature, which rows were served without it.
        refused: Rows that nobody was answered, because an expression could not be computed for them.
        other_features: Predictions left out, because the version that made them had other features.
    """

    units: pl.DataFrame
    columns: Mapping[str, pl.Series]
    unread: Mapping[str, npt.NDArray[np.bool_]]
    refused: npt.NDArray[np.bool_]
    other_features: int

    def part(self, rows: pl.Series) -> Logged:
        """Some of the rows."""
        kept = rows.to_numpy()
        return Logged(
            self.units.filter(rows),
            {name: column.filter(rows) for name, column in self.columns.items()},
            {name: which[kept] for name, which in self.unread.items()},
            self.refused[kept],
            self.other_features,
        )

    def broken(self, model: ModelDef) -> dict[str, list[int]]:
        """The rows that were refused, by the model's expressions: which of them it was is not logged."""
        rows = np.flatnonzero(self.refused).tolist()
        names = ", ".join(f.name for f in model.features if f.expression is not None)
        return {names: rows} if rows else {}


def logged(
    model: ModelDef,
    served: Served,
    requests: pl.DataFrame,
    now_us: int,
    between_us: tuple[int | None, int | None] = (None, None),
) -> Logged:
    """The units of a training set of served values: each request's first prediction whose features are the model's.

    Args:
        model: The definition.
        served: Its predictions.
        requests: History of the request's source.
        now_us: As of when.
        between_us: Rows lie at or after the first moment and before the second; None is without end.

    Raises:
        RefusedError: No prediction was logged with the model's features (MS-T107).
    """
    at = pl.col("predicted_at").cast(_INSTANT).cast(pl.Int64)
    since_us, until_us = between_us
    of_model = served.predictions.filter(
        pl.col("model") == model.name,
        pl.col("cached").is_null(),  # an answer that was given again was made of another moment's values
        at < now_us,
        at >= (since_us if since_us is not None else at),
        at < (until_us if until_us is not None else now_us),
    ).sort("_offset")
    places = {version: _places(model, described) for version, described in served.definitions.items()}
    usable = [version for version, found in places.items() if len(found) == len(model.features)]
    found = of_model.filter(pl.col("version").is_in(usable))
    if found.is_empty():
        raise _nothing(model, of_model, places)
    named = found.filter(pl.col("request_id").is_not_null()).unique("request_id", keep="first", maintain_order=True)
    found = pl.concat([named, found.filter(pl.col("request_id").is_null())])
    units = _units(model, found, requests)
    values = [_LIST(text) for text in found["features"]]
    codes = [_LIST(text) if text else None for text in found["status"]]
    orders = [places[version] for version in found["version"]]
    columns, unread = {}, {}
    for feature in model.features:
        at_place = [order[feature.name] for order in orders]
        cells = [row[place] for row, place in zip(values, at_place, strict=True)]
        columns[feature.name] = _column(feature, cells)
        unread[feature.name] = np.array(
            [row is not None and row[place] >= _UNREAD for row, place in zip(codes, at_place, strict=True)], np.bool_
        )
    order = units.with_row_index("_place").sort("_t", "_offset")["_place"].to_numpy()
    return Logged(
        units[order],
        {name: column.gather(order) for name, column in columns.items()},
        {name: which[order] for name, which in unread.items()},
        (found["output"].is_null() & found["error"].eq_missing(EXPRESSION)).to_numpy()[order],
        len(of_model.filter(~pl.col("version").is_in(usable))),
    )


def differences(
    model: ModelDef,
    rows: Logged,
    frame_of: Callable[[str], pl.DataFrame],
    progress: Progress | None = None,
    memory_bytes: int | None = None,
) -> tuple[ServedFeature, ...]:
    """Where the served values differ from a replay at the logged moment, and from one at the request's own moment.

    The first is a fault (parity); the second is what the fold had not yet seen when the request came (lag). Rows whose
    request is no event cannot be replayed.
    """
    from mainspring.features.moments import features_at as every_feature_at
    from mainspring.features.moments import tolerance_of
    from mainspring.features.shares import events_read, shares

    features_at = partial(every_feature_at, memory_bytes=memory_bytes)
    asked = rows.units["_is_event"]
    part = rows.part(asked)
    if part.units.is_empty():
        return tuple(ServedFeature(f.name, 0, int(rows.unread[f.name].sum()), 0, 0) for f in model.features)
    t_us, known_us = part.units["_t"], part.units["_known_at"]
    told = shares(progress, [sum(events_read(model.views, frame_of))] * 2)
    then = features_at(model, part.units, frame_of, t_us, known_offset=part.units["_folded"], progress=told[0]).columns
    own = features_at(model, part.units, frame_of, t_us, known_us=known_us, progress=told[1]).columns
    out = []
    for feature in model.features:
        was, compared = part.columns[feature.name], ~part.unread[feature.name]
        is_close = tolerance_of(model, feature) > 0
        fault = _differ(was, then[feature.name], is_close=is_close) & compared
        late = _differ(was, own[feature.name], is_close=is_close) & compared
        unread = int(rows.unread[feature.name].sum())
        out.append(ServedFeature(feature.name, int(compared.sum()), unread, int(fault.sum()), int(late.sum())))
    return tuple(out)


def _places(model: ModelDef, described: Mapping[str, Any]) -> dict[str, int]:
    """Place of each of the model's features among those of an earlier definition, as far as it had the same."""
    before = {one["name"]: (place, one) for place, one in enumerate(described["features"])}
    views = {one["view"]: one["view_version"] for one in described["features"] if "view" in one}
    views |= dict(described.get("using", ()))
    out: dict[str, int] = {}
    for feature in model.features:
        place, one = before.get(feature.name, (-1, {}))
        if one == feature.describe() and all(views.get(v.name) == v.version for v in model.views_of(feature)):
            out[feature.name] = place
    return out


def _nothing(model: ModelDef, predictions: pl.DataFrame, places: Mapping[str, dict[str, int]]) -> RefusedError:
    why = f"it has answered {len(predictions)} requests so far"
    if len(predictions):
        version = predictions["version"][-1]
        missing = [f.name for f in model.features if f.name not in places.get(version, {})]
        names = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        why = f"version {version}, the last to answer, had no such feature, or another one of that name: {names}"
        if version not in places:
            why = f"the catalog does not know how version {version}, the last to answer, was defined"
    return RefusedError(
        "MS-T107",
        f"no prediction of model {model.name} was logged with the features that it has now",
        why=why,
        hint=f"mainspring dataset build {model.name}, which replays them",
    )


def _units(model: ModelDef, found: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Keys of each prediction; of its request, with the request's columns, where that is an event.

    The first request with an id becomes an event: a prediction of another moment is not of that request.
    """
    asked = first_asked(requests).select(
        pl.col("_id").cast(pl.String).alias("_request_id"),
        pl.col("_offset").alias("_request_offset"),
        pl.col("_known_at").alias("_request_known_at"),
        pl.col("_time").cast(_INSTANT).cast(pl.Int64).alias("_t"),
        *model.request.columns,
    )
    asked = asked.filter(pl.col("_request_id").is_not_null()).unique("_request_id", keep="first")
    keys = found.select(
        pl.col("request_id").alias("_id"),
        pl.col("unit").alias("_unit_text"),
        pl.col("predicted_at").cast(_INSTANT).cast(pl.Int64).alias("_t"),
        pl.col("_known_at").alias("_logged_at"),
        pl.col("_offset").alias("_logged_offset"),
        pl.col("folded").alias("_folded"),
    )
    joined = keys.join(asked, left_on=["_id", "_t"], right_on=["_request_id", "_t"], how="left", maintain_order="left")
    kind = model.label.source.schema[model.label.on]
    return joined.with_columns(
        pl.col("_request_offset").is_not_null().alias("_is_event"),
        pl.coalesce("_request_offset", "_logged_offset").alias("_offset"),
        pl.coalesce(
            pl.col("_request_known_at").cast(_INSTANT).cast(pl.Int64),
            pl.col("_logged_at").cast(_INSTANT).cast(pl.Int64),
        ).alias("_known_at"),
        pl.col("_unit_text").cast(kind, strict=False).alias("unit"),
    )


def _column(feature: Feature, cells: Sequence[Any]) -> pl.Series:
    if feature.kind == "str":
        return pl.Series(feature.name, cells, pl.String)
    with np.errstate(over="ignore"):  # beyond float32's range the model saw infinity
        return pl.Series(feature.name, floats(cells).astype(np.float32))


def _differ(served: pl.Series, replayed: pl.Series, *, is_close: bool) -> npt.NDArray[np.bool_]:
    """Rows where a served value is not the replayed one, as a model sees them; ``is_close`` allows one unit more."""
    if served.dtype == pl.String:
        return served.ne_missing(replayed).to_numpy()
    a, b = served.to_numpy(), replayed.cast(pl.Float32).to_numpy()
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    if is_close:
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite value is close to none
            equal |= np.abs(a - b) <= np.spacing(np.maximum(np.abs(a), np.abs(b)))
    return np.asarray(~equal, np.bool_)
