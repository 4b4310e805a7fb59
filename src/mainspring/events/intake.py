"""The intake: events over HTTP, answered only once durable; the process that alone appends to the log.

What each path takes and answers is specified in docs/reference/http.md.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Sequence
from urllib.parse import parse_qs

import msgspec

from mainspring.catalog.keyring import KeptKeyring
from mainspring.core.access import access_of
from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.errors import (
    NotFoundError,
    RefusedError,
    TooLargeError,
)
from mainspring.core.http import Access, Deferred, Handler, Limits, Request, Response, Server, json_response, serve
from mainspring.core.names import check_name, did_you_mean
from mainspring.core.run import internal_token, remove_door, write_door
from mainspring.core.traces import traces_of
from mainspring.definitions.values import Project
from mainspring.events.answers import (
    events_answer,
    internal_answer,
    metrics_answer,
    rows_answer,
    shown_held,
    wrong_method,
)
from mainspring.events.bodies import BadRequestError, entries_in, limit_of, sender_of, too_many
from mainspring.events.committer import Committer
from mainspring.events.contract import Contract
from mainspring.events.internal import CheckedRows, Entries, InternalRow, Step, checked_entries, entries_of
from mainspring.events.log import Ack, Log
from mainspring.events.openapi import document
from mainspring.events.packing import unpack
from mainspring.events.progress import Advance, Position
from mainspring.events.quarantine import chosen, parse_discard, parse_mend, replayed
from mainspring.events.scopes import scopes_of
from mainspring.events.streaming import Stream, Streams
from mainspring.events.system import SYSTEM_SOURCES
from mainspring.events.wake import Bell

DOOR = "intake"
_READER_CHECK_S = 60.0
_DRAIN_S = 10.0
_REPLAY_ROWS = 5_000
_READS = ("GET", "HEAD")
_TRACED = ("/events/", "/internal/")

_read_rows = msgspec.msgpack.Decoder(list[InternalRow], ext_hook=unpack).decode
_read_checked = msgspec.msgpack.Decoder(CheckedRows).decode
_read_step = msgspec.msgpack.Decoder(Step, ext_hook=unpack).decode

Answer = Response | Deferred | Awaitable[Response]


class Intake:
    """The door and the queue behind it. One to a process; lives on one event loop."""

    def __init__(self, config: Config, project: Project, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._token = b""
        self._streams: Streams
        self._public: dict[str, Contract] = {}
        self._all: dict[str, Contract] = {}
        self._system = {name: Contract(source) for name, source in SYSTEM_SOURCES.items()}
        self._committer: Committer
        self._keys: KeptKeyring | None = None
        self._traces = traces_of(config.traces, "intake")
        self._servers: list[Server] = []
        self.use(project)

    def use(self, project: Project) -> None:
        """Check by the sources of ``project`` from now on."""
        self._sources = tuple(project.sources.values())
        self._public = {source.name: Contract(source) for source in self._sources}
        self._all = self._public | self._system

    @property
    def url(self) -> str:
        """Where the door is."""
        return self._servers[0].url

    async def start(self) -> None:
        """Open the log and the door, and say where it is.

        Raises:
            UnavailableError: Another process writes the log (MS-C010), or the port is taken (MS-S002).
            RefusedError: The host is not this machine (MS-S001).
        """
        config = self._config
        log = Log.open(
            config.log_path,
            config.limits.log_map_bytes,
            writable=True,
            disk_free_bytes=config.limits.disk_free_bytes,
        )
        self._committer = Committer(log, self._clock, Bell(config.run), 8 * config.intake.max_body_bytes)
        self._streams = Streams(self._committer, config.intake.max_body_bytes, config.intake.max_stream_bytes)
        try:
            self._token = f"Bearer {internal_token(config.run)}".encode()
            limits = Limits(max_body_bytes=config.intake.max_body_bytes)
            access = access_of(config, config.intake)
            knows = None
            if access.needs_keys:
                self._keys = KeptKeyring(config, access, "intake")
                knows = self._keys.ring.known
            opener = self.open_stream
            handle: Handler = self.handle
            if self._traces is not None:
                handle = self._traces.around(handle, _TRACED)
            self._servers = [await serve(handle, access, config.intake.port, limits, opener=opener, knows=knows)]
            if access.has_inner:
                self._servers.append(await serve(handle, Access(), 0, limits, opener=opener))
        except BaseException:
            await self._committer.close()
            raise
        write_door(config.run, DOOR, self._servers[-1].url, self.url if access.has_inner else "")

    async def stop(self) -> None:
        """Answer what was received, and close."""
        remove_door(self._config.run, DOOR)
        for server in self._servers:
            await server.drain(_DRAIN_S)
        if self._keys is not None:
            self._keys.close()
        await self._committer.close()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    async def check_readers(self) -> None:
        """Each minute, free what readers that died hold of the log."""
        while True:
            await asyncio.sleep(_READER_CHECK_S)
            await self._committer.run(lambda log: log.reader_check())

    def handle(self, request: Request) -> Answer:  # noqa: PLR0911  one answer a path
        """Answer one request: a ``Response``, or something that becomes one."""
        parts = request.path.strip("/").split("/")
        method = request.method
        self._let_in(request, parts)
        match parts:
            case ["events", name]:
                return self._events(request, name) if method == "POST" else wrong_method("POST")
            case ["internal", "events"]:
                return self._internal_events(request) if method == "POST" else wrong_method("POST")
            case ["internal", "rows"]:
                return self._checked_rows(request) if method == "POST" else wrong_method("POST")
            case ["internal", "connectors", name]:
                return self._connector(request, name) if method in ("GET", "POST") else wrong_method("GET, POST")
            case ["internal", "trim"]:
                return self._trim(request) if method == "POST" else wrong_method("POST")
            case ["quarantine"]:
                return self._list(request) if method == "GET" else wrong_method("GET")
            case ["quarantine", name, "replay"]:
                return self._replay(request, name) if method == "POST" else wrong_method("POST")
            case ["quarantine", name, "discard"]:
                return self._discard(request, name) if method == "POST" else wrong_method("POST")
            case ["health"]:
                return self._committer.health() if method in _READS else wrong_method("GET")
            case ["metrics"]:
                return self._metrics() if method in _READS else wrong_method("GET")
            case ["openapi.json"]:
                return self._described() if method in _READS else wrong_method("GET")
        known = "POST /events/SOURCE, GET /quarantine, GET /health, GET /metrics, GET /openapi.json"
        raise NotFoundError("MS-E200", "nothing is here", where=request.path[:200], hint=known)

    # --- events ---------------------------------------------------------------------------------------------------

    def _events(self, request: Request, name: str) -> Deferred:
        contract = self._contract(name)
        self._committer.check_room(len(request.body))
        intake = self._config.intake
        sender = sender_of(request)
        most = {"max_bytes": intake.max_body_bytes, "max_rows": intake.max_rows}
        try:
            entries, is_no_json, size = entries_in(request.body, request.headers, contract, sender, **most)
        except TooLargeError:  # it was small enough on the way; what is in it is not
            stream = self._streams.open(request.headers, contract, sender)
            if stream is None:
                raise
            stream.feed(request.body)
            stream.end()
            return stream.deferred
        return self._committer.submit(
            entries, size, lambda acks, last: events_answer(acks, last, is_no_json=is_no_json)
        )

    def open_stream(self, request: Request) -> Stream | None:
        """What takes the body of a request that is larger than is kept; None where none does."""
        parts = request.path.strip("/").split("/")
        self._let_in(request, parts)
        match parts:
            case ["events", name] if request.method == "POST":
                return self._streams.open(request.headers, self._contract(name), sender_of(request))
        return None

    def _internal_events(self, request: Request) -> Answer:
        self._authorize(request)
        self._committer.check_room(len(request.body))
        options = {key: values[-1] for key, values in parse_qs(request.query).items()}
        try:
            rows = _read_rows(request.body)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            what = f"the body is no msgpack array of [source, fields]: {error}"
            raise BadRequestError("MS-E202", what, where="body") from None
        if len(rows) > self._config.intake.max_rows:
            raise too_many(len(rows), self._config.intake.max_rows)
        is_history = options.get("history") == "1"
        first_wins = options.get("first_wins") == "1"
        sender = options.get("sender", "internal")
        entries = entries_of(rows, self._all, sender, is_history=is_history, first_wins=first_wins)
        if is_history and options.get("backfill") != "1":
            return self._history(entries, len(request.body))
        return self._committer.submit(entries, len(request.body), internal_answer)

    def _checked_rows(self, request: Request) -> Answer:
        """Rows of a gateway, checked there: they are not checked again."""
        self._authorize(request)
        self._committer.check_room(len(request.body))
        try:
            found = _read_checked(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequestError("MS-E202", f"the body is no checked rows: {error}", where="body") from None
        if found.count > self._config.intake.max_rows:
            raise too_many(found.count, self._config.intake.max_rows)
        return self._committer.submit_all(checked_entries(found, self._all), len(request.body), rows_answer)

    async def _history(self, entries: Entries, size: int) -> Response:
        """History that may not reach back before what was served: the log is asked in the appender's own thread."""
        await self._committer.run(lambda log: log.check_history(entries))
        return await self._committer.submitted(entries, size, internal_answer)

    async def _connector(self, request: Request, name: str) -> Response:
        """Where a connector is; or its rows and its step, in one transaction of their own."""
        self._authorize(request)
        if request.method == "GET":
            found = await self._committer.run(lambda log: log.positions())
            return json_response(200, found.get(name, Position()))
        self._committer.check_room(len(request.body))
        try:
            check_name(name, "connector")
            step = _read_step(request.body)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadRequestError("MS-E202", f"the body is no step of a connector: {error}", where="body") from None
        if len(step.rows) > self._config.intake.max_rows:
            raise too_many(len(step.rows), self._config.intake.max_rows)
        options = {key: values[-1] for key, values in parse_qs(request.query).items()}
        is_history = options.get("history") == "1"
        entries = entries_of(step.rows, self._all, f"connect {name}", is_history=is_history)
        progress = Advance(name, step.before, step.cursor, len(entries))
        clock = self._clock

        def run(log: Log) -> Sequence[Ack]:
            if is_history and options.get("backfill") != "1":
                log.check_history(entries)
            return log.append(entries, clock, progress)

        acks = await self._committer.change(run)
        return internal_answer(acks, self._committer.last_offset)

    # --- quarantine, trim, metrics ------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        options = {key: values[-1] for key, values in parse_qs(request.query, keep_blank_values=True).items()}
        limit = limit_of(options.get("limit", "100"))
        source, resolved = options.get("source"), options.get("all") == "1"
        entries = await self._committer.run(lambda log: log.quarantined(source, include_resolved=resolved, limit=limit))
        counts = await self._committer.run(lambda log: log.counts())
        return json_response(
            200,
            {
                "records": [shown_held(entry) for entry in entries],
                "counts": {name: msgspec.structs.asdict(found) for name, found in counts.items()},
            },
        )

    async def _replay(self, request: Request, name: str) -> Response:
        contract = self._contract(name)
        mend = parse_mend(request.body, contract.source)
        clock = self._clock

        def run(log: Log) -> tuple[Entries, list[Ack]]:
            entries = replayed(log.quarantined(name), mend, contract)
            acks: list[Ack] = []
            for start in range(0, len(entries), _REPLAY_ROWS):
                acks += log.append(entries[start : start + _REPLAY_ROWS], clock)
            return entries, acks

        entries, acks = await self._committer.change(run)
        return events_answer(acks, self._committer.last_offset, numbers=[entry.resolves for entry in entries])

    async def _discard(self, request: Request, name: str) -> Response:
        self._contract(name)
        discard = parse_discard(request.body)

        def run(log: Log) -> int:
            entries = chosen(log.quarantined(name), discard.only, name)
            return log.discard([entry.sequence for entry in entries], discard.reason)

        return json_response(200, {"discarded": await self._committer.run(run)})

    async def _trim(self, request: Request) -> Response:
        self._authorize(request)
        try:
            before = msgspec.json.decode(request.body, type=dict[str, int])["before"]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
            raise BadRequestError("MS-E206", 'the body must be {"before": OFFSET}', where="body") from None
        deleted = await self._committer.run(lambda log: log.trim(before))
        first = await self._committer.run(lambda log: log.first_offset())
        return json_response(200, {"deleted": deleted, "first_offset": first})

    async def _metrics(self) -> Response:
        counts = await self._committer.run(lambda log: log.counts())
        keys = self._keys.ring.metrics() if self._keys is not None else []
        return metrics_answer(counts, self._servers[0].refusals, [*self._committer.metrics(), *keys])

    def _described(self) -> Response:
        keyed = None if self._keys is None else lambda path: scopes_of(path.strip("/").split("/"))
        return json_response(200, document(self._sources, self._config.intake.max_rows, keyed))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _contract(self, name: str) -> Contract:
        contract = self._public.get(name)
        if contract is not None:
            return contract
        if name in self._system:
            raise RefusedError(
                "MS-E203", f"{name} is the system's own source", why="only its own processes write to it"
            )
        raise NotFoundError(
            "MS-E201", f"no source is named {name[:100]!r}", hint=did_you_mean(name[:100], self._public)
        )

    def _let_in(self, request: Request, parts: list[str]) -> None:
        """Ask for a key, where the door asks for keys, and note whose it is."""
        if self._keys is not None and (scopes := scopes_of(parts)):
            key = self._keys.ring.check(request.headers.get("authorization", ""), *scopes)
            request.key = key.name if key is not None else ""

    def _authorize(self, request: Request) -> None:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._token):
            raise RefusedError(
                "MS-E203",
                "this needs the project's internal token",
                why="only the system's own processes may ask for it",
                hint=f"Authorization: Bearer, and what is in {self._config.run}/internal.token",
            )
