"""``mainspring train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.people import actor
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import NotFoundError

if TYPE_CHECKING:
    from rich.console import RenderableType

app = App(
    name="train",
    help_epilogue="""Builds the training set as of now, fits on its earlier part, evaluates on its later part beside a
baseline and the champion, judges the gates, packages the model as ONNX, checks the package against
the estimator, and records the run in MLflow. With --release a version that passes its gates is
released: live at once when nothing serves yet, else into shadow.

Examples:
  mainspring train late_flight
  mainspring train late_flight --release
  mainspring train late_flight --dataset 0c5d1f2a9b7e     on a training set that is there already""",
)


@app.default
def train(
    model: str,
    /,
    *,
    release: Annotated[bool, Parameter(negative="")] = False,
    force: Annotated[bool, Parameter(negative="")] = False,
    dataset: str | None = None,
    reason: str = "",
    options: Options = DEFAULT,
) -> int:
    """Train a model. The exit code is 5 when a gate is not met.

    Args:
        model: Name of the model.
        release: Release the version when it passes its gates.
        force: With --release: release it past gates that it does not pass.
        dataset: Hash of a training set to train on, rather than one built now.
        reason: Why: kept with the decision.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.errors import RefusedError
    from mainspring.loop.desk import open_desk
    from mainspring.loop.workshop import Workshop
    from mainspring.training.gates import describe

    workspace = Workspace(options.project)
    workspace.model(model)
    now_us = workspace.clock.now_us()
    with open_desk(workspace.config, workspace.project) as desk, Workshop.open(workspace.config) as workshop:
        if dataset is None:
            terminal.say(options, f"replaying the features of {model} at the moment of each request …")
            with terminal.progress(options, "events replayed") as tell:
                built = workshop.build(model, now_us, actor(), progress=tell)
            dataset, path = built.hash, built.path
            for one in built.meta.uncomputable:
                terminal.say(options, f"warning: {one}")
        else:
            found = desk.catalog.dataset(model, dataset)
            if found is None:
                hint = f"mainspring dataset build {model}"
                raise NotFoundError("MS-C064", f"{model} has no training set {dataset}", hint=hint)
            path = workspace.config.located(found.path)
        terminal.say(options, f"training on {dataset} …")
        candidate = workshop.train(model, path, now_us, actor=actor(), reason=reason or "by hand")
        releases = release and (candidate.passed or force)
        if releases:
            workshop.release(model, candidate.version, now_us, actor=actor(), reason=reason or "by hand", force=force)
            desk.ledger.project()
        route = next((one for one in desk.catalog.routes() if one.model == model), None)
    answer = {
        "model": model,
        "version": candidate.version,
        "dataset": dataset,
        "run_id": candidate.run_id,
        "path": str(candidate.path),
        "metrics": dict(candidate.metrics),
        "passed": candidate.passed,
        "gates": [{"gate": g.gate, "passed": g.passed, "value": g.value, "bound": g.bound} for g in candidate.gates],
        "released": releases,
        "serves": route is not None and route.champion == candidate.version,
    }
    metrics = [(name, f"{value:.4f}") for name, value in sorted(candidate.metrics.items())]
    parts: list[RenderableType] = [
        terminal.text(f"{model} {candidate.version}", "bold"),
        terminal.table(("metric", "test"), metrics),
    ]
    parts += [terminal.text(describe(gate), "green" if gate.passed else "red") for gate in candidate.gates]
    if releases:
        parts.append(terminal.text("it serves now" if answer["serves"] else "it is in shadow beside the champion now"))
    elif candidate.passed:
        parts.append(terminal.text(f"release it with: mainspring release {model}"))
    terminal.answer(options, answer, *parts)
    return 0 if candidate.passed or releases else RefusedError.exit_code
