"""``mainspring contract``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import ConfigError, ContractError, NotFoundError, RefusedError
from mainspring.core.names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mainspring.catalog import Definition
    from mainspring.events.rehearsal import Rehearsal

app = App(
    name="contract",
    help="What a source's records may be: made, tried out, compared, exported.",
    help_epilogue="""Examples:
  mainspring contract infer payments.csv --time paid_at --id payment_id
  mainspring contract check payments.parquet --source paid
  mainspring contract diff
  mainspring contract diff paid --old 3f2a9c81d0e4
  mainspring contract export paid > paid.schema.json
  mainspring contract import paid.schema.json""",
)


@app.command
def infer(
    file: Path,
    /,
    *,
    name: str | None = None,
    time: str | None = None,
    id: str | None = None,
    options: Options = DEFAULT,
) -> None:
    """Print the class of a source whose records a CSV, JSON Lines or Parquet file holds.

    Args:
        file: Of which up to 100,000 rows are looked at.
        name: Of the source; the file's when not given.
        time: Column of the event time; the first that could be when not given.
        id: Column of the id; one that is called so and is unique when not given.
        options: How to answer.
    """
    from mainspring.cli import scaffold
    from mainspring.cli.source_class import class_text

    table = scaffold.look(file)
    time_column = scaffold.guess_time(table) if time is None else table.column(time, "the time")
    id_column = scaffold.guess_id(table, None) if id is None else table.column(id, "the id")
    text, unused = class_text(table, name, time_column, id_column)
    terminal.answer(options, {"class": text, "unused": unused}, terminal.text(text.rstrip()))


@app.command
def check(
    file: Path,
    /,
    *,
    source: str,
    pick: Annotated[bool, Parameter(negative="")] = False,
    rows: int = 20,
    options: Options = DEFAULT,
) -> int:
    """Hold every row of a file against a source's contract, as the door would; nothing is loaded.

    The exit code is 4 when a row breaks it.

    Args:
        file: CSV, JSON Lines or Parquet.
        source: Name of the source.
        pick: Take the columns that the source knows and leave the others.
        rows: Most kinds of breach that are shown.
        options: Where the project is, and how to answer.
    """
    from mainspring.events.rehearsal import rehearse

    found = rehearse(file, Workspace(options.project).source(source), pick=pick)
    terminal.answer(options, _breaches(found, source, None), *_breach_lines(found, source, rows))
    return ContractError.exit_code if found.broken else 0


def _breaches(found: Rehearsal, source: str, most: int | None) -> dict[str, Any]:
    return {
        "source": source,
        "rows": found.rows,
        "broken": found.broken,
        "breaches": [
            {"code": b.code, "path": b.path, "rows": b.rows, "first_line": b.line, "reason": b.reason}
            for b in found.breaches[:most]
        ],
    }


def _breach_lines(found: Rehearsal, source: str, most: int) -> list[Any]:
    if not found.broken:
        return [terminal.text(f"all {found.rows:,} rows are as {source} wants them", "green")]
    cells = [(b.code, b.path, f"{b.rows:,}", b.line, b.reason) for b in found.breaches[:most]]
    shown = terminal.table(("code", "path", "rows", "first line", "reason there"), cells, right=("rows", "first line"))
    more = len(found.breaches) - most
    left = [terminal.text(f"and {more} more kinds of breach: --rows {len(found.breaches)}")] if more > 0 else []
    return [shown, *left, terminal.text(f"{found.broken:,} of {found.rows:,} rows would go to quarantine", "yellow")]


@app.command
def diff(
    source: str | None = None,
    /,
    *,
    old: str | None = None,
    new: str | None = None,
    options: Options = DEFAULT,
) -> int:
    """Show what changes between two versions of contracts, and whether that may be.

    The exit code is 5 when it may not.

    Args:
        source: Name of the source; all of them when not given.
        old: A version that was applied; what is in force when not given.
        new: A version that was applied; what the definitions file says when not given.
        options: Where the project is, and how to answer.
    """
    from mainspring.catalog.compatibility import breaks, differences

    workspace = Workspace(options.project)
    if source is None and (old is not None or new is not None):
        raise ConfigError("MS-C090", "versions are those of one source", hint="mainspring contract diff SOURCE --old …")
    file = workspace.project.describe()["sources"]
    answer, lines, is_refused = [], [], False
    with workspace.catalog() as catalog:
        current = catalog.definitions()["sources"]
        for name in [source] if source is not None else sorted({*file, *current}):
            known = {v.version: v for v in catalog.definition_versions("sources", name)}
            if name not in file and not known:
                hint = did_you_mean(name, {*file, *current})
                raise NotFoundError("MS-C052", f"no source {name!r} is defined", hint=hint)
            before = current.get(name) if old is None else _version(known, name, old)
            after = file.get(name) if new is None else _version(known, name, new)
            said = _said(before, after, list(differences(before, after)) if before and after else [])
            earlier = [v.description for v in known.values() if v.version != (after or {}).get("version")]
            broken = breaks(after, [before] if old is not None and before else earlier) if after else []
            is_refused |= bool(broken)
            answer.append({"source": name, "old": _of(before), "new": _of(after), "changes": said, "breaks": broken})
            lines.append(terminal.text(f"{name}: {'; '.join(said) or 'the same'}", "yellow" if said else ""))
            lines += [terminal.text(f"  ! {reason}", "bold red") for reason in broken]
    terminal.answer(options, answer, *lines)
    return RefusedError.exit_code if is_refused else 0


def _version(known: Mapping[str, Definition], name: str, version: str) -> Mapping[str, Any]:
    found = [v for v in known if v.startswith(version)]
    if len(found) != 1:
        hint = "applied were " + (", ".join(known) or "none")
        raise NotFoundError("MS-C091", f"source {name} has no version {version!r}", hint=hint)
    return known[found[0]].description


def _of(source: Mapping[str, Any] | None) -> str | None:
    return None if source is None else str(source["version"])


def _said(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, changes: list[str]) -> list[str]:
    if before is None:
        return ["new"]
    return ["gone"] if after is None else changes


@app.command
def export(source: str, /, *, options: Options = DEFAULT) -> None:
    """Print a source's contract as JSON Schema 2020-12.

    Args:
        source: Name of the source.
        options: Where the project is. The answer is JSON always.
    """
    from mainspring.events.json_schema import schema_of

    print(json.dumps(schema_of(Workspace(options.project).source(source)), indent=2, ensure_ascii=False))


@app.command
def import_(
    schema: Path,
    /,
    *,
    name: str | None = None,
    time: str | None = None,
    id: str | None = None,
    options: Options = DEFAULT,
) -> None:
    """Print the class of a source whose records a JSON Schema describes.

    Args:
        schema: File with the schema of an object.
        name: Of the source; the schema's title when not given.
        time: Property with the event time; the first date-time that must be there when not given.
        id: Property with the id.
        options: How to answer.
    """
    from mainspring.events.json_schema import class_of

    if not schema.is_file():
        raise NotFoundError("MS-E400", "no such file", where=str(schema))
    try:
        found = json.loads(schema.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ContractError("MS-E450", f"this is no JSON: {error}", where=str(schema)) from None
    text = class_of(found, name, time, id)
    terminal.answer(options, {"class": text}, terminal.text(text.rstrip()))
