"""``mainspring ingest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.people import actor
from mainspring.cli.workspace import Workspace

app = App(
    name="ingest",
    help_epilogue="""CSV, JSON Lines (.jsonl, .ndjson) or Parquet. Rows are loaded as history: each is known at the
moment that its source declares. A row that breaks the contract goes to quarantine with its line
number and the rest goes on; the exit code is 4 when there was one. Through the intake when it runs,
else straight into the log.

Examples:
  mainspring ingest weather.csv --source weather
  mainspring ingest houses.csv --source house --source house_outcome --pick
  mainspring ingest rows.csv --source row --pick --row-id row_id --row-time at --row-every 1d
  mainspring ingest old.parquet --source weather --backfill""",
)


@app.default
def ingest(
    file: Path,
    /,
    *,
    source: Annotated[tuple[str, ...], Parameter(consume_multiple=False, negative="")],
    pick: Annotated[bool, Parameter(negative="")] = False,
    row_id: str | None = None,
    row_time: str | None = None,
    row_every: str = "1h",
    backfill: Annotated[bool, Parameter(negative="")] = False,
    options: Options = DEFAULT,
) -> int:
    """Load a file of events into a source, or into several.

    Args:
        file: The file.
        source: Name of the source; given several times, each row becomes an event of each.
        pick: Take the columns that the source knows, also when a header is spelled another way, and leave the others.
        row_id: With --pick: make this column of the file's name and the row's number.
        row_time: With --pick: make this column of the row's place, from 2000-01-01 on.
        row_every: With --row-time: the time from one row to the next.
        backfill: Allow history from before a prediction that has been served.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.errors import ConfigError, ContractError
    from mainspring.core.spans import parse_span
    from mainspring.events.columns import Pick
    from mainspring.events.files import ingest_file

    if (row_id or row_time) and not pick:
        raise ConfigError("MS-C065", "--row-id and --row-time are for rows that are picked", hint="add --pick")
    workspace = Workspace(options.project)
    for name in source:
        workspace.source(name)
    answers = []
    for name in source:
        with terminal.counting(options, f"{file.name} into {name}: rows") as progress:
            loaded = ingest_file(
                workspace.config,
                workspace.project,
                file,
                name,
                workspace.clock,
                backfill=backfill,
                actor=actor(),
                progress=progress,
                pick=Pick(row_id, row_time, parse_span(row_every)) if pick else None,
            )
        answers.append((name, loaded))
    data: list[dict[str, Any]] = [
        {
            "source": name,
            "rows": one.rows,
            "accepted": one.accepted,
            "duplicate": one.duplicate,
            "quarantined": one.quarantined,
            "last_offset": one.last_offset,
            "errors": list(one.errors),
        }
        for name, one in answers
    ]
    columns = ("source", "rows", "accepted", "duplicate", "quarantined")
    rows = [(d["source"], *(f"{d[c]:,}" for c in columns[1:])) for d in data]
    parts = [terminal.table(columns, rows, right=columns[1:])]
    errors = [(d["source"], e["line"], e["reason"], e["path"]) for d in data for e in d["errors"]]
    if errors:
        parts.append(
            terminal.table(("source", "line", "why", "where"), errors, title="into quarantine", right=("line",))
        )
    terminal.answer(options, {"file": str(file), "sources": data}, *parts)
    return ContractError.exit_code if any(one.quarantined for _, one in answers) else 0
