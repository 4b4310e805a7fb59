"""Rows of a table or query by a watermark: PostgreSQL, SQLite, or whatever SQLAlchemy opens.

Read are the rows behind (watermark, key) in that order, so rows that share a watermark are told apart by their key:
none is left out and none comes twice, wherever a batch ends. A row that is committed late, under a watermark that was
passed already, would be missed, so rows younger than ``settle`` are left for the next look. That is by the database's
clock, and for watermarks that are times; for numbers of a sequence use a time column, or ``postgres``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa

from mainspring.core.errors import ConfigError, UnavailableError
from mainspring.core.spans import parse_span
from mainspring.core.times import from_datetime
from mainspring.events.connectors.connector import Arrival, Batch, Connector, Settings, Site


class QuerySettings(Settings, frozen=True, kw_only=True):
    """Settings of ``sql``.

    Attributes:
        url: SQLAlchemy's: ``postgresql://user:${PGPASSWORD}@host/database``, ``sqlite:///file.db``.
        query: What to read; or ``table``.
        table: ``name`` or ``schema.name``: all of its columns.
        watermark: Column that rises: a time of change, a number.
        key: Column that tells rows of one watermark apart; that of the source's id if it has one.
        settle: How old a row must be, if its watermark is a time.
    """

    url: str
    watermark: str
    query: str = ""
    table: str = ""
    key: str = ""
    settle: str = "2s"


class Query(Connector):
    """Reads behind a watermark."""

    settings_type: ClassVar[type[Settings]] = QuerySettings

    def __init__(self, settings: QuerySettings, site: Site) -> None:
        if bool(settings.query) == bool(settings.table):
            raise ConfigError("MS-C085", f"connector {site.name} needs query or table, one of them")
        ident = site.source.id
        key = settings.key or (settings.columns.get(ident, ident) if ident else "")
        if not key:
            why = "rows that share a watermark are told apart by it"
            raise ConfigError("MS-C085", f"connector {site.name} needs key, a unique column", why=why)
        self._settings = settings
        self._settle_us = parse_span(settings.settle)
        url = _url(settings.url, site)
        self._shown = url.render_as_string(hide_password=True)
        try:
            self._engine = sa.create_engine(url, pool_pre_ping=True)
        except (ImportError, sa.exc.ArgumentError) as error:
            what = f"no driver for the url of connector {site.name}: {error}"
            raise ConfigError("MS-C085", what, hint="install the database's driver beside Mainspring") from None
        self._watermark: sa.ColumnClause[Any] = sa.column(settings.watermark)
        self._key: sa.ColumnClause[Any] = sa.column(key)
        schema, _, table = settings.table.rpartition(".")
        if table:
            self._rows: Any = sa.table(table, schema=schema or None)
        else:
            self._rows = sa.text(settings.query.rstrip().rstrip(";")).columns(self._watermark, self._key).subquery("q")

    def read(self, cursor: Any, limit: int) -> Batch:
        """Rows behind the pair (watermark, key)."""
        w, k = self._watermark, self._key
        query = sa.select(sa.text("*")).select_from(self._rows).where(w.is_not(None)).order_by(w, k).limit(limit)
        if cursor is not None:
            at, key = (_from_cursor(part) for part in cursor)
            query = query.where(sa.or_(w > sa.literal(at), sa.and_(w == sa.literal(at), k > sa.literal(key))))
        try:
            with self._engine.connect() as connection:
                now = connection.execute(sa.select(sa.func.current_timestamp())).scalar_one()
                local = connection.execute(sa.select(sa.func.localtimestamp())).scalar_one() if self._is_server else now
                found = [dict(row) for row in connection.execute(query).mappings()]
        except sa.exc.SQLAlchemyError as error:
            raise self._broken(error) from None
        missing = [name for name in (w.name, k.name) if found and name not in found[0]]
        if missing:
            what = f"the rows have no column {missing[0]!r}"
            raise ConfigError("MS-C085", what, where=self._shown, hint="watermark and key name columns of the query")
        rows = self._settled(found, now, local)
        if not rows:
            return Batch((), cursor)
        last = rows[-1]
        after = [_to_cursor(last[w.name]), _to_cursor(last[k.name])]
        arrivals = [Arrival(row, None, f"{k.name} {row[k.name]}") for row in rows]
        return Batch(arrivals, after, more=len(found) == limit and len(rows) == len(found))

    def check(self) -> Sequence[Arrival]:
        """The first rows."""
        return self.read(None, 5).rows

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @property
    def _is_server(self) -> bool:
        return self._engine.dialect.name != "sqlite"

    def _settled(self, rows: list[dict[str, Any]], now: Any, local: Any) -> list[dict[str, Any]]:
        """Those before the first one that is too young."""
        for number, row in enumerate(rows):
            moment = _instant(row[self._watermark.name])
            if moment is None:
                return rows
            clock = _instant(now if moment.tzinfo is not None or not self._is_server else local)
            if clock is not None and _us(clock) - _us(moment) < self._settle_us:
                return rows[:number]
        return rows

    def _broken(self, error: sa.exc.SQLAlchemyError) -> UnavailableError:
        cause = getattr(error, "orig", None) or error
        return UnavailableError(
            "MS-E433", f"the database says: {' '.join(str(cause).split())[:500]}", where=self._shown
        )


def _url(text: str, site: Site) -> sa.URL:
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        hint = "postgresql://user:${PGPASSWORD}@host/database, sqlite:///file.db"
        raise ConfigError("MS-C085", f"the url of connector {site.name} is no database URL", hint=hint) from None
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return url.set(database=str(site.root / url.database))
    return url


def _instant(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) else None


def _us(moment: datetime) -> int:
    return from_datetime(moment.astimezone(UTC) if moment.tzinfo is not None else moment)


def _to_cursor(value: Any) -> Any:
    """A value of a database as JSON holds it: with its type, where that is not JSON's own."""
    for name, kind in _KINDS.items():
        if type(value) is kind:
            return {name: value.isoformat() if isinstance(value, date) else str(value)}
    return value


def _from_cursor(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((name, text),) = value.items()
    kind: Any = _KINDS[name]
    return kind.fromisoformat(text) if issubclass(kind, date) else kind(text)


_KINDS: dict[str, type] = {"datetime": datetime, "date": date, "decimal": Decimal, "uuid": UUID}
