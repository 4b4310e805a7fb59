"""Which columns of history a model is made of: the rest need not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import polars as pl

from mainspring.definitions import ModelDef, SourceDef, ViewDef

META = frozenset({"_offset", "_id", "_time", "_known_at"})
UNTIL = frozenset({"_until_known_at", "_until_offset"})


class Columns(Protocol):
    """Where some columns of a source's events are read: ``events.History``."""

    def frame(self, source_name: str, columns: Iterable[str] | None = None) -> pl.DataFrame:
        """All events of a source; all columns if None."""


class Needed:
    """History as one model needs it: what it asks of a source has only the columns that it is made of.

    Args:
        model: Its label, its views and those that they use; of its requests it needs every column.
        history: All of it.
    """

    def __init__(self, model: ModelDef, history: Columns) -> None:
        self._history = history
        self._columns = needed_columns(model)

    def frame(self, source_name: str) -> pl.DataFrame:
        """Events of a source, with the columns that are needed; all of a source that the model does not know."""
        return self._history.frame(source_name, self._columns.get(source_name))


def needed_columns(model: ModelDef) -> dict[str, frozenset[str]]:
    """By the name of each source: the columns that requests, label and views read, and those of the log."""
    out: dict[str, frozenset[str]] = {}
    label = model.label
    parts = [
        (label.source, {label.on, *label.value.inputs}),
        (model.request, set(model.request.columns)),
        *((source, read) for view in model.views for source, read in _of_view(view)),
    ]
    for source, read in parts:
        known = (source.columns.keys() & read) | META | (UNTIL if source.corrects else frozenset())
        out[source.name] = out.get(source.name, frozenset()) | known
    return out


def _of_view(view: ViewDef) -> Iterator[tuple[SourceDef, set[str]]]:
    """Sources of a view and of those that it uses, with all that is read of any of its events."""
    read = set(view.entity)
    for feature in view.features:
        for part in (feature.value, feature.where):
            read |= set(part.inputs if part is not None else ())
    for used in view.using:
        read |= set(used.entity)
        yield from _of_view(used)
    for source in view.sources:
        yield source, read | ({source.corrects} if source.corrects else set())
