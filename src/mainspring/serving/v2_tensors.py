"""Tensors of the Open Inference Protocol as plain values: their datatypes, their JSON and their bytes.

A tensor is its values in row-major order: an array of numbers where it came as bytes or as a flat JSON array of floats,
else a list. Bytes are little-endian without padding; a BYTES element is a uint32 length and that many bytes; a BOOL is
one byte. FP16 and BF16 exist only as bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.core.errors import MainspringError

_NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.uint8),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
INTEGERS = frozenset(name for name in _NUMPY if "INT" in name)
FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
DATATYPES = frozenset({*_NUMPY, "BYTES"})
_LENGTH = struct.Struct("<I")
_JSON_FLOATS = frozenset({"FP32", "FP64"})
_FLOATS = msgspec.json.Decoder(list[float]).decode
_ANYTHING = msgspec.json.Decoder().decode
_MINUS_ZERO = struct.pack("<d", -0.0)

Values = Sequence[Any] | npt.NDArray[Any]


class ProtocolError(MainspringError, ValueError):
    """A request that the protocol, or the model's inputs, do not allow."""

    http_status = 400


class Tensor(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A named tensor.

    Attributes:
        shape: Its dimensions; the first one counts the rows.
        values: As many as the shape says, in row-major order.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values


def count_of(name: str, shape: Sequence[int]) -> int:
    """How many elements a shape has.

    Raises:
        ProtocolError: A dimension is negative, or there are more elements than anybody could send (MS-S140).
    """
    if len(shape) == 1 and 0 <= shape[0] < 2**31:
        return shape[0]
    count = math.prod(shape) if 0 < len(shape) <= 8 and min(shape) >= 0 else -1
    if not 0 <= count < 2**31:
        raise malformed(f"input {name!r} cannot have the shape {list(shape[:8])}")
    return count


def from_bytes(name: str, datatype: str, raw: bytes | memoryview, count: int) -> Values:
    """The values of ``count`` elements; numbers and truths as an array.

    Raises:
        ProtocolError: There are not exactly as many bytes, or a text is no UTF-8 (MS-S140).
    """
    if datatype == "BYTES":
        return _texts(name, bytes(raw), count)
    dtype = _NUMPY[datatype]
    if len(raw) != count * dtype.itemsize:
        wanted = f"{count} elements of {datatype} are {count * dtype.itemsize} bytes"
        raise malformed(f"input {name!r} has {len(raw)} bytes, but {wanted}")
    array = np.frombuffer(raw, dtype)
    if datatype == "BOOL":
        array = array != 0
    elif datatype == "BF16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


def to_bytes(datatype: str, values: Values) -> bytes:
    """The bytes of values of a datatype that we answer with: FP64, INT64, BOOL or BYTES."""
    if datatype == "BYTES" and isinstance(values, list):
        if values and values.count(values[0]) == len(values):  # as a version is, of most answers
            return _text_bytes(values[0]) * len(values)
        return b"".join(map(_text_bytes, values))
    return np.array(values, _NUMPY[datatype]).tobytes()


def read_json(datatype: str, raw: bytes | msgspec.Raw) -> Any:
    """A ``data`` array: of a datatype of floats an array of them, if it is flat and has a number in each place.

    Raises:
        msgspec.DecodeError: It is no JSON; as UnicodeDecodeError and RecursionError.
    """
    if datatype not in _JSON_FLOATS:
        return _ANYTHING(raw)
    try:
        values = _FLOATS(raw)
        packed = struct.pack(f"<{len(values)}d", *values)
    except msgspec.ValidationError:
        return _ANYTHING(raw)
    if _MINUS_ZERO in packed:  # it may have been the whole number -0, which is 0
        return _ANYTHING(raw)
    return np.frombuffer(packed, _NUMPY["FP64"])


def from_json(name: str, datatype: str, data: Any, count: int) -> Values:
    """The values of a ``data`` array as ``read_json`` gives it, flat or nested as its shape; null stays None.

    Raises:
        ProtocolError: There are not exactly ``count`` elements, or one is of another type (MS-S140).
    """
    if datatype in ("FP16", "BF16"):
        raise malformed(f"input {name!r}: {datatype} is sent as bytes, JSON has no such numbers")
    if not isinstance(data, (list, np.ndarray)):
        raise malformed(f"input {name!r} has no array as its data")
    values = data
    if isinstance(data, list) and list in set(map(type, data)):
        _flatten(data, values := [], count)
    if len(values) != count:
        raise malformed(f"input {name!r} has another number of elements than its shape, which has {count}")
    if isinstance(values, np.ndarray) or _are_all(datatype, values):
        return values
    for place, value in enumerate(values):
        if not _are_all(datatype, [value]):
            raise malformed(f"element {place} of input {name!r} is no {datatype}")
    return values


def malformed(what: str) -> ProtocolError:
    """A request that cannot be read."""
    return ProtocolError("MS-S140", what)


def _text_bytes(text: str) -> bytes:
    raw = text.encode()
    return _LENGTH.pack(len(raw)) + raw


def _texts(name: str, raw: bytes, count: int) -> list[str]:
    texts: list[str] = []
    at, end = 0, len(raw)
    whole = raw.decode() if raw.isascii() else None  # then a byte is a character, and the lengths are such too
    for _ in range(count):
        start = at + 4
        if start > end:
            raise malformed(f"input {name!r} ends before its {count} elements do")
        at = start + _LENGTH.unpack_from(raw, at)[0]
        if at > end:
            raise malformed(f"input {name!r}: element {len(texts)} is longer than what was sent")
        try:
            texts.append(raw[start:at].decode() if whole is None else whole[start:at])
        except UnicodeDecodeError:
            raise malformed(f"input {name!r}: element {len(texts)} is no UTF-8 text") from None
    if at != end:
        raise malformed(f"input {name!r} has {end - at} bytes after its {count} elements")
    return texts


def _flatten(data: list[Any], into: list[Any], limit: int) -> None:
    """Elements in order, without recursion and no further than just past ``limit``."""
    stack = [iter(data)]
    while stack and len(into) <= limit:
        for item in stack[-1]:
            if isinstance(item, list):
                stack.append(iter(item))
                break
            into.append(item)
            if len(into) > limit:
                break
        else:
            stack.pop()


def _are_all(datatype: str, values: list[Any]) -> bool:
    """Whether all are null or of a datatype."""
    if not set(map(type, values)) <= _JSON_TYPES[datatype]:
        return False
    known = [value for value in values if value is not None] if datatype in INTEGERS else ()
    if not known:
        return True
    low, high = _RANGES[datatype]
    return bool(low <= min(known) and max(known) <= high)


def _range(datatype: str) -> tuple[int, int]:
    bits = _NUMPY[datatype].itemsize * 8
    low = 0 if datatype[0] == "U" else -(2 ** (bits - 1))
    return low, low + 2**bits - 1


_RANGES = {name: _range(name) for name in INTEGERS}
_NULL = type(None)
_JSON_TYPES: dict[str, frozenset[type]] = {
    **dict.fromkeys(INTEGERS, frozenset({int, _NULL})),
    **dict.fromkeys(("FP32", "FP64"), frozenset({float, int, _NULL})),
    "BOOL": frozenset({bool, _NULL}),
    "BYTES": frozenset({str, _NULL}),
}
