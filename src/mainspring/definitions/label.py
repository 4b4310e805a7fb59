"""``ms.label``: a feature of the future."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean
from mainspring.core.spans import parse_span
from mainspring.definitions.mention import mention
from mainspring.definitions.source import Source, place_of_caller
from mainspring.definitions.values import Exclude, LabelDef
from mainspring.definitions.view import source_of

if TYPE_CHECKING:
    import polars as pl

_UNSAID = object()


def label(
    source: type[Source],
    *,
    on: str,
    value: str | pl.Expr,
    within: str | None = None,
    otherwise: Any = _UNSAID,
    late: str = "0s",
) -> LabelDef:
    """The first event of ``source`` on the key with ``t <= time < t + within``.

    Args:
        source: Where outcomes come from.
        on: Column that outcome and request share.
        value: What is predicted, over the outcome's columns.
        within: The horizon: outcomes later than this do not count.
        otherwise: Value of a unit without an outcome, or ``ms.exclude``.
        late: How much later than the horizon an outcome may become known.

    Raises:
        DefinitionError: No horizon or no ``otherwise`` (MS-D130), unknown column (MS-D102).
    """
    from mainspring.definitions.expressions import expression

    place = place_of_caller()
    where = str(place)
    origin = source_of(source, "the first argument of label", where)
    if within is None:
        why = "without a horizon a label never matures, and what has arrived so far depends on the outcome"
        raise DefinitionError("MS-D130", "a label needs a horizon", where=where, why=why, hint='within="36h"')
    if otherwise is _UNSAID:
        why = "a unit without an outcome is a value or is left out; only you know which"
        raise DefinitionError(
            "MS-D130", "a label needs otherwise=", where=where, why=why, hint="otherwise=ms.exclude, or a value"
        )
    if on not in origin.columns:
        hint = did_you_mean(on, origin.columns)
        raise DefinitionError("MS-D102", f"source {origin.name} has no column {on!r} for on=", where=where, hint=hint)
    frozen = expression(value, origin.schema, of=f"source {origin.name}", where=where)
    if frozen.kind not in ("bool", "int", "float"):
        raise DefinitionError("MS-D131", f"value= is {frozen.kind}; a label is a bool or a number", where=where)
    within_us = parse_span(within, said=f"within={within!r}", where=where)
    late_us = parse_span(late, said=f"late={late!r}", where=where)
    if within_us <= 0:
        raise DefinitionError(
            "MS-D130", f"within={within!r} must be longer than nothing", where=where, hint='within="36h"'
        )
    if not isinstance(otherwise, (Exclude, bool, int, float)):
        raise DefinitionError(
            "MS-D131", f"otherwise={mention(otherwise)} is neither ms.exclude nor a number", where=where
        )
    return LabelDef(origin, on, frozen, within_us, otherwise, late_us, place)
