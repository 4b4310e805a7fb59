"""A decision about a rollout, made by a person: checked against what is, written to the log, and shown."""

from __future__ import annotations

from mainspring.cli import terminal
from mainspring.cli.options import Options
from mainspring.cli.people import actor
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import RefusedError


def decide(options: Options, kind: str, model: str, *, version: str | None, reason: str) -> None:
    """Write a decision of ``kind`` about ``model`` and answer with what it changed.

    Raises:
        RefusedError: It would change nothing; the error says why (MS-C060).
    """
    from mainspring.loop.desk import open_desk
    from mainspring.loop.ledger import decision_row

    workspace = Workspace(options.project, as_applied=True)
    is_composite = kind == "rollback" and model in workspace.project.composites
    if not is_composite:
        workspace.model(model)
    now_us = workspace.clock.now_us()
    with open_desk(workspace.config, workspace.project) as desk:
        numbers = {} if version is None else {"version": version}
        named = (kind, f"{kind}-{model}-{now_us}", now_us)
        row = decision_row(*named, model, version, actor(), reason or "by hand", numbers)
        objection = desk.catalog.objection(row)
        if objection:
            raise RefusedError("MS-C060", f"{kind} of {model}: {objection}", hint="mainspring status")
        desk.ledger.decide(
            *named, model=model, subject=version, actor=actor(), reason=reason or "by hand", numbers=numbers
        )
        if is_composite:
            done = {"decision": named[1], "composite": model, "weights": None}
            terminal.answer(options, done, terminal.text(f"{model}: answers the mean of its members"))
            return
        route = next((one for one in desk.catalog.routes() if one.model == model), None)
        rollouts = desk.catalog.rollouts(model)
    if route is None:
        raise RefusedError("MS-C061", f"no version of {model} serves", hint=f"mainspring train {model} --release")
    answer = {
        "decision": named[1],
        "model": model,
        "champion": route.champion,
        "challenger": route.challenger,
        "stage": route.stage,
        "weight": route.weight,
        "last_good": route.last_good,
        "rollout": rollouts[-1].state if rollouts else None,
    }
    serving = f"{model}: {route.champion} serves"
    beside = f", {route.challenger} is in {route.stage} ({route.weight:.0%})" if route.challenger else ""
    paused = ", its rollout is paused" if route.stage == "paused" else ""
    terminal.answer(options, answer, terminal.text(serving + beside + paused))
