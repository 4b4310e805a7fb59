"""``mainspring quarantine``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.pairs import Pairs, pair, value
from mainspring.cli.workspace import Workspace
from mainspring.core.times import to_iso

app = App(
    name="quarantine",
    help_epilogue="""A record that breaks its contract waits here with its bytes, the reason and where in it the reason
lies. Mended, it goes through the door again, and becomes known when it is replayed. What is still
wrong stays.

Examples:
  mainspring quarantine list --source arrived
  mainspring quarantine show 17
  mainspring quarantine replay arrived --rename delay=arr_delay_min --scale arr_delay_min=0.0166667
  mainspring quarantine replay arrived --with-expr "arr_delay_min=delay_s / 60" --drop delay_s
  mainspring quarantine replay arrived --drop comment --set carrier=UA --only 17 --only 18
  mainspring quarantine replay arrived                 as they are, after the contract was mended
  mainspring quarantine discard arrived --only 17 --reason "a test of the sender's"
  mainspring quarantine discard arrived --all --reason 'sent twice: the feed of 3 March'""",
)
Numbers = Annotated[tuple[int, ...], Parameter(consume_multiple=False, negative="")]


@app.command
def list_(*, source: str | None = None, limit: int = 20, options: Options = DEFAULT) -> None:
    """List the records that wait.

    Args:
        source: Of this source alone.
        limit: How many at most.
        options: Where the project is, and how to answer.
    """
    from mainspring.events.log import Log

    workspace = Workspace(options.project)
    config = workspace.config
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        found = log.quarantined(source)
    data = [_described(one) for one in found[:limit]]
    columns = ("number", "source", "held at", "why", "where", "sender")
    rows = [(d["number"], d["source"], d["held_at"], d["reason"], d["path"], d["sender"]) for d in data]
    shown = terminal.table(columns, rows, right=("number",))
    more = f"{len(found):,} wait" + (f"; {limit} are shown" if len(found) > limit else "")
    terminal.answer(options, {"waiting": len(found), "records": data}, shown, terminal.text(more))


@app.command
def show(number: int, /, *, options: Options = DEFAULT) -> None:
    """Show one record with its bytes.

    Args:
        number: As `list` shows it.
        options: Where the project is, and how to answer.
    """
    from mainspring.events.log import Log

    workspace = Workspace(options.project)
    config = workspace.config
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        held = log.held(number)
    data = _described(held) | {"text": held.text, "is_cut": held.is_cut}
    rows = [(key, value) for key, value in data.items() if value not in (None, "", False)]
    terminal.answer(options, data, terminal.table(("", ""), rows))


@app.command
def replay(  # noqa: PLR0913  an option a repair
    source: str,
    /,
    *,
    rename: Pairs = (),
    drop: Pairs = (),
    cast: Pairs = (),
    scale: Pairs = (),
    with_expr: Pairs = (),
    set: Pairs = (),
    only: Numbers = (),
    options: Options = DEFAULT,
) -> int:
    """Mend the records of a source and send them through the door again.

    Args:
        source: Name of the source.
        rename: OLD=NEW: a column that came under another name.
        drop: A column to leave out.
        cast: COLUMN=KIND, of float, int and str.
        scale: COLUMN=FACTOR: multiply numbers.
        with_expr: COLUMN=FORMULA over all fields of the record: arr_delay_min="arr_delay_s / 60".
        set: COLUMN=VALUE, in JSON or as text.
        only: Number of a record; all of the source when not given.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.errors import ContractError

    workspace = Workspace(options.project)
    workspace.source(source)
    mend: dict[str, Any] = {
        "rename": dict(pair(one, "--rename") for one in rename),
        "drop": list(drop),
        "cast": dict(pair(one, "--cast") for one in cast),
        "scale": {column: _number(text) for column, text in (pair(one, "--scale") for one in scale)},
        "compute": dict(pair(one, "--with-expr") for one in with_expr),
        "set": {column: value(text) for column, text in (pair(one, "--set") for one in set)},
        "only": list(only),
    }
    done = _ask(workspace, f"/quarantine/{source}/replay", mend)
    counts = [(word, f"{done[word]:,}") for word in ("accepted", "duplicate", "quarantined")]
    parts = [terminal.table(("now", source), counts, right=(source,))]
    if done["errors"]:
        rows = [(one["index"], one["reason"], one["path"]) for one in done["errors"][:20]]
        parts.append(terminal.table(("number", "still wrong", "where"), rows, right=("number",)))
    terminal.answer(options, {"source": source, "mend": mend} | done, *parts)
    return ContractError.exit_code if done["quarantined"] else 0


@app.command
def discard(
    source: str,
    /,
    *,
    reason: str,
    only: Numbers = (),
    all: Annotated[bool, Parameter(negative="")] = False,
    options: Options = DEFAULT,
) -> None:
    """Close records of a source that will not be mended; their bytes are dropped.

    Args:
        source: Name of the source.
        reason: Why: kept with each of the records.
        only: Number of a record.
        all: All of the source that wait.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.errors import ConfigError

    workspace = Workspace(options.project)
    workspace.source(source)
    if bool(only) == all:
        raise ConfigError("MS-C068", "which records are to be discarded?", hint="--only NUMBER, or --all")
    wanted = {"only": list(only), "all": all, "reason": reason}
    done = _ask(workspace, f"/quarantine/{source}/discard", wanted)
    terminal.answer(options, {"source": source} | done, terminal.text(f"{done['discarded']:,} discarded"))


def _ask(workspace: Workspace, path: str, body: dict[str, Any]) -> dict[str, Any]:
    from mainspring.core.run import internal_token, read_door
    from mainspring.events.client import IntakeClient
    from mainspring.loop.desk import standing_intake

    with standing_intake(workspace.config):
        url = read_door(workspace.config.run, "intake") or ""
        with IntakeClient(url, internal_token(workspace.config.run)) as client:
            return client.post_json(path, body)


def _described(held: Any) -> dict[str, Any]:
    return {
        "number": held.sequence,
        "source": held.source,
        "held_at": to_iso(held.held_at_us),
        "code": held.code,
        "reason": held.reason,
        "path": held.path,
        "sender": held.sender,
        "version": held.version,
        "status": held.status,
        "note": held.note,
    }


def _number(text: str) -> float:
    from mainspring.core.errors import ConfigError

    try:
        return float(text)
    except ValueError:
        raise ConfigError("MS-C066", f"--scale by {text!r}, which is no number") from None
