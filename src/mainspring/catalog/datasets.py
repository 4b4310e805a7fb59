"""Training sets: content hash, where the file is, and what it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, insert, select

from mainspring.catalog.database import METADATA

DATASETS = Table(
    "datasets",
    METADATA,
    Column("model", String, primary_key=True),
    Column("hash", String, primary_key=True),
    Column("path", String, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("numbers", Text, nullable=False),
)


@dataclass(frozen=True)
class Dataset:
    """A versioned training set.

    Attributes:
        hash: Content hash: the version.
        path: Folder with the Parquet file and ``meta.json``.
        rows: Rows with a label.
        numbers: Everything the build recorded: versions of sources and views, time range, base rate, exclusions.
    """

    model: str
    hash: str
    path: str
    rows: int
    at_us: int
    numbers: dict[str, Any]


def record(connection: Connection, model: str, numbers: Mapping[str, Any], at_us: int) -> None:
    """Remember a training set; the same content again changes nothing."""
    if find(connection, model, str(numbers["hash"])) is None:
        connection.execute(
            insert(DATASETS).values(
                model=model,
                hash=str(numbers["hash"]),
                path=str(numbers.get("path", "")),
                rows=int(numbers.get("rows", 0)),
                at_us=at_us,
                numbers=json.dumps(dict(numbers), sort_keys=True),
            )
        )


def find(connection: Connection, model: str, hash: str) -> Dataset | None:
    """One training set, or None."""
    rows = _read(connection, select(DATASETS).where(DATASETS.c.model == model, DATASETS.c.hash == hash))
    return rows[0] if rows else None


def of_model(connection: Connection, model: str) -> tuple[Dataset, ...]:
    """Training sets of a model, oldest first."""
    return _read(connection, select(DATASETS).where(DATASETS.c.model == model).order_by(DATASETS.c.at_us))


def _read(connection: Connection, query: Any) -> tuple[Dataset, ...]:
    return tuple(
        Dataset(r.model, r.hash, r.path, r.rows, r.at_us, json.loads(r.numbers)) for r in connection.execute(query)
    )
