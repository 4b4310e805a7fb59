"""Parity: were the features that a model was served those that a replay of that moment gives?

A prediction says its moment: the time t and the log offset k that had been folded. Replayed at (t, k) its features
must be equal as the model saw them, in float32; what is made of var, std, ewma or trend may differ by a unit in the
last place (their moments cancel). An expression that neither could compute is equal: a null that nobody was answered
with. **Lag skew** is another thing, reported apart: what the fold had not yet seen
although it was known when the request was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from mainspring.core.ids import hash128
from mainspring.core.numbers import floats, with_infinities
from mainspring.events.system import EXPRESSION
from mainspring.features.moments import features_at, tolerance_of
from mainspring.features.nearby import nearby
from mainspring.features.needed import Columns, Needed
from mainspring.features.status import Status

if TYPE_CHECKING:
    from mainspring.definitions import ModelDef

EXAMPLES = 20
_NOT_COMPARED = (Status.UNAVAILABLE, Status.DEFAULT, Status.ERASED)
_LIST = msgspec.json.Decoder(list[Any]).decode
_INSTANT = pl.Datetime("us")
_LOGGED = ("prediction_id", "predicted_at", "request_id", "folded", "features", "status", "output", "error")
READ = (*_LOGGED, "_offset", "_time", "model", "version", "unit", "cached")
"""Columns of ``_prediction`` that a check and its sampling read."""


@dataclass(frozen=True)
class FeatureParity:
    """How served values of one feature compare with replayed ones.

    Attributes:
        unequal: Both are there and differ by more than the tolerance; or an expression could be computed, to null, on
            one side only.
        missing: Null when served, a value on replay.
        extra: A value when served, null on replay.
        not_compared: Served as unavailable, default or erased.
        uncomputable: An expression that neither serving nor the replay could compute, such as a strict cast of what
            does not fit; left out of ``values``.
    """

    name: str
    values: int
    exact: int
    within_tolerance: int
    unequal: int
    missing: int
    extra: int
    not_compared: int
    uncomputable: int = 0

    @property
    def different(self) -> int:
        """Values that differ, are missing or are extra."""
        return self.unequal + self.missing + self.extra


@dataclass(frozen=True)
class Example:
    """One value that differs."""

    prediction_id: str
    feature: str
    served: float | str | None
    replayed: float | str | None


@dataclass(frozen=True)
class LagSkew:
    """What the fold had not counted yet although it was known before the request was: a service level of the fold.

    Attributes:
        predictions: Looked at.
        behind: Those for which a record of the views' sources was known and not folded.
        lagging: Those of them for which it would have changed a feature.
        most_records: The most such records at one prediction.
        most_s: The longest that such a record had been known, in seconds.
    """

    predictions: int = 0
    behind: int = 0
    lagging: int = 0
    most_records: int = 0
    most_s: float = 0.0

    def __add__(self, other: LagSkew) -> LagSkew:
        """Of both together."""
        return LagSkew(
            self.predictions + other.predictions,
            self.behind + other.behind,
            self.lagging + other.lagging,
            max(self.most_records, other.most_records),
            max(self.most_s, other.most_s),
        )


@dataclass(frozen=True)
class ParityReport:
    """Served features against replay, and apart from that the lag of the fold.

    Attributes:
        predictions: Replayed.
        unlinked: Predictions without a stored request or with other features than the definition: left out.
        lag: What the fold had not seen in time.
        features: One a feature of the model that a view or an expression makes.
        examples: Up to 20 values that differ.
    """

    model: str
    predictions: int
    unlinked: int
    lag: LagSkew
    features: tuple[FeatureParity, ...]
    examples: tuple[Example, ...]

    @property
    def values(self) -> int:
        """Values compared."""
        return sum(f.values for f in self.features)

    @property
    def exact(self) -> int:
        """Values equal as the model saw them."""
        return sum(f.exact for f in self.features)

    @property
    def within_tolerance(self) -> int:
        """Values that differ by a unit in the last place where that is allowed."""
        return sum(f.within_tolerance for f in self.features)

    @property
    def different(self) -> int:
        """Values that differ, are missing or are extra."""
        return sum(f.different for f in self.features)

    @property
    def not_compared(self) -> int:
        """Values that were served as unavailable, default or erased."""
        return sum(f.not_compared for f in self.features)

    @property
    def uncomputable(self) -> int:
        """Values that neither serving nor the replay could compute."""
        return sum(f.uncomputable for f in self.features)

    @property
    def exact_share(self) -> float | None:
        """Exact among compared; None if nothing was compared."""
        return self.exact / self.values if self.values else None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        totals = ("values", "exact", "within_tolerance", "different", "not_compared", "uncomputable", "exact_share")
        return asdict(self) | {name: getattr(self, name) for name in totals}


def sampled(predictions: pl.DataFrame, share: float, salt: bytes = b"") -> pl.DataFrame:
    """Predictions of a share of the keys: the same keys each time, and a larger share holds a smaller one.

    Args:
        predictions: Rows of the ``_prediction`` source.
        share: Of the keys, above 0 and at most 1.
        salt: Other keys for another salt.
    """
    if share >= 1.0:
        return predictions
    chosen = (
        int.from_bytes(hash128(b"parity" + salt, unit.encode())[:8], "big") < share * 2.0**64
        for unit in predictions["unit"]
    )
    return predictions.filter(pl.Series(chosen, dtype=pl.Boolean))


def check(model: ModelDef, predictions: pl.DataFrame, history: Columns) -> ParityReport:
    """Replay logged predictions at their own moments and compare.

    Compared is every feature that a view or an expression makes; a plain column of the request has nothing to differ
    in; nor has an answer that a cache gave again, whose features are those of the first. A prediction whose request is
    not the one that is stored under its id (the first wins) is left out. An expression that could not be computed when
    it was served, and nobody answered (MS-S106), must not be computable on replay either.

    Args:
        model: Whose predictions, and whose features in the order in which they were logged.
        predictions: Rows of the ``_prediction`` source, of any models; a sample will do.
        history: Of the request's source and of the views' sources.
    """
    asked = predictions.filter((pl.col("model") == model.name) & pl.col("cached").is_null())
    needed = Needed(model, history)
    linked, served, codes = _linked(model, asked, needed)
    left_out = asked.height - linked.height
    if linked.is_empty():
        return unlinked(model.name, left_out)
    made = [f for f in model.features if f.view is not None or f.expression is not None]
    names = {f.name for f in made}
    t_us = linked["_predicted_at"]
    frame_of = nearby(model, linked, int(_instants(t_us).min()), needed.frame)
    then = features_at(model, linked, frame_of, t_us, known_offset=linked["_folded"], only=names)
    requested = linked["_requested"]
    by_then = features_at(model, linked, frame_of, t_us, known_us=requested, only=names)
    refused = (linked["_output"].is_null() & linked["_error"].eq_missing(EXPRESSION)).to_numpy()
    places = {feature.name: place for place, feature in enumerate(model.features)}
    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    explained = np.zeros(linked.height, np.bool_)  # some expression says why nobody answered: broken again, or not
    for feature in made:
        logged = [row[places[feature.name]] for row in served]
        before = _seen(logged if feature.kind == "str" else with_infinities(logged))
        after = _seen(then.columns[feature.name].to_list())
        seen[feature.name] = before, after
        if feature.expression is not None:
            explained |= then.is_broken(feature.name) | (_absent(before) & ~_absent(after))
    features: list[FeatureParity] = []
    examples: list[Example] = []
    lagging = np.zeros(linked.height, np.bool_)
    for feature in made:
        before, after = seen[feature.name]
        broken = then.is_broken(feature.name)
        lagging |= ~_same(after, _seen(by_then.columns[feature.name].to_list()))
        lagging |= broken != by_then.is_broken(feature.name)
        skipped = np.isin([row[places[feature.name]] for row in codes], _NOT_COMPARED)
        near = _near(before, after) if tolerance_of(model, feature) else np.zeros(len(before), np.bool_)
        # Null on both sides, and yet not the same: one of them could compute it.
        one_sided = (broken & ~refused) | (refused & ~explained & (feature.expression is not None))
        one_sided &= _absent(before) & _absent(after)
        neither = broken & refused & _absent(before) & ~skipped
        features.append(_compare(feature.name, before, after, near, skipped, one_sided, neither))
        same = _same(before, after) & ~one_sided
        differ = np.flatnonzero(~same & ~near & ~skipped & ~neither)[: EXAMPLES - len(examples)]
        examples += [
            Example(linked["_prediction_id"][i], feature.name, _shown(before[i]), _shown(after[i]))
            for i in differ.tolist()
        ]
    lag = _lag(model, linked, history, lagging)
    return ParityReport(model.name, linked.height, left_out, lag, tuple(features), tuple(examples))


def unlinked(model: str, predictions: int) -> ParityReport:
    """The report of predictions that nothing can be said about."""
    return ParityReport(model, 0, predictions, LagSkew(), (), ())


def joined(model: str, reports: Sequence[ParityReport]) -> ParityReport:
    """Several reports of one model, of its releases for instance, as one."""
    features: dict[str, FeatureParity] = {}
    counted = [f.name for f in fields(FeatureParity) if f.name != "name"]
    for one in (f for report in reports for f in report.features):
        old = features.get(one.name)
        if old is not None:
            one = FeatureParity(one.name, **{n: getattr(old, n) + getattr(one, n) for n in counted})  # noqa: PLW2901
        features[one.name] = one
    return ParityReport(
        model,
        sum(r.predictions for r in reports),
        sum(r.unlinked for r in reports),
        sum((r.lag for r in reports), LagSkew()),
        tuple(features.values()),
        tuple(e for r in reports for e in r.examples)[:EXAMPLES],
    )


def _linked(
    model: ModelDef, asked: pl.DataFrame, history: Needed
) -> tuple[pl.DataFrame, list[list[Any]], list[list[int]]]:
    """Predictions with the columns of the requests that they answered; what they were served, and its statuses."""
    requests = history.frame(model.request.name).sort("_offset").unique("_id", keep="first", maintain_order=True)
    known_at, time = pl.col("_known_at").alias("_requested"), pl.col("_time").alias("_asked_at")
    requests = requests.select("_id", known_at, time, *model.request.columns)
    # No column of a request begins with an underscore: theirs and the prediction's do not meet.
    logged = asked.select(pl.col(_LOGGED).name.prefix("_"))
    linked = logged.join(requests, left_on="_request_id", right_on="_id", how="inner", maintain_order="left")
    linked = linked.filter(pl.col("_asked_at").cast(_INSTANT) == pl.col("_predicted_at").cast(_INSTANT))
    served = [_LIST(text) for text in linked["_features"]]
    whole = [i for i, values in enumerate(served) if len(values) == len(model.features)]
    linked = linked[whole]
    codes = [_LIST(text) if text else [0] * len(model.features) for text in linked["_status"]]
    return linked, [served[i] for i in whole], codes


def _lag(model: ModelDef, linked: pl.DataFrame, history: Columns, lagging: np.ndarray) -> LagSkew:
    """Records of the views' sources that were known before a request and lay after what had been folded."""
    names = {source.name for view in model.views for source in view.sources}
    parts = [history.frame(name, ("_offset", "_known_at")) for name in sorted(names)]
    if not parts:
        return LagSkew(linked.height)
    events = pl.concat(parts).sort("_offset")
    offsets = events["_offset"].to_numpy()
    knowns = np.maximum.accumulate(_instants(events["_known_at"]))  # what was loaded as history was known long before
    requested = _instants(linked["_requested"])
    folded = np.searchsorted(offsets, linked["_folded"].to_numpy(), side="right")
    missed = np.maximum(np.searchsorted(knowns, requested, side="left") - folded, 0)
    behind = missed > 0
    waited_us = requested[behind] - knowns[folded[behind]]
    return LagSkew(
        linked.height,
        int(behind.sum()),
        int(lagging.sum()),
        int(missed.max(initial=0)),
        float(waited_us.max(initial=0)) / 1e6,
    )


def _compare(
    name: str,
    served: np.ndarray,
    replayed: np.ndarray,
    near: np.ndarray,
    skipped: np.ndarray,
    one_sided: np.ndarray,
    neither: np.ndarray,
) -> FeatureParity:
    kept = ~skipped & ~neither
    exact = _same(served, replayed) & kept & ~one_sided
    near = near & ~exact & kept
    missing = _absent(served) & ~exact & kept & ~one_sided
    extra = _absent(replayed) & ~exact & kept & ~one_sided
    unequal = kept & ~(exact | missing | extra | near)
    return FeatureParity(
        name,
        int(kept.sum()),
        exact=int(exact.sum()),
        within_tolerance=int(near.sum()),
        unequal=int(unequal.sum()),
        missing=int(missing.sum()),
        extra=int(extra.sum()),
        not_compared=int(skipped.sum()),
        uncomputable=int(neither.sum()),
    )


def _seen(values: list[Any]) -> np.ndarray:
    """Values as the model saw them: float32 with NaN for null, or texts with None."""
    if any(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    with np.errstate(over="ignore"):  # beyond float32's range the model saw infinity
        return floats(values).astype(np.float32)


def _absent(values: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        return np.array([v is None or v != v for v in values], np.bool_)
    return np.asarray(np.isnan(values), np.bool_)


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a == b) | (_absent(a) & _absent(b)), np.bool_)


def _near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Numbers that are a unit in the last place apart, and not equal."""
    if object in (a.dtype, b.dtype):
        return np.zeros(len(a), np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray((a != b) & (np.abs(a - b) <= np.spacing(np.maximum(np.abs(a), np.abs(b)))), np.bool_)


def _instants(column: pl.Series) -> np.ndarray:
    return np.asarray(column.cast(_INSTANT).cast(pl.Int64).to_numpy(), np.int64)


def _shown(value: Any) -> float | str | None:
    if isinstance(value, str):
        return value
    return None if value is None or np.isnan(value) else float(value)
