"""Compressed bodies: what a client may send, and what it is answered with when it asks for it."""

from __future__ import annotations

import gzip
import zlib

from mainspring.core.errors import MainspringError, TooLargeError

WORTH_BYTES = 512
"""A shorter answer is not compressed: it would fill its one packet all the same."""
_LEVEL = 1  # an answer waits for it


class CodingError(MainspringError, ValueError):
    """A content coding that is not spoken here, or a body that does not keep to its own."""

    http_status = 415


def decoded(body: bytes, coding: str, max_bytes: int) -> bytes:
    """A request's body as it was before its ``Content-Encoding``.

    Args:
        body: As received.
        coding: ``gzip``, ``deflate`` (with or without zlib's header, as clients differ) or ``identity``.
        max_bytes: What it may hold: a small body that unpacks to a large one is stopped there.

    Raises:
        CodingError: Another coding, or the body is damaged (MS-S145).
        TooLargeError: It holds more (MS-S146).
    """
    match coding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            kinds = [zlib.MAX_WBITS | 16]
        case "deflate":
            kinds = [zlib.MAX_WBITS, -zlib.MAX_WBITS]
        case _:
            raise CodingError("MS-S145", f"content coding {coding[:50]!r} is not read here", hint="gzip or deflate")
    for kind in kinds:
        inflate = zlib.decompressobj(kind)
        try:
            out = inflate.decompress(body, max_bytes + 1)
        except zlib.error:
            continue
        if len(out) > max_bytes:
            raise TooLargeError("MS-S146", f"a body has at most {max_bytes} bytes here, also once it is unpacked")
        if inflate.eof and not inflate.unused_data:
            return out
    raise CodingError("MS-S145", f"the body is not whole {coding[:50]}")


def coding_for(accepted: str, length_bytes: int) -> str:
    """The coding to answer in: one the client accepts, if the answer is worth it, else none.

    Args:
        accepted: The client's ``Accept-Encoding``.
        length_bytes: Of the answer.
    """
    if not accepted or length_bytes < WORTH_BYTES:
        return ""
    wanted: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        text = weight.strip().removeprefix("q=")
        try:
            wanted[name.strip()] = float(text) if text else 1.0
        except ValueError:
            continue
    return next((name for name in ("gzip", "deflate") if wanted.get(name, 0.0) > 0.0), "")


def encoded(body: bytes, coding: str) -> bytes:
    """An answer in a coding of ``coding_for``."""
    return gzip.compress(body, _LEVEL, mtime=0) if coding == "gzip" else zlib.compress(body, _LEVEL)
