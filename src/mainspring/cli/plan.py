"""``mainspring plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclopts import App

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mainspring.catalog import Plan

app = App(
    name="plan",
    help_epilogue="""Compares the definitions file with what is in force: what is added, changed and removed, what may
not be changed, what is worth knowing, and what a new version of a feature view costs: events to
replay, time and state. It changes nothing.

Examples:
  mainspring plan
  mainspring plan --json -C my_project""",
)
_STYLES = {"add": "green", "change": "yellow", "remove": "red", "note": "dim", "warn": "yellow", "refuse": "bold red"}


@app.default
def plan(*, options: Options = DEFAULT) -> int:
    """Show what an apply would change. The exit code is 5 when it would be refused."""
    from mainspring.core.errors import RefusedError
    from mainspring.loop.apply import plan_project

    workspace = Workspace(options.project)
    found = plan_project(workspace.config, workspace.project)
    terminal.answer(options, plan_json(found), *plan_text(found))
    return RefusedError.exit_code if found.refusals else 0


def plan_json(found: Plan) -> dict[str, Any]:
    """A plan as ``--json`` shows it."""
    lines = [
        {
            "action": one.action,
            "kind": one.kind,
            "name": one.name,
            "text": one.text,
            "events": one.events,
            "keys": one.cost.keys if one.cost is not None else None,
            "bytes": one.cost.bytes if one.cost is not None else None,
            "seconds": one.cost.seconds if one.cost is not None else None,
            "models": list(one.models),
        }
        for one in found.lines
    ]
    return {"lines": lines, "changes": len(found.changes), "events": found.events, "refused": bool(found.refusals)}


def plan_text(found: Plan) -> list[RenderableType]:
    """A plan as a terminal shows it."""
    out: list[RenderableType] = [terminal.text(str(one), _STYLES[one.action]) for one in found.lines]
    if not found.changes:
        out.append(terminal.text("nothing changes"))
    if found.events:
        out.append(terminal.text(f"{found.events:,} events are replayed into new feature views"))
    return out
