"""A past: what a key has let go of, and windows since the beginning go on counting.

Named arrays, stored self-describing, so that an aggregate can keep what it needs without a new format of the store.
``moments`` and ``ints`` are those of ``kernels.absorb``, the others those of ``kept``.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from mainspring.features import kept
from mainspring.features import kernels as k
from mainspring.features.hops import Hop, merge_moments
from mainspring.features.layout import Layout
from mainspring.features.state import FORMAT, unknown_format

MOMENTS, INTS = "moments", "ints"
Past = dict[str, np.ndarray]

_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(tuple[int, list[tuple[str, str, tuple[int, ...], bytes]]]).decode


def pack_past(past: Past) -> bytes:
    """A past's bytes."""
    return _ENCODE((FORMAT, [(name, part.dtype.str, part.shape, part.tobytes()) for name, part in past.items()]))


def unpack_past(raw: Any) -> Past:
    """The parts of a past, writable.

    Raises:
        FormatError: A format that this release does not know (MS-F901).
    """
    form, parts = _DECODE(raw)
    if form != FORMAT:
        raise unknown_format(form)
    return {name: np.frombuffer(body, dtype).reshape(shape).copy() for name, dtype, shape, body in parts}


def absorb_hop(layout: Layout, past: Past, hop: Hop) -> None:
    """Let go of a hop: it goes into ``past``, which is empty at first."""
    _begin(layout, past)
    merge_moments(past[MOMENTS], past[INTS], hop.moments, hop.ints)
    kept.merge(layout, past, hop.parts)


def _begin(layout: Layout, past: Past) -> None:
    if not past:
        past[MOMENTS] = np.zeros((len(layout.needs), k.PAST))
        past[INTS] = np.zeros((len(layout.needs), k.PAST_INTS), np.int64)


def absorb(layout: Layout, past: Past, events: np.ndarray) -> None:
    """Let go of a view's events, int64[3 + C, n] in order: they go into ``past``, which is empty at first."""
    summed = len(layout.needs)
    _begin(layout, past)
    events = np.array(events, order="C")  # the store's own bytes are read-only
    k.absorb(events[0], events[1], events[2], events[3 : 3 + summed].view(np.float64), past[MOMENTS], past[INTS])
    kept.absorb(layout, past, events)
