"""Parity: were the features that a model was served those that a replay of that moment gives?

A prediction says its moment: the time t and the log offset k that had been folded. Replayed at (t, k) its features
must be equal as the model saw them, in float32; a std may differ by a unit in the last place (its moments cancel).
**Lag skew** is another thing, reported apart: what the fold had not yet seen although it was known when the request
was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import polars as pl

from mainspring.features.history import stream
from mainspring.features.replay import replay
from mainspring.features.status import Status

if TYPE_CHECKING:
    from mainspring.definitions import Feature, ModelDef

EXAMPLES = 20
_NOT_COMPARED = (Status.UNAVAILABLE, Status.DEFAULT, Status.ERASED)
_LIST = msgspec.json.Decoder(list[Any]).decode


class Frames(Protocol):
    """Where events of a source are read: ``events.History``."""

    def frame(self, source_name: str) -> pl.DataFrame:
        """All events of a source."""


@dataclass(frozen=True)
class FeatureParity:
    """How served values of one feature compare with replayed ones.

    Attributes:
        unequal: Both are there and differ by more than the tolerance.
        missing: Null when served, a value on replay.
        extra: A value when served, null on replay.
        not_compared: Served as unavailable, default or erased.
    """

    name: str
    values: int
    exact: int
    within_tolerance: int
    unequal: int
    missing: int
    extra: int
    not_compared: int


@dataclass(frozen=True)
class Example:
    """One value that differs."""

    prediction_id: str
    feature: str
    served: float | None
    replayed: float | None


@dataclass(frozen=True)
class ParityReport:
    """Served features against replay, and apart from that the lag of the fold.

    Attributes:
        predictions: Replayed.
        unlinked: Predictions without a stored request or with other features than the definition: left out.
        lagging: Predictions for which something known before their request had not been folded.
        features: One a feature of a view.
        examples: Up to 20 values that differ.
    """

    model: str
    predictions: int
    unlinked: int
    lagging: int
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
        return sum(f.unequal + f.missing + f.extra for f in self.features)

    @property
    def exact_share(self) -> float:
        """Exact among compared; 1.0 if nothing was compared."""
        return self.exact / self.values if self.values else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        totals = ("values", "exact", "within_tolerance", "different", "exact_share")
        return asdict(self) | {name: getattr(self, name) for name in totals}


def check(model: ModelDef, predictions: pl.DataFrame, history: Frames) -> ParityReport:
    """Replay logged predictions at their own moments and compare.

    Args:
        model: Whose predictions, and whose features in the order in which they were logged.
        predictions: Rows of the ``_prediction`` source, of any models; a sample will do.
        history: Of the request's source and of the views' sources.
    """
    asked = predictions.filter(pl.col("model") == model.name)
    requests = history.frame(model.request.name).unique("_id", keep="first", maintain_order=True)
    entities = sorted({name for view in model.views for name in view.entity})
    requests = requests.select(
        "_id", pl.col("_known_at").alias("_requested"), *(pl.col(e).alias(f"_{e}") for e in entities)
    )
    linked = asked.join(requests, left_on="request_id", right_on="_id", how="inner", maintain_order="left")
    logged = [_LIST(text) for text in linked["features"]]
    whole = [i for i, values in enumerate(logged) if len(values) == len(model.features)]
    linked = linked[whole]
    served = [logged[i] for i in whole]
    codes = [_LIST(text) if text else [0] * len(model.features) for text in linked["status"]]

    features: list[FeatureParity] = []
    examples: list[Example] = []
    lagging = np.zeros(linked.height, bool)
    for view in model.views if linked.height else ():
        keys = linked.select(pl.col(f"_{e}").alias(e) for e in view.entity)
        events = stream(view, history.frame)
        then, _ = replay(view, events, keys, linked["predicted_at"], known_offset=linked["folded"])
        by_then, _ = replay(view, events, keys, linked["predicted_at"], known_us=linked["_requested"])
        lagging |= ~_same(_seen(then), _seen(by_then)).all(axis=1)
        for place, feature in enumerate(model.features):
            if feature.view is not None and feature.view.name == view.name and feature.aggregate is not None:
                before = _seen(np.array([values[place] for values in served], np.float64))
                after = _seen(then[:, view.features.index(feature.aggregate)])
                skipped = np.isin([status[place] for status in codes], _NOT_COMPARED)
                features.append(_compare(feature, before, after, skipped))
                if len(examples) < EXAMPLES:
                    differ = np.flatnonzero(~_same(before, after) & ~skipped)[: EXAMPLES - len(examples)]
                    examples += [
                        Example(linked["prediction_id"][int(i)], feature.name, _shown(before[i]), _shown(after[i]))
                        for i in differ
                    ]
    return ParityReport(
        model.name, linked.height, asked.height - linked.height, int(lagging.sum()), tuple(features), tuple(examples)
    )


def _compare(feature: Feature, served: np.ndarray, replayed: np.ndarray, skipped: np.ndarray) -> FeatureParity:
    served, replayed = served[~skipped], replayed[~skipped]
    exact = _same(served, replayed)
    missing, extra = np.isnan(served) & ~exact, np.isnan(replayed) & ~exact
    near = np.zeros(len(exact), bool)
    if feature.aggregate is not None and feature.aggregate.function == "std":
        near = ~exact & (np.abs(served - replayed) <= np.spacing(np.maximum(np.abs(served), np.abs(replayed))))
    unequal = ~(exact | missing | extra | near)
    return FeatureParity(
        feature.name,
        len(exact),
        exact=int(exact.sum()),
        within_tolerance=int(near.sum()),
        unequal=int(unequal.sum()),
        missing=int(missing.sum()),
        extra=int(extra.sum()),
        not_compared=int(skipped.sum()),
    )


def _seen(values: np.ndarray) -> np.ndarray:
    """Values as the model saw them."""
    with np.errstate(over="ignore"):  # beyond float32's range the model saw infinity
        return values.astype(np.float32)


def _same(a: np.ndarray, b: np.ndarray) -> Any:
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _shown(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
