"""Versions of a row: what corrections of a source (``corrects=``) make of its history.

The versions of an id are its events in the order (known_at, offset). Each holds from its own stamp until that of the
next, so a moment of limit k sees the version with ``stamp <= k < until``: stamps are ``known_at`` for a moment of
history, offsets for one that was served. A delete holds never: its ``until`` is its own stamp.
"""

from __future__ import annotations

import polars as pl

from mainspring.definitions.expressions import UTC_US
from mainspring.definitions.values import SourceDef

UNTIL_KNOWN_AT = "_until_known_at"
UNTIL_OFFSET = "_until_offset"
UNTIL_SCHEMA: dict[str, pl.DataType] = {UNTIL_KNOWN_AT: UTC_US, UNTIL_OFFSET: pl.Int64()}


def with_untils(frame: pl.DataFrame, source: SourceDef) -> pl.DataFrame:
    """``frame`` with when each event is superseded, null for never; as it is for a source without corrections.

    An event that was loaded as history behind a newer version of its row has an ``until`` offset before its own: no
    moment that was served ever saw it. So the ``until`` of an event is the least stamp of all later versions.

    Args:
        frame: All events of the source: its columns, ``_id``, ``_known_at``, ``_offset``; any order, which is kept.
        source: Whose events.
    """
    if source.corrects is None:
        return frame
    is_delete = pl.col(source.corrects) == "delete"
    several = frame.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("_row"),
        "_id",
        "_known_at",
        "_offset",
        is_delete.fill_null(value=False).alias("_is_delete"),
    ).filter((pl.col("_id").is_not_null() & pl.col("_id").is_duplicated()) | pl.col("_is_delete"))
    found = (
        several.sort("_id", "_known_at", "_offset")
        .with_columns(
            pl.col("_known_at").shift(-1).over("_id").alias(UNTIL_KNOWN_AT),
            pl.col("_offset").cum_min(reverse=True).shift(-1).over("_id").alias(UNTIL_OFFSET),
        )
        .select(
            "_row",
            pl.when("_is_delete").then("_known_at").otherwise(UNTIL_KNOWN_AT).alias(UNTIL_KNOWN_AT),
            pl.when("_is_delete").then("_offset").otherwise(UNTIL_OFFSET).alias(UNTIL_OFFSET),
        )
    )
    untils = pl.DataFrame({"_row": pl.int_range(frame.height, dtype=pl.UInt32, eager=True)}).join(
        found, on="_row", how="left", maintain_order="left"
    )
    return frame.with_columns(
        untils[UNTIL_KNOWN_AT].cast(UTC_US),
        untils[UNTIL_OFFSET].cast(pl.Int64),
    )


def visible(frame: pl.DataFrame, upto: int) -> pl.DataFrame:
    """The events that a moment of limit ``upto``, an offset, sees."""
    seen = pl.col("_offset") <= upto
    if UNTIL_OFFSET in frame.columns:
        seen &= pl.col(UNTIL_OFFSET).is_null() | (pl.col(UNTIL_OFFSET) > upto)
    return frame.filter(seen)


def first_asked(frame: pl.DataFrame) -> pl.DataFrame:
    """Requests as they were first asked, one an id: a correction of a request does not change the question.

    Args:
        frame: Of the request's source; its order is kept. As it is for a source without corrections.
    """
    if UNTIL_OFFSET not in frame.columns:
        return frame
    asked = frame.filter(~(pl.col(UNTIL_OFFSET).eq_missing(pl.col("_offset"))))
    first = asked.sort("_known_at", "_offset").unique("_id", keep="first")["_offset"]
    return asked.filter(pl.col("_id").is_null() | pl.col("_offset").is_in(first.implode()))
