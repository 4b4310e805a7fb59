"""What an OpenAPI document says of keys, where a door asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_SCHEME = "key"
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "in seconds"}}
_REFUSALS: dict[str, dict[str, Any]] = {
    "401": {
        "description": "no key, or one that is not known or has been revoked",
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    },
    "403": {"description": "the key is for something else"},
    "429": {"description": "the key asks more often than it may", "headers": RETRY_AFTER},
}


def with_keys(document: dict[str, Any], scopes_of: Callable[[str], Sequence[str]]) -> dict[str, Any]:
    """The document of a door that asks for keys: which operation needs which, and how it refuses others.

    Args:
        document: As it is where nobody needs a key, with a schema ``Error``.
        scopes_of: The scopes of which a request to a path needs one; none where it needs no key.
    """
    scheme = {
        "type": "http",
        "scheme": "bearer",
        "description": "Made by `mainspring keys create NAME --scope SCOPE`. The scopes of an operation are "
        "alternatives: a key with any one of them will do, and so will one with `admin`.",
    }
    paths = {
        path: {method: _keyed(operation, scopes_of(path)) for method, operation in methods.items()}
        for path, methods in document["paths"].items()
    }
    components = document["components"] | {"securitySchemes": {_SCHEME: scheme}}
    return document | {"paths": paths, "components": components}


def scopes_in(operation: dict[str, Any]) -> list[str]:
    """The scopes of which an operation of such a document needs one; none where it needs no key."""
    return [scope for needed in operation.get("security", ()) for scope in needed[_SCHEME]]


def _keyed(operation: dict[str, Any], scopes: Sequence[str]) -> dict[str, Any]:
    if not scopes:
        return operation | {"security": []}
    responses = dict(operation["responses"])
    for status, refusal in _REFUSALS.items():
        known = responses.get(status)
        if known is None:
            responses[status] = refusal | {"content": _ERROR}
        else:
            described = f"{known['description']}; or {refusal['description']}"
            schemas = [one["application/json"]["schema"] for one in (known["content"], _ERROR)]
            either = schemas[0] if schemas[0] == schemas[1] else {"anyOf": schemas}
            content = {"application/json": {"schema": either}}
            responses[status] = {**known, **refusal, "description": described, "content": content}
    ordered = dict(sorted(responses.items()))
    return operation | {"security": [{_SCHEME: [scope]} for scope in scopes], "responses": ordered}
