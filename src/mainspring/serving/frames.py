"""What the prediction log keeps in its spool: answers as they will be posted, in all forms that there have been."""

from __future__ import annotations

from typing import Any

import msgspec

from mainspring.events.internal import Block, CheckedRows, RowShape

_ENCODE = msgspec.msgpack.Encoder().encode
_FRAME = msgspec.msgpack.Decoder(tuple[int, bytes])
_ROWS_FRAME = msgspec.msgpack.Decoder(tuple[int, tuple[tuple[RowShape, ...], list[tuple[int, tuple[Any, ...]]]]])
_NAMED_FRAME = msgspec.msgpack.Decoder(tuple[int, list[tuple[str, dict[str, Any]]]])


def frame_of(answers: int, found: bytes) -> bytes:
    """A frame of so many answers, whose rows are ``found``: ``CheckedRows`` in msgpack."""
    return _ENCODE((answers, found))


def read_frame(frame: bytes) -> tuple[int, bytes]:
    """How many answers a frame holds, and their rows as they are posted.

    Raises:
        msgspec.DecodeError: It is none.
    """
    try:
        return _FRAME.decode(frame)
    except msgspec.ValidationError:
        pass
    try:
        answers, (shapes, rows) = _ROWS_FRAME.decode(frame)
    except msgspec.ValidationError:
        answers, events = _NAMED_FRAME.decode(frame)
        shapes = tuple(RowShape(source, "", tuple(fields)) for source, fields in events)
        rows = [(i, tuple(fields.values())) for i, (_, fields) in enumerate(events)]
    blocks = [Block.of(number, 1, [[value] for value in values]) for number, values in rows]
    return answers, _ENCODE(CheckedRows(shapes, blocks))
