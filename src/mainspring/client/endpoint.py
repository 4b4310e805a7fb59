"""What both clients are: where the doors are, the outbox, and the thread that carries what is in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mainspring.client.asking import Asking
from mainspring.client.doors import door, path_part
from mainspring.client.outbox import Outbox, encoded
from mainspring.client.outcomes import Delivery, Totals
from mainspring.client.refused import RefusedEvents
from mainspring.client.sender import Sender
from mainspring.core.clock import WallClock
from mainspring.core.errors import UnavailableError
from mainspring.core.exchange import Exchange

Event = Mapping[str, Any]


class Endpoint:
    """A client without its calls: see ``Client``."""

    def __init__(  # noqa: PLR0913  all but the first are options with defaults, given by name
        self,
        url: str | None = None,
        *,
        intake: str | None = None,
        key: str | None = None,
        project: str | Path = ".",
        spool: str | Path | None = None,
        spool_bytes: int = 268_435_456,
        batch_rows: int = 1_000,
        batch_s: float = 0.05,
        timeout_s: float = 30.0,
    ) -> None:
        self._timeout_s = timeout_s
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._gateway = door("gateway", url, Path(project))
        find = door("intake", url if intake is None else intake, Path(project))
        folder = None if spool is None else Path(spool)
        self._is_kept = folder is not None
        self._outbox = Outbox(folder, max_bytes=spool_bytes, batch_rows=batch_rows, batch_s=batch_s)
        self._refused = RefusedEvents(folder, WallClock())
        self._sender = Sender(self._outbox, lambda: Exchange(find(), timeout_s), self._headers, self._refused)
        self._sender.start()
        self._connections: deque[Any] = deque()  # to the gateway, that nobody uses now

    @property
    def totals(self) -> Totals:
        """How many events had which outcome so far."""
        return self._sender.totals

    def _send(self, source: str, events: Event | Sequence[Event], timeout_s: float) -> Delivery:
        return self._outbox.put(path_part(source, "source"), encoded(events), timeout_s)

    def _send_refused(self) -> int:
        return self._refused.release(lambda source, events: self._outbox.put(source, events, self._timeout_s))

    def _flush(self, timeout_s: float | None) -> None:
        if not self._outbox.flush(timeout_s):
            raise self._late(f"not everything was acknowledged within {timeout_s:g} s", "they are still being sent")

    def _close(self, timeout_s: float | None) -> None:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        self._sender.stop(timeout_s)
        is_left = self._outbox.waiting
        self._outbox.close()
        if is_left and not self._is_kept:
            what = f"events were not sent within {timeout_s:g} s and are lost"
            raise self._late(what, "Client(spool=FOLDER) keeps them for the next one")

    def _asking(self, model: str, rows: Any, timeout_s: float | None, *, with_status: bool) -> Asking:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        return Asking(model, rows, self._headers, timeout_s, with_status=with_status)

    def _late(self, what: str, hint: str) -> UnavailableError:
        trouble = self._sender.trouble
        return UnavailableError("MS-E502", what, why="" if trouble is None else trouble.what, hint=hint)
