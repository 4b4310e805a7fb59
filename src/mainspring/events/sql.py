"""SQL for people, by DuckDB: read-only, without files, network or extensions, within memory and time."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mainspring.core.closing import Closing
from mainspring.core.errors import ConfigError, DeadlineError, RefusedError, UnavailableError
from mainspring.core.names import did_you_mean
from mainspring.core.spans import format_span
from mainspring.definitions.values import Project
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.lake_damage import damaged
from mainspring.events.log import Log
from mainspring.events.scan import file_in
from mainspring.events.tables import AsOf, create_views, quoted

if TYPE_CHECKING:
    import pyarrow as pa

MEMORY = "1GB"
TIME_US = 60_000_000
BATCH_ROWS = 10_000
NOW = AsOf()
_OF_FILES = re.compile(r"reading the stream registered as \W*lake of (\w+).*(IOError|Parquet|Invalid: )", re.DOTALL)
_FAILED = re.compile(r"^.*? failed: (IOError: )?")
_KIND = re.compile(r"^\w+( \w+)? Error: ")


@dataclass(frozen=True)
class Result:
    """The answer to a query, of which rows are computed as they are read.

    Attributes:
        columns: Names, and types as DuckDB says them.
        offset: Of the log, up to which all was seen: with ``AsOf(offset=…)`` the query answers the same again.
        batches: The rows.
    """

    columns: tuple[tuple[str, str], ...]
    offset: int
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class Sql(Closing):
    """A session over all that is known when it is opened. Close it, or use it in a ``with`` statement.

    Args:
        project: Its sources are the tables.
        log: Its tail is read, and the quarantine.
        lake: Read only.
        as_of: How far queries see.
        memory: What DuckDB may take; beyond it, it spills to a temporary folder, and beyond ten times it gives up.
        time_us: How long a query may take.

    Raises:
        ConfigError: ``memory`` is no size (MS-E452).
    """

    def __init__(
        self, project: Project, log: Log, lake: Lake, as_of: AsOf = NOW, memory: str = MEMORY, time_us: int = TIME_US
    ) -> None:
        import duckdb

        self._time_us = time_us
        self._memory = memory
        self._lake = lake
        self._stack = ExitStack()
        history = History(project, log, lake)
        self.offset = history.catch_up() if as_of.offset is None else min(as_of.offset, history.catch_up())
        spill = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mainspring-sql-"))
        settings: dict[str, Any] = {
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "python_enable_replacements": False,
            "errors_as_json": True,
            "memory_limit": memory,
            "temp_directory": spill,
        }
        try:
            self._connection = duckdb.connect(":memory:", config=settings)
        except duckdb.Error:
            self._stack.close()
            raise ConfigError("MS-E452", f"{memory!r} is no size of memory", hint="such as 512MB or 2GB") from None
        self._stack.callback(self._connection.close)
        self._connection.execute("SET TimeZone = 'UTC'")
        self.tables = create_views(self._connection, project, history, history.lake, log, as_of)
        self._connection.execute("SET lock_configuration = true")

    def close(self) -> None:
        """Let go of everything."""
        self._stack.close()

    def columns(self, table: str) -> tuple[tuple[str, str], ...]:
        """Columns of a table, with their types."""
        found = self._connection.table(table)
        return tuple(zip(found.columns, map(str, found.types), strict=True))

    def recent(self, source: str, since_us: int) -> None:
        """Have the events of a source that became known since a moment as the table ``recent``."""
        self._connection.execute(
            f"CREATE VIEW recent AS SELECT * FROM {quoted(source)} WHERE _known_at >= make_timestamptz({since_us})"
        )

    def run(self, query: str) -> Result:
        """Begin a query; its rows are computed as ``batches`` are taken.

        Raises:
            RefusedError: It is not one SELECT (MS-E451).
            ConfigError: It cannot be understood, or fails on a value (MS-E450).
            DeadlineError: It takes too long (MS-E453); also while batches are taken.
            UnavailableError: It takes too much memory (MS-E454); also while batches are taken.
        """
        import duckdb

        timer = threading.Timer(self._time_us / 1e6, self._connection.interrupt)
        timer.daemon = True
        self._stack.callback(timer.cancel)  # a generator that nobody began has no end to cancel it in
        timer.start()
        try:
            self._check(query)
            found = self._connection.sql(query)
            columns = tuple(zip(found.columns, map(str, found.types), strict=True))
            reader = found.to_arrow_reader(BATCH_ROWS)
        except duckdb.Error as error:
            timer.cancel()
            raise self._said(self._in_full(error, query), query) from None
        except BaseException:
            timer.cancel()
            raise
        batches = self._batches(reader, timer, query)
        self._stack.callback(batches.close)
        return Result(columns, self.offset, reader.schema, batches)

    def _batches(self, reader: pa.RecordBatchReader, timer: threading.Timer, query: str) -> Generator[pa.RecordBatch]:
        import duckdb

        try:
            yield from reader
        except (duckdb.Error, OSError, RuntimeError) as error:  # pyarrow wraps what comes out of DuckDB's stream
            raise self._said(error, query) from None
        finally:
            timer.cancel()

    def _check(self, query: str) -> None:
        import duckdb

        statements = self._connection.extract_statements(query)
        allowed = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
        if len(statements) != 1 or statements[0].type not in allowed:
            raise RefusedError(
                "MS-E451",
                "a query is one SELECT",
                why="the log is the truth: what SQL could change here would be changed nowhere",
                hint="events are sent to the intake, definitions are changed by apply",
            )

    def _in_full(self, error: Exception, query: str) -> Exception:
        """The same error with the place in the query, which DuckDB leaves out where it only looks at a query."""
        import duckdb

        if isinstance(error, duckdb.BinderException | duckdb.CatalogException):
            try:
                self._connection.execute(query)  # it stops where it stopped before: nothing is computed
            except duckdb.Error as again:
                return again
        return error

    def _said(self, error: Exception, query: str) -> Exception:
        """An error of DuckDB as ours, with the place in the query and what was probably meant."""
        text = str(error)
        found = _parsed(text)
        message = found.get("exception_message", text).split("\n\nLINE ")[0]
        if found.get("exception_type") == "Interrupt" or "INTERRUPT" in text:
            return DeadlineError(
                "MS-E453",
                f"the query takes longer than {format_span(self._time_us)}",
                hint="ask for less, or --timeout 10m",
            )
        if found.get("exception_type") == "Out of Memory" or "Out of Memory" in text:
            what = f"the query takes more than {self._memory} of memory and what it may spill"
            return UnavailableError("MS-E454", what, why=message, hint="ask for less, or --memory 4GB")
        if (of_files := _OF_FILES.search(text)) is not None:
            why, file = file_in(_of_file(message))
            return damaged(self._lake.path / of_files.group(1), why, file)
        return ConfigError(
            "MS-E450",
            f"the query cannot be run: {_first_line(message)}",
            where=_place(query, found.get("position", "")),
            hint=self._hint(found, message, query),
        )

    def _words(self) -> set[str]:
        """Those of SQL."""
        return {word for (word,) in self._connection.sql("SELECT keyword_name FROM duckdb_keywords()").fetchall()}

    def _hint(self, found: Mapping[str, str], message: str, query: str) -> str:
        if found.get("type") == "Table" and "name" in found:
            return did_you_mean(found["name"], self.tables)
        named = set(re.findall(r"\w+", query)) & set(self.tables)
        columns = {column for table in named for column, _ in self.columns(table)}
        if found.get("error_subtype") == "COLUMN_NOT_FOUND" and "name" in found:
            return did_you_mean(found["name"], columns)
        if found.get("error_subtype") == "SYNTAX_ERROR" and found.get("position", "").isdigit():
            before = re.findall(r"\w+", query.encode()[: int(found["position"])].decode(errors="ignore"))
            if before and before[-1] in columns & self._words():  # what follows it is what is said to be wrong
                return f'a column that is called as a word of SQL is written in quotes: "{before[-1]}"'
        near = [line for line in message.splitlines() if line.startswith("Did you mean")]
        return near[0].lower() if near else ""


def _parsed(text: str) -> dict[str, str]:
    """The error as DuckDB's JSON says it; nothing of what is no JSON."""
    start = text.find("{")
    try:
        return msgspec.json.decode(text[start:], type=dict[str, str]) if start >= 0 else {}
    except msgspec.DecodeError:
        return {}


def _first_line(message: str) -> str:
    lines = _KIND.sub("", message).strip().splitlines()
    return lines[0].rstrip("!") if lines else "it fails"


def _of_file(message: str) -> str:
    """What is wrong with a file, without the way that the error has come."""
    return _FAILED.sub("", _first_line(message).partition(". Detail: ")[0])


def _place(query: str, position: str) -> str:
    """Line and column in the query, with the line itself and a mark under the place."""
    if not position.isdigit():
        return ""
    before = query.encode()[: int(position)].decode(errors="ignore")
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return f"line {line}, column {column}\n{query.splitlines()[line - 1]}\n{' ' * (column - 1)}^"
