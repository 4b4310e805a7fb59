"""Events that the intake did not take at all: the dead-letter end of a client, a file that can be sent again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.errors import MainspringError
from mainspring.core.run import Lease
from mainspring.core.times import to_iso

FILE = "refused.ndjson"
_log = logging.getLogger("mainspring.client")


class RefusedEvent(msgspec.Struct, frozen=True):
    """One event, why it was not taken, and when.

    Attributes:
        event: Its JSON, as it was sent.
    """

    source: str
    code: str
    reason: str
    at: str
    event: msgspec.Raw

    @property
    def fields(self) -> Any:
        """The event's columns and values."""
        return msgspec.json.decode(self.event)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RefusedEvent).decode


class RefusedEvents:
    """The file ``refused.ndjson`` in a folder that several processes may share; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, clock: Clock) -> None:
        self._path = None if folder is None else folder / FILE
        self._clock = clock

    def keep(self, source: str, events: Sequence[bytes], error: MainspringError) -> None:
        """Add events, durably."""
        if self._path is None:
            return
        at = to_iso(self._clock.now_us())
        rows = [RefusedEvent(source, error.code, error.what, at, msgspec.Raw(event)) for event in events]
        try:
            with _lease(self._path), self._path.open("ab") as file:
                file.write(b"".join(_encode(row) + b"\n" for row in rows))
                file.flush()
                os.fsync(file.fileno())
        except OSError as failed:
            _log.error("%d refused events of %s are lost: %s", len(events), source, failed)

    def all(self) -> list[RefusedEvent]:
        """Each of them, oldest first; a line that a crash tore is left out."""
        if self._path is None or not self._path.exists():
            return []
        with _lease(self._path):
            return self._read(self._path)

    def release(self, take: Callable[[str, Sequence[bytes]], object]) -> int:
        """Give each of them to ``take``, and forget them; returns how many there were."""
        if self._path is None or not self._path.exists():
            return 0
        with _lease(self._path):
            found = self._read(self._path)
            by_source: dict[str, list[bytes]] = {}
            for row in found:
                by_source.setdefault(row.source, []).append(bytes(row.event))
            for source, events in by_source.items():
                take(source, events)
            self._path.unlink()
        return len(found)

    @staticmethod
    def _read(path: Path) -> list[RefusedEvent]:
        out = []
        for line in path.read_bytes().splitlines():
            try:
                out.append(_decode(line))
            except msgspec.DecodeError:
                _log.error("a line of %s cannot be read", path)
        return out


def _lease(path: Path) -> Lease:
    return Lease(path.with_suffix(".lock"))
