"""The requests themselves: rows as the wire carries them, made before the first is sent, each with an id of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from mainspring.core.times import parse_time
from mainspring.definitions import SourceDef
from mainspring.definitions.values import Field

Protocol = Literal["json", "v2"]
_TEXT_ID = "~id-of-request~~"  # 16 characters, as many as an id has
_WHOLE_ID = 711_111_111_111_111_117  # 18 digits
_DATATYPES = {"str": "BYTES", "int": "INT64", "float": "FP64", "bool": "BOOL", "datetime": "INT64", "vector": "FP64"}


@dataclass(frozen=True)
class Pool:
    """Requests that are sent in turns.

    Attributes:
        raw: Each as the pieces between its ids, or whole.
        marks: What an id looks like: the kind of its column, and a text of its own for this run.
        rows: In each.
    """

    raw: tuple[tuple[bytes, ...], ...]
    marks: tuple[Literal["str", "int", ""], int]
    rows: int

    def request(self, number: int) -> bytes:
        """The request of a number, with ids that no other number has."""
        pieces = self.raw[number % len(self.raw)]
        if len(pieces) == 1:
            return pieces[0]
        kind, run = self.marks
        out = [pieces[0]]
        for row, piece in enumerate(pieces[1:]):
            n = number * self.rows + row
            out += (b"%04x%012x" % (run, n) if kind == "str" else b"%d" % (10**17 + run * 10**12 + n), piece)
        return b"".join(out)


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
        path: Such as ``/predict/late_flight``.
        host: For the header.
        rows: By column; a datetime is ISO 8601 text.
        run: 0 to 65,535: what sets the ids of one run apart from those of another.
        protocol: ``json``, or ``v2`` for the Open Inference Protocol.
        rows_a_request: How many rows each holds.
        headers: Further ones.
    """
    kind = _id_kind(source)
    marked = [_marked(source, row, kind) for row in rows]
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    raw = []
    for first in range(0, len(marked), rows_a_request):
        part = [marked[(first + i) % len(marked)] for i in range(rows_a_request)]
        body = _v2(source, part) if protocol == "v2" else _json(part)
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{extra}"
        whole = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        mark = {"str": _TEXT_ID.encode(), "int": b"%d" % _WHOLE_ID, "": b""}[kind]
        raw.append(tuple(whole.split(mark)) if mark else (whole,))
    return Pool(tuple(raw), (kind, run), rows_a_request)


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
    inputs = []
    for field in source.fields:
        values = [_tensor_value(field, row.get(field.name)) for row in rows]
        if field.name == source.time or all(value is None for value in values):
            continue
        if field.kind == "vector":
            values = [x for value in values for x in value or [0.0] * field.dim]
        shape = [len(rows), field.dim] if field.kind == "vector" else [len(rows)]
        inputs.append({"name": field.name, "shape": shape, "datatype": _DATATYPES[field.kind], "data": values})
    return msgspec.json.encode({"inputs": inputs})


def _tensor_value(field: Field, value: Any) -> Any:
    return parse_time(value) if field.kind == "datetime" and value is not None else value
