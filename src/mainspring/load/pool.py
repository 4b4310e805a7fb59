"""The requests themselves: rows as the wire carries them, made before the first is sent, each with an id of its own."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from mainspring.core.times import parse_time
from mainspring.definitions import SourceDef
from mainspring.definitions.values import Field

Protocol = Literal["json", "v2", "grpc"]
IdKind = Literal["str", "int", "int64", ""]
_TEXT_ID = "~id-of-request~~"  # 16 characters, as many as an id has
_WHOLE_ID = 711_111_111_111_111_117  # 18 digits
_DATATYPES = {"str": "BYTES", "int": "INT64", "float": "FP64", "bool": "BOOL", "datetime": "INT64", "vector": "FP64"}


@dataclass(frozen=True)
class Pool:
    """Requests that are sent in turns.

    Attributes:
        raw: Each as the pieces between its ids, or whole.
        marks: What an id looks like: the kind of its column (``int64``: as 8 bytes), and a text of this run's own.
        rows: In each.
        is_grpc: Whether they are messages of ModelInfer, rather than HTTP.
        metadata: Of each call, over gRPC.
    """

    raw: tuple[tuple[bytes, ...], ...]
    marks: tuple[IdKind, int]
    rows: int
    is_grpc: bool = False
    metadata: tuple[tuple[str, str], ...] = ()

    def request(self, number: int) -> bytes:
        """The request of a number, with ids that no other number has."""
        pieces = self.raw[number % len(self.raw)]
        if len(pieces) == 1:
            return pieces[0]
        kind, run = self.marks
        out = [pieces[0]]
        for row, piece in enumerate(pieces[1:]):
            out += (_id(kind, run, number * self.rows + row), piece)
        return b"".join(out)


def _id(kind: IdKind, run: int, n: int) -> bytes:
    if kind == "str":
        return b"%04x%012x" % (run, n)
    whole = 10**17 + run * 10**12 + n
    return b"%d" % whole if kind == "int" else struct.pack("<q", whole)


def pool(
    source: SourceDef,
    path: str,
    host: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    run: int,
    protocol: Protocol = "json",
    rows_a_request: int = 1,
    headers: Mapping[str, str] | None = None,
) -> Pool:
    """Requests that hold rows of a source, in turns.

    The time is left to the server's clock. An id is replaced by one of its own for each row that is sent, unless the
    source constrains it.

    Args:
        source: Of the request.
        path: Such as ``/predict/late_flight``; over gRPC the model's name.
        host: For the header.
        rows: By column; a datetime is ISO 8601 text.
        run: 0 to 65,535: what sets the ids of one run apart from those of another.
        protocol: ``json``; ``v2`` for the Open Inference Protocol, ``grpc`` for the same over gRPC.
        rows_a_request: How many rows each holds.
        headers: Further ones.
    """
    kind = _id_kind(source)
    marked = [_marked(source, row, kind) for row in rows]
    parts = [
        [marked[(first + i) % len(marked)] for i in range(rows_a_request)]
        for first in range(0, len(marked), rows_a_request)
    ]
    if protocol == "grpc":
        return _grpc_pool(source, path, parts, kind, run, headers or {})
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    raw = []
    for part in parts:
        body = _v2(source, part) if protocol == "v2" else _json(part)
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{extra}"
        whole = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        mark = {"str": _TEXT_ID.encode(), "int": b"%d" % _WHOLE_ID, "": b""}[kind]
        raw.append(tuple(whole.split(mark)) if mark else (whole,))
    return Pool(tuple(raw), (kind, run), rows_a_request)


def _grpc_pool(
    source: SourceDef,
    model: str,
    parts: Sequence[Sequence[Mapping[str, Any]]],
    kind: Literal["str", "int", ""],
    run: int,
    headers: Mapping[str, str],
) -> Pool:
    """Messages of ModelInfer with raw contents, as Triton's client sends them.

    A null within a column cannot be said there: such a value is that of another row of the request.
    """
    from mainspring.serving.grpc_messages import MESSAGES
    from mainspring.serving.v2_tensors import to_bytes

    mark = {"str": _TEXT_ID.encode(), "int": struct.pack("<q", _WHOLE_ID), "": b""}[kind]
    raw = []
    for part in parts:
        message = MESSAGES["ModelInferRequest"](model_name=model)
        for one in _inputs(source, part):
            known = [value for value in one["data"] if value is not None]
            values = [known[0] if value is None else value for value in one["data"]]
            message.inputs.add(name=one["name"], datatype=one["datatype"], shape=one["shape"])
            message.raw_input_contents.append(to_bytes(one["datatype"], values))
        whole = message.SerializeToString()
        raw.append(tuple(whole.split(mark)) if mark else (whole,))
    metadata = tuple((name.lower(), value) for name, value in headers.items())
    return Pool(tuple(raw), ("int64" if kind == "int" else kind, run), len(parts[0]), True, metadata)


def _id_kind(source: SourceDef) -> Literal["str", "int", ""]:
    """What kind of id each row is given; none if only some ids are allowed."""
    column = source.columns.get(source.id or "")
    if column is None or column.constraints:
        return ""
    return "str" if column.kind == "str" else "int"


def _marked(source: SourceDef, row: Mapping[str, Any], kind: str) -> dict[str, Any]:
    out = {f.name: row[f.name] for f in source.fields if f.name != source.time and row.get(f.name) is not None}
    if kind and source.id is not None:
        out[source.id] = _TEXT_ID if kind == "str" else _WHOLE_ID
    return out


def _json(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return msgspec.json.encode(rows[0] if len(rows) == 1 else rows)


def _v2(source: SourceDef, rows: Sequence[Mapping[str, Any]]) -> bytes:
    return msgspec.json.encode({"inputs": _inputs(source, rows)})


def _inputs(source: SourceDef, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as tensors: a column that is null in each of them is left out."""
    inputs = []
    for field in source.fields:
        values = [_tensor_value(field, row.get(field.name)) for row in rows]
        if field.name == source.time or all(value is None for value in values):
            continue
        if field.kind == "vector":
            values = [x for value in values for x in value or [0.0] * field.dim]
        shape = [len(rows), field.dim] if field.kind == "vector" else [len(rows)]
        inputs.append({"name": field.name, "shape": shape, "datatype": _DATATYPES[field.kind], "data": values})
    return inputs


def _tensor_value(field: Field, value: Any) -> Any:
    return parse_time(value) if field.kind == "datetime" and value is not None else value
