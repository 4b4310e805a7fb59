"""The gateway's OpenAPI 3.1 document, made from the sources that its models take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mainspring import __version__
from mainspring.core.secured import RETRY_AFTER, with_keys
from mainspring.definitions import CompositeDef, ModelDef
from mainspring.events.json_schema import Schema, event_schema
from mainspring.events.system import EXPRESSION
from mainspring.serving.inference import (
    BREAKER,
    DEADLINE,
    FEATURES,
    MEMBER,
    MODEL,
    NOT_LOADED,
    OUTPUT,
    SHED,
    VALUE,
)
from mainspring.serving.layout import STATUS
from mainspring.serving.shared import LaneLimits
from mainspring.serving.v2 import OUTPUTS, inputs_of
from mainspring.serving.v2_tensors import DATATYPES

_TIME = "within 5 s of the gateway's clock; left out, it is that clock's time"

_TEXT = {"type": "string"}
_REASON: Schema = {"enum": [EXPRESSION, MODEL, OUTPUT, NOT_LOADED, FEATURES, DEADLINE, SHED, BREAKER]}
_VARIANT: Schema = {"enum": ["champion", "challenger", "fallback"]}
_BY_FEATURE: Schema = {"type": "object", "additionalProperties": {"enum": list(STATUS)}}
_PREDICTION: Schema = {
    "type": "object",
    "required": ["prediction", "prediction_id", "model_version", "variant"],
    "properties": {
        "prediction": {"type": "number", "description": "the probability of true, or the value"},
        "prediction_id": {**_TEXT, "description": "names this answer in the log"},
        "model_version": {**_TEXT, "description": "the version that answered"},
        "variant": {**_VARIANT, "description": "fallback: another than the assigned model answered"},
        "fallback": {
            "enum": ["champion", "last_good", "challenger", VALUE, MEMBER],
            "description": "what was fallen back to, if so",
        },
        "reason": {**_REASON, "description": "why the assigned model did not answer, or no better member of a cascade"},
        "cached": {**_TEXT, "description": "the prediction whose answer is given again, from a cache"},
        "rules": {"type": "array", "items": _TEXT, "description": "output rules that changed the answer, if any"},
        "status": {**_BY_FEATURE, "description": "with ?status=1: by feature"},
    },
}
_COMPOSED: Schema = {
    "type": "object",
    "required": _PREDICTION["required"],
    "properties": {
        **_PREDICTION["properties"],
        "member": {**_TEXT, "description": "of a cascade: the member that answered"},
        "spread": {"type": "number", "description": "of an ensemble: standard deviation of its members' answers"},
        "members": {
            "type": "object",
            "description": "what each member that was asked said; its prediction is null where it had none",
            "additionalProperties": {
                "type": "object",
                "required": ["prediction", "model_version", "variant", "counted"],
                "properties": {
                    "prediction": {"type": ["number", "null"]},
                    "model_version": _TEXT,
                    "variant": _VARIANT,
                    "counted": {"type": "boolean", "description": "whether the composite's answer is made of it"},
                    **{name: _PREDICTION["properties"][name] for name in ("fallback", "reason", "rules")},
                },
            },
        },
        "status": {
            "type": "object",
            "additionalProperties": _BY_FEATURE,
            "description": "with ?status=1: by member that was asked, and feature",
        },
    },
}
_ERROR: Schema = {
    "type": "object",
    "required": ["code", "error"],
    "properties": dict.fromkeys(("code", "error", "where", "why", "hint"), _TEXT),
}
_PARAMETERS_OF_PREDICT: Sequence[Schema] = (
    {
        "name": "status",
        "in": "query",
        "schema": {"type": "string", "examples": ["1"]},
        "description": "1 asks for the status of each feature, anything else for none",
    },
    {
        "name": "X-Deadline-Ms",
        "in": "header",
        "schema": {
            "type": "integer",
            "minimum": 0,
            "maximum": 999_999_999,
            "default": round(LaneLimits.deadline_s * 1_000),
        },
        "description": "how long the answer is wanted",
    },
    {
        "name": "Content-Encoding",
        "in": "header",
        "schema": {"enum": ["gzip", "deflate", "identity"], "default": "identity"},
        "description": "how the body is compressed",
    },
)
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
        "Composed": _COMPOSED,
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


def _paths(model: ModelDef | CompositeDef, max_rows: int) -> Schema:
    name = model.name
    row = {"$ref": f"#/components/schemas/{name}_request"}
    prediction = {"$ref": f"#/components/schemas/{'Composed' if isinstance(model, CompositeDef) else 'Prediction'}"}
    error = {"$ref": "#/components/schemas/Error"}
    v2_error = {"$ref": "#/components/schemas/V2Error"}
    answers = {"anyOf": [prediction, {"type": "array", "items": {"anyOf": [prediction, error]}}]}
    failures = {"anyOf": [error, {"type": "array", "items": error, "minItems": 1}]}
    metadata = f"/v2/models/{name}"
    inputs = ", ".join(f"{t.name} {t.datatype}" for t in inputs_of(model.request))
    return {
        f"/predict/{name}": {
            "post": {
                "operationId": f"predict_{name}",
                "summary": f"Predict with {name} ({model.task.replace('_', ' ')})",
                "description": model.request.doc,
                "parameters": _PARAMETERS_OF_PREDICT,
                "requestBody": {
                    "required": True,
                    "content": _json({"anyOf": [row, {"type": "array", "items": row, "maxItems": max_rows}]}),
                },
                "responses": {
                    "200": {
                        "description": "a prediction; of a list, one a row, or in its place the error of a bad row",
                        "content": _json(answers),
                    },
                    **_errors(error, "400", "404", "413", "415", "429", "504"),
                    **_errors(failures, "422", "503"),
                    **_DOOR,
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
                    **_errors(v2_error, "400", "404", "413", "415", "429", "503", "504"),
                    **_DOOR,
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
    responses: Schema = {"200": {"description": "as asked", "content": {kind: {"schema": answer}}}} | _DOOR
    if error is not None:
        responses |= _errors(error, "404", "503")
    if not_ready is not None:
        later = {"description": "not yet, or no longer", "headers": RETRY_AFTER, "content": _json(not_ready)}
        responses["503"] = later
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


_DOOR: Schema = {
    "default": {
        "description": "refused by the door, whatever was asked: malformed HTTP, another method or host, too slow, "
        "too large, too many connections, stopping",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
}


def _errors(schema: Schema, *statuses: str) -> Schema:
    return {
        status: {"description": _REASONS[status], "content": _json(schema)}
        | ({"headers": RETRY_AFTER} if status in ("429", "503") else {})
        for status in statuses
    }


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
