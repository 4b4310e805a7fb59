"""From a prediction back to all that it came from: version, run, training set, feature values, events, definitions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from mainspring.catalog import Catalog, Dataset, Definition, Version
from mainspring.core import NotFoundError, from_datetime, to_iso
from mainspring.definitions import MOMENT, Aggregate, ViewDef, view_from
from mainspring.definitions.expressions import parse
from mainspring.events.history import History
from mainspring.events.system import OTHERWISE, PREDICTION
from mainspring.events.versions import UNTIL_OFFSET, visible
from mainspring.features.status import Status
from mainspring.loop.composition import Composition, composition_of

MOST_EVENTS = 20


@dataclass(frozen=True)
class EventRef:
    """An event, where to find it again."""

    offset: int
    id: str | None
    time_us: int


@dataclass(frozen=True)
class FeatureLineage:
    """One feature value of a prediction and what it was made of.

    Attributes:
        value: As the model saw it; None is null.
        status: ``present``, ``missing``, ``expired`` …
        inputs: Columns of the request that it is made of, for a feature of the request and for an expression.
        expression: An expression, as polars writes it.
        reads: Values of views that an expression is made of, replayed at the prediction's moment.
        view: Feature view and its version, for a feature of a view.
        key: The entity's key.
        window: From (included) and until (excluded) when events counted, in microseconds; None is the beginning.
        events: How many events were in the window and known, and the latest of them.
    """

    name: str
    value: Any
    status: str
    inputs: dict[str, Any]
    view: str | None = None
    view_version: str | None = None
    function: str | None = None
    source: str | None = None
    source_version: str | None = None
    key: dict[str, Any] | None = None
    window: tuple[int | None, int] | None = None
    event_count: int = 0
    events: tuple[EventRef, ...] = ()
    expression: str | None = None
    reads: tuple[FeatureLineage, ...] = ()


@dataclass(frozen=True)
class Lineage:
    """All that one prediction came from.

    Attributes:
        prediction: The logged row.
        request: The row of the request's event; None when the request had no id.
        model: Definition of the model that its version was trained by.
    """

    prediction: dict[str, Any]
    version: Version
    dataset: Dataset | None
    model: Definition | None
    request: dict[str, Any] | None
    features: tuple[FeatureLineage, ...]

    def to_dict(self) -> dict[str, Any]:
        """The lineage as JSON; instants are ISO 8601."""
        return {
            "prediction": self.prediction,
            "version": asdict(self.version),
            "dataset": None if self.dataset is None else asdict(self.dataset),
            "definition": None
            if self.model is None
            else {"name": self.model.name, "version": self.model.version, "since": to_iso(self.model.first_at_us)},
            "request": self.request,
            "features": [_feature_json(one) for one in self.features],
        }


def trace(catalog: Catalog, history: History, prediction_id: str) -> Lineage | Composition:
    """Walk from a prediction to all that it came from, by the definitions of the version that answered.

    Of a composite's prediction that is what its members said, whose own predictions lead further.

    Args:
        catalog: Caught up.
        history: Caught up. Its lake may pass over damaged files: of them nothing was needed then, but to count what
            is before the newest event of a ``last`` or an ``age``.
        prediction_id: As the gateway answered it.

    Raises:
        NotFoundError: No such prediction (MS-L150), the catalog lacks its definitions (MS-L151), no model answered
            it (MS-L152), or its answer is that of another (MS-L153).
        FormatError: What it was made of may be in a file that cannot be read (MS-E903).
    """
    found = history.frame(PREDICTION.name).filter(pl.col("prediction_id") == prediction_id)
    if found.is_empty():
        _require(history, PREDICTION.name)
        hint = "predictions are in the log some milliseconds after their answer; ids look like k3f9-7"
        raise NotFoundError("MS-L150", f"no prediction {prediction_id!r} is logged", hint=hint)
    prediction = found.to_dicts()[0]
    if prediction["cached"] is not None:
        what = f"prediction {prediction_id} is an answer that was given again"
        raise NotFoundError("MS-L153", what, hint=f"mainspring explain {prediction['cached']}, the first one")
    if prediction["members"] is not None:
        at_us = from_datetime(prediction["predicted_at"])
        _require(history, PREDICTION.name, at_us, at_us)  # where those of its members are
        return composition_of(catalog, history, prediction)
    if prediction["version"] == OTHERWISE:
        what = (
            f"prediction {prediction_id} is {prediction['output']}, what {prediction['model']} declares as otherwise="
        )
        why = f"no model answered: {prediction['error']}"
        if prediction["rules"]:
            why += f"; {prediction['answered']} was told, by output rules: {prediction['rules']}"
        raise NotFoundError("MS-L152", what, why=why)
    version = catalog.version(prediction["model"], prediction["version"])
    model = catalog.definition("models", version.model, version.definition or "")
    if model is None:
        what = f"the catalog has no definition {version.definition} of model {version.model}"
        raise NotFoundError("MS-L151", what, hint="mainspring apply")
    request = _request(history, model.description["request"]["name"], prediction["request_id"])
    values, codes = json.loads(prediction["features"]), json.loads(prediction["status"] or "[]")
    described = model.description["features"]
    codes = codes or [Status.PRESENT] * len(described)
    views = _views(catalog, version)
    lines = []
    for feature, value, code in zip(described, values, codes, strict=False):
        status = Status(code).name.lower()
        if value is None and code == Status.PRESENT:
            status = Status.MISSING.name.lower()
        view = views.get(feature.get("view", ""))
        if view is None:
            lines.append(_of_request(feature, value, status, views, prediction, request, history))
        else:
            lines.append(_of_view(feature["name"], value, status, view, prediction, request, history))
    return Lineage(
        prediction | {"features": values, "status": codes},
        version,
        catalog.dataset(version.model, version.dataset or ""),
        model,
        request,
        tuple(lines),
    )


def _request(history: History, source: str, request_id: str | None) -> dict[str, Any] | None:
    if request_id is None:
        return None
    found = history.frame(source).filter(pl.col("_id") == request_id).sort("_offset")
    if found.is_empty() or UNTIL_OFFSET in found.columns:
        _require(history, source)
    return found.to_dicts()[0] if found.height else None


def _require(history: History, source: str, from_us: int | None = None, until_us: int | None = None) -> None:
    """Refuse to go on without events that a damaged file may hold.

    Raises:
        FormatError: One may (MS-E903).
    """
    for one in history.lake.unread.values():
        if one.may_hold(source, from_us, until_us):
            raise one.error


def _require_events(history: History, view: ViewDef, from_us: int | None, until_us: int) -> None:
    """As `_require`, of the events of a view; corrections and features of features are of any time."""
    for source in view.sources:
        if view.using or UNTIL_OFFSET in history.frame(source.name).columns:
            _require(history, source.name)
        else:
            _require(history, source.name, from_us, until_us)
    for used in view.using:
        for source in used.sources:
            _require(history, source.name)


def _views(catalog: Catalog, version: Version) -> dict[str, ViewDef]:
    """The views of a version, as it reads them."""
    found = {name: catalog.definition("views", name, its) for name, its in version.views.items()}
    return {name: view_from(one.description) for name, one in found.items() if one is not None}


def _of_request(
    feature: Mapping[str, Any],
    value: Any,
    status: str,
    views: Mapping[str, ViewDef],
    prediction: Mapping[str, Any],
    request: Mapping[str, Any] | None,
    history: History,
) -> FeatureLineage:
    """A column of the request, or an expression over such columns and those of views."""
    text = feature.get("expression")
    expr = None if text is None else parse(text)
    names = dict.fromkeys([feature["name"]] if expr is None else expr.meta.root_names())
    owners = {column: view for view in views.values() for column in view.column_names}
    inputs: dict[str, Any] = {}
    reads = []
    for name in names:
        if name in owners:
            reads.append(_read(name, owners[name], prediction, request, history))
        elif name == MOMENT:
            inputs["the moment"] = prediction["predicted_at"]
        else:
            inputs[name] = None if request is None else request.get(name)
    shown = None if expr is None else str(expr)
    return FeatureLineage(feature["name"], value, status, inputs, expression=shown, reads=tuple(reads))


def _read(
    name: str,
    view: ViewDef,
    prediction: Mapping[str, Any],
    request: Mapping[str, Any] | None,
    history: History,
) -> FeatureLineage:
    """A value of a view that an expression read: replayed, because only the expression's own value is logged."""
    if request is None:
        return _of_view(name, None, "unknown", view, prediction, request, history)
    from mainspring.features.moments import replay_view
    from mainspring.features.values import shown

    keys = pl.DataFrame({column: [request.get(column)] for column in view.entity})
    at = [from_datetime(prediction["predicted_at"])]
    found = replay_view(view, keys, history.frame, at, known_offset=[prediction["folded"]])
    place = found.places[name]
    kind = view.kinds[place]
    value = found.texts[name][0] if kind == "str" else shown(kind, found.values[0, place])
    status = Status(int(found.status[0, place])).name.lower()
    return _of_view(name, value, status, view, prediction, request, history)


def _of_view(
    name: str,
    value: Any,
    status: str,
    view: ViewDef,
    prediction: Mapping[str, Any],
    request: Mapping[str, Any] | None,
    history: History,
) -> FeatureLineage:
    aggregate = next(one for one in view.features if name in view.columns_of(one))
    until_us = from_datetime(prediction["predicted_at"])
    reach_us = aggregate.reach_us
    from_us = None if reach_us is None else until_us - reach_us
    key = None if request is None else {column: request.get(column) for column in view.entity}
    seen = _seen(view, aggregate, key, (from_us, until_us), prediction["folded"], history)
    is_newest = aggregate.function in ("last", "age")
    latest = seen.sort("_time", "_known_at", "_offset").tail(1 if is_newest else MOST_EVENTS)
    newest_us = from_datetime(latest["_time"][0]) if is_newest and latest.height else from_us
    if request is not None:
        _require_events(history, view, newest_us, until_us)
    refs = (EventRef(r["_offset"], r["_id"], from_datetime(r["_time"])) for r in reversed(latest.to_dicts()))
    return FeatureLineage(
        name,
        value,
        status,
        {},
        view.name,
        view.version,
        aggregate.function,
        ", ".join(s.name for s in view.sources),
        ", ".join(s.version for s in view.sources),
        key,
        (from_us, until_us),
        seen.height,
        tuple(refs),
    )


def _seen(
    view: ViewDef,
    aggregate: Aggregate,
    key: Mapping[str, Any] | None,
    window: tuple[int | None, int],
    folded: int,
    history: History,
) -> pl.DataFrame:
    """Events of the key in the window that had been folded, and that the aggregate looks at."""
    from mainspring.features.history import stream

    at_us = pl.col("_time").dt.timestamp("us")
    inside = at_us < window[1]
    if window[0] is not None:
        inside &= at_us >= window[0]
    for column in view.entity:
        part = None if key is None else key[column]
        inside &= pl.lit(value=False) if part is None else pl.col(column) == part  # an unknown key has no events
    events = visible(stream(view, history.frame, inside), folded)
    if aggregate.where is not None:
        events = events.filter(aggregate.where.expr)
    if aggregate.value is not None:
        events = events.filter(aggregate.value.expr.is_not_null())
    return events


def _feature_json(one: FeatureLineage) -> dict[str, Any]:
    out = asdict(one)
    if one.window is not None:
        out["window"] = [None if end is None else to_iso(end) for end in one.window]
    out["events"] = [{"offset": e.offset, "id": e.id, "time": to_iso(e.time_us)} for e in one.events]
    out["reads"] = [_feature_json(read) for read in one.reads]
    return out
