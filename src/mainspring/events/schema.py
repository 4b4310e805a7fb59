"""A source's events as a JSON Schema, as the doors' OpenAPI documents show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mainspring.core.times import to_iso
from mainspring.definitions.values import Constraint, Field, SourceDef

Schema = dict[str, Any]

_INT64 = {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
_KINDS: Mapping[str, Schema] = {
    "str": {"type": "string"},
    "int": _INT64,
    "float": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "vector": {"type": "array", "items": {"type": "number", "format": "double"}},
}


def event_schema(source: SourceDef, *, time: str = "") -> Schema:
    """The schema of one event.

    Args:
        source: What it is an event of.
        time: What the event's time means where it may be left out; it is required if empty.
    """
    optional = source.time if time else ""
    required = [f.name for f in source.fields if not (f.nullable or f.has_default or f.name == optional)]
    properties = {f.name: _field(f, is_optional=f.name == optional) for f in source.fields}
    if time:
        properties[source.time]["description"] = time
    return {
        "type": "object",
        "description": source.doc,
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }


def _field(field: Field, *, is_optional: bool) -> Schema:
    schema = dict(_KINDS[field.kind])
    for constraint in field.constraints:
        _constrain(schema, constraint)
    if field.kind == "vector":
        schema |= {"minItems": field.dim, "maxItems": field.dim}
    if field.nullable or is_optional:
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        schema["type"] = [schema["type"], "null"]
    if field.has_default and field.kind != "datetime":
        schema["default"] = field.default
    return schema


def _constrain(schema: Schema, constraint: Constraint) -> None:
    args = constraint.args
    match constraint.name:
        case "one_of":
            schema["enum"] = list(args)
        case "between" if schema.get("format") == "date-time":
            schema["description"] = f"between {to_iso(args[0])} and {to_iso(args[1])}"
        case "between":
            schema["minimum"], schema["maximum"] = args
        case "pattern":
            schema["pattern"] = f"^(?:{args[0]})$"
        case "length":
            schema["minLength"], schema["maxLength"] = args
