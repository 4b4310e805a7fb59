"""``mainspring lake``."""

from __future__ import annotations

from dataclasses import asdict

from cyclopts import App

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import FormatError

app = App(
    name="lake",
    help_epilogue="""A table of the lake is made of files, which disks and people can damage. To check it every file
is compared with its checksum, and every row is read. A rebuild takes what can still be read and has
the worker read the rest from the log again; nothing is deleted.

Examples:
  mainspring lake check
  mainspring lake check arrived
  mainspring lake rebuild arrived     while the worker is stopped""",
)


@app.command
def check(source: str | None = None, /, *, options: Options = DEFAULT) -> int:
    """Read every table, or one, and say what cannot be read or has changed. The exit code is 8 when something has.

    Args:
        source: Only this source's table.
        options: Where the project is, and how to answer.
    """
    from mainspring.events.lake import Lake
    from mainspring.events.mending import faults, unsummed

    lake = Lake(Workspace(options.project).config.lake_path)
    names = lake.sources() if source is None else (source,)
    found = {name: faults(lake, name) for name in names}
    without = {name: n for name in names if (n := unsummed(lake, name))}
    data = {
        "tables": {name: [asdict(one) for one in of_table] for name, of_table in found.items()},
        "without_checksum": without,
    }
    rows = [
        (name, one.path, "not known" if one.rows is None else f"{one.rows:,}", one.why)
        for name, of_table in found.items()
        for one in of_table
    ]
    damaged = [name for name, of_table in found.items() if of_table]
    said = f"{len(found) - len(damaged)} of {len(found)} tables can be read whole"
    said += f"; mainspring lake rebuild {damaged[0]}" if damaged else ""
    said += f"; {sum(without.values()):,} files have no checksum yet, the worker makes it" if without else ""
    parts = [terminal.table(("table", "file", "rows", "what is wrong"), rows, right=("rows",))] if rows else []
    terminal.answer(options, data, *parts, terminal.text(said))
    return FormatError.exit_code if damaged else 0


@app.command
def rebuild(source: str, /, *, options: Options = DEFAULT) -> None:
    """Make a damaged table anew, of what can still be read and of what the log has. Refused while a worker runs.

    Args:
        source: Whose table.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.run import WORKER_LEASE, Lease
    from mainspring.events.lake import Lake
    from mainspring.events.mending import rebuild as mend

    workspace = Workspace(options.project)
    config = workspace.config
    lease = Lease(config.run / WORKER_LEASE)
    lease.require("the lake")
    try:
        with workspace.log() as log:
            done = mend(Lake(config.lake_path), source, log, workspace.clock.now_us())
    finally:
        lease.release()
    lost = "how many rows are lost cannot be told" if done.lost is None else f"{done.lost:,} rows are lost"
    said = (
        f"{source}: {done.rows:,} rows were taken over, the log is read again from offset {done.from_log:,}; {lost}"
        + ("" if done.aside is None else f". What was damaged is in {done.aside}")
    )
    terminal.answer(options, done.to_dict(), terminal.text(said))
