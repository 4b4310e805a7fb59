"""``mainspring init``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.core.errors import ConfigError

app = App(
    name="init",
    help_epilogue="""Looks at the file, asks what to predict, which column is the time and which the id, and writes a
project of four files: definitions.py, mainspring.toml, a test that checks them against the file,
and a README with the next steps. Without a time the order of the rows stands for it; without an id
the row's number.

Examples:
  mainspring init houses.csv
  mainspring init houses.csv --target price --time sold_at --id house_id
  mainspring init churn.parquet --target churned --name churn --folder projects/churn --yes""",
)


@app.default
def init(  # noqa: PLR0913  each is an option of the command
    file: Path,
    /,
    *,
    target: str | None = None,
    time: str | None = None,
    id: str | None = None,
    name: str | None = None,
    within: str = "1d",
    folder: Path | None = None,
    yes: Annotated[bool, Parameter(negative="")] = False,
    options: Options = DEFAULT,
) -> None:
    """Make a project from a CSV or Parquet file.

    Args:
        file: The file: a row an example.
        target: Column to predict.
        time: Column that says when a row was; its place in the file when there is none.
        id: Column that names a row; its number when there is none.
        name: Name of the project; the file's when not given.
        within: How long after a row its outcome may be, such as 36h.
        folder: Where to write; a folder of the project's name when not given.
        yes: Ask nothing: take what is given, and what is found for time and id.
        options: How to answer.
    """
    from mainspring.cli import scaffold, templates
    from mainspring.core.names import check_name
    from mainspring.core.spans import parse_span
    from mainspring.events.columns import column_names

    parse_span(within)
    table = scaffold.look(file)
    name = check_name(name or column_names([file.stem])[0], "project name")
    asks = not yes and not options.json and sys.stdin.isatty()
    if asks:
        columns = [(c.name, c.kind or "?", "yes" if c.nullable else "", f"{c.distinct:,}") for c in table.columns]
        terminal.console().print(terminal.table(("column", "kind", "gaps", "values"), columns, title=file.name))
    if target is None:
        if not asks:
            hint = "--target " + ", ".join(c.name for c in table.columns[-6:])
            raise ConfigError("MS-C075", "which column is to be predicted?", where=str(file), hint=hint)
        target = _ask("predict which column", table.columns[-1].name)
    wanted = table.column(target, "the target")
    time_column = scaffold.guess_time(table) if time is None else table.column(time, "the time")
    id_column = scaffold.guess_id(table, wanted) if id is None else table.column(id, "the id")
    if asks and time is None:
        said = _ask("the time of a row (- for the order of rows)", time_column.name if time_column else "-")
        time_column = None if said == "-" else table.column(said, "the time")
    if asks and id is None:
        said = _ask("the id of a row (- for its number)", id_column.name if id_column else "-")
        id_column = None if said == "-" else table.column(said, "the id")
    choice = scaffold.Choice(name, wanted, time_column, id_column, within)
    scaffold.check(table, choice)
    where = folder or Path(name)
    written = templates.write(table, choice, where)
    steps = [
        f"cd {where}",
        "mainspring apply",
        templates.ingest_command(table, choice, where),
        f"mainspring train {templates.model_name(choice)} --release",
        "mainspring up",
    ]
    answer = {
        "folder": str(where),
        "files": [str(path) for path in written],
        "model": templates.model_name(choice),
        "target": wanted.name,
        "time": time_column.name if time_column else None,
        "id": id_column.name if id_column else None,
        "next": steps,
    }
    lines = [f"wrote {path}" for path in written] + ["", "next:"] + [f"  {step}" for step in steps]
    terminal.answer(options, answer, terminal.text("\n".join(lines)))


def _ask(question: str, default: str) -> str:
    """A line from the terminal; empty is the default."""
    return input(f"{question} [{default}]: ").strip() or default
