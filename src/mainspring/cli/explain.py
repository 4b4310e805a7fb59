"""``mainspring explain``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cyclopts import App

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace
from mainspring.core.times import to_iso

if TYPE_CHECKING:
    from rich.tree import Tree

    from mainspring.loop.composition import Composition
    from mainspring.loop.lineage import FeatureLineage, Lineage

app = App(
    name="explain",
    help_epilogue="""From the id that an answer carries: the model version that answered, its run, its training set, the
request, each feature value with its status, the events that were in its window at that moment, and
the versions of every definition. Of a composite: what each member said, by which weights, and the id
of that prediction.

Examples:
  mainspring explain k3f9-7
  mainspring explain k3f9-7 --json | jq .features""",
)
_SHOWN = 3


@app.default
def explain(prediction_id: str, /, *, options: Options = DEFAULT) -> None:
    """Walk from a prediction to all that it came from.

    Args:
        prediction_id: As the gateway answered it.
        options: Where the project is, and how to answer.
    """
    from mainspring.loop.lineage import Lineage, trace

    workspace = Workspace(options.project, as_applied=True)
    with workspace.history(passes_over=True) as history, workspace.catalog() as catalog:
        found = trace(catalog, history, prediction_id)
        damaged = [one.error for one in history.lake.unread.values()]
    tracking = workspace.config.tracking_url
    tree = _tree(found, tracking) if isinstance(found, Lineage) else _composition_tree(found)
    for error in damaged:
        damage = tree.add(terminal.text(f"not needed for this, but damaged: {error.where}: {error.why}", "red"))
        damage.add(terminal.text(error.hint))
    shown = found.to_dict() | {"tracking": tracking, "damaged": [error.to_dict() for error in damaged]}
    terminal.answer(options, shown, tree)


def _root(one: Mapping[str, Any]) -> Tree:
    """What was answered, and what it was made of where output rules acted."""
    from rich.tree import Tree

    output = one["output"]
    answer = one["answered"] if one["rules"] else output
    said = "no answer" if answer is None else f"{answer:.6g}"
    tree = Tree(terminal.text(f"prediction {one['prediction_id']}: {said}", "bold"))
    if one["rules"]:
        tree.add(terminal.text(f"the output was {output:.6g}; changed by output rules: {one['rules']}"))
    return tree


def _composition_tree(found: Composition) -> Tree:
    one = found.prediction
    tree = _root(one)
    how = found.how or "a definition that the catalog does not know"
    tree.add(terminal.text(f"composite {one['model']}, version {one['version']}: {how}"))
    if one["error"] or one["fallback"]:
        tree.add(terminal.text(_failure(one), "red"))
    if found.weights is not None:
        given = found.weights
        tree.add(
            terminal.text(f"weights {given.subject}, given {to_iso(given.at_us)} by {given.actor}: {given.reason}")
        )
    members = tree.add(terminal.text(f"{len(found.said)} members, {one['latency_us'] / 1000:.2f} ms"))
    for part in found.said:
        output = "nothing" if part.output is None else f"{part.output:.6g}"
        counted = "" if part.weight is None else f", weight {part.weight:.4g}"
        line = members.add(terminal.text(f"{part.member} {part.version} said {output}{counted}"))
        if part.prediction_id is not None:
            line.add(terminal.text(f"mainspring explain {part.prediction_id}"))
    return tree


def _tree(found: Lineage, tracking: str) -> Tree:
    one, version = found.prediction, found.version
    tree = _root(one)

    def branch(at: Tree, line: str, style: str = "") -> Tree:
        return at.add(terminal.text(line, style))

    branch(
        tree,
        f"at {terminal.safe(one['predicted_at'])}, log folded up to {one['folded']}, {one['latency_us'] / 1000:.2f} ms",
    )
    by = branch(
        tree, f"model {version.model}, version {version.version}, as {one['variant']} (p = {one['probability']:g})"
    )
    if one["error"] or one["fallback"]:
        branch(by, _failure(one), "red")
    branch(by, f"package {version.path}")
    branch(by, f"MLflow run {version.run_id or '-'} in {tracking}")
    if found.model is not None:
        branch(
            by, f"definition {found.model.version}, applied {to_iso(found.model.first_at_us)} by {found.model.actor}"
        )
    if found.dataset is None:
        branch(by, f"training set {version.dataset}, which the catalog does not know", "red")
    else:
        branch(by, f"training set {found.dataset.hash}: {found.dataset.rows:,} rows in {found.dataset.path}")
    if found.request is None:
        branch(tree, f"request {one['request_id'] or 'without an id'}: not kept as an event")
    else:
        asked = branch(tree, f"request {one['request_id']}, event {found.request['_offset']}")
        for name, value in found.request.items():
            if not name.startswith("_"):
                branch(asked, f"{name} = {terminal.short(value, 200)}")
    features = branch(tree, f"{len(found.features)} feature values")
    for feature in found.features:
        _add(features, feature)
    return tree


def _add(features: Tree, one: FeatureLineage) -> None:
    value = f"{one.value:.6g}" if isinstance(one.value, float) else _plain(one.value)
    line = f"{one.name} = {value}" + ("" if one.status == "present" else f" ({one.status})")
    node = features.add(terminal.text(line, "" if one.status == "present" else "yellow"))
    if one.view is None:
        if one.expression is not None:
            node.add(terminal.text(one.expression))
        if one.inputs:
            inputs = ", ".join(f"{k} = {_plain(v)}" for k, v in one.inputs.items())
            node.add(terminal.text(f"from the request: {inputs}"))
        for read in one.reads:
            _add(node, read)
        return
    key = ", ".join(f"{k} = {_plain(v)}" for k, v in (one.key or {}).items()) or "unknown key"
    node.add(
        terminal.text(
            f"{one.function} of {one.source} ({one.source_version}) for {key}; view {one.view} {one.view_version}"
        )
    )
    if one.window is not None:
        since = "the beginning" if one.window[0] is None else to_iso(one.window[0])
        window = node.add(terminal.text(f"{one.event_count:,} events from {since} until {to_iso(one.window[1])}"))
        for event in one.events[:_SHOWN]:
            window.add(terminal.text(f"event {event.offset}, id {event.id or '-'}, {to_iso(event.time_us)}"))
        if one.event_count > _SHOWN and len(one.events) > _SHOWN:
            window.add(terminal.text(f"… {one.event_count - _SHOWN:,} earlier ones"))


def _failure(one: Mapping[str, Any]) -> str:
    """What kept the model from answering, and who answered instead."""
    said = f"fallback {one['fallback']}" if one["fallback"] else "failed"
    return f"{said}: {one['error']}" if one["error"] else said


def _plain(value: Any) -> str:
    return "null" if value is None else terminal.short(value, 200)
