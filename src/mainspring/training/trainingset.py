"""A training set as a versioned artefact: Parquet rows and what they come from, named by their content."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.catalog import BadWindow
from mainspring.core.errors import FormatError, NotFoundError
from mainspring.definitions import Dataset, ModelDef
from mainspring.models import Signature, signature_of

FORMAT = 1
ROWS, META = "rows.parquet", "meta.json"
KEYS = {
    "_offset": pl.Int64(),
    "_id": pl.String(),
    "_unit": pl.String(),
    "_t": pl.Int64(),
    "_known_at": pl.Int64(),
    "_mature_at": pl.Int64(),
    "_y": pl.Float64(),
    "_outcome_offset": pl.Int64(),
}
"""Columns beside the features: the request event, its moment (t, k) in microseconds, label and that label's event."""


class SourceState(msgspec.Struct, frozen=True):
    """How far a source was read: contract version, rows, last log offset, and the lake table's version if known."""

    version: str
    rows: int
    last_offset: int
    lake_version: int | None = None


class Counts(msgspec.Struct, frozen=True):
    """What became of the units asked about.

    Attributes:
        immature: Their horizon has not passed.
        held: They came of age while an incident was open on the label's source.
        excluded: Mature, with no value: ``otherwise=ms.exclude``, or an outcome that says null.
        other_features: Predictions by a version with other features, in a set of served values.
        left_out: Mature, and reached by a window of a source that failed a blocking check.
        uncomputable: Mature, and an expression of the model cannot be computed for them.
    """

    units: int
    rows: int
    immature: int
    held: int
    excluded: int
    other_features: int = 0
    left_out: int = 0
    uncomputable: int = 0


class ServedFeature(msgspec.Struct, frozen=True):
    """How a feature's served values compare with replayed ones.

    Attributes:
        compared: Values that were read when served, of requests that can be replayed.
        unread: Values that could not be read when served: the model saw null.
        other_at_logged: Differ from a replay of the logged moment: a fault.
        other_at_request: Differ from a replay of all that was known when the request was: what the fold lagged behind.
    """

    name: str
    compared: int
    unread: int
    other_at_logged: int
    other_at_request: int


class Uncomputable(msgspec.Struct, frozen=True):
    """Rows that are left out because an expression cannot be computed for them, such as a strict cast."""

    name: str
    rows: int

    def __str__(self) -> str:
        """For people."""
        return (
            f"{self.rows:,} rows are left out, for which {self.name} cannot be computed; "
            "strict=False in a cast makes a value that does not fit null"
        )


class DatasetMeta(msgspec.Struct, frozen=True):
    """Where a training set comes from. Times are int64 microseconds since 1970 UTC.

    Attributes:
        hash: Content hash of columns, definition of features and label.
        known_until_us: Up to when events were known.
        base_rate: Mean of the label.
        expressions: JSON of each feature that is an expression.
        reused_rows: Rows whose features were all read from an earlier set.
        derived: How the rows came to be other than by a replay; empty for a replayed set.
        served: Of a set of served values: how each feature compares with a replay.
        holds: Spans in which labels were held, as of then: None for one that was open.
        bad: Windows that had failed a blocking check.
        uncomputable: Expressions that could not be computed for every row.
    """

    model: str
    hash: str
    definition_version: str
    created_at_us: int
    from_us: int
    until_us: int
    known_until_us: int
    base_rate: float
    counts: Counts
    sources: dict[str, SourceState]
    views: dict[str, str]
    features: tuple[str, ...]
    label: dict[str, Any]
    reused_rows: int = 0
    derived: str = ""
    format: int = FORMAT
    expressions: dict[str, str] = {}
    served: tuple[ServedFeature, ...] = ()
    holds: tuple[tuple[int, int | None], ...] = ()
    bad: tuple[BadWindow, ...] = ()
    uncomputable: tuple[Uncomputable, ...] = ()


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Rows in order of (t, offset) with their provenance."""

    path: Path
    meta: DatasetMeta

    @property
    def hash(self) -> str:
        """Content hash: 12 hexadecimal digits."""
        return self.meta.hash

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The rows: ``KEYS``, then the model's columns (Float32 with NaN, or String with null).

        Raises:
            FormatError: The rows are not those that the hash names (MS-T103).
        """
        frame = pl.read_parquet(self.path / ROWS)
        if content(frame, self.meta) != self.meta.hash:
            why = "the rows on disk are not those that the hash names"
            raise FormatError(
                "MS-T103", "the training set has changed", where=str(self.path), why=why, hint="build it again"
            )
        return frame

    @property
    def time_us(self) -> npt.NDArray[np.int64]:
        """Moment of each row, rising."""
        return self.frame["_t"].to_numpy()

    @property
    def mature_at_us(self) -> npt.NDArray[np.int64]:
        """When each row's label was mature."""
        return self.frame["_mature_at"].to_numpy()

    @property
    def y(self) -> npt.NDArray[np.float64]:
        """The label of each row."""
        return self.frame["_y"].to_numpy()

    def columns(self, rows: npt.NDArray[Any]) -> dict[str, Any]:
        """Feature columns of some rows (mask or places) as a runtime reads them, texts as object arrays with None."""
        part = self.frame.select(self.meta.features)
        part = part.filter(rows) if rows.dtype == np.bool_ else part[rows]
        return {s.name: np.array(s.to_list(), dtype=object) if s.dtype == pl.String else s.to_numpy() for s in part}

    def dataset(self, model: ModelDef, rows: npt.NDArray[np.bool_]) -> tuple[Dataset, Signature]:
        """What a training function is given of some rows, and the signature with the categories that they hold."""
        import pandas as pd

        part = self.frame.filter(rows)
        out: dict[str, Any] = {}
        categories: dict[str, list[str]] = {}
        for name in self.meta.features:
            values = part[name]
            if values.dtype != pl.String:
                out[name] = values.to_numpy()
                continue
            known = categories[name] = values.drop_nulls().unique().sort().to_list()
            codes = values.cast(pl.Enum(known)).to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
            out[name] = pd.Categorical.from_codes(codes, categories=known)
        y = part["_y"].to_numpy()
        binary = model.task == "binary_classification"
        data = Dataset(
            pd.DataFrame(out), y >= 0.5 if binary else y.copy(), part["_t"].to_numpy(), model.seed, self.hash
        )
        return data, signature_of(model, categories)


def content(frame: pl.DataFrame, meta: DatasetMeta) -> str:
    """Content hash of rows: every column's name, type, nulls and values, and the label's definition; 12 digits.

    What a derived set says of itself belongs to its content too.
    """
    digest = hashlib.blake2b(msgspec.json.encode(meta.label, order="sorted"), digest_size=6)
    if meta.derived:
        digest.update(msgspec.json.encode((meta.derived, meta.served)))
    for name in (*KEYS, *meta.features):
        column = frame[name].rechunk()
        digest.update(f"{name} {column.dtype} {column.len()} {column.null_count()}".encode())
        if column.null_count():
            digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
        if column.dtype == pl.String:
            filled = column.fill_null("")
            digest.update(filled.str.len_bytes().to_numpy().tobytes())
            digest.update(str(filled.str.join("").item()).encode())
        else:
            digest.update(np.ascontiguousarray(column.fill_null(0).to_numpy()).tobytes())
    return digest.hexdigest()


def save(frame: pl.DataFrame, meta: DatasetMeta, root: Path) -> TrainingSet:
    """Write ``root/<model>/<hash>``; a set with that content is left as it is. ``meta.hash`` is filled in.

    What is returned says how it came to be this time: the same rows may be what was left of other units.
    """
    meta = msgspec.structs.replace(meta, hash=content(frame, meta))
    final = root / meta.model / meta.hash
    if not final.exists():
        draft = final.with_name(f".{final.name}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        frame.write_parquet(draft / ROWS, compression="lz4", statistics=False)
        (draft / META).write_bytes(msgspec.json.format(msgspec.json.encode(meta), indent=1))
        try:
            draft.rename(final)
        except OSError:  # another process built the same rows first
            shutil.rmtree(draft)
            if not final.exists():
                raise
    load(final)
    saved = TrainingSet(final, meta)
    saved.__dict__["frame"] = frame  # just hashed: no need to read it back
    return saved


def load(path: Path) -> TrainingSet:
    """Open a training set; its rows are read, and checked against the hash, when first used.

    Raises:
        NotFoundError: No training set there (MS-T104).
        FormatError: Written by a later release, or unreadable (MS-T103).
    """
    try:
        meta = msgspec.json.decode((path / META).read_bytes(), type=DatasetMeta)
    except FileNotFoundError:
        raise NotFoundError(
            "MS-T104", "no training set", where=str(path), hint="mainspring dataset build MODEL"
        ) from None
    except msgspec.MsgspecError as error:
        raise FormatError(
            "MS-T103", "the training set's meta.json cannot be read", where=str(path), why=str(error)
        ) from None
    if meta.format != FORMAT:
        raise FormatError("MS-T103", f"training set format {meta.format} is not known to this release", where=str(path))
    return TrainingSet(path, meta)


def relabelled(training_set: TrainingSet, y: npt.NDArray[np.float64], root: Path, derived: str) -> TrainingSet:
    """The same rows with other labels, as a training set of its own that says so in ``meta.derived``."""
    frame = training_set.frame.with_columns(pl.Series("_y", y, dtype=pl.Float64))
    meta = msgspec.structs.replace(training_set.meta, base_rate=float(np.mean(y)), derived=derived)
    return save(frame, meta, root)
