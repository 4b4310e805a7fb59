"""Decisions are events: said once, durable in the log, then projected to the catalog and told to the gateways."""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mainspring.catalog import Catalog
from mainspring.catalog.decisions import ROUTING
from mainspring.core import BackPressureError, Clock, Config, UnavailableError, WallClock, to_datetime
from mainspring.core.run import internal_token, read_door, read_doors
from mainspring.events.client import IntakeClient
from mainspring.events.contract import Contract
from mainspring.events.history import History
from mainspring.events.log import Draft, Log
from mainspring.events.system import DECISION
from mainspring.loop.incidents import Change

RETRY_S = 0.5
PATIENCE_S = 30.0
"""So long a command waits for a log that another process writes, or that has no room; a worker waits until it ends."""
RELOAD_TIMEOUT_S = 30.0
_log = logging.getLogger(__name__)


class Ledger:
    """Writes decisions through the intake and projects every decision of the log, whoever wrote it.

    Args:
        config: The project's settings.
        catalog: Where decisions are projected to.
        history: Reads the log; used by one thread only.
        stop: Set when the process has to end.
        alone: Where no intake is running, write the log as its one writer: for commands on a system that is down.
        clock: What is written alone becomes known by it; the wall's if None.
    """

    def __init__(
        self,
        config: Config,
        catalog: Catalog,
        history: History,
        stop: threading.Event,
        *,
        alone: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._history = history
        self._stop = stop
        self._alone = alone
        self._clock = clock or WallClock()
        self._seen = 0
        self._news: set[str] = set()

    def decide(
        self,
        kind: str,
        decision_id: str,
        at_us: int,
        *,
        model: str | None = None,
        subject: str | None = None,
        actor: str = "controller",
        reason: str = "",
        numbers: Mapping[str, Any] | None = None,
    ) -> None:
        """Say a decision once: the same ``decision_id`` a second time, after a crash, changes nothing.

        Waits while the intake is away, until the process has to end; for half a minute where it may write alone.

        Raises:
            UnavailableError: The process was told to stop while the intake was away, or another one writes the log.
            BackPressureError: The same, and what was away is room in the log.
        """
        if self._catalog.knows(decision_id):
            return
        row = decision_row(kind, decision_id, at_us, model, subject, actor, reason, numbers)
        began_s = time.monotonic()
        while True:
            url = read_door(self._config.run, "intake")
            try:
                if url is None and self._alone:
                    self._write_alone(row)
                    break
                with self._client(url) as client:
                    client.post_internal([(DECISION.name, row)])
                break
            except (UnavailableError, BackPressureError):
                if self._stop.wait(RETRY_S) or (self._alone and time.monotonic() - began_s > PATIENCE_S):
                    raise
        self.project()

    def tell(
        self, change: Change, at_us: int, *, model: str | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        """Say that an incident opens, is widened or closes, with its numbers and ``more``."""
        self.decide(
            change.kind,
            "-".join(part for part in (change.kind, change.incident_id, change.part) if part),
            at_us,
            model=model,
            subject=change.incident_id,
            reason=change.reason,
            numbers=change.numbers | dict(more or {}),
        )

    def _client(self, url: str | None) -> IntakeClient:
        if url is None:
            raise UnavailableError("MS-L110", "no intake is running", hint="mainspring intake")
        return IntakeClient(url, internal_token(self._config.run))

    def _write_alone(self, row: dict[str, Any]) -> None:
        with Log.open(self._config.log_path, self._config.limits.log_map_bytes, writable=True) as log:
            log.append([Draft(DECISION, Contract(DECISION).check(row))], self._clock)

    def follow(self, history: History) -> None:
        """Read the log through another history from now on: the definitions have changed."""
        self._history = history

    def news(self) -> frozenset[str]:
        """Project, and say which kinds of decisions have come since the last call, whoever wrote them."""
        self.project()
        kinds, self._news = frozenset(self._news), set()
        return kinds

    def project(self) -> None:
        """Project the decisions that have come since the last call.

        Whoever projects first, each process hears of every decision once, and a replay changes nothing twice.
        Gateways are told when routes may have changed.
        """
        self._history.catch_up()
        decisions = self._history.frame(DECISION.name)  # in the order of offsets
        if decisions.is_empty() or decisions.item(-1, "_offset") <= self._seen:
            return
        rows = decisions.filter(decisions["_offset"] > self._seen).to_dicts()
        self._catalog.project([(row["_offset"], row) for row in rows])
        self._seen = int(rows[-1]["_offset"])
        kinds = {str(row["kind"]) for row in rows}
        self._news |= kinds
        if (ROUTING | {"weights"}) & kinds:
            reload_gateways(self._config)


def decision_row(
    kind: str,
    decision_id: str,
    at_us: int,
    model: str | None,
    subject: str | None,
    actor: str,
    reason: str,
    numbers: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The row of the ``_decision`` source."""
    return {
        "decision_id": decision_id,
        "decided_at": to_datetime(at_us),
        "kind": kind,
        "model": model,
        "subject": subject,
        "actor": actor,
        "reason": reason,
        "numbers": msgspec.json.encode(dict(numbers or {}), order="sorted").decode(),
    }


def reload_gateways(config: Config) -> None:
    """Have every gateway swap to the present routes now; one that does not answer finds them at its next look."""
    for door in read_doors(config.run, "gateway"):
        _reload(config, door.url)


def _reload(config: Config, url: str) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=RELOAD_TIMEOUT_S)
    try:
        headers = {"Authorization": f"Bearer {internal_token(config.run)}"}
        connection.request("POST", "/internal/reload", headers=headers)
        connection.getresponse()
    except OSError as error:
        _log.warning("the gateway at %s did not reload: %s", url, error)
    finally:
        connection.close()
