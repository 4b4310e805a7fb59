"""How many elements a JSON array has, told from its commas: nothing is made of the elements, which may be millions."""

from __future__ import annotations

_PIECE_BYTES = 262_144
_QUOTE, _COMMA = 0x22, 0x2C


def has_more(body: bytes, most: int) -> bool:
    """Whether a JSON array has more than ``most`` elements; for what is no JSON either may be said.

    Looks no further than the element after the last that may be, and needs the memory of one piece besides the body
    (of two bodies, where a text escapes something).

    >>> has_more(b'[{"a": [1, 2], "b": "x,y"}, 2]', 2), has_more(b"[1, 2, 3]", 2)
    (False, True)
    """
    import numpy as np

    if b"\\" in body:  # afterwards each quote begins or ends a text
        body = body.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    steps = np.zeros(256, np.int8)
    steps[list(b"[{")], steps[list(b"]}")] = 1, -1
    commas = depth = 0
    is_inside = False
    for start in range(0, len(body), _PIECE_BYTES):
        part = np.frombuffer(body, np.uint8, min(_PIECE_BYTES, len(body) - start), start)
        is_text = np.logical_xor.accumulate(part == _QUOTE) ^ is_inside
        is_inside = bool(is_text[-1])
        depths = np.cumsum(np.where(is_text, 0, steps[part]), dtype=np.int32) + depth
        depth = int(depths[-1])
        commas += int(np.count_nonzero((part == _COMMA) & ~is_text & (depths == 1)))
        if commas >= max(most, 1):
            return True
    return False
