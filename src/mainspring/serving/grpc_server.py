"""The Open Inference Protocol V2 over gRPC, on the gateway's own event loop.

Raw contents are answered with raw contents and typed ones with typed ones; a request that mixes them is refused. A
call that is cancelled, or whose deadline passes, leaves its batch and harms nobody in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from mainspring import __version__
from mainspring.core.errors import (
    BackPressureError,
    ContractError,
    DeadlineError,
    MainspringError,
    NotFoundError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from mainspring.core.keys import READ, Keyring, UnauthorizedError
from mainspring.core.traces import HEADER, Trace, Traces
from mainspring.serving.grpc_messages import MESSAGES, METHODS, SERVICE
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
    outputs_of,
    timeout_s,
)
from mainspring.serving.v2_rest import index_of, text_of
from mainspring.serving.v2_tensors import DATATYPES, ProtocolError, Tensor, count_of, from_bytes, malformed
from mainspring.serving.v2_tensors import to_bytes as bytes_of

Method = Callable[[Any, Any], Awaitable[Any]]

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_BOUNDS = {"INT8": (-128, 127), "INT16": (-32_768, 32_767), "UINT8": (0, 255), "UINT16": (0, 65_535)}
_STATUS: tuple[tuple[type[MainspringError], grpc.StatusCode], ...] = (
    (UnauthorizedError, grpc.StatusCode.UNAUTHENTICATED),
    (RefusedError, grpc.StatusCode.PERMISSION_DENIED),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (BackPressureError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (ContractError, grpc.StatusCode.INVALID_ARGUMENT),
    (ProtocolError, grpc.StatusCode.INVALID_ARGUMENT),
    (TooLargeError, grpc.StatusCode.INVALID_ARGUMENT),
)
_OPEN = frozenset({"ServerLive", "ServerReady"})
_log = logging.getLogger(__name__)


class _Call:
    """One client that waits for its outcome."""

    __slots__ = ("cancelled", "outcome")

    def __init__(self) -> None:
        self.cancelled = False
        self.outcome: asyncio.Future[Outcome | MainspringError] = asyncio.get_running_loop().create_future()

    def tell(self, outcome: Outcome | MainspringError) -> None:
        """The lane has an outcome."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class GrpcServer:
    """A listening gRPC door.

    Args:
        models: What is served.
        max_body_bytes: Of one message.
        keyring: Who may ask; None where nobody needs a key.
        pems: Key, certificate and the authority of clients, for TLS; None for a plain door.
        traces: Spans, where they are declared.
        reuse_port: Share the port with the gateway's other workers; a port that is taken is then not noticed here.
    """

    def __init__(
        self,
        models: Models,
        max_body_bytes: int,
        *,
        keyring: Keyring | None = None,
        pems: tuple[bytes, bytes, bytes | None] | None = None,
        traces: Traces | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._pems = pems
        self._traces = traces
        self._models = models
        self._server = aio.server(
            options=(
                ("grpc.max_receive_message_length", max_body_bytes),
                ("grpc.so_reuseport", int(reuse_port)),
            )
        )
        methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer if traces is None else self._model_infer_traced,
            "RepositoryIndex": self._repository_index,
        }
        handlers = {name: _handler(name, methods[name], keyring) for name in METHODS}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            UnavailableError: The port is taken (MS-S002).
        """
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._pems is None:
                self.port = self._server.add_insecure_port(where)
            else:
                key, cert, authority = self._pems
                credentials = grpc.ssl_server_credentials([(key, cert)], authority, authority is not None)
                self.port = self._server.add_secure_port(where, credentials)
        except RuntimeError as error:
            hint = "stop what listens there, or set another port in mainspring.toml"
            raise UnavailableError("MS-S002", f"cannot listen on {where}", why=str(error), hint=hint) from None
        await self._server.start()

    async def stop(self, timeout_s: float) -> None:
        """Accept no more calls, answer those under way, and cancel what is not answered in time."""
        await self._server.stop(timeout_s)

    # --- methods --------------------------------------------------------------------------------------------------

    async def _server_live(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self._models.is_ready)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        if not self._models.is_ready:
            return MESSAGES["ModelReadyResponse"](ready=False)
        lane = self._models.lane(request.name)
        check_version(lane, request.version)
        return MESSAGES["ModelReadyResponse"](ready=lane.served.answers)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        names = {"name": "mainspring", "version": __version__}
        return MESSAGES["ServerMetadataResponse"](**names, extensions=EXTENSIONS)

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        lane = self._models.lane(request.name)
        check_version(lane, request.version)
        model = lane.served.model

        def shown(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
            return [{"name": t.name, "datatype": t.datatype, "shape": t.shape} for t in tensors]

        return MESSAGES["ModelMetadataResponse"](
            name=model.name,
            versions=lane.served.versions,
            platform=PLATFORM,
            inputs=shown(inputs_of(model.request)),
            outputs=shown(outputs_of()),
        )

    async def _repository_index(self, request: Any, context: Any) -> Any:
        models = [entry for lane in self._models.lanes.values() for entry in index_of(lane)]
        return MESSAGES["RepositoryIndexResponse"](models=models)

    async def _model_infer_traced(self, request: Any, context: Any) -> Any:
        traces = self._traces
        if traces is None:
            return await self._model_infer(request, context)
        trace = traces.begin("ModelInfer", _sent(context, HEADER), {"rpc.system": "grpc", "rpc.service": SERVICE})
        context.set_trailing_metadata(((HEADER, trace.header),))
        try:
            response = await self._model_infer(request, context, trace)
        except MainspringError as error:
            trace.end(_status(error).name, failed=error.http_status >= 500)
            raise
        except BaseException:
            trace.end(grpc.StatusCode.INTERNAL.name, failed=True)
            raise
        trace.end(grpc.StatusCode.OK.name, failed=False)
        return response

    async def _model_infer(self, request: Any, context: Any, trace: Trace | None = None) -> Any:
        lane = self._models.lane(request.model_name)
        call = _Call()
        try:
            parameters = _plain(request.parameters)
            check_parameters(parameters, "the request")
            tensors, is_raw = _tensors(request)
            wanted = [output.name for output in request.outputs]
            deadline_s = _sooner(timeout_s(parameters), context.time_remaining())
        except MainspringError as error:
            lane.refuse(error)
            raise
        asked = Asked(request.model_version, tensors, wanted, deadline_s)
        if self._traces is None:
            enter(lane, asked, call.tell, call)
        else:
            with self._traces.at(trace):
                enter(lane, asked, call.tell, call)
        try:
            outcome = await call.outcome
        except asyncio.CancelledError:
            call.cancelled = True
            raise
        if isinstance(outcome, MainspringError):
            raise outcome
        return _response(request, outcome, wanted, is_raw=is_raw)


def _handler(name: str, method: Method, keyring: Keyring | None) -> Any:
    """The method as gRPC calls it: our errors become its status codes.

    Messages are parsed here rather than by gRPC, which would call bytes that are none a fault of ours and log them.
    """
    parse = MESSAGES[f"{name}Request"].FromString

    async def answer(body: bytes, context: Any) -> Any:
        try:
            request = parse(body)
            if keyring is not None and name not in _OPEN:
                keyring.check(_authorization(context), *_scopes_of(name, request))
            return await method(request, context)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text_of(malformed(f"that is no {name}Request")))
        except MainspringError as error:
            await context.abort(_status(error), text_of(error))
        except Exception:  # noqa: BLE001  whatever a method raises, the client gets an answer and we the traceback
            _log.exception("%s failed", name)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error [MS-S008]")

    return grpc.unary_unary_rpc_method_handler(
        answer, response_serializer=MESSAGES[f"{name}Response"].SerializeToString
    )


def _scopes_of(name: str, request: Any) -> tuple[str, ...]:
    """The scopes of which a call needs one."""
    if name == "ModelInfer":
        return (f"predict:{request.model_name}",)
    return (READ, f"predict:{request.name}") if name in ("ModelMetadata", "ModelReady") else (READ,)


def _authorization(context: Any) -> str:
    return _sent(context, "authorization")


def _sent(context: Any, name: str) -> str:
    found = (value for key, value in context.invocation_metadata() or () if key == name)
    value = next(found, "")
    return value if isinstance(value, str) else ""


def _status(error: MainspringError) -> grpc.StatusCode:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain values."""
    found = ((name, value, value.WhichOneof("parameter_choice")) for name, value in parameters.items())
    return {name: getattr(value, choice) for name, value, choice in found if choice}


def _sooner(timeout: float | None, remaining: float | None) -> float | None:
    known = [one for one in (timeout, remaining) if one is not None]
    return min(known) if known else None


def _tensors(request: Any) -> tuple[list[Tensor], bool]:
    """The inputs of a request, and whether they came raw."""
    raw = request.raw_input_contents
    typed = any(one.HasField("contents") for one in request.inputs)
    if raw and typed:
        raise malformed("raw_input_contents and contents do not go together")
    if raw and len(raw) != len(request.inputs):
        raise malformed(f"{len(request.inputs)} inputs have {len(raw)} raw_input_contents")
    tensors: list[Tensor] = []
    for place, one in enumerate(request.inputs):
        name, datatype = one.name[:100], one.datatype
        if datatype not in DATATYPES:
            raise malformed(f"input {name!r} has an unknown datatype {datatype[:16]!r}")
        check_parameters(_plain(one.parameters), f"input {name!r}")
        count = count_of(name, one.shape)
        values = from_bytes(name, datatype, raw[place], count) if raw else _typed(name, datatype, one.contents, count)
        tensors.append(Tensor(one.name, datatype, tuple(one.shape), values))
    return tensors, bool(raw)


def _typed(name: str, datatype: str, contents: Any, count: int) -> list[Any]:
    """Values of the one list of contents that is the datatype's."""
    place = _CONTENTS.get(datatype)
    if place is None:
        raise malformed(f"input {name!r}: {datatype} is sent as raw contents")
    filled = [field.name for field, _ in contents.ListFields()]
    if any(one != place for one in filled):
        raise malformed(f"input {name!r} of {datatype} belongs into {place}, got {filled[0]}")
    values = list(getattr(contents, place))
    if len(values) != count:
        raise malformed(f"input {name!r} has {len(values)} elements, its shape {count}")
    if datatype == "BYTES":
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError:
            raise malformed(f"input {name!r} has an element that is no UTF-8 text") from None
    low, high = _BOUNDS.get(datatype, (None, None))
    if low is not None and high is not None and any(not low <= value <= high for value in values):
        raise malformed(f"input {name!r} has an element beyond {datatype}")
    return values


def _response(request: Any, outcome: Outcome, wanted: Sequence[str], *, is_raw: bool) -> Any:
    response = MESSAGES["ModelInferResponse"](
        model_name=request.model_name, model_version=outcome.version, id=request.id
    )
    for tensor in outcome.tensors(wanted):
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if is_raw:
            response.raw_output_contents.append(bytes_of(tensor.datatype, tensor.values))
        elif tensor.datatype == "BYTES":
            output.contents.bytes_contents.extend(value.encode() for value in tensor.values)
        else:
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(tensor.values)
    return response
