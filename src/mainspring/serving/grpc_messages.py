"""The messages of the Open Inference Protocol's gRPC service, built when they are first used.

They are described here as data rather than by modules that protoc writes, in a descriptor pool of their own: a process
that has other copies of the same protocol loaded (every client library ships one) meets no conflict. Field numbers
are the protocol's; ``tests/serving/test_v2_grpc.py`` compares them with a client's copy.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
_PACKAGE = "inference"
_TYPES = {
    "bool": 8,
    "bytes": 12,
    "double": 1,
    "float": 2,
    "int32": 5,
    "int64": 3,
    "string": 9,
    "uint32": 13,
    "uint64": 4,
}
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3

# Message → fields as "number name type"; "type*" is repeated, "type?" one of the message's choices, "{}" a map from
# text to parameters, and a name with a capital another message of this list.
_MESSAGES: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("1 live bool",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("1 ready bool",),
    "ModelReadyRequest": ("1 name string", "2 version string"),
    "ModelReadyResponse": ("1 ready bool",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("1 name string", "2 version string", "3 extensions string*"),
    "ModelMetadataRequest": ("1 name string", "2 version string"),
    "ModelMetadataResponse": (
        "1 name string",
        "2 versions string*",
        "3 platform string",
        "4 inputs ModelMetadataResponse.TensorMetadata*",
        "5 outputs ModelMetadataResponse.TensorMetadata*",
    ),
    "ModelMetadataResponse.TensorMetadata": ("1 name string", "2 datatype string", "3 shape int64*"),
    "InferParameter": (
        "1 bool_param bool?",
        "2 int64_param int64?",
        "3 string_param string?",
        "4 double_param double?",
        "5 uint64_param uint64?",
    ),
    "InferTensorContents": (
        "1 bool_contents bool*",
        "2 int_contents int32*",
        "3 int64_contents int64*",
        "4 uint_contents uint32*",
        "5 uint64_contents uint64*",
        "6 fp32_contents float*",
        "7 fp64_contents double*",
        "8 bytes_contents bytes*",
    ),
    "ModelInferRequest": (
        "1 model_name string",
        "2 model_version string",
        "3 id string",
        "4 parameters {}",
        "5 inputs ModelInferRequest.InferInputTensor*",
        "6 outputs ModelInferRequest.InferRequestedOutputTensor*",
        "7 raw_input_contents bytes*",
    ),
    "ModelInferRequest.InferInputTensor": (
        "1 name string",
        "2 datatype string",
        "3 shape int64*",
        "4 parameters {}",
        "5 contents InferTensorContents",
    ),
    "ModelInferRequest.InferRequestedOutputTensor": ("1 name string", "2 parameters {}"),
    "ModelInferResponse": (
        "1 model_name string",
        "2 model_version string",
        "3 id string",
        "4 parameters {}",
        "5 outputs ModelInferResponse.InferOutputTensor*",
        "6 raw_output_contents bytes*",
    ),
    "ModelInferResponse.InferOutputTensor": (
        "1 name string",
        "2 datatype string",
        "3 shape int64*",
        "4 parameters {}",
        "5 contents InferTensorContents",
    ),
    "RepositoryIndexRequest": ("1 repository_name string", "2 ready bool"),
    "RepositoryIndexResponse": ("1 models RepositoryIndexResponse.ModelIndex*",),
    "RepositoryIndexResponse.ModelIndex": ("1 name string", "2 version string", "3 state string", "4 reason string"),
}
METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "RepositoryIndex",
)
"""Unary methods; each takes ``{method}Request`` and gives ``{method}Response``."""


def _describe() -> descriptor_pb2.FileDescriptorProto:
    """The file that protoc would have read."""
    file = descriptor_pb2.FileDescriptorProto(name="mainspring/inference.proto", package=_PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        made[name] = message
        for text in fields:
            _add(message, name, *text.split())
    return file


def _add(message: Any, owner: str, number: str, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=int(number), label=_REPEATED if kind[-1] in "*}" else _OPTIONAL)
    base = kind.rstrip("*?")
    if kind == "{}":
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_OPTIONAL, type=_TYPES["string"])
        value = f".{_PACKAGE}.InferParameter"
        entry.field.add(name="value", number=2, label=_OPTIONAL, type=_MESSAGE, type_name=value)
        field.type, field.type_name = _MESSAGE, f".{_PACKAGE}.{owner}.ParametersEntry"
    elif base in _TYPES:
        field.type = _TYPES[base]
    else:
        field.type, field.type_name = _MESSAGE, f".{_PACKAGE}.{base}"
    if kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    file = pool.Add(_describe()) or pool.FindFileByName("mainspring/inference.proto")
    return {
        name: message_factory.GetMessageClass(descriptor) for name, descriptor in file.message_types_by_name.items()
    }


MESSAGES: dict[str, Any] = _classes()
"""Class of each outermost message by name."""
