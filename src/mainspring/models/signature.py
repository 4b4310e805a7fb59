"""What a model takes and gives: its columns in order, their kinds, the categories known at training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.core.errors import PackageError
from mainspring.core.names import did_you_mean
from mainspring.definitions import Feature, ModelDef

Floats = npt.NDArray[np.float32]
Texts = npt.NDArray[np.object_]
Columns = Mapping[str, Any]

MISSING_TEXT = "\u2400"
"""How a missing text is written inside a model's graph (the symbol for NULL); ``None`` everywhere else."""


class InputColumn(msgspec.Struct, frozen=True):
    """One column that a model reads.

    Attributes:
        kind: ``number`` is float32 with NaN for missing; ``text`` is a string with None for missing.
        categories: Texts seen at training, sorted; empty for numbers.
        nullable: Whether it can be missing; False for a request's column that its contract never lets be None.
    """

    name: str
    kind: Literal["number", "text"]
    categories: tuple[str, ...] = ()
    nullable: bool = True


class Signature(msgspec.Struct, frozen=True, dict=True):
    """Inputs and output of a model.

    Attributes:
        inputs: The model's columns, in the order of its definition.
        output: ``probability`` of True, or ``value``.
        missing_text: How a missing text is written inside the graph.
    """

    inputs: tuple[InputColumn, ...]
    output: Literal["probability", "value"]
    missing_text: str = MISSING_TEXT

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """Names of the number columns: columns of the graph's ``numbers`` matrix."""
        return tuple(c.name for c in self.inputs if c.kind == "number")

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Names of the text columns: columns of the graph's ``texts`` matrix."""
        return tuple(c.name for c in self.inputs if c.kind == "text")

    def part(self, names: Sequence[str]) -> Signature:
        """The signature of the columns in ``names`` alone."""
        return Signature(tuple(c for c in self.inputs if c.name in names), self.output, self.missing_text)

    def numbers_matrix(self, columns: Columns) -> Floats:
        """Number columns side by side, float32 of shape (rows, numbers); None and NaN both become NaN.

        Raises:
            PackageError: A column is not there (MS-M120).
        """
        parts = [_number(self._column(columns, name)) for name in self.numbers]
        return np.column_stack(parts) if parts else np.empty((_rows(columns), 0), np.float32)

    def texts_matrix(self, columns: Columns) -> Texts:
        """Text columns side by side, strings of shape (rows, texts); None becomes ``missing_text``.

        Raises:
            PackageError: A column is not there (MS-M120).
        """
        parts = [self._text(self._column(columns, name)) for name in self.texts]
        return np.column_stack(parts) if parts else np.empty((_rows(columns), 0), np.object_)

    def _text(self, values: Any) -> Texts:
        out = np.empty(len(values), np.object_)
        out[:] = [self.missing_text if v is None or v != v else v for v in values]
        return out

    def _column(self, columns: Columns, name: str) -> Any:
        try:
            return columns[name]
        except KeyError:
            hint = did_you_mean(name, columns)
            raise PackageError("MS-M120", f"the model reads column {name!r}, which was not given", hint=hint) from None


def _number(values: Any) -> Floats:
    if isinstance(values, np.ndarray) and values.dtype != np.object_:
        return values.astype(np.float32, copy=False)
    return np.array([np.nan if v is None else v for v in values], np.float32)


def _rows(columns: Columns) -> int:
    return next((len(values) for values in columns.values()), 0)


def signature_of(model: ModelDef, categories: Mapping[str, Sequence[str]]) -> Signature:
    """The signature of a model trained on texts with these ``categories`` by column.

    Raises:
        PackageError: A feature is an instant (MS-M103).
    """
    fields = model.request.columns
    inputs = []
    for feature in model.features:
        plain = feature.view is None and feature.expression is None
        nullable = not plain or fields[feature.name].nullable
        known = tuple(sorted(categories.get(feature.name, ())))
        inputs.append(InputColumn(feature.name, kind_of(feature), known, nullable))
    return Signature(tuple(inputs), "probability" if model.task == "binary_classification" else "value")


def kind_of(feature: Feature) -> Literal["number", "text"]:
    """How a model sees a feature.

    Raises:
        PackageError: The feature is an instant (MS-M103).
    """
    if feature.kind == "datetime":
        raise PackageError(
            "MS-M103",
            f"feature {feature.name!r} is a datetime, which no model reads",
            hint=f'col("{feature.name}").dt.hour()',
        )
    return "text" if feature.kind == "str" else "number"
