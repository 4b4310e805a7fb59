"""The gateway's OpenAPI 3.1 document, made from the sources that its models take, and a page of it without scripts."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence

import msgspec

from mainspring import __version__
from mainspring.core.secured import scopes_in, with_keys
from mainspring.definitions import CompositeDef, ModelDef
from mainspring.events.json_schema import Schema, event_schema
from mainspring.serving.v2 import OUTPUTS, inputs_of
from mainspring.serving.v2_tensors import DATATYPES

_TIME = "within 5 s of the gateway's clock; left out, it is that clock's time"

_TEXT = {"type": "string"}
_PREDICTION: Schema = {
    "type": "object",
    "required": ["prediction", "prediction_id", "model_version", "variant"],
    "properties": {
        "prediction": {"type": "number", "description": "the probability of true, or the value"},
        "prediction_id": {**_TEXT, "description": "names this answer in the log"},
        "model_version": {**_TEXT, "description": "the version that answered"},
        "variant": {"enum": ["champion", "challenger", "fallback"]},
        "fallback": {**_TEXT, "description": "what was fallen back to, if so"},
        "reason": {**_TEXT, "description": "why the assigned model did not answer, or no better member of a cascade"},
        "cached": {**_TEXT, "description": "the prediction whose answer is given again, from a cache"},
        "member": {**_TEXT, "description": "of a cascade: the member that answered"},
        "members": {"type": "object", "description": "of a composite: what each member that was asked said"},
        "spread": {"type": "number", "description": "of an ensemble: standard deviation of its members' outputs"},
        "rules": {"type": "array", "items": _TEXT, "description": "output rules that changed the answer, if any"},
        "status": {
            "type": "object",
            "additionalProperties": {"anyOf": [_TEXT, {"type": "object", "additionalProperties": _TEXT}]},
            "description": "with ?status=1: by feature, of a composite by member and feature",
        },
    },
}
_ERROR: Schema = {
    "type": "object",
    "required": ["code", "error"],
    "properties": dict.fromkeys(("code", "error", "where", "why", "hint"), _TEXT),
}
_V2_ERROR: Schema = {"type": "object", "required": ["error"], "properties": {"error": _TEXT}}
_PARAMETERS: Schema = {"type": ["object", "null"]}
_V2_INPUT: Schema = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": _TEXT,
        "datatype": {"enum": sorted(DATATYPES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 8},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "description": "row-major, flat or nested; null where the field may be null"},
    },
}
_V2_REQUEST: Schema = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": {**_PARAMETERS, "description": "timeout in microseconds, binary_data_output"},
        "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/V2Input"}, "minItems": 1},
        "outputs": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"enum": list(OUTPUTS)}, "parameters": _PARAMETERS},
            },
        },
    },
}
_V2_RESPONSE: Schema = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"enum": list(OUTPUTS)},
                    "datatype": {"enum": sorted({*OUTPUTS.values()})},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "parameters": _PARAMETERS,
                    "data": {"type": "array"},
                },
            },
        },
    },
}
_METADATA: Schema = {"type": "object", "required": ["name"], "properties": {"name": _TEXT}}
_STATS: Schema = {
    "type": "object",
    "required": ["model_stats"],
    "properties": {"model_stats": {"type": "array", "items": _METADATA}},
}
_INDEX: Schema = {"type": "array", "items": _METADATA}
_STATUS: Schema = {"type": "object", "required": ["status"], "properties": {"status": _TEXT}}
_READY: Schema = {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}}
_HEALTH: Schema = {
    "type": "object",
    "required": ["live", "ready"],
    "properties": {"live": {"type": "boolean"}, "ready": {"type": "boolean"}},
}


def document(
    models: Iterable[ModelDef | CompositeDef],
    max_rows: int,
    scopes_of: Callable[[str], Sequence[str]] | None = None,
) -> Schema:
    """The OpenAPI document of a gateway that serves these models.

    Args:
        models: In the order they are shown.
        max_rows: Rows that one request may have.
        scopes_of: The scopes of which a request to a path needs one; None where nobody needs a key.
    """
    schemas: Schema = {
        "Prediction": _PREDICTION,
        "Error": _ERROR,
        "V2Error": _V2_ERROR,
        "V2Input": _V2_INPUT,
        "V2Request": _V2_REQUEST,
        "V2Response": _V2_RESPONSE,
    }
    paths: Schema = {
        "/v2": {"get": _operation("v2", "Name, version and extensions of the server", _METADATA)},
        "/v2/health/live": {"get": _operation("v2_live", "Whether the process lives", _HEALTH)},
        "/v2/health/ready": {"get": _operation("v2_ready", "Whether models are served", _HEALTH, not_ready=_HEALTH)},
        "/v2/models/stats": {"get": _operation("v2_stats", "Counts and times of every model", _STATS)},
        "/v2/repository/index": {
            method: _operation(f"v2_index_{method}", "Every loaded version of every model", _INDEX)
            for method in ("get", "post")
        },
        "/ready": {"get": _operation("ready", "Whether models are served", _READY, not_ready=_READY)},
        "/health": {"get": _operation("health", "Who serves, and what is wrong", _STATUS)},
        "/metrics": {"get": _operation("metrics", "What is counted, as Prometheus reads it", _TEXT, kind="text/plain")},
        "/openapi.json": {"get": _operation("openapi", "This document", {"type": "object"})},
        "/docs": {"get": _operation("docs", "This document as a page", _TEXT, kind="text/html")},
    }
    for model in models:
        schemas[f"{model.name}_request"] = event_schema(model.request, time=_TIME)
        paths |= _paths(model, max_rows)
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "Mainspring gateway",
            "version": __version__,
            "description": "Predictions in plain JSON and by the Open Inference Protocol V2, from the same models.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    return found if scopes_of is None else with_keys(found, scopes_of)


def page(document: Schema) -> str:
    """The document as one HTML page that needs nothing but itself."""
    schemas = document["components"]["schemas"]
    parts = [
        f"<h1>{_e(document['info']['title'])}</h1><p>{_e(document['info']['description'])}</p>",
        "<p>Version " + _e(document["info"]["version"]) + ' · <a href="openapi.json">openapi.json</a></p>',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_section(path, method, operation, schemas))
    return _PAGE.replace("BODY", "\n".join(parts))


# --- the document ----------------------------------------------------------------------------------------------------


def _paths(model: ModelDef | CompositeDef, max_rows: int) -> Schema:
    name = model.name
    row = {"$ref": f"#/components/schemas/{name}_request"}
    prediction = {"$ref": "#/components/schemas/Prediction"}
    error = {"$ref": "#/components/schemas/Error"}
    v2_error = {"$ref": "#/components/schemas/V2Error"}
    one_or_many = {"anyOf": [prediction, error, {"type": "array", "items": {"anyOf": [prediction, error]}}]}
    metadata = f"/v2/models/{name}"
    inputs = ", ".join(f"{t.name} {t.datatype}" for t in inputs_of(model.request))
    return {
        f"/predict/{name}": {
            "post": {
                "operationId": f"predict_{name}",
                "summary": f"Predict with {name} ({model.task.replace('_', ' ')})",
                "description": model.request.doc,
                "parameters": [
                    {
                        "name": "X-Deadline-Ms",
                        "in": "header",
                        "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
                        "description": "how long the answer is wanted",
                    }
                ],
                "requestBody": {
                    "required": True,
                    "content": _json({"anyOf": [row, {"type": "array", "items": row, "maxItems": max_rows}]}),
                },
                "responses": {
                    "200": {"description": "a prediction, or one a row", "content": _json(one_or_many)},
                    **_errors(one_or_many, "400", "413", "422", "429", "503", "504"),
                },
            }
        },
        metadata: {"get": _operation(f"v2_{name}", f"Inputs and outputs of {name}", _METADATA, v2_error)},
        f"{metadata}/ready": {
            "get": _operation(f"v2_{name}_ready", f"Whether {name} is served", _READY, v2_error, not_ready=_READY)
        },
        f"{metadata}/config": {"get": _operation(f"v2_{name}_config", f"Configuration of {name}", _METADATA, v2_error)},
        f"{metadata}/stats": {"get": _operation(f"v2_{name}_stats", f"Counts and times of {name}", _STATS, v2_error)},
        f"{metadata}/infer": {
            "post": {
                "operationId": f"v2_{name}_infer",
                "summary": f"Predict with {name}, by the Open Inference Protocol V2",
                "description": f"Inputs: {inputs}.",
                "requestBody": {"required": True, "content": _json({"$ref": "#/components/schemas/V2Request"})},
                "responses": {
                    "200": {
                        "description": "the outputs",
                        "content": _json({"$ref": "#/components/schemas/V2Response"})
                        | {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                    },
                    **_errors(v2_error, "400", "404", "413", "415", "422", "429", "503", "504"),
                },
            }
        },
    }


def _operation(
    id: str,
    summary: str,
    answer: Schema,
    error: Schema | None = None,
    *,
    not_ready: Schema | None = None,
    kind: str = "application/json",
) -> Schema:
    responses: Schema = {"200": {"description": "as asked", "content": {kind: {"schema": answer}}}}
    if error is not None:
        responses |= _errors(error, "404", "503")
    if not_ready is not None:
        responses["503"] = {"description": "not yet, or no longer", "content": _json(not_ready)}
    return {"operationId": id, "summary": summary, "responses": responses}


_REASONS = {
    "400": "malformed",
    "404": "no such model or version",
    "413": "too many bytes or rows",
    "415": "a content coding that is not read here",
    "422": "no row could be answered",
    "429": "too many rows wait: try again later",
    "503": "not ready, or no model could answer: try again later",
    "504": "the deadline passed",
}


def _errors(schema: Schema, *statuses: str) -> Schema:
    return {status: {"description": _REASONS[status], "content": _json(schema)} for status in statuses}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


# --- the page --------------------------------------------------------------------------------------------------------

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mainspring gateway</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430 }
summary { cursor: pointer; padding: .4rem 0 } details { border-top: 1px solid #d8dee8 }
code, pre { font: 14px/1.4 ui-monospace, monospace } pre { background: #f3f5f9; padding: .8rem; overflow: auto }
b { display: inline-block; min-width: 3.5rem } table { border-collapse: collapse; margin: .5rem 0 }
td, th { border: 1px solid #d8dee8; padding: .2rem .6rem; text-align: left; vertical-align: top }
@media (prefers-color-scheme: dark) {
  body { background: #141a22; color: #dde4ee } pre { background: #1e2631 } a { color: #8ab4f8 }
}
</style></head><body>
BODY
</body></html>
"""


def _section(path: str, method: str, operation: Schema, schemas: Schema) -> str:
    parts = [f"<details><summary><b>{method.upper()}</b> <code>{_e(path)}</code> {_e(operation['summary'])}</summary>"]
    if operation.get("description"):
        parts.append(f"<p>{_e(operation['description'])}</p>")
    if "security" in operation:
        scopes = " or ".join(scopes_in(operation))
        parts.append(f"<p>{_e(f'Needs a key for {scopes}.' if scopes else 'Needs no key.')}</p>")
    body = operation.get("requestBody")
    if body is not None:
        schema = body["content"]["application/json"]["schema"]
        row = schema["anyOf"][0] if "anyOf" in schema else schema
        named = schemas[row["$ref"].rpartition("/")[2]]
        parts.append(_table(named))
    parts.append("<table><tr><th>status<th>means</tr>")
    parts += [f"<tr><td>{status}<td>{_e(one['description'])}</tr>" for status, one in operation["responses"].items()]
    parts.append("</table></details>")
    return "".join(parts)


def _table(schema: Schema) -> str:
    rows = ["<table><tr><th>field<th>must be there<th>is</tr>"]
    for name, field in schema["properties"].items():
        needed = "yes" if name in schema.get("required", ()) else ""
        shown = msgspec.json.encode(field).decode()
        rows.append(f"<tr><td><code>{_e(name)}</code><td>{needed}<td><code>{_e(shown)}</code></tr>")
    return "".join([*rows, "</table>"])


def _e(text: str) -> str:
    return html.escape(text)
