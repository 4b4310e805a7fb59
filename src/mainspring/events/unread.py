"""Files of the lake that cannot be read, where what can be read is enough: which rows may be in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from mainspring.core.errors import FormatError
from mainspring.definitions.expressions import UTC_US

_SLACK_US = 1_000_000
"""Delta keeps the bounds of a file's times in milliseconds, rounded."""


@dataclass(frozen=True)
class Unread:
    """A file of a table that was passed over.

    Attributes:
        source: Whose table.
        times_us: Of its first and last event; None where the table's own log does not say.
        error: What is wrong with it, and what mends it.
    """

    source: str
    times_us: tuple[int, int] | None
    error: FormatError

    def may_hold(self, source: str, from_us: int | None, until_us: int | None) -> bool:
        """Whether events of a source from one moment to another (included; None: without end) may be in it."""
        if source != self.source:
            return False
        if self.times_us is None:
            return True
        first_us, last_us = self.times_us
        starts_in_time = until_us is None or first_us - _SLACK_US <= until_us
        return starts_in_time and (from_us is None or last_us + _SLACK_US >= from_us)


def unread(source: str, path: Path, table: DeltaTable | None, error: FormatError) -> Unread:
    """A file of a table that cannot be read, with its times as the table's own log has them."""
    if table is None:
        return Unread(source, None, error)
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    own = files.filter(pl.col("path").str.split("/").list.last() == path.name)
    times = own.select(pl.col("min._time", "max._time").cast(UTC_US).cast(pl.Int64))
    return Unread(source, next((pair for pair in times.iter_rows() if None not in pair), None), error)
