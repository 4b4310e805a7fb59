"""The intake's OpenAPI 3.1 document, made from the sources that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import mainspring
from mainspring.core.secured import with_keys
from mainspring.definitions.values import SourceDef
from mainspring.events.bodies import ARROW
from mainspring.events.json_schema import Schema, event_schema

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_ERROR: Schema = {
    "type": "object",
    "required": ["code", "error"],
    "properties": dict.fromkeys(("code", "error", "where", "why", "hint"), _TEXT) | {"taken": {"type": "object"}},
}
_REFUSED: Schema = {
    "type": "object",
    "required": ["index", "code", "reason", "path"],
    "properties": {"index": {"type": "integer"}} | dict.fromkeys(("code", "reason", "path"), _TEXT),
}
_OUTCOME: Schema = {
    "type": "object",
    "required": ["accepted", "duplicate", "quarantined", "last_offset", "duplicates", "errors"],
    "properties": {
        **dict.fromkeys(("accepted", "duplicate", "quarantined", "last_offset"), _COUNT),
        "duplicates": {"type": "array", "items": {"type": "integer"}},
        "errors": {"type": "array", "items": _REFUSED},
    },
}
_HEALTH: Schema = {"type": "object", "required": ["status"], "properties": {"status": _TEXT}}
_MEND: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "rename": {"type": "object", "additionalProperties": _TEXT},
        "drop": {"type": "array", "items": _TEXT},
        "cast": {"type": "object", "additionalProperties": {"enum": ["float", "int", "str"]}},
        "scale": {"type": "object", "additionalProperties": {"type": "number"}},
        "compute": {"type": "object", "additionalProperties": _TEXT},
        "set": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
        "only": {"type": "array", "items": {"type": "integer"}},
    },
}
_DISCARD: Schema = {
    "type": "object",
    "required": ["reason"],
    "additionalProperties": False,
    "properties": {
        "reason": {**_TEXT, "minLength": 1, "maxLength": 1_000},
        "only": {"type": "array", "items": {"type": "integer"}},
        "all": {"type": "boolean"},
    },
}
_REASONS = {
    "400": "malformed as a whole, or empty",
    "404": "no such source, or no such record in quarantine",
    "413": "too many bytes or events",
    "415": "a content coding that is not read here",
    "422": "everything went to quarantine",
    "429": "queue, map or disk is full: nothing was taken, send it again",
    "503": "the log cannot be written, or the process is stopping",
}


def document(
    sources: Iterable[SourceDef], max_rows: int, scopes_of: Callable[[str], Sequence[str]] | None = None
) -> Schema:
    """The OpenAPI document of an intake that takes these sources.

    Args:
        sources: In the order they are shown.
        max_rows: Events that one array may have.
        scopes_of: The scopes of which a request to a path needs one; None where nobody needs a key.
    """
    schemas = {"Outcome": _OUTCOME, "Error": _ERROR, "Mend": _MEND, "Discard": _DISCARD}
    paths: Schema = {
        "/health": {"get": _operation("health", "Whether events are taken", {"type": "object"}, "503")},
        "/metrics": {
            "get": _operation("metrics", "What is counted, as Prometheus reads it", _TEXT, "503", "text/plain")
        },
        "/openapi.json": {"get": _operation("openapi", "This document", {"type": "object"})},
        "/quarantine": {
            "get": _operation("quarantine", "What is in quarantine", {"type": "object"}, "400")
            | {
                "parameters": [
                    {"name": name, "in": "query", "schema": schema}
                    for name, schema in (
                        ("source", _TEXT),
                        ("limit", {"type": "integer", "minimum": 1, "description": "at most 1,000 are listed"}),
                        ("all", _TEXT),
                    )
                ]
            }
        },
    }
    for source in sources:
        schemas[source.name] = event_schema(source)
        paths |= _paths(source, max_rows)
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "Mainspring intake",
            "version": mainspring.__version__,
            "description": "Events by source: answered once they are durable, or in quarantine with the reason.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    return found if scopes_of is None else with_keys(found, scopes_of)


def _paths(source: SourceDef, max_rows: int) -> Schema:
    name = source.name
    event = _ref(name)
    anything = {"schema": {"type": "string", "format": "binary"}}
    return {
        f"/events/{name}": {
            "post": {
                "operationId": f"send_{name}",
                "summary": f"Send events of {name}",
                "description": source.doc,
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {"anyOf": [event, {"type": "array", "items": event, "maxItems": max_rows}]}
                        },
                        "application/x-ndjson": anything,
                        ARROW: anything,
                    },
                },
                "responses": _answers("400", "413", "415", "422", "429", "503"),
            }
        },
        f"/quarantine/{name}/replay": {
            "post": {
                "operationId": f"replay_{name}",
                "summary": f"Mend records of {name} and send them through the door again",
                "requestBody": {"content": _json(_ref("Mend"))},
                "responses": _answers("400", "404", "413", "422", "429", "503"),
            }
        },
        f"/quarantine/{name}/discard": {
            "post": {
                "operationId": f"discard_{name}",
                "summary": f"Close records of {name} that will not be mended",
                "requestBody": {"required": True, "content": _json(_ref("Discard"))},
                "responses": {
                    "200": {"description": "how many", "content": _json({"type": "object"})},
                    **{status: _failed(status) for status in ("400", "404", "413", "429", "503")},
                },
            }
        },
    }


def _answers(*statuses: str) -> Schema:
    return {
        "200": {"description": "what became of each", "content": _json(_ref("Outcome"))},
        **{status: _failed(status) for status in statuses},
    }


def _failed(status: str) -> Schema:
    answer = {"anyOf": [_ref("Error"), _ref("Outcome"), _HEALTH]}
    return {"description": _REASONS[status], "content": _json(answer)}


def _operation(name: str, summary: str, answer: Schema, failure: str = "", kind: str = "application/json") -> Schema:
    responses: Schema = {"200": {"description": "as asked", "content": {kind: {"schema": answer}}}}
    if failure:
        responses[failure] = _failed(failure)
    return {"operationId": name, "summary": summary, "responses": responses}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
