"""Predictions joined with their outcomes: a fold over the log, kept in memory and advanced as labels mature.

Only mature units count, in order of maturity. "The labels that have come so far" would be biased, because when a label
arrives depends on what it says (a late flight lands late).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mainspring.catalog import BadWindow
from mainspring.definitions import CompositeDef, ModelDef
from mainspring.events.history import History
from mainspring.events.system import PREDICTION
from mainspring.features.needed import needed_columns
from mainspring.training.badwindows import of_label
from mainspring.training.labels import outcomes

_KEPT = (
    "_offset",
    "_time",
    "prediction_id",
    "version",
    "variant",
    "probability",
    "unit",
    "folded",
    "output",
    "other_version",
    "other_output",
    "features",
    "rollout",
    "latency_us",
    "fallback",
    "error",
    "other_latency_us",
    "other_error",
    "selected",
    "members",
)


class Outcomes:
    """Matured predictions of one model, or of one composite.

    Each unit (label key) counts once, with its first prediction: a client that asks ten times about one flight has
    seen one flight.
    """

    def __init__(self, of: ModelDef | CompositeDef, history: History) -> None:
        self._name = of.name
        self._model = model = of.members[0] if isinstance(of, CompositeDef) else of  # they have one label
        self._history = history
        self._seen_offset = 0
        self._pending: list[pl.DataFrame] = []
        self._mature: list[pl.DataFrame] = []
        self._units: set[str] = set()
        self._columns = needed_columns(model)[model.label.source.name]
        self._key_type = model.label.source.schema[model.label.on]

    def advance(self, now_us: int, holds: Sequence[tuple[int, int | None]], bad: Sequence[BadWindow] = ()) -> None:
        """Take in new predictions and move those whose label is mature at ``now_us``.

        Args:
            now_us: The moment of looking.
            holds: Spans during which an incident was open on the label's source; None for one still open.
            bad: Windows that failed a blocking check: an outcome that one of them brought says nothing.
        """
        fresh = self._new_predictions()
        if fresh.height:
            self._pending.append(fresh)
        if not self._pending:
            return
        pending = pl.concat(self._pending)
        oldest_us = pending["_time"].dt.epoch("us").min()
        label = self._model.label
        events = self._history.frame(label.source.name, self._columns)
        events = events.filter(pl.col("_time") >= pl.from_epoch(pl.lit(oldest_us), "us").dt.replace_time_zone("UTC"))
        units = pending.select(_t=pl.col("_time").dt.epoch("us"), unit=pl.col("unit").cast(self._key_type))
        judged = outcomes(label, units, events, now_us, holds, of_label(self._model, bad))
        matured = judged["matured"]
        if matured.any():
            self._mature.append(pending.filter(matured).hstack(judged.filter(matured).select("mature_at_us", "y")))
        self._pending = [pending.filter(~matured)]

    def matured(self, after_us: int, until_us: int) -> pl.DataFrame:
        """Units with an outcome whose label became mature in ``(after_us, until_us]``, with column ``y``.

        Rows that a cascade asked the model about because an earlier member was not sure are left out: they are not
        the population that it was evaluated on.
        """
        frame = self.all()
        if frame.is_empty():
            return frame
        frame = frame.filter(pl.col("selected").is_null() | ~pl.col("selected"))
        return frame.filter((pl.col("mature_at_us") > after_us) & (pl.col("mature_at_us") <= until_us))

    def all(self) -> pl.DataFrame:
        """All matured units that have an outcome, in order of maturity; an empty frame before the first."""
        if len(self._mature) > 1:
            self._mature = [pl.concat(self._mature)]
        if not self._mature:
            return pl.DataFrame()
        return self._mature[0].filter(pl.col("y").is_not_null())

    def _new_predictions(self) -> pl.DataFrame:
        frame = self._history.frame(PREDICTION.name, (*_KEPT, "model"))
        fresh = frame.filter((pl.col("_offset") > self._seen_offset) & (pl.col("model") == self._name))
        if frame.height:
            self._seen_offset = max(self._seen_offset, int(frame["_offset"].max()))  # type: ignore[arg-type]
        fresh = fresh.select(_KEPT).unique("unit", keep="first", maintain_order=True)
        fresh = fresh.filter(pl.Series([unit not in self._units for unit in fresh["unit"]], dtype=pl.Boolean))
        self._units.update(fresh["unit"].to_list())
        return fresh
