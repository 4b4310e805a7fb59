"""``ms.otherwise``: what is answered when a model cannot answer in time, without its features, or at all."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.definitions.features import MOMENT
from mainspring.definitions.source import place_of_caller
from mainspring.definitions.values import OtherwiseDef, Place, SourceDef


@dataclass(frozen=True)
class Otherwise:
    """What ``ms.otherwise`` was given, before a model says of which requests it is."""

    last_good: bool
    shadow: bool
    blind: bool
    value: Any
    place: Place

    def bound(self, request: SourceDef, task: str) -> OtherwiseDef:
        """Checked against the columns of a model's requests.

        Raises:
            DefinitionError: ``value=`` is no answer that the model could give (MS-D155), or reads what requests do not
                have (MS-D102 to MS-D105).
        """
        where = str(self.place)
        if self.value is None:
            return OtherwiseDef(self.last_good, self.shadow, self.blind, None)
        import polars as pl

        from mainspring.definitions.expressions import POLARS_TYPES, expression

        value = self.value
        is_share = task == "binary_classification"
        if isinstance(value, (bool, int, float)):
            if not isfinite(value) or (is_share and not 0 <= value <= 1):
                why = "the prediction is the probability of true" if is_share else "the prediction is a number"
                raise DefinitionError("MS-D155", f"otherwise(value={value}) is no answer", where=where, why=why)
            value = pl.lit(float(value))
        elif not isinstance(value, pl.Expr):
            hint = 'a number, or a rule over the request: ms.when(col("amount") < 50).then(0.0).otherwise(1.0)'
            raise DefinitionError("MS-D155", f"otherwise(value={value!r}) is no answer", where=where, hint=hint)
        schema = dict(request.schema) | {MOMENT: POLARS_TYPES["datetime"]}
        frozen = expression(value, schema, of=f"request {request.name}", where=where, name="otherwise")
        if frozen.kind not in ("bool", "int", "float"):
            what = f"otherwise(value=…) gives {frozen.kind}, but a prediction is a number"
            hint = "0.0 for no, 1.0 for yes: a client reads it as it reads the model's probability"
            raise DefinitionError("MS-D155", what, where=where, hint=hint if is_share else "")
        return OtherwiseDef(self.last_good, self.shadow, self.blind, frozen)


def otherwise(*, last_good: bool = True, value: Any = None, shadow: bool = False, blind: bool = False) -> Otherwise:
    """What is answered instead: the last good version, a healthy challenger, and at last a constant or a rule.

    Asked in this order when the model that was drawn fails or its features cannot be read. When its time is up or too
    many requests wait, only ``value`` is quick enough. The answer says which one it is (``fallback``) and why
    (``reason``).

    Args:
        last_good: The champion before this one.
        value: A number, or an expression over the request's columns; None for an error.
        shadow: A challenger, also one in shadow, when neither champion nor last good version can answer.
        blind: A model whose features cannot be read answers all the same, from the request and nulls.
    """
    return Otherwise(bool(last_good), bool(shadow), bool(blind), value, place_of_caller())
