"""Changes of a PostgreSQL table by logical decoding: inserts, updates and deletes as they were committed.

A publication says which table, a replication slot of ours where we are. First the table as it is comes in, then every
change since. Changes are read by SQL from the slot with ``pgoutput``, which every server has; the slot moves
on once the intake has them on the disk. The cursor is the end of the last transaction, with the number of its rows that
are in when it is a large one, so that what the slot tells again after a crash is skipped.

Beside the columns a row has ``$op`` (insert, update, delete), ``$committed_at`` and ``$change``, a name of its own. A
source with ``corrects=`` takes ``$op`` by itself; a row of the copy is an update there: whatever was known of it, it is
so now. In one without, an update or delete goes to quarantine: its events are never corrected. Map the source's time to
``$committed_at`` where the table has no column that every change changes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from mainspring.core.errors import ConfigError, ContractError, UnavailableError
from mainspring.core.times import to_datetime
from mainspring.events.connectors.connector import Arrival, Batch, Connector, Settings, Site
from mainspring.events.connectors.pgoutput import UNCHANGED, Begin, Change, Commit, Decoder

_CHANGES = 5_000  # after which the server ends a look, at the end of a transaction
_FETCH = 500
_START = "select (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint from pg_replication_slots where slot_name = %s"
_FLUSHED = "select (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint"
_SNAPSHOT = "select pg_current_snapshot()::text, now(), (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
_SLOT = re.compile(r"[a-z0-9_]{1,63}")
_Steps = Generator[tuple[list[Arrival], dict[str, Any]], None, None]


class ChangeSettings(Settings, frozen=True, kw_only=True):
    """Settings of ``postgres``.

    Attributes:
        url: ``postgresql://user:${PGPASSWORD}@host/database``; the user needs REPLICATION, and SELECT on the table.
        table: ``name`` or ``schema.name``.
        publication: Made if it is not there: then the user must own the table.
        slot: Name of the replication slot; ``mainspring_NAME`` if empty. Made if it is not there.
        snapshot: Whether the rows that are there at the beginning come first.
        every: How long to wait when nothing has changed.
    """

    url: str
    table: str
    publication: str = ""
    slot: str = ""
    snapshot: bool = True
    every: str = "1s"


class Changes(Connector):
    """Reads a table, then its changes."""

    settings_type: ClassVar[type[Settings]] = ChangeSettings

    def __init__(self, settings: ChangeSettings, site: Site) -> None:
        schema, _, table = settings.table.rpartition(".")
        self._schema, self._table = schema or "public", table
        self._slot = settings.slot or f"mainspring_{site.name}"[:63]
        self._publication = settings.publication or f"mainspring_{site.name}"[:63]
        if not _SLOT.fullmatch(self._slot):
            raise ConfigError("MS-C088", f"{self._slot!r} is no name of a slot", hint="a-z, 0-9 and _")
        try:
            info = psycopg.conninfo.conninfo_to_dict(settings.url)
        except psycopg.Error:  # its text holds the whole URL
            hint = "postgresql://user:${PGPASSWORD}@host/database"
            raise ConfigError("MS-C088", f"the url of connector {site.name} is no PostgreSQL URL", hint=hint) from None
        self._where = f"{info.get('host', '')}/{info.get('dbname', '')} {settings.table}"
        self._settings = settings
        self._site = site
        self._connection: psycopg.Connection[Any] | None = None
        self._copy: _Copy | None = None
        self._look: tuple[dict[str, Any], _Steps] | None = None

    def read(self, cursor: Any, limit: int) -> Batch:
        """The table as it is, then changes."""
        with self._said():
            if cursor is None:
                return self._begin()
            if "copied" in cursor:
                return self._snapshot(cursor, limit)
            return self._changes(cursor, limit)

    def confirm(self, cursor: Any) -> None:
        """Let the server forget what is durable here, unless a look at it is half done."""
        if "copied" not in cursor and self._look is None:
            with self._said():
                self._forget(cursor["lsn"])

    def check(self) -> Sequence[Arrival]:
        """A few rows of the table, and whether its changes can be decoded; makes nothing."""
        with self._said():
            level = self._one("select current_setting('wal_level')")
            if level != "logical":
                hint = "wal_level = logical in postgresql.conf, and a restart of the server"
                raise ConfigError("MS-C088", f"the server's wal_level is {level}", where=self._where, hint=hint)
            query = sql.SQL("select * from {} limit 5").format(self._name)
            with self._connected().cursor(row_factory=dict_row) as rows:
                found = rows.execute(query).fetchall()
        return [self._arrival("insert", row, datetime.now(UTC), f"check-{number}") for number, row in enumerate(found)]

    def close(self) -> None:
        """Leave; the slot stays, and the server keeps what comes for it."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):  # what is broken already
                self._let_go()
            self._connection.close()
        self._connection = None

    # --- the beginning ------------------------------------------------------------------------------------------------

    def _begin(self) -> Batch:
        """Publication and slot first, so that no change between them and the copy is missed."""
        connection = self._connected()
        if not self._one("select 1 from pg_publication where pubname = %s", self._publication):
            name = sql.Identifier(self._publication)
            connection.execute(sql.SQL("create publication {} for table {}").format(name, self._name))
        if not self._one("select 1 from pg_replication_slots where slot_name = %s", self._slot):
            connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (self._slot,))
        lsn = self._one(_START, self._slot)
        start = {"lsn": int(lsn)}
        return Batch((), start | ({"copied": 0} if self._settings.snapshot else {}), more=True)

    def _snapshot(self, cursor: dict[str, Any], limit: int) -> Batch:
        """A part of the copy. It is one look at the table: begun anew after a crash, when ids tell what is there.

        The snapshot says which transactions it sees; their changes are skipped when the slot tells of them.
        """
        if self._copy is None or self._copy.done != cursor["copied"]:
            self._let_go()
            connection = self._connected()
            connection.execute("begin isolation level repeatable read read only")
            seen, at, until = connection.execute(_SNAPSHOT).fetchone() or ("", None, 0)
            rows = connection.cursor("mainspring_copy", row_factory=dict_row)
            rows.execute(sql.SQL("select * from {}").format(self._name))
            self._copy = _Copy(rows, seen, until, at)
        copy = self._copy
        operation = "insert" if self._site.source.corrects is None else "update"  # whatever was known of it before
        part = copy.rows.fetchmany(limit)
        arrivals = [
            self._arrival(operation, row, copy.at, f"{cursor['lsn']:X}-copy-{number}")
            for number, row in enumerate(part, start=copy.done)
        ]
        copy.done += len(part)
        if len(part) == limit:
            return Batch(arrivals, {"lsn": cursor["lsn"], "copied": copy.done}, more=True)
        self._let_go()
        return Batch(arrivals, {"lsn": cursor["lsn"], "seen": copy.seen, "until": copy.until}, more=True)

    # --- changes ------------------------------------------------------------------------------------------------------

    def _changes(self, cursor: dict[str, Any], limit: int) -> Batch:
        look = self._look
        if look is None or look[0] != cursor:
            self._let_go()
            look = (cursor, self._changes_behind(cursor))
        self._look = None
        taken: list[Arrival] = []
        after = cursor
        for arrivals, after in look[1]:
            taken += arrivals
            if len(taken) >= limit:
                self._look = (after, look[1])
                break
        return Batch(taken, after, more=bool(taken) or after != cursor)

    def _changes_behind(self, cursor: dict[str, Any]) -> _Steps:
        """One look at the slot: rows with the cursor behind them, a change at a time."""
        connection = self._connected()
        flushed = int(self._one(_FLUSHED))
        query = """select data from pg_logical_slot_peek_binary_changes(
            %s, null, %s, 'proto_version', '1', 'publication_names', %s)"""
        publication = '"' + self._publication.replace('"', '""') + '"'
        at, skip, seen = dict(cursor), cursor.get("rows", 0), _Snapshot.of(cursor.get("seen"))
        decoder, begun, number, is_done, is_quiet = Decoder(), Begin(0, 0, 0), 0, False, True
        connection.execute("begin")
        with connection.cursor("mainspring_changes", row_factory=tuple_row) as messages:
            messages.itersize = _FETCH
            messages.execute(query, (self._slot, _CHANGES, publication), binary=True)
            for (raw,) in messages:
                is_quiet = False
                message = decoder.read(bytes(raw))
                if isinstance(message, Begin):
                    begun, number = message, 0
                    is_done = message.lsn < at["lsn"] or seen.sees(message.xid)
                elif isinstance(message, Change) and self._is_ours(message) and not is_done:
                    number += 1
                    if number > skip:
                        at = at | {"rows": number}
                        yield self._changed(message, begun, f"{begun.lsn:X}-{number}"), at
                elif isinstance(message, Commit) and message.end > at["lsn"]:
                    skip = 0
                    at = {key: value for key, value in at.items() if key != "rows"} | {"lsn": message.end}
                    if message.end >= at.get("until", 0):
                        at = {"lsn": message.end}
                    yield [], at
        connection.execute("commit")
        if is_quiet and flushed > at["lsn"]:
            self._forget(flushed)  # what others write must not pile up behind our slot

    def _is_ours(self, change: Change) -> bool:
        return (change.schema, change.table) == (self._schema, self._table)

    def _changed(self, change: Change, begun: Begin, label: str) -> list[Arrival]:
        """A change as rows: one; two where the id itself was changed, for the old row is gone then."""
        source, at = self._site.source, to_datetime(begun.committed_us)
        row = {name: value for name, value in change.row.items() if value is not UNCHANGED}
        wrong = ""
        if change.operation == "truncate":
            wrong = "the table was truncated: its rows stay as they were here"
        elif source.corrects is None and change.operation != "insert":
            wrong = f"a row was {change.operation}d, and {source.name} says no corrects="
        elif len(row) < len(change.row):
            missing = next(name for name in change.row if name not in row)
            mend = f"alter table {self._settings.table} replica identity full"
            wrong = (
                f"the large value of {missing!r}, which the update did not touch, is not in the server's log: {mend}"
            )
        if wrong:
            place = f"{self._table} {change.operation} {label}"
            shown = msgspec.json.encode(row, enc_hook=str)
            return [Arrival(None, shown, place, ContractError("MS-E439", wrong, where="$"))]
        if change.operation == "delete":
            return [self._deleted(row, at, label, is_key=change.is_key_only)]
        ident = self._outside(source.id)
        if change.old is not None and change.old.get(ident) != row.get(ident):
            gone = self._deleted(change.old, at, f"{label}-old", is_key=change.is_key_only)
            return [gone, self._arrival("insert", row, at, label)]
        return [self._arrival(change.operation, row, at, label)]

    def _deleted(self, row: dict[str, Any], at: datetime, label: str, *, is_key: bool) -> Arrival:
        """A row that is gone since ``at``; the table's own time is that of an earlier change."""
        source = self._site.source
        if is_key:
            row = {name: value for name, value in row.items() if value is not None}
        times = {self._outside(name): at for name in (source.time, source.known_at) if name is not None}
        return self._arrival("delete", row | times, at, label)

    def _outside(self, column: str | None) -> str:
        return self._settings.columns.get(column or "", column or "")

    def _arrival(self, operation: str, row: dict[str, Any], at: datetime | None, label: str) -> Arrival:
        fields = row | {"$op": operation, "$committed_at": at, "$change": label}
        corrects = self._site.source.corrects
        if corrects is not None and corrects not in self._settings.columns:
            fields[corrects] = operation
        return Arrival(fields, None, f"{self._table} {operation} {label}")

    def _forget(self, lsn: int) -> None:
        at = f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
        query = """select pg_replication_slot_advance(slot_name, %s::pg_lsn) from pg_replication_slots
            where slot_name = %s and confirmed_flush_lsn < %s::pg_lsn"""
        self._connected().execute(query, (at, self._slot, at))

    # --- the connection -----------------------------------------------------------------------------------------------

    @property
    def _name(self) -> sql.Identifier:
        return sql.Identifier(self._schema, self._table)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            name = f"mainspring {self._site.name}"
            connection = psycopg.connect(self._settings.url, autocommit=True, connect_timeout=10, application_name=name)
            connection.execute("set timezone = 'UTC'; set datestyle = 'ISO'; set bytea_output = 'hex'")
            self._connection = connection
        return self._connection

    def _let_go(self) -> None:
        """End what was left half done: the copy, or a look at the slot."""
        copy, look, connection = self._copy, self._look, self._connection
        self._copy = self._look = None
        if copy is not None:
            copy.rows.close()
        if look is not None:
            look[1].close()
        if connection is not None and not connection.closed:
            connection.rollback()

    def _one(self, query: str, *values: Any) -> Any:
        row = self._connected().execute(query, values).fetchone()
        return row[0] if row is not None else None

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            why = (" ".join(str(error).split()) or type(error).__name__)[:500]
            is_lost = isinstance(error, psycopg.errors.UndefinedObject)
            hint = (
                f"mainspring connect reset {self._site.name}: the table comes in anew, then changes" if is_lost else ""
            )
            self.close()
            raise UnavailableError("MS-E433", f"the database says: {why}", where=self._where, hint=hint) from None


@dataclass
class _Copy:
    """The table as it was at one moment: its rows, which transactions it holds, and where the log ended then."""

    rows: psycopg.ServerCursor[Any]
    seen: str
    until: int
    at: datetime | None
    done: int = 0


class _Snapshot:
    """Which transactions a look at the database saw: ``xmin:xmax:in progress``."""

    def __init__(self, least: int, past: int, running: frozenset[int]) -> None:
        self._least, self._past, self._running = least, past, running

    @classmethod
    def of(cls, text: str | None) -> _Snapshot:
        """From ``pg_current_snapshot()``; None saw nothing."""
        if text is None:
            return cls(0, 0, frozenset())
        least, past, running = text.split(":")
        return cls(int(least), int(past), frozenset(int(xid) for xid in running.split(",") if xid))

    def sees(self, xid: int) -> bool:
        """Whether a transaction had been committed then. A message has the lower half of its 64-bit number."""
        if not self._past:
            return False
        whole = (self._past & ~0xFFFFFFFF) | xid
        whole -= (1 << 32) if whole > self._past + (1 << 31) else 0
        return whole < self._least or (whole < self._past and whole not in self._running)
