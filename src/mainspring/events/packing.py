"""msgpack from one of our processes to the intake, also of what it has no word for.

Files and databases hold integers beyond 64 bits, and texts that are no UTF-8. It is for the contract to refuse them, by
name and with the right words, so they have to reach it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mainspring.events.bounds import is_utf8

_INTEGER, _TEXT = 1, 2
_MOST_INT, _LEAST_INT = 2**64 - 1, -(2**63)
_encode = msgspec.msgpack.Encoder().encode


def packed(obj: Any) -> bytes:
    r"""``obj`` as msgpack; ``unpack`` is the hook that reads it.

    >>> msgspec.msgpack.decode(packed({"n": 10**30, "t": "\udcff"}), ext_hook=unpack) == {"n": 10**30, "t": "\udcff"}
    True
    """
    try:
        return _encode(obj)
    except (OverflowError, UnicodeEncodeError):
        return _encode(_sayable(obj))


def unpack(code: int, data: memoryview) -> Any:
    """What an extension of ``packed`` stands for.

    Raises:
        ValueError: It is none of ours.
    """
    if code == _INTEGER:
        return int(bytes(data))
    if code == _TEXT:
        return bytes(data).decode("utf-8", "surrogatepass")
    raise ValueError(f"extension {code} is not known")


def _sayable(value: Any) -> Any:
    if isinstance(value, str):
        return value if is_utf8(value) else msgspec.msgpack.Ext(_TEXT, value.encode("utf-8", "surrogatepass"))
    if isinstance(value, int) and not _LEAST_INT <= value <= _MOST_INT:
        return msgspec.msgpack.Ext(_INTEGER, str(value).encode())
    if isinstance(value, dict):
        return {_sayable(key): _sayable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(one) for one in value]
    if isinstance(value, msgspec.Struct):  # of ours, all of which are arrays on the wire
        return [_sayable(one) for one in msgspec.structs.astuple(value)]
    return value
