"""The worker's own door: what it is doing, for people, commands and Prometheus. It answers and changes nothing.

``GET /health``: the fold's lag. ``GET /features``: view versions that are being built. ``GET /metrics``: Prometheus.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mainspring.catalog import Catalog
from mainspring.core import Clock
from mainspring.core.config import DoorSection
from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.core.http import Access, Limits, Request, Response, Server, json_response, serve
from mainspring.features.freshness import Lag, ViewFreshness, freshness, lag_of
from mainspring.loop.audit import last_audit
from mainspring.loop.builds import Build

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef
    from mainspring.events.log import Log
    from mainspring.features import OnlineStore

START_S = 10.0


class WorkerDoor:
    """Answers on a thread of its own, from what others have written.

    Args:
        where: Host and port.
        store: The online store.
        log: Read-only.
        catalog: The projection of decisions.
        clock: Where moments come from.
        views: Tells which views are folded.
        builds: Tells what is being built.
    """

    def __init__(
        self,
        where: DoorSection,
        store: OnlineStore,
        log: Log,
        catalog: Catalog,
        clock: Clock,
        views: Callable[[], tuple[ViewDef, ...]],
        builds: Callable[[], tuple[Build, ...]],
    ) -> None:
        self._where = where
        self._store = store
        self._log = log
        self._catalog = catalog
        self._clock = clock
        self._views = views
        self._builds = builds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="door", daemon=True)
        self._server: Server | None = None

    def open(self) -> str:
        """Listen; returns the URL.

        Raises:
            UnavailableError: The port is taken (MS-S002).
        """
        self._thread.start()
        where = self._where
        limits = Limits(max_body_bytes=where.max_body_bytes)
        opening = asyncio.run_coroutine_threadsafe(
            serve(self._handle, Access(where.host), where.port, limits), self._loop
        )
        self._server = opening.result(START_S)
        return self._server.url

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.drain(1.0), self._loop).result(START_S)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_S)
        self._loop.close()

    def _handle(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise RefusedError("MS-L161", "this door is for reading", hint="mainspring features backfill VIEW")
        match request.path:
            case "/health":
                return json_response(200, self._health())
            case "/features":
                return json_response(200, {"builds": [build.to_dict() for build in self._builds()]})
            case "/metrics":
                text = "\n".join(self._metrics()) + "\n"
                return Response(200, text.encode(), "text/plain; version=0.0.4")
        raise NotFoundError(
            "MS-L160", f"there is nothing at {request.path[:200]!r}", hint="GET /health, /features or /metrics"
        )

    def _health(self) -> dict[str, Any]:
        root, lag = self._store.root(), self._lag()
        return {
            "status": "ok",
            "offset": root.offset,
            "lag_records": lag.records,
            "lag_s": lag.seconds,
            "views": sorted(root.views),
            "not_serving": sorted(label for label, state in root.views.items() if state.offset != root.offset),
        }

    def _lag(self) -> Lag:
        return lag_of(self._log, self._store.folded_offset(), self._clock.now_us())

    def _metrics(self) -> Iterator[str]:
        now_us, lag = self._clock.now_us(), self._lag()
        yield from gauge("fold_offset", "Log offset that has been folded.", [("", self._store.folded_offset())])
        yield from gauge("fold_lag_records", "Records of the log that have not been folded.", [("", lag.records)])
        yield from gauge("fold_lag_seconds", "Age of the oldest record not folded.", [("", lag.seconds)])
        yield from view_metrics([freshness(v, self._store, self._log, now_us) for v in self._views()], now_us)
        builds = [b for b in self._builds() if not b.is_built]
        left = [(f'{{view="{b.view}",version="{b.version}"}}', float(b.events - b.done)) for b in builds]
        yield from gauge("backfill_events_left", "Events that a view being built has yet to fold.", left)
        yield from audit_metrics(self._catalog)


def view_metrics(views: list[ViewFreshness], now_us: int) -> Iterator[str]:
    """Where each view version stands, and how old what it has of each source is."""
    label = {id(v): f'view="{v.view.name}",version="{v.view.version}"' for v in views}
    serves = [(f"{{{label[id(v)]}}}", float(v.serves)) for v in views]
    yield from gauge("view_serves", "Whether a view version is read.", serves)
    too_old = [(f"{{{label[id(v)]}}}", float(v.too_old)) for v in views]
    yield from gauge("view_too_old_events", "Events that came too late to count anywhere in a view.", too_old)
    events, ages = [], []
    for view in views:
        for source, feed in view.feeds.items():
            named = f'{{{label[id(view)]},source="{source}"}}'
            events.append((named, float(feed.events)))
            ages.append((named, view.age_s(source, now_us) or 0.0))
    yield from gauge("view_events", "Events of a source that a view has folded.", events)
    yield from gauge("view_newest_event_age_seconds", "Since the newest folded event became known.", ages)


def audit_metrics(catalog: Catalog) -> Iterator[str]:
    """What the newest audit of each model and composite found: parity, and the lag skew of what was served."""
    exact, different, behind, lagging = [], [], [], []
    for name in (*(route.model for route in catalog.routes()), *catalog.defined("composites")):
        found = last_audit(catalog, name)
        if found is None:
            continue
        named, numbers = f'{{model="{name}"}}', found.numbers
        if numbers["values"]:
            exact.append((named, numbers["exact"] / numbers["values"]))
            different.append((named, float(numbers["different"])))
        if numbers["predictions"]:
            behind.append((named, numbers["behind"] / numbers["predictions"]))
            lagging.append((named, numbers["lagging"] / numbers["predictions"]))
    yield from gauge("parity_exact_share", "Served values equal to their replay, in the newest audit.", exact)
    yield from gauge("parity_different_values", "Served values that differ from their replay.", different)
    yield from gauge("lag_skew_behind_share", "Predictions before which something known was not folded.", behind)
    yield from gauge("lag_skew_changed_share", "Of all, those that it would have given another feature.", lagging)


def gauge(name: str, text: str, values: list[tuple[str, float]]) -> Iterator[str]:
    """Lines of the exposition format; names of views, sources and models are ``[a-z0-9_]+``: nothing to escape."""
    yield f"# HELP mainspring_{name} {text}"
    yield f"# TYPE mainspring_{name} gauge"
    yield from (f"mainspring_{name}{labels} {value:g}" for labels, value in values)
