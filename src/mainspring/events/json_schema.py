"""A source's contract as JSON Schema 2020-12, and a source's class from a schema.

What JSON Schema cannot say stays with the door: that times lie in the years 1 to 9999 and events from 1970 on, that ids
are unique, that a range holds for times, that 1.0 is no integer, what a delete of a corrected source may leave out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mainspring.core.errors import ContractError
from mainspring.core.names import is_name, snake_case
from mainspring.core.times import from_datetime, to_iso
from mainspring.definitions.values import OPERATIONS, Constraint, Field, Kind, SourceDef
from mainspring.events.columns import column_names

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NUMBER = {"type": "number", "format": "double"}
KINDS: Mapping[Kind, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": _NUMBER,
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "vector": {"type": "array", "items": _NUMBER},
}

_WHOLE = "^(?:", r")$(?!\n)"
"""Around a pattern, so that it is of the whole text: Python's ``$`` alone also matches before a last line's end."""


def schema_of(source: SourceDef) -> Schema:
    """The contract of one record as JSON Schema 2020-12."""
    required: list[str] = []
    choices: list[Schema] = []
    for f in source.fields:
        if not f.nullable and not f.has_default:
            if f.aliases:
                choices.append({"oneOf": [{"required": [name]} for name in (f.name, *f.aliases)]})
            else:
                required.append(f.name)
        elif f.aliases:
            names = (f.name, *f.aliases)
            pairs = [{"required": [a, b]} for i, a in enumerate(names) for b in names[i + 1 :]]
            choices.append({"not": {"anyOf": pairs}})
    out: Schema = {"$schema": DRAFT, "title": source.name}
    if source.doc:
        out["description"] = source.doc
    out |= {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": dict(_properties(source)),
    }
    if choices:
        out["allOf"] = choices
    roles = {"time": source.time, "id": source.id, "known_at": source.known_at, "corrects": source.corrects}
    out["x-mainspring"] = {"version": source.version} | {name: column for name, column in roles.items() if column}
    return out


def event_schema(source: SourceDef, *, time: str = "") -> Schema:
    """The schema of one event as the doors' OpenAPI documents show it.

    Args:
        source: What it is an event of.
        time: What the event's time means where it may be left out; it is required if empty.
    """
    if time:
        at = replace(source.columns[source.time], nullable=True, default=None, has_default=False)
        source = replace(source, fields=tuple(at if f.name == source.time else f for f in source.fields))
    schema = schema_of(source)
    if time:
        schema["properties"][source.time]["description"] = time
    return {name: part for name, part in schema.items() if name not in ("$schema", "title", "x-mainspring")}


def _properties(source: SourceDef) -> Iterator[tuple[str, Schema]]:
    for f in source.fields:
        schema = column_schema(f)
        if f.name == source.corrects:
            schema["enum"] = [value for value in schema.get("enum", OPERATIONS) if value in OPERATIONS]
        yield f.name, schema
        for alias in f.aliases:
            yield alias, schema | {"deprecated": True, "x-alias-of": f.name}


def column_schema(field: Field) -> Schema:
    """What one column takes, with what is known of it."""
    schema = dict(KINDS[field.kind])
    about = field.about
    said = [about.doc, f"in {about.unit}" if about.unit else "", about.deprecated]
    for constraint in field.constraints:
        if constraint.name == "between" and field.kind == "datetime":
            said.append(f"between {to_iso(constraint.args[0])} and {to_iso(constraint.args[1])}")
        constrain(schema, constraint, field.kind)
    if field.nullable:
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        schema["type"] = [schema["type"], "null"]
    if field.has_default and (field.default is not None or field.nullable):
        moment = field.kind == "datetime" and field.default is not None
        schema["default"] = to_iso(from_datetime(field.default)) if moment else field.default
    if any(said):
        schema["description"] = "; ".join(part for part in said if part)
    if about.deprecated:
        schema["deprecated"] = True
    if about.pii:
        schema["x-pii"] = about.pii
    return schema


def constrain(schema: Schema, constraint: Constraint, kind: Kind) -> None:
    """Add a row check to the schema of a column, where JSON Schema has a word for it."""
    args = constraint.args
    match constraint.name:
        case "one_of":
            schema["enum"] = list(args)
        case "between" if kind != "datetime":
            schema["minimum"], schema["maximum"] = args
        case "pattern":
            schema["pattern"] = f"{_WHOLE[0]}{args[0]}{_WHOLE[1]}"
        case "length":
            schema["minLength"], schema["maxLength"] = args
        case "dim":
            schema["minItems"] = schema["maxItems"] = args[0]


# --- a class from a schema -------------------------------------------------------------------------------------------


def class_of(schema: Any, name: str | None = None, time: str | None = None, id: str | None = None) -> str:
    """The text of a source's class for a JSON Schema of its records.

    Args:
        schema: Of an object with scalar properties, or arrays of numbers of one length.
        name: Of the source; the schema's title if None.
        time: Column of the event time; what the schema says, else the first date-time that must be there.
        id: Column of the id; what the schema says, else none.

    Raises:
        ContractError: It is no such schema (MS-E450), or has a property that no column is (MS-E451).
    """
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict) or not schema["properties"]:
        raise ContractError("MS-E450", "this is no JSON Schema of an object with properties", where="$")
    known = schema.get("x-mainspring", {})
    title = name or snake_case(str(schema.get("title") or "record"))
    title = title if is_name(title) else column_names([title])[0]
    required = set(schema.get("required", ())) | _in_choices(schema)
    aliases = _aliases(schema["properties"])
    columns = {key: part for key, part in schema["properties"].items() if key not in _names(aliases)}
    names = dict(zip(columns, column_names(columns), strict=True))
    kinds = {key: _kind(part, f"$.properties.{key}") for key, part in columns.items()}
    lines, instants = [], []
    for key, part in columns.items():
        nullable = _is_nullable(part) or (key not in required and part.get("default") is None)
        if kinds[key] == "datetime" and not nullable:
            instants.append(key)
        earlier = [*aliases.get(key, ()), *([key] if names[key] != key and is_name(key) else ())]
        hint = _annotation(kinds[key], part, earlier, nullable=nullable)
        lines.append(f"    {names[key]}: {hint}{_default(part, kinds[key])}")
    at = time or known.get("time") or (instants[0] if instants else None)
    if at is None:
        hint = "add one to the class, or to the schema: format date-time, required"
        raise ContractError("MS-E450", "the schema has no time that is always there", where="$.properties", hint=hint)
    roles = known | {"id": id or known.get("id"), "time": at}
    said = {role: roles[role] for role in ("id", "time", "known_at", "corrects") if roles.get(role)}
    head = "".join(f", {role}={json.dumps(names.get(column, column))}" for role, column in said.items())
    cls = "".join(part.capitalize() for part in title.split("_"))
    named = "" if snake_case(cls) == title else f', name="{title}"'
    doc = [f'    """{_said(schema["description"])}"""', ""] if schema.get("description") else []
    return "\n".join([f"class {cls}(ms.Source{head}{named}):", *doc, *lines]) + "\n"


def _said(text: Any) -> str:
    """Inside the quotes of a text of Python."""
    return json.dumps(str(text), ensure_ascii=False)[1:-1]


def _in_choices(schema: Schema) -> set[str]:
    """Columns that must be there under one name or another."""
    return {str(one["oneOf"][0]["required"][0]) for one in schema.get("allOf", ()) if "oneOf" in one}


def _aliases(properties: Mapping[str, Schema]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for key, part in properties.items():
        name = part.get("x-alias-of") if hasattr(part, "get") else None  # true and false are schemas too
        if name in properties:
            out.setdefault(str(name), []).append(key)
    return out


def _names(aliases: Mapping[str, list[str]]) -> set[str]:
    return {alias for names in aliases.values() for alias in names}


def _types(part: Schema) -> list[str]:
    said = part.get("type", [])
    return [said] if isinstance(said, str) else list(said)


def _is_nullable(part: Schema) -> bool:
    return "null" in _types(part)


def _kind(part: Any, where: str) -> Kind:
    if isinstance(part, dict):
        types = [name for name in _types(part) if name != "null"]
        if not types and part.get("enum"):
            types = ["string" if all(isinstance(v, str) for v in part["enum"] if v is not None) else "integer"]
        match types:
            case ["string"]:
                return "datetime" if part.get("format") in ("date-time", "date") else "str"
            case ["integer"]:
                return "int"
            case ["number"] | ["integer", "number"] | ["number", "integer"]:
                return "float"
            case ["boolean"]:
                return "bool"
            case ["array"] if part.get("minItems") and part.get("minItems") == part.get("maxItems"):
                if _types(part.get("items", {})) in (["number"], ["integer"]):
                    return "vector"
    why = "a column is a string, integer, number, boolean, date-time, or an array of one length of numbers, or null"
    raise ContractError("MS-E451", "no column is like this property", where=where, why=why)


def _annotation(kind: Kind, part: Schema, aliases: list[str], *, nullable: bool) -> str:
    marks = list(_checks(kind, part))
    if aliases:
        marks.append(f"ms.alias({', '.join(map(json.dumps, aliases))})")
    if part.get("x-pii"):
        marks.append(f"ms.pii({json.dumps(part['x-pii'])})")
    if part.get("description"):
        marks.append(f"ms.describe({json.dumps(str(part['description']), ensure_ascii=False)})")
    hint = ("list[float]" if kind == "vector" else kind) + (" | None" if nullable else "")
    return f"Annotated[{hint}, {', '.join(marks)}]" if marks else hint


def _checks(kind: Kind, part: Schema) -> Iterator[str]:
    values = [value for value in part.get("enum", ()) if value is not None]
    if values and kind in ("str", "int"):
        yield f"ms.one_of({', '.join(json.dumps(v, ensure_ascii=False) for v in values)})"
    ends = part.get("minimum"), part.get("maximum")
    if kind in ("int", "float") and ends != (-(2**63), 2**63 - 1) and ends != (None, None):
        low, high = (str(end) if end is not None else other for end, other in zip(ends, _ENDS[kind], strict=True))
        yield f"ms.between({low}, {high})"
    if kind == "str" and part.get("pattern"):
        text = str(part["pattern"])
        is_whole = text.startswith(_WHOLE[0]) and text.endswith(_WHOLE[1])
        text = text[len(_WHOLE[0]) : -len(_WHOLE[1])] if is_whole else f"(?s:.*)(?:{text})(?s:.*)"
        yield f"ms.pattern({json.dumps(text, ensure_ascii=False)})"
    if kind == "str" and ("minLength" in part or "maxLength" in part):
        yield f"ms.length({part.get('minLength', 0)}, {part.get('maxLength', 2**31)})"
    if kind == "vector":
        yield f"ms.dim({part['minItems']})"


_ENDS: Mapping[Kind, tuple[str, str]] = {
    "int": ("-(2**63)", "2**63 - 1"),
    "float": ("-1.7976931348623157e308", "1.7976931348623157e308"),
}


def _default(part: Schema, kind: Kind) -> str:
    if "default" not in part:
        return ""
    value = part["default"]
    if kind == "datetime" and isinstance(value, str):
        return f" = datetime.fromisoformat({json.dumps(value)})"
    return f" = {float(value) if kind == 'float' and value is not None else value!r}"
