"""The gateway process: predictions over HTTP and gRPC, from a routing snapshot that is swapped by reference.

It serves alone, or as one of several workers on one port (``workers.py``). The paths are ``front.py``'s. New routes are
taken up when ``POST /internal/reload`` says so, at SIGHUP, and are looked for every 200 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import uvloop

from mainspring.catalog import Catalog
from mainspring.catalog.in_force import in_force
from mainspring.catalog.keyring import KeptKeyring
from mainspring.core.access import access_of
from mainspring.core.clock import Clock
from mainspring.core.collector import rest_what_is_loaded
from mainspring.core.config import Config
from mainspring.core.errors import MainspringError, NotFoundError, UnavailableError
from mainspring.core.http import Access, Handler, Limits, Server, serve, url_of
from mainspring.core.names import did_you_mean
from mainspring.core.run import GRPC_DOOR, internal_token, join_door, leave_door, remove_door, write_door
from mainspring.core.spool import Spool
from mainspring.core.traces import traces_of
from mainspring.definitions import Project
from mainspring.events.log import Log as EventLog
from mainspring.features import warm_up
from mainspring.features.freshness import lag_of
from mainspring.features.reader import Reader
from mainspring.features.store import OnlineStore
from mainspring.serving.front import TRACED, Front
from mainspring.serving.health import health
from mainspring.serving.lane import Lane
from mainspring.serving.metrics import ModelMetrics, render
from mainspring.serving.poster import connect
from mainspring.serving.prediction_log import PredictionLog
from mainspring.serving.shared import LaneLimits, Numbers, Shared
from mainspring.serving.siblings import Seat, Siblings
from mainspring.serving.snapshot import Snapshot, load_snapshot
from mainspring.serving.workers import DOOR

if TYPE_CHECKING:
    from mainspring.serving.grpc_server import GrpcServer

POLL_S = 0.2
RETRY_S = 5.0
DRAIN_S = 10.0
SPOOL_BYTES = 1_073_741_824
TROUBLE_EVERY_S = 10.0
TROUBLE_LASTS_S = 60.0
ALONE = Seat()
_log = logging.getLogger(__name__)


def run_gateway(config: Config, project: Project, clock: Clock, stop: threading.Event, *, seat: Seat = ALONE) -> None:
    """Serve predictions until ``stop`` is set or a SIGTERM or SIGINT comes; then answer what is queued and log it.

    Args:
        config: The project's settings.
        project: Its definitions.
        clock: The wall's, or one that a driver moves.
        stop: Set by whoever runs this in a thread.
        seat: This process's place, when it is one of several workers.
    """
    sys.setswitchinterval(0.000_5)  # the prediction log's thread gives the interpreter back to the event loop sooner
    uvloop.run(_main(lambda: Gateway(config, project, clock, seat=seat), stop))


async def _main(make: Callable[[], Gateway], stop: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    gateway = make()
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        loop.add_signal_handler(signal.SIGHUP, gateway.look)

    def wait() -> None:
        stop.wait()
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(stopping.set)

    threading.Thread(target=wait, name="stop", daemon=True).start()
    try:
        await gateway.start()
        await stopping.wait()
    finally:
        await gateway.stop(DRAIN_S)
        stop.set()


class Gateway:
    """The doors and everything behind them, on the running event loop.

    Args:
        config: The project's settings.
        project: Its definitions.
        clock: Where moments come from.
        limits: Of each model's lane.
        seat: This process's place, when it is one of several workers.
    """

    def __init__(
        self,
        config: Config,
        project: Project,
        clock: Clock,
        limits: LaneLimits | None = None,
        *,
        seat: Seat = ALONE,
    ) -> None:
        self._config = config
        self._project = project
        self._seat = seat
        self._access = access_of(config, config.gateway)
        self._traces = traces_of(config.traces, "gateway")
        self._keys: KeptKeyring | None = None
        self._numbers = Numbers(secrets.token_hex(5))
        self._store = OnlineStore.open(config.state_path, config.limits.state_map_bytes)
        self._reader = Reader((), self._store)
        self._catalog = Catalog.open(config.catalog_url)
        self._lanes: dict[str, Lane] = {}
        self._snapshot: Snapshot | None = None
        self._loading = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._trouble = ""
        self._retry_at_s = self._trouble_at_s = self._reported_at_s = 0.0
        self._store_failures, self._is_stopping = 0, False
        self._servers: list[Server] = []
        self._grpc: GrpcServer | None = None
        door, token = config.gateway, internal_token(config.run)
        siblings = Siblings(config.run, seat, door.workers, token)
        self._front = Front(self, siblings, token, max_body_bytes=door.max_body_bytes, max_rows=door.max_rows)
        self._spool = Spool(config.run / "spool", self._numbers.epoch, SPOOL_BYTES)
        self._spool.adopt()
        self._log = PredictionLog(lambda: connect(config.run), self._spool)
        self._shared = Shared(
            clock,
            self._reader,
            self._log,
            self._numbers,
            config.gateway.max_rows,
            limits or LaneLimits(),
            self._store_failed,
            self._traces,
        )

    @property
    def url(self) -> str:
        """Where the door is."""
        return self._servers[0].url if self._servers else ""

    @property
    def grpc_url(self) -> str:
        """Where the gRPC door is; empty when there is none."""
        door, scheme = self._grpc, self._access.scheme("grpc")
        return url_of(self._config.gateway.host, door.port, scheme) if door is not None else ""

    @property
    def is_ready(self) -> bool:
        """Whether routes are loaded and the gateway is not stopping."""
        return self._snapshot is not None and not self._is_stopping

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lane of each model."""
        return self._lanes

    @property
    def log(self) -> PredictionLog:
        """The prediction log."""
        return self._log

    @property
    def snapshot(self) -> Snapshot | None:
        """What serves now."""
        return self._snapshot

    async def start(self) -> None:
        """Open the doors and load.

        A gateway alone opens first: until a snapshot is there, ``/ready`` says 503. One of several workers loads first:
        its share of the connections would find it loading while the others serve.
        """
        self._log.start()
        if self._seat.number:
            await self._load_first()
            await self._open()
        else:
            await self._open()
            await self._load_first()
        self._watcher = asyncio.create_task(self._watch())

    async def _open(self) -> None:
        door, run, is_one_of_many = self._config.gateway, self._config.run, self._seat.number > 0
        limits = Limits(max_body_bytes=door.max_body_bytes)
        access, traces, knows = self._access, self._traces, None
        handle: Handler = self._front.handle if traces is None else traces.around(self._front.handle, TRACED)
        if access.needs_keys:
            self._keys = KeptKeyring(self._config, access, "gateway" if self._seat.is_first else "")
            self._front.keyring = self._keys.ring
            knows = self._keys.ring.known
        self._servers.append(await serve(handle, access, door.port, limits, reuse_port=is_one_of_many, knows=knows))
        if door.grpc is not None:
            await self._start_grpc(door.host, door.grpc)
        if is_one_of_many:
            self._servers.append(await serve(handle, Access(), 0, limits))
            write_door(run, self._seat.door, self._servers[-1].url)
            if self._seat.inner:
                self._servers.append(await serve(handle, Access(), self._seat.inner, limits, reuse_port=True))
        else:
            if access.has_inner:
                self._servers.append(await serve(handle, Access(), 0, limits))
            join_door(run, DOOR, self._servers[-1].url, self.url if access.has_inner else "")
            if self._grpc is not None:
                join_door(run, GRPC_DOOR, self.grpc_url)

    async def _load_first(self) -> None:
        await asyncio.to_thread(warm_up)
        await self.reload()
        rest_what_is_loaded()

    async def _start_grpc(self, host: str, port: int) -> None:
        """Open the gRPC door, if what it needs is installed."""
        try:
            from mainspring.serving.grpc_server import GrpcServer
        except ModuleNotFoundError as error:
            _log.warning("no gRPC door: %s is not installed; pip install 'mainspring[grpc]'", error.name)
            return
        keyring = self._keys.ring if self._keys is not None else None
        size, is_one_of_many = self._config.gateway.max_body_bytes, self._seat.number > 0
        pems, traces = self._access.pems, self._traces
        self._grpc = GrpcServer(self, size, reuse_port=is_one_of_many, keyring=keyring, pems=pems, traces=traces)
        await self._grpc.start(host, port)
        _log.info("gRPC at %s", self.grpc_url)

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting, answer what is queued, send or spool the log."""
        self._is_stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
        for name in (DOOR, GRPC_DOOR):
            leave_door(self._config.run, name)
        ends = [self._grpc.stop(timeout_s)] if self._grpc is not None else []
        await asyncio.gather(*ends, *(server.drain(timeout_s) for server in self._servers))
        if self._keys is not None:
            self._keys.close()
        for lane in self._lanes.values():
            lane.finish()
        if self._log.is_running:
            await asyncio.to_thread(self._log.stop, timeout_s)
        else:
            self._spool.close()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        self._catalog.close()
        self._store.close()
        remove_door(self._config.run, self._seat.door)  # last: who comes after it waits until it is gone

    # --- routes ---------------------------------------------------------------------------------------------------

    async def reload(self) -> Snapshot:
        """Load the catalog's routes and swap; what fails to load leaves what serves in place."""
        async with self._loading:
            snapshot = await asyncio.to_thread(self._load)
            self._swap(snapshot)
            return snapshot

    def _load(self) -> Snapshot:
        generation = self._catalog.generation()
        routes = [route.located(self._config) for route in self._catalog.routes()]
        self._project = self._definitions()
        before, reader, stacks = self._snapshot, Reader((), self._store), self._catalog.stacks()
        snapshot = load_snapshot(generation, routes, self._project, before, reader, stacks)
        told = before.problems if before is not None else ()  # what failed is tried again every few seconds
        for problem in [one for one in snapshot.problems if one not in told]:
            _log.warning("%s was not loaded: %s", f"{problem.model} {problem.version}".rstrip(), problem.error)
        return snapshot

    def _swap(self, snapshot: Snapshot) -> None:
        """By reference, between two ticks: a batch is scored by the models it started with."""
        for name, served in snapshot.models.items():
            lane = self._lanes.get(name)
            if lane is None or type(lane.served) is not type(served):
                self._lanes[name] = Lane(served, self._shared, ModelMetrics(name))
            elif lane.served.model.request.version != served.model.request.version:
                self._lanes[name] = Lane(served, self._shared, lane.metrics)  # the old one answers what waits in it
            else:
                lane.served = served
        for name in self._lanes.keys() - snapshot.models.keys():
            del self._lanes[name]
        self._snapshot = snapshot
        self._retry_at_s = time.monotonic() + RETRY_S if snapshot.problems else 0.0

    def _definitions(self) -> Project:
        try:
            return in_force(self._project, self._catalog.definitions(), self._config)
        except MainspringError as error:
            self._report(f"the definitions stay as they were: {error}")
            return self._project

    def look(self) -> None:
        """Load the routes again soon."""
        self._retry_at_s = time.monotonic()

    async def _watch(self) -> None:
        """Look for new routes beside whoever tells us of them."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if self._store.is_replaced:
                    await self._follow_store()
                generation = await asyncio.to_thread(self._catalog.generation)
                is_due = 0.0 < self._retry_at_s <= time.monotonic()
                if is_due or self._snapshot is None or generation != self._snapshot.generation:
                    await self.reload()
            except MainspringError as error:
                self._report(f"routes cannot be read: {error}")
            except Exception as error:  # noqa: BLE001  the watch must outlive one bad look; it is reported
                self._report(f"routes cannot be read: {error!r}")

    async def _follow_store(self) -> None:
        """Read the online store that lies where ours was: what we have open is its former self, and stands still."""
        async with self._loading:
            self._report("the online store was replaced: the new one is read from now on")
            self._store.close()  # if the new one cannot be opened, features are defaults, and it is tried again
            self._store = OnlineStore.open(self._config.state_path, self._config.limits.state_map_bytes)
            self._reader.use(self._store)
        await self.reload()

    def _store_failed(self, error: Exception) -> None:
        self._store_failures += 1
        self._report(f"the online store cannot be read: {error!r}")

    def _report(self, trouble: str) -> None:
        now_s = time.monotonic()
        if trouble != self._trouble or now_s - self._reported_at_s > TROUBLE_EVERY_S:
            _log.warning(trouble)
            self._reported_at_s = now_s
        self._trouble, self._trouble_at_s = trouble, now_s

    # --- what the doors ask for -----------------------------------------------------------------------------------

    def lane(self, name: str) -> Lane:
        """The lane of one model.

        Raises:
            NotFoundError: There is none (MS-S109).
            UnavailableError: Nothing is loaded yet (MS-S108).
        """
        lane = self._lanes.get(name)
        if lane is not None:
            return lane
        if self._snapshot is None:
            raise UnavailableError("MS-S108", "the gateway is still loading", hint="GET /ready")
        hint = did_you_mean(name[:100], self._lanes)
        raise NotFoundError("MS-S109", f"no model {name[:100]!r} is served here", hint=hint)

    def health(self) -> dict[str, Any]:
        """What this worker says of itself."""
        trouble = self._trouble if time.monotonic() - self._trouble_at_s < TROUBLE_LASTS_S else ""
        return health(self._numbers.epoch, self._snapshot, self._lanes, self._log, trouble)

    def metrics(self) -> str:
        """What this worker has counted, as Prometheus reads it."""
        gauges: dict[str, float] = self._fold_lag() | {
            "ready": float(self._snapshot is not None),
            "connections": float(sum(len(server.connections) for server in self._servers)),
            "queued_rows": float(sum(lane.queued_rows for lane in self._lanes.values())),
            "store_failures": float(self._store_failures),
        }
        gauges |= {f"prediction_log_{name}": float(count) for name, count in self._log.counts.items()}
        keys = self._keys.ring.metrics() if self._keys is not None else ()
        return render([lane.metrics for lane in self._lanes.values()], gauges) + "".join(f"{line}\n" for line in keys)

    def _fold_lag(self) -> dict[str, float]:
        """What the log holds and features do not count yet, now; not there while log or store cannot be read."""
        try:
            with EventLog.open(self._config.log_path, self._config.limits.log_map_bytes) as log:
                lag = lag_of(log, self._store.folded_offset(), self._shared.clock.now_us())
        except Exception as error:  # noqa: BLE001  the other metrics are wanted most of all while something is broken
            self._report(f"the lag of the fold cannot be read: {error!r}")
            return {}
        return {"fold_lag_records": float(lag.records), "fold_lag_seconds": lag.seconds}
