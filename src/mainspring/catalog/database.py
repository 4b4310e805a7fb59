"""The catalog's database: one engine, short transactions, a schema version.

SQLite in WAL mode: any number of readers beside one writer. A writer begins with ``BEGIN IMMEDIATE`` and waits its
turn, so that a transaction that reads first and writes later never finds "database is locked" in its middle.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, create_engine, event, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, IntegrityError, ProgrammingError

from mainspring.core.errors import ConfigError, FormatError, MainspringError, UnavailableError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 30_000
MEND = "stop what runs, then: mainspring catalog rebuild"
METADATA = MetaData()
META = Table("meta", METADATA, Column("key", String, primary_key=True), Column("value", String, nullable=False))
_WRITES = "mainspring_writes"
_MAKING = b"making"
"""In the lock's file until a new catalog is made: an empty one is then its maker's, who was killed, and no damage."""
_DAMAGE = (DatabaseError, sqlite3.DatabaseError)  # of a statement, and of what is said to a new connection
_OF_BYTES = re.compile("disk I/O error|no such table|malformed")


class Database:
    """An engine on one database whose schema is known."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Database:
        """Open the database at ``url``; create it and its schema when there is none.

        Raises:
            ConfigError: Another database than SQLite (MS-C005).
            FormatError: A schema of another version (MS-C041).
            FormatError: The file is damaged (MS-C043).
            UnavailableError: The file cannot be opened, or another process holds it (MS-C042).
        """
        parts = make_url(url)
        if parts.get_backend_name() != "sqlite" or not parts.database:
            raise ConfigError(
                "MS-C005",
                f"urls.catalog = {url!r} names a database that this release does not have",
                hint='use "sqlite:///PATH", or leave it out for the embedded default',
            )
        engine = create_engine(parts)
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        try:
            _prepare(engine, Path(parts.database))
        except _DAMAGE as error:
            engine.dispose()
            raise _said(error, parts.database) from error
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the catalog."""
        with self._telling(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The one writer; commits at the end, or takes everything back when an error leaves the block."""
        with (
            self._telling(),
            self._engine.connect().execution_options(**{_WRITES: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def rehearse(self) -> Iterator[Connection]:
        """Like `write`, and everything is taken back at the end: what would come of it?"""
        with self._telling(), self._engine.connect().execution_options(**{_WRITES: True}) as connection:
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.rollback()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (IntegrityError, ProgrammingError):  # a fault of ours
            raise
        except _DAMAGE as error:
            raise _said(error, self._engine.url.database or "") from error

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _said(error: Exception, path: str) -> MainspringError:
    """An error of SQLite as ours: a file that is damaged, or one that cannot be used now."""
    cause = error.orig if isinstance(error, DatabaseError) else error
    why = str(cause)
    if isinstance(cause, sqlite3.OperationalError) and not _OF_BYTES.search(why):
        hint = "another process holds it for more than 30 s: stop that one, or try again" if "locked" in why else ""
        return UnavailableError("MS-C042", f"the catalog cannot be used: {why}", where=path, hint=hint)
    return FormatError("MS-C043", "the catalog's file is damaged", where=path, why=why, hint=MEND)


def get_number(connection: Connection, key: str) -> int:
    """A counter of the catalog; 0 when never set."""
    text = connection.scalar(select(META.c.value).where(META.c.key == key))
    return int(text) if text is not None else 0


def set_number(connection: Connection, key: str, value: int) -> None:
    """Set a counter of the catalog."""
    if connection.execute(update(META).where(META.c.key == key).values(value=str(value))).rowcount == 0:
        connection.execute(insert(META).values(key=key, value=str(value)))


def _on_connect(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.isolation_level = None  # we begin, sqlite3 does not: see _on_begin
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA synchronous = NORMAL")  # the log is the truth: what a power cut takes is projected again
    cursor.close()


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare(engine: Engine, path: Path) -> None:
    """Switch to WAL and create the schema: one process at a time, because the switch itself does not wait its turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not path.exists():
            os.write(handle, _MAKING)
        elif path.stat().st_size == 0 and os.fstat(handle).st_size == 0:
            raise FormatError("MS-C043", "the catalog's file is damaged", where=str(path), why="it is empty", hint=MEND)
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()
        with Database(engine).write() as connection:
            if not engine.dialect.has_table(connection, META.name):
                METADATA.create_all(connection)
                set_number(connection, "schema_version", SCHEMA_VERSION)
            found = get_number(connection, "schema_version")
            if found == SCHEMA_VERSION:  # a table that came with a later release does not disturb an earlier one
                METADATA.create_all(connection)
        if found != SCHEMA_VERSION:
            raise FormatError(
                "MS-C041",
                f"the catalog has schema version {found}; this release knows {SCHEMA_VERSION}",
                where=str(path),
                hint="use the release of Mainspring that wrote it",
            )
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)
