"""``mainspring sql``."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import ConfigError, MainspringError, RefusedError
from mainspring.core.names import did_you_mean
from mainspring.core.spans import parse_span
from mainspring.core.times import from_datetime, to_iso

if TYPE_CHECKING:
    from mainspring.events.sql import Result, Sql
    from mainspring.events.tables import AsOf

app = App(
    name="sql",
    help_epilogue="""Tables are the sources by name, and predictions, decisions and quarantine:
lake and log as one, each event once. Without a query they are listed. Times
are UTC. From SQL nothing can be changed, and no file or network be reached.

Examples:
  mainspring sql "select carrier, count(*) from arrived group by all"
  mainspring sql "from arrived limit 5" --as-of 2024-03-01
  mainspring sql "from predictions" --as-of 120000 --out p.parquet
  mainspring sql --file report.sql --csv
  mainspring sql "select sum(amount) from paid" --for finance --out sum.csv""",
)

_OFFSET = re.compile(r"\d+")
WRITERS = (".parquet", ".csv", ".jsonl")


@app.default
def sql(  # noqa: PLR0913  the options of one command
    query: str | None = None,
    /,
    *,
    file: Path | None = None,
    as_of: str | None = None,
    csv: Annotated[bool, Parameter(negative="")] = False,
    out: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    rows: int = 100,
    timeout: str = "60s",
    memory: str = "1GB",
    options: Options = DEFAULT,
) -> None:
    """Ask a question of all events, in SQL (DuckDB's).

    Args:
        query: One SELECT; without one the tables are listed.
        file: Read the query from a file.
        as_of: Only what was known before a moment, or up to an offset of the log.
        csv: All rows as CSV on standard output.
        out: All rows into a file: .parquet, .csv or .jsonl.
        overwrite: Replace the file if there is one.
        for_: Who outside of the project the rows are for, as consumers= of a source names it.
        rows: How many rows to show at most; --csv, --out and --json have all.
        timeout: How long the query may take.
        memory: How much memory it may take before it spills to the disk.
        options: Where the project is, and how to answer.
    """
    from mainspring.events.lake import Lake
    from mainspring.events.sql import Sql

    workspace = Workspace(options.project)
    if out is not None:
        _check_out(out, overwrite=overwrite)
    text = _text(query, file)
    with (
        workspace.log() as log,
        Sql(
            workspace.project,
            log,
            Lake(workspace.config.lake_path),
            _as_of(workspace, as_of),
            memory=memory,
            time_us=parse_span(timeout),
        ) as session,
    ):
        if text is None:
            _list(session, options)
            return
        found = session.run(text)
        way = out.suffix.lstrip(".") if out is not None else "csv" if csv else "json" if options.json else "screen"
        held = [name for name, n in log.counts().items() if n.quarantined]
        _note_reads(workspace, session, text, for_, way, held, options)
        if out is not None:
            n = _write(found, out)
            terminal.answer(
                options,
                {"rows": n, "offset": found.offset, "file": str(out)},
                terminal.text(f"{n:,} rows in {out}, as of offset {found.offset:,}"),
            )
        elif csv:
            _to_csv(found, sys.stdout)
        elif options.json:
            _to_json(found, sys.stdout)
        else:
            _show(found, rows, options)


def _note_reads(
    workspace: Workspace,
    session: Sql,
    text: str,
    consumer: str | None,
    way: str,
    held: Sequence[str],
    options: Options,
) -> None:
    """Refuse rows to somebody who is not declared, and record who reads what."""
    from mainspring.cli.people import actor
    from mainspring.events.sql_reads import reads_of
    from mainspring.loop.reads import check_export, reads_by, record, undeclared

    columns = {name: session.columns(name) for name in session.tables}
    reads = reads_by(reads_of(text, columns), workspace.project, consumer, way, held)
    check_export(reads, workspace.project)
    for read in reads:
        if why := undeclared(read, workspace.project):
            terminal.say(options, f"an undeclared reader: {why} (it is recorded)")
    try:
        record(workspace.config, workspace.project, reads, actor(), workspace.clock.now_us())
    except MainspringError as error:  # a full disk is looked into by SQL, too
        terminal.say(options, f"that this was read could not be recorded: {error.what}")


def _text(query: str | None, file: Path | None) -> str | None:
    if file is None:
        return query
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("MS-C095", f"the query cannot be read: {error}", where=str(file)) from None


def _as_of(workspace: Workspace, text: str | None) -> AsOf:
    from mainspring.events.tables import AsOf

    if text is None:
        return AsOf()
    return AsOf(offset=int(text)) if _OFFSET.fullmatch(text) else AsOf(before_us=workspace.now_us(text))


def _list(session: Sql, options: Options) -> None:
    tables = {name: session.columns(name) for name in session.tables if not name.startswith("_")}
    data = {
        "offset": session.offset,
        "tables": {
            name: [{"name": column, "type": kind} for column, kind in columns] for name, columns in tables.items()
        },
    }
    lines = [(name, ", ".join(c for c, _ in columns if not c.startswith("_"))) for name, columns in tables.items()]
    terminal.answer(options, data, terminal.table(("table", "columns"), lines))


def _show(found: Result, most: int, options: Options) -> None:
    shown: list[tuple[Any, ...]] = []
    for row in _rows(found):
        shown.append(row)
        if len(shown) > most:
            break
    numbers = [name for name, kind in found.columns if kind in ("BIGINT", "DOUBLE", "HUGEINT", "INTEGER")]
    cells = [["" if cell is None else cell for cell in row] for row in shown[:most]]
    terminal.answer(options, None, terminal.table([name for name, _ in found.columns], cells, right=numbers))
    more = ", and more: --rows N, --csv, --out FILE.parquet or --json has them" if len(shown) > most else ""
    terminal.say(options, f"{min(len(shown), most):,} rows{more}; as of offset {found.offset:,}")


def _rows(found: Result) -> Iterator[tuple[Any, ...]]:
    """The rows, with values that JSON and people can read."""
    for batch in found.batches:
        columns = [[_plain(value) for value in column.to_pylist()] for column in batch.columns]
        yield from zip(*columns, strict=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_iso(from_datetime(value))
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if type(value).__name__ == "MonthDayNano":  # an interval, as ISO 8601 says it
        return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:g}S"
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return str(value)  # JSON has no NaN and no infinities
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _to_json(found: Result, file: IO[str]) -> None:
    columns = [{"name": name, "type": kind} for name, kind in found.columns]
    names = [name for name, _ in found.columns]
    rows = _rows(found)
    first = next(rows, None)  # what fails at once is an error, not the beginning of an answer
    file.write(f'{{"offset": {found.offset}, "columns": {json.dumps(columns)}, "rows": [')
    if first is not None:
        file.write("\n" + json.dumps(dict(zip(names, first, strict=True))))
    for row in rows:
        file.write(",\n" + json.dumps(dict(zip(names, row, strict=True))))
    file.write("]}\n")


def _to_csv(found: Result, file: IO[str]) -> int:
    rows = _rows(found)
    writer = csv.writer(file, lineterminator="\n")
    first = next(rows, None)
    writer.writerow([name for name, _ in found.columns])
    n = 0
    while first is not None:
        writer.writerow(first)
        n += 1
        first = next(rows, None)
    return n


def _to_lines(found: Result, file: IO[str]) -> int:
    names = [name for name, _ in found.columns]
    n = 0
    for row in _rows(found):
        file.write(json.dumps(dict(zip(names, row, strict=True))) + "\n")
        n += 1
    return n


def _to_parquet(found: Result, path: Path) -> int:
    import pyarrow.parquet as pq

    n = 0
    with pq.ParquetWriter(path, found.schema, compression="zstd") as writer:
        for batch in found.batches:
            writer.write_batch(batch)
            n += batch.num_rows
    return n


def _check_out(path: Path, *, overwrite: bool) -> None:
    if path.suffix not in WRITERS:
        what = f"no way to write {path.suffix or 'a file without a suffix'}"
        raise ConfigError("MS-C092", what, where=str(path), hint=did_you_mean(path.suffix, WRITERS))
    if path.exists() and not overwrite:
        raise RefusedError("MS-C093", "the file is there already", where=str(path), hint="--overwrite, or another name")


def _write(found: Result, path: Path) -> int:
    """All rows into a file, which is there whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".parquet":
            n = _to_parquet(found, scratch)
        else:
            with scratch.open("w", encoding="utf-8", newline="") as file:
                n = (_to_csv if path.suffix == ".csv" else _to_lines)(found, file)
        scratch.replace(path)
    except OSError as error:
        raise ConfigError("MS-C094", f"the file cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        scratch.unlink(missing_ok=True)
    return n
