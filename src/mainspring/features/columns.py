"""The float64 columns that events become: one for each distinct value and ``where`` of a view's aggregates.

Numbers are float64 (integers beyond 2^53 are rounded to the nearest one, bools are 0 and 1), instants microseconds
since 1970 (exact until 2255), texts words (``words``), vectors as many columns as they have numbers. NaN is where the
value is null or not finite or ``where`` does not hold; what is only counted is 1.0. −0.0 becomes 0.0 when a column is
laid out, so that extremes do not depend on order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from mainspring.features.words import identities_of, words_of

if TYPE_CHECKING:
    from mainspring.definitions import Aggregate, Expression

Form = Literal["mark", "number", "instant", "word", "identity", "part"]


@dataclass(frozen=True)
class Column:
    """One float64 column.

    Attributes:
        value: What it holds; None to mark events.
        where: Only events for which this holds are seen.
        form: How a value is a float64: 1.0 for any (``mark``), itself, an instant's microseconds, a text's word, a
            whole number's ``identity`` (different for different numbers, also beyond 2^53), one ``part`` of a vector.
        part: Which part of a vector, from 0.
    """

    value: Expression | None
    where: Expression | None
    form: Form
    part: int = 0

    @property
    def is_number(self) -> bool:
        """Whether its numbers mean something by themselves: marks are all 1, words and identities are names."""
        return self.value is not None and self.form in ("number", "instant")

    @property
    def unchecked(self) -> pl.Expr:
        """The column before ``where``, as polars computes it: null, NaN or infinite where there is no value."""
        if self.value is None:
            return pl.lit(1.0)
        value = self.value.expr
        if self.form == "mark":
            return pl.when(value.is_not_null()).then(1.0)
        if self.form == "instant":
            return value.to_physical().cast(pl.Float64)
        if self.form in ("word", "identity"):
            known = words_of if self.form == "word" else identities_of
            return value.map_batches(known, return_dtype=pl.Float64, is_elementwise=True)
        if self.form == "part":  # the first one says whether the whole is a vector of finite numbers
            part = value.arr.get(self.part)
            finite = value.arr.eval(pl.element().is_finite().fill_null(value=False)).arr.all()
            return part if self.part else pl.when(finite).then(part)
        return value.cast(pl.Float64)

    @property
    def expr(self) -> pl.Expr:
        """The column as polars computes it, for a micro-batch and for years of history alike."""
        out = self.unchecked
        seen = out.is_finite()
        if self.where is not None:
            seen &= self.where.expr
        return pl.when(seen).then(out).otherwise(pl.lit(float("nan")))

    @property
    def bare(self) -> bool:
        """Whether it is a number of the source and nothing else; what is not finite has yet to become null."""
        return self.form == "number" and self.value is not None and self.where is None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of the source that it reads."""
        return tuple(name for e in (self.value, self.where) if e is not None for name in e.inputs)

    @property
    def identity(self) -> tuple[str | None, str | None, str, int]:
        """Equal for columns that hold the same numbers."""
        return (self.value.json if self.value else None, self.where.json if self.where else None, self.form, self.part)


def columns_of(feature: Aggregate) -> tuple[Column, ...]:
    """The columns that an aggregate reads: one, but for a vector."""
    value, function = feature.value, feature.function
    if value is None:
        return (Column(None, feature.where, "mark"),)
    if value.kind == "vector":
        return tuple(Column(value, feature.where, "part", i) for i in range(feature.dim))
    form: Form = "number"
    if function in ("count", "rate") and value.kind in ("str", "datetime"):
        form = "mark"
    elif value.kind == "datetime":
        form = "instant"
    elif value.kind == "str":
        form = "word"
    elif value.kind == "int" and function in ("distinct", "approx_distinct"):
        form = "identity"
    return (Column(value, feature.where, form),)
