"""What SQL sees: a view a source, over lake and log tail as one, with the columns as they are defined now.

The lake is scanned file by file as a query needs it, the tail is in memory. Both end and begin at the offset that the
lake's table itself says, so each event is there once, however much is flushed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mainspring.core.times import from_datetime
from mainspring.definitions.expressions import UTC_US
from mainspring.definitions.values import Field, Kind, Project, SourceDef
from mainspring.events.frames import names_stored
from mainspring.events.history import History
from mainspring.events.lake import META_SCHEMA, Lake, as_lists
from mainspring.events.log import Log
from mainspring.events.record import known_length
from mainspring.events.system import DECISION, PREDICTION, all_sources

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TYPES: dict[Kind, str] = {
    "str": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMPTZ",
    "vector": "DOUBLE[]",
}
OTHER_NAMES = {"predictions": PREDICTION.name, "decisions": DECISION.name}
QUARANTINE = "quarantine"
VERSIONS = "__versions"
"""What follows the name of a source with corrections in that of the view of all versions of its rows."""


@dataclass(frozen=True)
class AsOf:
    """How far a query sees: what was known before a moment, or up to an offset of the log; both are none for now."""

    before_us: int | None = None
    offset: int | None = None

    @property
    def condition(self) -> str:
        """As SQL over the columns of the log."""
        if self.before_us is not None:
            return f"_known_at < {_instant(self.before_us)}"
        return "true" if self.offset is None else f"_offset <= {self.offset}"


def create_views(
    connection: DuckDBPyConnection, project: Project, history: History, lake: Lake, log: Log, as_of: AsOf
) -> tuple[str, ...]:
    """Create a view of each source by its name, ``predictions``, ``decisions`` and ``quarantine``.

    A view of a source with corrections has the rows as the last version of each says, without deleted ones;
    ``NAME__versions`` has every event.

    Args:
        connection: Of DuckDB.
        project: Whose sources.
        history: Caught up; says what of each source is not in the lake.
        lake: As ``history`` found it.
        log: Read for the quarantine.
        as_of: How far is seen.

    Returns:
        The names.
    """
    sources = all_sources(project.sources)
    names = {name: name for name in sources} | {
        other: name for other, name in OTHER_NAMES.items() if other not in sources
    }
    made = []
    for name, source_name in names.items():
        source = sources[source_name]
        whole = _events(connection, source, history, lake, as_of)
        if source.corrects is None:
            connection.execute(f"CREATE VIEW {quoted(name)} AS {whole}")
        else:
            versions = f"{name}{VERSIONS}"
            connection.execute(f"CREATE VIEW {quoted(versions)} AS {whole}")
            newest = "row_number() OVER (PARTITION BY _id ORDER BY _known_at DESC, _offset DESC) = 1"
            connection.execute(
                f"CREATE VIEW {quoted(name)} AS SELECT * FROM {quoted(versions)} "
                f"QUALIFY {newest} AND {quoted(source.corrects)} <> 'delete'"
            )
            made.append(versions)
        made.append(name)
    if QUARANTINE not in sources:
        connection.register(QUARANTINE, _quarantine(log).to_arrow())
        made.append(QUARANTINE)
    return tuple(sorted(made))


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _events(connection: DuckDBPyConnection, source: SourceDef, history: History, lake: Lake, as_of: AsOf) -> str:
    """A query of all events of a source; what it reads is registered under names that no source can have."""
    tail, offset = history.tail(source.name)
    connection.register(f"tail of {source.name}", as_lists(tail).to_arrow())
    columns = [quoted(name) for name in (*source.columns, *META_SCHEMA)]
    parts = [f"SELECT {', '.join(columns)} FROM {quoted(f'tail of {source.name}')} WHERE {as_of.condition}"]
    dataset = lake.dataset(source.name)
    if dataset is not None:
        connection.register(f"lake of {source.name}", dataset)
        meta = [f"{_text(quoted(name))} AS {quoted(name)}" if name == "_id" else quoted(name) for name in META_SCHEMA]
        stored = [*_stored(source, frozenset(dataset.schema.names)), *meta]
        parts.insert(
            0,
            f"SELECT {', '.join(stored)} FROM {quoted(f'lake of {source.name}')} "
            f"WHERE _offset <= {offset} AND {as_of.condition}",
        )
    return " UNION ALL ".join(parts)


def _stored(source: SourceDef, known: frozenset[str]) -> Iterator[str]:
    """The columns of a source as its lake table holds them: what `History.frame` makes of them, as SQL."""
    for field in source.fields:
        kind = TYPES[field.kind]
        names = [quoted(name) for name in names_stored(field, known)]
        values = [f"CAST({name} AS {kind})" for name in names]
        if field.kind == "str":
            values = [_text(name) for name in names]
        if field.kind == "vector" and (length := known_length(field)) is not None:
            pairs = zip(names, values, strict=True)
            values = [f"CASE WHEN len({name}) = {length} THEN {value} END" for name, value in pairs]
        if not values or (field.has_default and not field.nullable):
            values.append(_literal(field))
        yield f"{values[0] if len(values) == 1 else _first(values)} AS {quoted(field.name)}"


def _text(name: str) -> str:
    """A column of text whose files may hold string views: pyarrow can read these but not compare them to a text.

    DuckDB would have pyarrow do so; a filter on an expression it keeps to itself.
    """
    return f"coalesce({name}, NULL)"


def _first(values: Sequence[str]) -> str:
    """The first that is not null."""
    return f"coalesce({', '.join(values)})"


def _literal(field: Field) -> str:
    """A column's default as SQL."""
    value: Any = field.default
    if isinstance(value, datetime):
        return _instant(from_datetime(value))
    text = "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"
    return f"CAST({text} AS {TYPES[field.kind]})"


def _instant(time_us: int) -> str:
    return f"make_timestamptz({time_us})"


def _quarantine(log: Log) -> pl.DataFrame:
    """All that ever was in quarantine, as it is now."""
    held = log.quarantined(include_resolved=True)
    schema: Mapping[str, Any] = {
        "sequence": pl.Int64(),
        "source": pl.String(),
        "status": pl.String(),
        "code": pl.String(),
        "reason": pl.String(),
        "path": pl.String(),
        "record": pl.String(),
        "version": pl.String(),
        "sender": pl.String(),
        "held_at": pl.Int64(),
        "offset": pl.Int64(),
        "note": pl.String(),
    }
    rows = [
        (
            *(h.sequence, h.source, h.status, h.code, h.reason, h.path, h.text),
            *(h.version, h.sender, h.held_at_us, h.offset, h.note),
        )
        for h in held
    ]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("held_at").cast(UTC_US))
