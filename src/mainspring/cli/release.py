"""``mainspring release``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.people import actor
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import NotFoundError, RefusedError

app = App(
    name="release",
    help_epilogue="""A model that serves nobody yet goes live at once. Else the version is scored in shadow beside the
champion, then takes rising shares of traffic, and is promoted or rolled back on evidence. A rollout
that is under way ends.

Examples:
  mainspring release late_flight                       the newest version
  mainspring release late_flight --version 4f2a9c01d3b7
  mainspring release late_flight --force               past gates that it does not pass""",
)


@app.default
def release(
    model: str,
    /,
    *,
    version: str | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    reason: str = "",
    options: Options = DEFAULT,
) -> None:
    """Start a rollout of a trained version.

    Args:
        model: Name of the model.
        version: Which version; the newest when not given.
        force: Release it past gates that it does not pass.
        reason: Why: kept with the decision.
        options: Where the project is, and how to answer.
    """
    from mainspring.loop.desk import open_desk
    from mainspring.loop.workshop import Workshop

    workspace = Workspace(options.project)
    workspace.model(model)
    with open_desk(workspace.config, workspace.project) as desk:
        versions = desk.catalog.versions(model)
        if not versions:
            raise NotFoundError("MS-C062", f"{model} has no version yet", hint=f"mainspring train {model}")
        chosen = version or versions[-1].version
        under_way = desk.catalog.rollout(model)
        if under_way is not None and not force:
            what = f"a rollout of {model} to {under_way.challenger} is under way"
            hint = f"mainspring rollback {model}, or --force to end it"
            raise RefusedError("MS-C063", what, why="its evidence would be lost", hint=hint)
        with Workshop.open(workspace.config) as workshop:
            workshop.release(
                model, chosen, workspace.clock.now_us(), actor=actor(), reason=reason or "by hand", force=force
            )
        desk.ledger.project()
        made = desk.catalog.decisions("release", model=model, limit=1)[0]
        if made.note:
            raise RefusedError("MS-C060", f"release of {model}: {made.note}", hint="mainspring status")
        rollout = desk.catalog.rollouts(model)[-1]
    answer = {"model": model, "version": chosen, "stage": rollout.stage, "weight": rollout.weight}
    live = rollout.stage == "live"
    shown = f"{model}: {chosen} serves" if live else f"{model}: {chosen} is in {rollout.stage}"
    terminal.answer(options, answer | {"rollout": rollout.rollout_id}, terminal.text(shown))
