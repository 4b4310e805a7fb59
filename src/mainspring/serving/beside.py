"""Two threads of one lane, for what would hold the event loop up: made when first needed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Beside:
    """Runs functions beside the event loop: one for answers, one for shadows, at a time.

    Args:
        loop: Told when a function has ended.
        name: Of the threads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._threads: ThreadPoolExecutor | None = None

    def run(self, work: Callable[[], T], then: Callable[[], None]) -> Future[T]:
        """Have ``work`` done; ``then`` is called on the event loop once it has ended."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2, self._name)
        found = self._threads.submit(work)
        found.add_done_callback(lambda _: self._soon(then))
        return found

    def close(self) -> None:
        """Let the threads end."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def _soon(self, then: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and whoever ended it has seen to what was left
            self._loop.call_soon_threadsafe(then)
