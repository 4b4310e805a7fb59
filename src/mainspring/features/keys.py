"""Entities as bytes: a key of the online store."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from mainspring.core.errors import ContractError
from mainspring.core.ids import hash128

LONGEST_BYTES = 400  # LMDB's own limit is 511, and a block's key is longer than its entity's
_LENGTH = struct.Struct(">I")


def decode_key(key: bytes) -> tuple[Any, ...] | bytes:
    """The entity that ``encode_key`` made bytes of; the bytes themselves of one that is named by its hash.

    >>> decode_key(encode_key(("EWR", 1, True)))
    ('EWR', 1, True)
    """
    if key[:1] == b"#":
        return key
    parts: list[Any] = []
    at = 0
    while at < len(key):
        (size,) = _LENGTH.unpack_from(key, at + 1)
        body = key[at + 5 : at + 5 + size]
        tag = key[at : at + 1]
        parts.append(
            body.decode("utf-8", "surrogatepass") if tag == b"s" else body == b"1" if tag == b"b" else int(body)
        )
        at += 5 + size
    return tuple(parts)


def encode_key(parts: Iterable[Any]) -> bytes | None:
    """Bytes that name an entity, or None if any part is null: a null key is no entity.

    Each part carries its type and length, so that ("a", "bc") and ("ab", "c"), 1 and "1" and True are all different. A
    long key is named by its 128-bit hash.

    Raises:
        ContractError: A part is neither str, int nor bool (MS-F101).

    >>> encode_key(("EWR",)) == encode_key((None, 1))
    False
    """
    if type(parts) is tuple and len(parts) == 1:  # most entities are one text or one number
        (only,) = parts
        if type(only) is str:
            return _remembered(only)
        if type(only) is int:
            body = b"%d" % only
            return _short(b"i" + _LENGTH.pack(len(body)) + body)
    out = []
    for part in parts:
        if isinstance(part, str):
            tag, body = b"s", part.encode("utf-8", "surrogatepass")
        elif part is None:
            return None
        elif isinstance(part, bool):
            tag, body = b"b", b"1" if part else b"0"
        elif isinstance(part, int):
            tag, body = b"i", str(part).encode()
        else:
            raise ContractError(
                "MS-F101", f"{part!r} cannot name an entity", why="an entity's columns are str, int or bool"
            )
        out.append(tag + _LENGTH.pack(len(body)) + body)
    return _short(b"".join(out))


def encode_text(text: str) -> bytes:
    """Bytes that name an entity of one text: ``encode_key((text,))``."""
    body = text.encode("utf-8", "surrogatepass")
    return _short(b"s" + _LENGTH.pack(len(body)) + body)


_remembered = lru_cache(maxsize=16_384)(encode_text)  # those that come often are the same ones


def _short(key: bytes) -> bytes:
    return key if len(key) <= LONGEST_BYTES else b"#" + hash128(key)
