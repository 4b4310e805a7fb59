"""Where a connector's rows go in: the intake; a run that ends soon may write the log itself when no intake does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.errors import UnavailableError
from mainspring.core.run import internal_token, read_door
from mainspring.definitions.values import Project
from mainspring.events.client import IntakeClient
from mainspring.events.contract import Contract
from mainspring.events.files import errors_of
from mainspring.events.internal import InternalRow, entries_of
from mainspring.events.log import Log
from mainspring.events.progress import Advance, Position
from mainspring.events.wake import Bell


class Outcome(msgspec.Struct, frozen=True):
    """What became of a batch: a status a row, and index, code, reason and path of those in quarantine."""

    statuses: list[str]
    errors: list[dict[str, Any]]


class Inlet(Protocol):
    """Takes rows and the connector's step in one transaction."""

    def position(self, name: str) -> Position:
        """Where the connector is."""

    def advance(self, name: str, before: int, cursor: Any, rows: Sequence[InternalRow]) -> Outcome:
        """Write rows and move the connector on: both, durably, or nothing.

        Raises:
            MovedError: The connector is not at ``before`` (MS-E430).
            BackPressureError: Full for now; nothing was taken.
            UnavailableError: It cannot be reached, and nobody knows whether it was taken.
            TooLargeError: More than is taken at once.
            RefusedError: History from before a served prediction (MS-E404).
        """


@contextmanager
def open_inlet(
    config: Config,
    project: Project,
    clock: Clock,
    *,
    history: bool = False,
    backfill: bool = False,
    only_door: bool = False,
) -> Iterator[Inlet]:
    """The way in that is open now.

    Args:
        config: Where the log, and the door of a running intake, are.
        project: Its sources.
        clock: Says when rows become known.
        history: Rows keep the ``known_at`` that their source declares.
        backfill: Allow history from before a prediction that has been served.
        only_door: For one that lasts: as the log's writer it would keep the intake from starting.

    Raises:
        UnavailableError: There is no intake (MS-E300), or another process writes the log (MS-C010).
    """
    url = read_door(config.run, "intake")
    if url is not None:
        with IntakeClient(url, internal_token(config.run)) as client:
            yield _Door(client, history=history, backfill=backfill)
        return
    if only_door:
        raise UnavailableError("MS-E300", "no intake runs", where=str(config.run), hint="mainspring up")
    log = Log.open(
        config.log_path, config.limits.log_map_bytes, writable=True, disk_free_bytes=config.limits.disk_free_bytes
    )
    bell = Bell(config.run)
    try:
        yield _Writer(log, bell, project, clock, history=history, backfill=backfill)
    finally:
        bell.close()
        log.close()


class _Door:
    """Through a running intake."""

    def __init__(self, client: IntakeClient, *, history: bool, backfill: bool) -> None:
        self._client = client
        self._history, self._backfill = history, backfill

    def position(self, name: str) -> Position:
        return msgspec.convert(self._client.get(f"/internal/connectors/{name}"), Position)

    def advance(self, name: str, before: int, cursor: Any, rows: Sequence[InternalRow]) -> Outcome:
        answer = self._client.advance(name, before, cursor, rows, history=self._history, backfill=self._backfill)
        return Outcome(answer["statuses"], answer["errors"])


class _Writer:
    """Straight into the log, as its one writer."""

    def __init__(self, log: Log, bell: Bell, project: Project, clock: Clock, *, history: bool, backfill: bool) -> None:
        self._log, self._bell, self._clock = log, bell, clock
        self._contracts = {name: Contract(source) for name, source in project.sources.items()}
        self._history, self._backfill = history, backfill

    def position(self, name: str) -> Position:
        return self._log.positions().get(name, Position())

    def advance(self, name: str, before: int, cursor: Any, rows: Sequence[InternalRow]) -> Outcome:
        entries = entries_of(rows, self._contracts, f"connect {name}", is_history=self._history)
        if self._history and not self._backfill:
            self._log.check_history(entries)
        acks = self._log.append(entries, self._clock, Advance(name, before, cursor, len(entries)))
        self._bell.ring()
        return Outcome([ack.status for ack in acks], errors_of(acks))
