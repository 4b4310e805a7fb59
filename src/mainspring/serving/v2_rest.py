"""The Open Inference Protocol V2 over HTTP, with the binary tensor data extension and compressed bodies.

Bodies are read as what they are: a client may send any content type or none. An error is ``{"error": "..."}`` with a
status of 4xx for the client's and 5xx for the server's part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mainspring import __version__
from mainspring.core.errors import ContractError, MainspringError, NotFoundError
from mainspring.core.http import Deferred, Request, Response, error_headers, json_response
from mainspring.serving.content_coding import coding_for, decoded, encoded
from mainspring.serving.lane import Lane
from mainspring.serving.plain_json import allow
from mainspring.serving.v2 import (
    EXTENSIONS,
    PLATFORM,
    Asked,
    Models,
    Outcome,
    check_parameters,
    check_version,
    enter,
    inputs_of,
    must_be_sent,
    outputs_of,
    timeout_s,
)
from mainspring.serving.v2_stats import stats_of
from mainspring.serving.v2_tensors import (
    DATATYPES,
    ProtocolError,
    Tensor,
    count_of,
    from_bytes,
    from_json,
    malformed,
    read_json,
)
from mainspring.serving.v2_tensors import to_bytes as bytes_of

PREFIX = "/v2"
JSON_LENGTH = "Inference-Header-Content-Length"
_log = logging.getLogger(__name__)


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Infer(msgspec.Struct):
    inputs: Sequence[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _WholeInput(_Input):
    data: Any = None


class _Whole(_Infer):
    inputs: Sequence[_WholeInput]


_DECODE = msgspec.json.Decoder(_Infer).decode
_DECODE_WHOLE = msgspec.json.Decoder(_Whole).decode


class V2Rest:
    """Answers everything under ``/v2``.

    Args:
        models: What is served.
        max_body_bytes: Of a request, also once it is unpacked.
    """

    def __init__(self, models: Models, max_body_bytes: int) -> None:
        self._models = models
        self._max_body_bytes = max_body_bytes

    def handle(self, request: Request) -> Response | Deferred:
        """Answer one request; what goes wrong is said in the protocol's own words."""
        try:
            return self._route(request)
        except MainspringError as error:
            return error_of(error)

    def _route(self, request: Request) -> Response | Deferred:
        parts = request.path.rstrip("/").split("/")[2:]
        match parts:
            case []:
                return self._get(request, self._metadata())
            case ["health", "live" | "ready" as asked]:
                ready = self._models.is_ready
                status = 200 if ready or asked == "live" else 503
                return self._get(request, {"live": True, "ready": ready}, status)
            case ["repository", "index"]:
                return self._index(request)
            case ["models", "stats"] if "stats" not in self._models.lanes:
                return self._get(request, {"model_stats": [stats_of(lane) for lane in self._models.lanes.values()]})
            case ["models", name, "versions", version, *rest]:
                return self._model(request, name, version, rest)
            case ["models", name, *rest]:
                return self._model(request, name, "", rest)
        raise _nothing(request.path)

    def _model(self, request: Request, name: str, version: str, rest: Sequence[str]) -> Response | Deferred:
        if rest == ["ready"] and not self._models.is_ready:
            return self._get(request, {"name": name, "ready": False}, 503)
        lane = self._models.lane(name)
        if rest == ["infer"]:
            allow(request.method, "POST")
            return self._infer(request, lane, version)
        check_version(lane, version)
        match rest:
            case []:
                return self._get(request, _model_metadata(lane))
            case ["ready"]:
                ready = lane.served.answers
                return self._get(request, {"name": name, "ready": ready}, 200 if ready else 503)
            case ["stats"]:
                return self._get(request, {"model_stats": [stats_of(lane)]})
            case ["config"]:
                return self._get(request, _config(lane))
        raise _nothing(request.path)

    def _get(self, request: Request, answer: Mapping[str, Any], status: int = 200) -> Response:
        allow(request.method, "GET", "HEAD")
        return json_response(status, answer, (("Retry-After", "1"),) if status == 503 else ())

    def _metadata(self) -> dict[str, Any]:
        return {"name": "mainspring", "version": __version__, "extensions": list(EXTENSIONS)}

    def _index(self, request: Request) -> Response:
        allow(request.method, "POST", "GET", "HEAD")
        return json_response(200, [entry for lane in self._models.lanes.values() for entry in index_of(lane)])

    # --- inference ------------------------------------------------------------------------------------------------

    def _infer(self, request: Request, lane: Lane, version: str) -> Deferred:
        try:
            tensors, body = self._read(request, lane)
        except MainspringError as error:
            lane.refuse(error)
            raise
        parameters = body.parameters or {}
        deferred = Deferred()
        wanted = [output.name for output in body.outputs or ()]
        is_binary = parameters.get("binary_data_output") is True
        in_bytes = {
            output.name: (output.parameters or {}).get("binary_data", is_binary) is True
            for output in body.outputs or ()
        }
        accepted = request.headers.get("accept-encoding", "")
        name = lane.served.model.name

        def tell(outcome: Outcome | MainspringError) -> None:
            if isinstance(outcome, MainspringError):
                deferred.answer(error_of(outcome))
                return
            outputs = outcome.tensors(wanted)
            head: dict[str, Any] = {"model_name": name}
            if outcome.version:
                head["model_version"] = outcome.version
            if body.id:
                head["id"] = body.id
            binary = {t.name for t in outputs if in_bytes.get(t.name, is_binary)}
            deferred.answer(_answer(head, outputs, binary, accepted))

        enter(lane, Asked(version, tensors, wanted, timeout_s(parameters)), tell, deferred)
        return deferred

    def _read(self, request: Request, lane: Lane) -> tuple[list[Tensor], _Infer]:
        """The inputs of a request, and the rest of it."""
        body, headers = request.body, request.headers
        coding = headers.get("content-encoding")
        if coding:
            body = decoded(body, coding, self._max_body_bytes)
        length = headers.get(JSON_LENGTH.lower())
        if length is None:
            json_bytes = len(body)
        elif length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= len(body):
            json_bytes = int(length)
        else:
            raise malformed(f"{JSON_LENGTH}: {length[:20]!r} of a body of {len(body)} bytes")
        if length is not None and not json_bytes:
            return [_raw(lane, body)], _Infer([], parameters={"binary_data_output": True})
        text = memoryview(body)[:json_bytes]
        try:
            read = _DECODE(text)
            data = [read_json(one.datatype, one.data) for one in read.inputs]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(f"the JSON of the request cannot be read: {_why(text, error)}") from None
        check_parameters(read.parameters or {}, "the request")
        for output in read.outputs or ():
            check_parameters(output.parameters or {}, f"output {output.name[:100]!r}")
        return _tensors(read.inputs, data, memoryview(body)[json_bytes:]), read


def error_of(error: MainspringError) -> Response:
    """An error as the protocol says it: one text. What breaks the model's contract is 400 here."""
    status = 400 if isinstance(error, ContractError) else error.http_status
    return json_response(status, {"error": text_of(error)}, error_headers(error))


def text_of(error: MainspringError) -> str:
    """What, where, why and the way out in one line, with the code."""
    text = error.what + (f" (at {error.where})" if error.where else "")
    return "; ".join(part for part in (text, error.why, error.hint) if part) + f" [{error.code}]"


def index_of(lane: Lane) -> list[dict[str, str]]:
    """The model's loaded versions, as the repository's index lists them; without any, whether a value answers."""
    name, served = lane.served.model.name, lane.served
    if not served.versions:
        state = "READY" if served.answers else "UNAVAILABLE"
        return [{"name": name, "version": "", "state": state, "reason": "no version of it is loaded"}]
    return [{"name": name, "version": one, "state": "READY", "reason": ""} for one in served.versions]


def _why(text: memoryview, error: Exception) -> Exception:
    """What is wrong with the JSON of a request; where only a part of it was read, as it stands in the whole."""
    try:
        _DECODE_WHOLE(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as found:
        return found
    return error


def _tensors(inputs: Sequence[_Input], read: Sequence[Any], binary: memoryview) -> list[Tensor]:
    """The inputs, with the bytes of those that were sent so; they follow one another in the order of the inputs."""
    tensors: list[Tensor] = []
    at = 0
    for one, data in zip(inputs, read, strict=True):
        if one.datatype not in DATATYPES:
            raise malformed(f"input {one.name[:100]!r} has an unknown datatype {one.datatype[:16]!r}")
        parameters = one.parameters or {}
        if parameters:
            check_parameters(parameters, f"input {one.name[:100]!r}")
        count = count_of(one.name[:100], one.shape)
        size = parameters.get("binary_data_size")
        if size is None:
            values = from_json(one.name[:100], one.datatype, data, count)
        else:
            if type(size) is not int or not 0 <= size <= len(binary) - at:
                raise malformed(f"binary_data_size of input {one.name[:100]!r} does not fit the body")
            if data is not None:
                raise malformed(f"input {one.name[:100]!r} has data and bytes")
            values = from_bytes(one.name[:100], one.datatype, binary[at : at + size], count)
            at += size
        tensors.append(Tensor(one.name, one.datatype, tuple(one.shape), values))
    if at != len(binary):
        raise malformed(f"{len(binary) - at} bytes of the body belong to no input")
    return tensors


def _raw(lane: Lane, body: bytes) -> Tensor:
    """A body that is nothing but the one input that the model must have: a text as it is, or numbers in a row."""
    model = lane.served.model
    needed = must_be_sent(model.request)
    if len(needed) != 1 or needed[0].kind == "vector":
        names = ", ".join(f.name for f in needed)
        raise ProtocolError("MS-S141", f"a raw body is for models that need one input; {model.name} needs {names}")
    tensor = next(t for t in inputs_of(model.request) if t.name == needed[0].name)
    if tensor.datatype == "BYTES":
        try:
            return Tensor(tensor.name, "BYTES", (1,), [body.decode()])
        except UnicodeDecodeError:
            raise malformed(f"input {tensor.name!r} is no UTF-8 text") from None
    rows = len(body) // (1 if tensor.datatype == "BOOL" else 8)
    return Tensor(tensor.name, tensor.datatype, (rows,), from_bytes(tensor.name, tensor.datatype, body, rows))


def _answer(head: dict[str, Any], tensors: Sequence[Tensor], binary: set[str], accepted: str) -> Response:
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for tensor in tensors:
        shown: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if tensor.name in binary:
            blobs.append(bytes_of(tensor.datatype, tensor.values))
            shown["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            shown["data"] = tensor.values
        outputs.append(shown)
    head["outputs"] = outputs
    body = msgspec.json.encode(head)
    headers: list[tuple[str, str]] = []
    content_type = "application/json"
    if blobs:
        headers.append((JSON_LENGTH, str(len(body))))
        content_type = "application/octet-stream"
        body += b"".join(blobs)
    coding = coding_for(accepted, len(body))
    if coding:
        headers += [("Content-Encoding", coding), ("Vary", "Accept-Encoding")]
        body = encoded(body, coding)
    return Response(200, body, content_type, tuple(headers))


# --- what is served --------------------------------------------------------------------------------------------------


def _model_metadata(lane: Lane) -> dict[str, Any]:
    model = lane.served.model
    return {
        "name": model.name,
        "versions": lane.served.versions,
        "platform": PLATFORM,
        "inputs": [_shown(t) for t in inputs_of(model.request)],
        "outputs": [_shown(t) for t in outputs_of()],
    }


def _shown(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _config(lane: Lane) -> dict[str, Any]:
    """The model as Triton's model configuration says it: rows are a dimension like others, no batch size."""
    model = lane.served.model
    needed = {f.name for f in must_be_sent(model.request)}
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": "mainspring",
        "max_batch_size": 0,
        "input": [
            {"name": t.name, "data_type": _type(t), "dims": t.shape, "optional": t.name not in needed}
            for t in inputs_of(model.request)
        ],
        "output": [{"name": t.name, "data_type": _type(t), "dims": t.shape} for t in outputs_of()],
    }


def _type(tensor: Tensor) -> str:
    return "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"


def _nothing(path: str) -> NotFoundError:
    hint = "GET /v2/models/MODEL, POST /v2/models/MODEL/infer, GET /v2/health/ready"
    return NotFoundError("MS-S107", f"there is nothing at {path[:200]!r}", hint=hint)
