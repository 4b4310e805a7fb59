"""``mainspring connect``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, DEFAULT_PROCESS, Options, ProcessOptions
from mainspring.cli.process import run_process
from mainspring.cli.workspace import Workspace
from mainspring.core.times import to_iso

if TYPE_CHECKING:
    from mainspring.events.connectors.declared import Declared
    from mainspring.events.connectors.inlet import Outcome

app = App(
    name="connect",
    help_epilogue="""A connector is a table [connect.NAME] in mainspring.toml: kind (files, sql, postgres, http, mqtt),
source, url, every. Secrets come from the environment: url = "postgresql://me:${PGPASSWORD}@db/rides". Where each
one is, is kept with the log: it may be stopped or killed at any time. `mainspring up` runs them all.

Examples:
  mainspring connect list
  mainspring connect check rides              reads a few rows and shows what the contract says of them
  mainspring connect run rides --once         brings in what is there now
  mainspring connect run rides --once --history    a first load: known when the source says
  mainspring connect run                      all of them, until Ctrl-C
  mainspring connect reset rides              from the beginning, next time""",
)
Flag = Annotated[bool, Parameter(negative="")]
_SHOWN = 10


@app.command
def list_(*, options: Options = DEFAULT) -> None:
    """List the connectors: where they are, what they have brought, what is wrong.

    Args:
        options: Where the project is, and how to answer.
    """
    from mainspring.events.connectors.declared import declared
    from mainspring.events.connectors.run import is_running, state_of
    from mainspring.events.log import Log

    workspace = Workspace(options.project)
    config = workspace.config
    found = declared(config, workspace.project)
    positions = {}
    if config.log_path.exists():
        with Log.open(config.log_path, config.limits.log_map_bytes) as log:
            positions = log.positions()
    data: list[dict[str, Any]] = []
    for name, one in found.items():
        at, said = positions.get(name), state_of(config.run, name)
        state = (said.state if said is not None else "starting") if is_running(config.run, name) else "stopped"
        data.append(
            {
                "name": name,
                "kind": one.kind,
                "source": one.source.name,
                "url": one.url,
                "state": state,
                "rows": at.rows if at is not None else 0,
                "moved_at": to_iso(at.moved_at_us) if at is not None else None,
                "cursor": at.cursor if at is not None else None,
                "error": said.error if said is not None and state == "failing" else "",
            }
        )
    columns = ("name", "kind", "source", "url", "state", "rows", "moved at")
    rows = [(d["name"], d["kind"], d["source"], d["url"], d["state"], d["rows"], d["moved_at"] or "") for d in data]
    errors = [terminal.text(f"{d['name']}: {d['error']}") for d in data if d["error"]]
    terminal.answer(options, {"connectors": data}, terminal.table(columns, rows, right=("rows",)), *errors)


@app.command
def check(name: str, /, *, options: Options = DEFAULT) -> int:
    """Read a few rows and show what the contract says of them; nothing is taken, made or moved.

    Args:
        name: The connector.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.errors import ContractError
    from mainspring.events.connectors.declared import one_declared
    from mainspring.events.connectors.rows import internal_row
    from mainspring.events.contract import Contract
    from mainspring.events.held import Reject
    from mainspring.events.internal import entries_of
    from mainspring.events.quarantine import fields_json

    workspace = Workspace(options.project)
    one = one_declared(workspace.config, workspace.project, name)
    settings = one.settings()
    with one.opened() as connector:
        rows = [internal_row(row, settings, one.source, name) for row in connector.check()]
    contract = Contract(one.source)
    data: list[dict[str, Any]] = []
    for row, entry in zip(rows, entries_of(rows, {one.source.name: contract}, "", is_history=False), strict=True):
        if isinstance(entry, Reject):
            data.append({"place": row.sender, "error": entry.reason, "path": entry.path})
        else:
            shown_row = json.loads(fields_json(one.source, contract.to_dict(entry.row)))
            data.append({"place": row.sender, "row": shown_row})
    wrong = [d for d in data if "error" in d]
    texts = [", ".join(f"{name} {value}" for name, value in d.get("row", {}).items()) for d in data]
    shown = [(d["place"], text, d.get("error", ""), d.get("path", "")) for d, text in zip(data, texts, strict=True)]
    said = terminal.text(f"{one.url} answers; {len(data)} rows were read, {len(wrong)} break the contract")
    found = terminal.table(("found at", "row", "why not", "where"), shown)
    terminal.answer(options, {"name": name, "rows": data}, found, said)
    return ContractError.exit_code if wrong else 0


@app.command
def run(
    name: str | None = None,
    /,
    *,
    once: Flag = False,
    history: Flag = False,
    backfill: Flag = False,
    options: Options = DEFAULT,
    process: ProcessOptions = DEFAULT_PROCESS,
) -> int:
    """Run a connector, or all of them, until Ctrl-C; with --once until there is nothing more.

    Args:
        name: The connector; all of them if it is left out.
        once: Bring in what is there now, and end.
        history: With --once: rows keep the known_at that their source declares, as `ingest` loads files.
        backfill: With --history: allow history from before a prediction that has been served.
        options: Where the project is, and how to answer.
        process: Set by the supervisor that starts it.
    """
    from mainspring.core.errors import ConfigError
    from mainspring.events.connectors.declared import declared, one_declared
    from mainspring.events.connectors.run import run_connectors

    if (history and not once) or (backfill and not history):
        raise ConfigError("MS-C090", "--history goes with --once, and --backfill with --history", hint="add it")
    workspace = Workspace(options.project, process.test_clock, as_applied=True)
    names = declared(workspace.config, workspace.project) if name is None else [name]
    chosen = [one_declared(workspace.config, workspace.project, one) for one in names]
    if once:
        return _once(workspace, chosen, options, history=history, backfill=backfill)
    for one in chosen:
        with one.opened():
            pass  # settings that cannot be are said here, not again and again in a log
    only = () if name is None else (name,)
    run_process(partial(run_connectors, names=only), options, process)
    return 0


@app.command
def reset(name: str, /, *, options: Options = DEFAULT) -> None:
    """Let a connector read from the beginning next time; what came by it stays, and ids tell what is there.

    Args:
        name: The connector.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.run import Lease
    from mainspring.events.connectors.declared import one_declared
    from mainspring.events.connectors.inlet import open_inlet

    workspace = Workspace(options.project)
    config = workspace.config
    one_declared(config, workspace.project, name)
    lease = Lease(config.run / f"connect_{name}.lock")
    lease.require(f"connector {name}")
    try:
        with open_inlet(config, workspace.project, workspace.clock) as inlet:
            at = inlet.position(name)
            inlet.advance(name, at.sequence, None, [])
    finally:
        lease.release()
    said = terminal.text(f"{name} reads from the beginning next time; it had brought {at.rows:,} rows")
    terminal.answer(options, {"name": name, "rows": at.rows}, said)


def _once(workspace: Workspace, chosen: list[Declared], options: Options, *, history: bool, backfill: bool) -> int:
    from mainspring.core.errors import ContractError
    from mainspring.events.connectors.run import run_once

    data: list[dict[str, Any]] = []
    for one in chosen:
        with terminal.counting(options, f"{one.name} into {one.source.name}: rows") as progress:
            tally = _Tally(progress)
            run_once(one, workspace.project, workspace.clock, history=history, backfill=backfill, heard=tally.add)
        data.append({"name": one.name, "source": one.source.name} | tally.counts | {"errors": tally.errors})
    columns = ("name", "source", "accepted", "duplicate", "quarantined")
    rows = [(d["name"], d["source"], *(f"{d[c]:,}" for c in columns[2:])) for d in data]
    parts = [terminal.table(columns, rows, right=columns[2:])]
    wrong = [(d["name"], e["reason"], e["path"]) for d in data for e in d["errors"]]
    if wrong:
        parts.append(terminal.table(("name", "why", "where"), wrong, title="into quarantine"))
    terminal.answer(options, {"connectors": data}, *parts)
    return ContractError.exit_code if any(d["quarantined"] for d in data) else 0


class _Tally:
    """What became of the rows of one connector, batch after batch."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress = progress
        self.counts = {"accepted": 0, "duplicate": 0, "quarantined": 0}
        self.errors: list[dict[str, Any]] = []

    def add(self, outcome: Outcome) -> None:
        for status in outcome.statuses:
            self.counts[status] += 1
        self.errors.extend(outcome.errors[: _SHOWN - len(self.errors)])
        self._progress(sum(self.counts.values()))
