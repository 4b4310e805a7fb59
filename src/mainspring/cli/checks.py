"""``mainspring checks``."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.pairs import Pairs, pair, value
from mainspring.cli.people import actor
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import MainspringError, NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.core.spans import format_span
from mainspring.core.times import to_iso

app = App(
    name="checks",
    help_epilogue="""Checks are declared in the definitions (ms.check); the worker looks at each as its
window ends, and opens one incident a source and column.

Examples:
  mainspring checks list
  mainspring checks run                     look now, write nothing; exit code 1 if one fails
  mainspring checks history arrived_volume
  mainspring checks accept check-arrived-dep_delay_min-1709251200000000 --reason "new unit"
  mainspring checks mend check-arrived-arr_delay_min-1709251200000000 --reason "sent in seconds" \\
      --with-expr "arr_delay_min=arr_delay_min / 60" --dry-run
  mainspring checks mend check-arrived-air_time_min-1709251200000000 --reason "stood still" \\
      --set air_time_min=null --where "air_time_min == 123"
  mainspring checks mend arrived --since 2024-03-01T04:00Z --until 2024-03-01T09:30Z \\
      --withdraw --reason "another airport's feed"
  mainspring checks mend arrived --since 2024-03-01T04:00Z --until 2024-03-01T09:30Z \\
      --restore --reason "it was ours after all\"""",
)
EXAMPLES = 10


@app.command
def list_(*, options: Options = DEFAULT) -> None:
    """List the checks of the definitions file with what each said last.

    Args:
        options: Where the project is, and how to answer.
    """
    workspace = Workspace(options.project)
    checks = workspace.project.checks.values()
    with workspace.catalog() as catalog:
        last = {check.name: next(iter(catalog.check_results(check.name, 1)), None) for check in checks}
    data = [
        check.describe() | {"last": None if (one := last[check.name]) is None else _result(one)} for check in checks
    ]
    rows = []
    for check in checks:
        one = last[check.name]
        said = ("-", "not looked at yet") if one is None else (one.state, one.reason)
        rows.append((check.name, format_span(check.every_us), "blocking" if check.blocking else "warning", *said))
    terminal.answer(options, data, terminal.table(("check", "every", "", "last", "what"), rows))


@app.command
def run(*names: str, options: Options = DEFAULT) -> int:
    """Look at the window that ends now; nothing is written, and no incident opened.

    Args:
        names: Only these; all if none is named.
        options: Where the project is, and how to answer.
    """
    from mainspring.loop.checks import Checker

    workspace = Workspace(options.project)
    known = workspace.project.checks
    for name in names:
        _known(name, workspace)
    now_us = workspace.now_us()
    with workspace.log() as log, workspace.history() as history, workspace.catalog() as catalog:
        checker = Checker(workspace.config, workspace.project, log, history, catalog, now_us)
        found = checker.look([known[name] for name in names or known], now_us)
    data = [
        {"check": name, "state": one.state, "reason": one.reason, "p": one.p, "value": one.value}
        for name, one in found.items()
    ]
    rows = [(name, one.state, one.reason) for name, one in found.items()]
    terminal.answer(options, data, terminal.table(("check", "now", "what"), rows))
    return MainspringError.exit_code if any(one.state == "fail" for one in found.values()) else 0


@app.command
def history(name: str | None = None, /, *, last: int = 30, options: Options = DEFAULT) -> None:
    """Show what checks said of the windows that have ended, the latest first.

    Args:
        name: Of one check; of all without.
        last: How many results.
        options: Where the project is, and how to answer.
    """
    workspace = Workspace(options.project)
    with workspace.catalog() as catalog:
        found = catalog.check_results(name, last)
    if name is not None and not found:
        _known(name, workspace)
    rows = [(to_iso(one.at_us), one.check, one.state, one.reason) for one in found]
    terminal.answer(options, [_result(one) for one in found], terminal.table(("until", "check", "", "what"), rows))


@app.command
def accept(incident: str, /, *, reason: Annotated[str, Parameter()], options: Options = DEFAULT) -> None:
    """Say that what a check found is right: others are compared with it, and training sets have it again.

    An incident that is open is closed; one that has closed by itself can be accepted as well.

    Args:
        incident: Its id, as ``mainspring status`` shows it.
        reason: Why, for the record.
        options: Where the project is, and how to answer.
    """
    from mainspring.loop.desk import open_desk

    workspace = Workspace(options.project)
    now_us = workspace.now_us()
    with open_desk(workspace.config, workspace.project) as desk:
        known = [one.incident_id for one in desk.catalog.incidents() if one.kind in ("check", "shift")]
        if incident not in known:
            hint = did_you_mean(incident, known) or "mainspring status"
            raise NotFoundError("MS-C110", f"there is no incident {incident!r} of a check", hint=hint)
        desk.ledger.decide(
            "incident_accept",
            f"incident_accept-{incident}",
            now_us,
            subject=incident,
            actor=actor(),
            reason=f"accepted: {reason}",
        )
    terminal.answer(options, {"accepted": incident}, terminal.text(f"{incident} is right, and closed"))


@app.command
def mend(  # noqa: PLR0913  an option a repair
    target: str,
    /,
    *,
    reason: Annotated[str, Parameter()],
    with_expr: Pairs = (),
    set: Pairs = (),
    where: str = "",
    withdraw: Annotated[bool, Parameter(negative="")] = False,
    restore: Annotated[bool, Parameter(negative="")] = False,
    since: str | None = None,
    until: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    options: Options = DEFAULT,
) -> None:
    """Correct the accepted events of a bad window, and close its incident.

    A correction is an event of its own, which counts from now on, live and in replay; what came stays as it came. The
    same command again changes nothing. Another mend of the same window changes only the columns and events it names;
    what it computes begins from what came.

    Args:
        target: An incident of a check, as ``mainspring status`` shows it, or a source.
        reason: Why, for the record.
        with_expr: COLUMN=FORMULA over the event's columns: amount="amount / 100".
        set: COLUMN=VALUE, in JSON or as text.
        where: A condition over what came; only events of which it is true.
        withdraw: Take the events back: what their rows said before holds again, or nothing.
        restore: Take earlier mends of the events back: what came holds again.
        since: When the first became known that are wrong; the incident's window without it.
        until: When the first became known that are right again.
        dry_run: Show what would be sent, and send nothing.
        options: Where the project is, and how to answer.
    """
    from mainspring.events.amending import Amendment
    from mainspring.loop.mends import Asked
    from mainspring.loop.mends import mend as make

    workspace = Workspace(options.project)
    amendment = Amendment(
        dict(pair(one, "--with-expr") for one in with_expr),
        {column: value(text) for column, text in (pair(one, "--set") for one in set)},
        where,
        withdraw,
        restore,
    )
    span = (None if text is None else workspace.now_us(text) for text in (since, until))
    asked = Asked(target, amendment, actor(), reason, *span)
    done = make(workspace.config, workspace.project, workspace.clock, asked, dry_run=dry_run)
    window, plan = done.window, done.plan
    counts = Counter(one.operation for one in plan.changes)
    miscounted = [f"{one.model}@{one.version}" for one in done.rests]
    data = {
        "source": window.source,
        "since": to_iso(window.since_us),
        "until": to_iso(window.until_us),
        "incident": window.incident,
        "sent": done.sent,
        "would_send": len(plan.changes) if dry_run else 0,
        "changed": counts["changed"],
        "withdrawn": counts["withdrawn"],
        "restored": counts["restored"],
        "done_before": len(plan.done),
        "unchanged": plan.unchanged,
        "stay_withdrawn": plan.withdrawn,
        "corrected_since": plan.later,
        "examples": [
            {"id": one.ident, "operation": one.operation, "held": one.held, "holds": one.holds, "columns": one.columns}
            for one in plan.changes[:EXAMPLES]
        ],
        "miscounted_by": miscounted,
    }
    rows = []
    for one in plan.changes[:EXAMPLES]:
        if one.held and one.holds:
            was, becomes = (", ".join(str(pair[i]) for pair in one.columns.values()) for i in (0, 1))
        else:
            was, becomes = ("a row" if there else "none" for there in (one.held, one.holds))
        rows.append((one.ident, one.operation, ", ".join(one.columns), was, becomes))
    parts = [terminal.table((window.source, "", "column", "now", "becomes"), rows)] if rows else []
    word = "would be sent" if dry_run else "were sent"
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in counts.items())
    said = f"{len(plan.changes):,} corrections of {window.source} {word}" + (f" ({kinds})" if kinds else "")
    said += f"; {plan.unchanged:,} events stay as they are" if plan.unchanged else ""
    said += f"; {plan.withdrawn:,} stay withdrawn, --restore brings them back" if plan.withdrawn else ""
    said += f"; {len(plan.done):,} had been corrected so before" if plan.done else ""
    said += f"; {plan.later:,} have been corrected otherwise since, and are left alone" if plan.later else ""
    if window.incident is not None and not dry_run and (plan.changes or plan.done):
        said += f"; {window.incident} {'is bad again' if amendment.is_undoing else 'is closed'}"
    notes = [terminal.text(f"{name} would count them as further events") for name in miscounted]
    terminal.answer(options, data, *parts, terminal.text(said), *notes)


def _known(name: str, workspace: Workspace) -> None:
    checks = workspace.project.checks
    if name not in checks:
        raise NotFoundError("MS-C111", f"no check {name!r} is defined", hint=did_you_mean(name, checks))


def _result(one: Any) -> dict[str, Any]:
    return {
        "check": one.check,
        "until": to_iso(one.at_us),
        "state": one.state,
        "reason": one.reason,
        "p": one.p,
        "value": one.value,
    }
