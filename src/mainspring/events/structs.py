"""What a record is decoded into: a msgspec struct made of a source's columns, which checks types as it reads.

A *tight* struct checks in the same pass what of a column's constraints msgspec has a word for. It says no to all that
the plain one and the checks of ``bounds`` say no to, in words of its own: so its yes is final, and after its no the
record is read again by the plain one, whose errors are the contract's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from mainspring.definitions.values import Constraint, Field, SourceDef
from mainspring.events.bounds import constraints_of, takes_default

_INT64 = (-(2**63), 2**63 - 1)
JSON_TYPES: Mapping[str, Any] = {
    "str": str,
    "int": Annotated[int, msgspec.Meta(ge=_INT64[0], le=_INT64[1])],
    "float": float,
    "bool": bool,
    "datetime": datetime,
    "vector": list[float],
}
OWN_TYPES: Mapping[str, Any] = {**JSON_TYPES, "datetime": datetime | int}


def needed(source: SourceDef) -> set[str | None]:
    """Columns without which a delete does not find its row."""
    return {source.id, source.corrects, source.time, source.known_at}


def struct_of(
    source: SourceDef, types: Mapping[str, Any], *, is_delete: bool = False, is_tight: bool = False
) -> type[msgspec.Struct]:
    """What a row is decoded into, each name a field; a delete may leave out whatever does not find its row."""
    found = needed(source)
    fields: list[Any] = []
    for f in source.fields:
        kind = tightened(f, source, types)[0] if is_tight else types[f.kind]
        hint = kind | None if f.nullable else kind
        if f.aliases:
            if is_delete and f.name not in found:
                hint = hint | None
            fields += [(name, hint | msgspec.UnsetType, msgspec.UNSET) for name in (f.name, *f.aliases)]
        elif is_delete and f.name not in found:
            fields.append((f.name, types[f.kind] | None, None))
        elif f.has_default:
            fields.append((f.name, hint, f.default))
        elif f.nullable:
            fields.append((f.name, hint, None))
        else:
            fields.append((f.name, hint))
    return msgspec.defstruct(source.name, fields, kw_only=True, forbid_unknown_fields=True, gc=False)


def tightened(field: Field, source: SourceDef, types: Mapping[str, Any]) -> tuple[Any, list[Constraint]]:
    """The type of a column with those constraints in it that msgspec has a word for, and the other ones."""
    constraints = constraints_of(field, source)
    if takes_default(field, source):  # else rows that lack the column would be taken: decoding does not check a default
        for constraint in constraints:
            hint = _tight(constraint, field.kind)
            if hint is not None:
                return hint, [c for c in constraints if c is not constraint]
    return types[field.kind], constraints


def _tight(constraint: Constraint, kind: str) -> Any:
    """The type that holds to one constraint; None where there is none that does so exactly."""
    args = constraint.args
    if constraint.name == "one_of" and kind == "str" and all(type(a) is str for a in args):
        return Literal[args]
    if constraint.name == "length" and kind == "str":
        return Annotated[str, msgspec.Meta(min_length=args[0], max_length=args[1])]
    if constraint.name == "between" and kind == "float" and all(_is_exact(a) for a in args):
        return Annotated[float, msgspec.Meta(ge=float(args[0]), le=float(args[1]))]
    if constraint.name == "between" and kind == "int" and all(type(a) is int for a in args):
        low, high = max(args[0], _INT64[0]), min(args[1], _INT64[1])
        return Annotated[int, msgspec.Meta(ge=low, le=high)] if low <= high else None
    return None


def _is_exact(bound: float) -> bool:
    """Whether a bound is a finite float, or an integer that is one."""
    return type(bound) in (int, float) and math.isfinite(bound) and abs(bound) <= 2**53
