"""``mainspring dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.people import actor
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import MainspringError
from mainspring.core.times import to_iso

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mainspring.training import TrainingSet

app = App(
    name="dataset",
    help_epilogue="""A training set has one row for each past event of the model's request source whose label is mature,
with every feature as it was known at that moment: a replay of production. The same content has the
same hash. With --served its rows are past predictions instead, with the values that were served and
logged, and it says where these differ from a replay.

Examples:
  mainspring dataset build late_flight
  mainspring dataset build late_flight --served
  mainspring dataset build late_flight --json
  mainspring dataset rebuild late_flight 3f2a1b4c5d6e   the same again, from what is kept""",
)


@app.command
def build(
    model: str,
    /,
    *,
    served: Annotated[bool, Parameter(negative="")] = False,
    version: str | None = None,
    options: Options = DEFAULT,
) -> None:
    """Build the training set of a model as of now.

    Args:
        model: Name of the model.
        served: Of the values that were served with past predictions, rather than of a replay.
        version: Only of predictions by this version of the model; implies --served.
        options: Where the project is, and how to answer.
    """
    from mainspring.loop.workshop import Workshop

    workspace = Workspace(options.project)
    workspace.model(model)
    with Workshop.open(workspace.config) as workshop:
        served = served or version is not None
        if served:
            terminal.say(options, f"reading the predictions of {model}, and replaying them to compare …")
        else:
            terminal.say(options, f"replaying the features of {model} at the moment of each request …")
        with terminal.progress(options, "events replayed") as tell:
            built = workshop.build(
                model, workspace.clock.now_us(), actor(), is_served=served, version=version, progress=tell
            )
    rows = [
        (
            "rows",
            f"{built.meta.counts.rows:,} of {built.meta.counts.units:,} {'predictions' if served else 'requests'}",
        ),
        ("left out", _left_out(built)),
        ("base rate", f"{built.meta.base_rate:.4f}"),
        ("from", to_iso(built.meta.from_us)),
        ("until", to_iso(built.meta.until_us)),
        ("folder", built.path),
    ]
    title = terminal.text(f"training set {built.hash} of {model}", "bold")
    parts: list[RenderableType] = [title, terminal.table(("", ""), rows)]
    parts += [terminal.text(f"warning: {one}", "yellow") for one in built.meta.uncomputable]
    if built.meta.served:
        columns = ("feature", "values", "not read when served", "not as replayed then", "not as known at the request")
        numbers = [
            (f.name, *(f"{n:,}" for n in (f.compared, f.unread, f.other_at_logged, f.other_at_request)))
            for f in built.meta.served
        ]
        parts.append(terminal.table(columns, numbers))
    terminal.answer(options, dataset_json(built), *parts)


@app.command
def rebuild(model: str, hash: str, /, *, options: Options = DEFAULT) -> int:
    """Build a training set again from what is kept, and compare it with what it was; restores its files.

    Args:
        model: Name of the model.
        hash: Of the training set, as ``mainspring explain`` and the model's package say it.
        options: Where the project is, and how to answer.
    """
    from mainspring.loop.workshop import Workshop

    workspace = Workspace(options.project)
    workspace.model(model)
    with Workshop.open(workspace.config) as workshop:
        again, folder = workshop.rebuild(model, hash)
    is_same = again == hash
    said = f"bit for bit the same: {folder}" if is_same else f"it is {again} now: some of what it was made of has gone"
    data = {"hash": hash, "again": again, "is_same": is_same, "path": str(folder)}
    terminal.answer(options, data, terminal.text(f"training set {hash} of {model}: {said}"))
    return 0 if is_same else MainspringError.exit_code


def dataset_json(built: TrainingSet) -> dict[str, Any]:
    """A training set as ``--json`` shows it."""
    import msgspec

    meta: dict[str, Any] = msgspec.to_builtins(built.meta)
    return {"hash": built.hash, "path": str(built.path)} | meta


def _left_out(built: TrainingSet) -> str:
    counts = built.meta.counts
    parts = {
        "not mature yet": counts.immature,
        "held by an incident": counts.held,
        "without an outcome": counts.excluded,
        "reached by a window that failed a check": counts.left_out,
        "served with other features": counts.other_features,
        "for which an expression cannot be computed": counts.uncomputable,
    }
    return ", ".join(f"{n:,} {why}" for why, n in parts.items() if n) or "none"
