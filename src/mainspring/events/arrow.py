"""Rows of Arrow IPC, as a body or a file holds them; what a stranger sends is checked before it is believed.

A stream may claim more than it is: a billion rows without a byte, one long text that a million rows point at, buffers
that unpack without end. So rows and bytes are counted before any value is made, offsets are validated, and buffers that
are compressed inside the format are refused: a body is compressed as a whole (``Content-Encoding``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mainspring.core.errors import ContractError, MainspringError, TooLargeError
from mainspring.definitions.values import SourceDef
from mainspring.events.ticks import microseconds

# Of the flatbuffer tables in Arrow's Message.fbs: places of their fields, and the union's number for a dictionary.
_HEADER_TYPE, _HEADER, _COMPRESSION, _DICTIONARY_DATA = 1, 2, 3, 1
_BODY_BYTES = 3
_IS_DICTIONARY, _IS_ROWS = 2, 3
_CONTINUES = 0xFFFFFFFF
_MOST_METADATA = 1_048_576
_FILE_MARK = b"ARROW1"


class ArrowError(ContractError):
    """Bytes that are no Arrow IPC, or hold what no column takes."""

    http_status = 400


def arrow_batches(
    raw: bytes, source: SourceDef, max_rows: int, max_bytes: int
) -> Iterator[tuple[dict[str, list[Any]], int]]:
    """The columns and the number of rows of each batch of an IPC stream that a stranger sent.

    Times are int64 microseconds.

    Args:
        raw: All of it.
        source: Says which columns are times and vectors.
        max_rows: More are refused.
        max_bytes: Most that the texts of all rows may hold together.

    Raises:
        ArrowError: It is no Arrow IPC, or its buffers are compressed (MS-E211); a column's type is not taken (MS-E212).
        TooLargeError: Too many rows (MS-E204) or bytes (MS-E208).
    """
    import pyarrow as pa

    try:
        _refuse_compressed(raw, pa)
        rows = texts = 0
        for batch in pa.ipc.open_stream(pa.BufferReader(raw)):
            rows += batch.num_rows
            if rows > max_rows:
                raise TooLargeError("MS-E204", f"{rows} events or more", why=f"at most {max_rows} are taken at once")
            batch.validate(full=True)
            texts += sum(_text_bytes(column, pa) for column in batch.columns)
            if texts > max_bytes:
                what = f"the texts of its rows hold over {max_bytes} bytes"
                raise TooLargeError("MS-E208", what, why="rows may share a text; each event has its own")
            yield _columns(batch, source, pa), batch.num_rows
    except MainspringError:
        raise
    except (pa.ArrowException, OSError, ValueError, IndexError, OverflowError, struct.error, TypeError) as error:
        raise ArrowError("MS-E211", f"this is no Arrow IPC: {_line(error)}", where="$") from None


def arrow_file_rows(path: Path, source: SourceDef) -> Iterator[dict[str, Any]]:
    """The rows of a file of one's own, in the file format (Feather) or as a stream, compressed or not.

    Raises:
        ArrowError: It is neither (MS-E211); a column's type is not taken (MS-E212).
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as mapped:
            if mapped.read(len(_FILE_MARK)) == _FILE_MARK:
                reader = pa.ipc.open_file(mapped)
                batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                mapped.seek(0)
                batches = pa.ipc.open_stream(mapped)
            for batch in batches:
                columns = _columns(batch, source, pa)
                values = zip(*columns.values(), strict=True) if columns else ((),) * batch.num_rows
                yield from (dict(zip(columns, row, strict=True)) for row in values)
    except (pa.ArrowException, OSError) as error:
        raise ArrowError("MS-E211", f"this is no Arrow IPC: {_line(error)}", where=str(path)) from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _refuse_compressed(raw: bytes, pa: Any) -> None:
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(raw)):
        if message.type in ("record batch", "dictionary") and _is_compressed(bytes(message.metadata)):
            hint = "write it uncompressed and compress the body: Content-Encoding: zstd"
            raise ArrowError("MS-E211", "its buffers are compressed inside the format", where="$", hint=hint)


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message's record batch says ``compression``: read from the flatbuffer itself, as no reader tells."""
    root = struct.unpack_from("<I", metadata)[0]
    kind = metadata[_field(metadata, root, _HEADER_TYPE)]
    header = _follow(metadata, _field(metadata, root, _HEADER))
    if kind == _IS_DICTIONARY:
        header = _follow(metadata, _field(metadata, header, _DICTIONARY_DATA))
    return bool(_field(metadata, header, _COMPRESSION))


def bytes_after(buffer: bytes | bytearray) -> int | None:
    """Length of the IPC message that a buffer begins with, its body included; None while that cannot be said.

    Raises:
        ValueError: It begins with no message, or with a negative length; a struct.error or IndexError likewise.
    """
    if len(buffer) < 8:
        return None
    mark, length = struct.unpack_from("<Ii", buffer)
    if mark != _CONTINUES or length < 0:
        raise ValueError("no message")
    if length == 0:
        return 8 if len(buffer) > 8 else None
    if length > _MOST_METADATA:
        raise ValueError("too much metadata")
    if len(buffer) < 8 + length:
        return None
    metadata = bytes(buffer[8 : 8 + length])
    at = _field(metadata, struct.unpack_from("<I", metadata)[0], _BODY_BYTES)
    body: int = struct.unpack_from("<q", metadata, at)[0] if at else 0
    if body < 0:
        raise ValueError("a negative body")
    return 8 + int(length) + body


def is_rows(message: bytes) -> bool:
    """Whether an IPC message holds a record batch; a schema or a dictionary otherwise."""
    metadata = message[8:]
    at = _field(metadata, struct.unpack_from("<I", metadata)[0], _HEADER_TYPE) if metadata else 0
    return bool(at) and metadata[at] == _IS_ROWS


def _field(raw: bytes, table: int, number: int) -> int:
    """Where a flatbuffer table has its field; 0 when it has none."""
    vtable = table - struct.unpack_from("<i", raw, table)[0]
    slot = 4 + 2 * number
    if vtable < 0 or slot >= struct.unpack_from("<H", raw, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", raw, vtable + slot)[0]
    return table + offset if offset else 0


def _follow(raw: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", raw, at)[0])


def _text_bytes(column: Any, pa: Any) -> int:
    """How many bytes a column's texts have when every row gets its own."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type, pa):
            raise _not_taken(kind)
        rows = column.indices.drop_null().to_numpy(zero_copy_only=False)
        return int(_lengths(column.dictionary, pa)[rows].sum())
    return int(_lengths(column, pa).sum()) if _is_text(kind, pa) else 0


def _lengths(texts: Any, pa: Any) -> Any:
    """Bytes of each text, int64[n]."""
    import numpy as np
    import pyarrow.compute as pc

    if not pa.types.is_string_view(texts.type):
        return pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    views = np.frombuffer(texts.buffers()[1] or b"", np.int32)  # 16 bytes each; the first four are the length
    return views[texts.offset * 4 : (texts.offset + len(texts)) * 4 : 4].astype(np.int64)


def _is_text(kind: Any, pa: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _not_taken(kind: Any) -> ArrowError:
    hint = "whole numbers, floats, booleans, texts, dates, timestamps, and lists of numbers for a vector"
    return ArrowError("MS-E212", f"a column of type {kind} is not taken", where="$", hint=hint)


def _columns(batch: Any, source: SourceDef, pa: Any) -> dict[str, list[Any]]:
    names = batch.schema.names
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ArrowError("MS-E212", f"column {doubles[0][:100]!r} is there twice", where="$")
    return {name: _values(column, name, source, pa) for name, column in zip(names, batch.columns, strict=True)}


def _values(column: Any, name: str, source: SourceDef, pa: Any) -> list[Any]:
    kind = column.type
    types = pa.types
    if types.is_timestamp(kind):
        return microseconds(column.cast(pa.int64()).to_pylist(), kind.unit)
    if types.is_date32(kind):
        return microseconds(column.cast(pa.int32()).to_pylist(), "d")
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
            raise _not_taken(kind)
        values: list[Any] = column.to_pylist()
        return values
    plain = (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
        or types.is_dictionary(kind)
        or _is_text(kind, pa)
    )
    if not plain:
        raise _not_taken(kind)
    field = source.names.get(name)
    is_number = types.is_integer(kind) or types.is_floating(kind)
    values = column.to_pylist() if column.null_count or not is_number else column.to_numpy().tolist()  # twice as quick
    if field is not None and field.kind == "datetime" and types.is_integer(kind):
        return [None if v is None else str(v) for v in values]  # of which unit? refused as the text that it is
    return values
