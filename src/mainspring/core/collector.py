"""Python's garbage collector, where it is in the way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEW = 10_000
"""New objects before Python looks for cycles among them; it would at 700, which one batch of requests holds many times
over, all freed by their counts: the looking took a tenth of the gateway's time."""


def rest_what_is_loaded() -> None:
    """Leave what is there by now out of every later collection: a full one over it costs tens of milliseconds.

    What comes later is looked at less often than Python would.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW, *gc.get_threshold()[1:])


@contextmanager
def paused() -> Iterator[None]:
    """No collection within: for work that makes very many values, which their counts free as soon as it is done."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
