"""``mainspring apply``."""

from __future__ import annotations

from cyclopts import App

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.people import actor
from mainspring.cli.plan import plan_json, plan_text
from mainspring.cli.workspace import Workspace

app = App(
    name="apply",
    help_epilogue="""Prints the plan and carries it out. The decision is an event in the log, with your name on it. A
change that would make stored events unreadable is refused (exit code 5). The first apply of a
project makes the tables of the tracking store, which takes some seconds.

Examples:
  mainspring apply
  mainspring apply --reason "windows of two hours" -C my_project""",
)


@app.default
def apply(*, reason: str = "", options: Options = DEFAULT) -> None:
    """Put the definitions file in force.

    Args:
        reason: Why: kept with the decision.
        options: Where the project is, and how to answer.
    """
    from mainspring.loop.apply import apply_project

    workspace = Workspace(options.project)
    found = apply_project(workspace.config, now_us=workspace.clock.now_us(), actor=actor(), reason=reason)
    done = terminal.text("applied" if found.changes else "in force already")
    terminal.answer(options, plan_json(found) | {"applied": bool(found.changes)}, *plan_text(found), done)
