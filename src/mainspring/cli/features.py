"""``mainspring features``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import MainspringError, NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.core.times import to_iso

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mainspring.definitions import ViewDef
    from mainspring.features import OnlineStore

app = App(
    name="features",
    help_epilogue="""A view's values come from the online store (what a request would be served now) or from a
replay of history (what was known at any moment of the past): both are the same fold.

Examples:
  mainspring features list
  mainspring features describe carrier
  mainspring features show carrier UA
  mainspring features show carrier UA --at 2013-07-01T12:00:00Z
  mainspring features diff carrier UA               online against replay, now
  mainspring features diff carrier --old 3f2a…      two versions, over a sample of keys
  mainspring features nearest listing.photo L17     keys whose latest vectors are nearest
  mainspring features backfill carrier""",
)


@app.command
def list_(*, options: Options = DEFAULT) -> None:
    """List the feature views: what they are of, whether they serve, how far they are behind, who reads them.

    Args:
        options: Where the project is, and how to answer.
    """
    from mainspring.features.freshness import freshness
    from mainspring.loop.consumers import consumers
    from mainspring.loop.views import versions_in

    workspace = Workspace(options.project)
    now_us = workspace.clock.now_us()
    data: list[dict[str, Any]] = []
    with workspace.catalog() as catalog, workspace.log() as log, workspace.online() as store:
        for view in workspace.project.views.values():
            readers = consumers(view.name, workspace.project, catalog)
            fresh = freshness(view, store, log, now_us) if store is not None else None
            others = [v for v in versions_in(store, view.name) if v != view.version]
            data.append(
                {
                    "view": view.name,
                    "version": view.version,
                    "entity": list(view.entity),
                    "sources": [s.name for s in view.sources],
                    "features": view.width,
                    "state": _state_word(fresh),
                    "lag_records": fresh.lag.records if fresh is not None and fresh.offset is not None else None,
                    "older_versions": others,
                    "used_by": [*readers.models, *readers.views],
                }
            )
    columns = ("view", "version", "by", "of", "features", "state", "records behind", "older versions", "used by")
    rows = [
        (
            one["view"],
            str(one["version"])[:12],
            ", ".join(one["entity"]),
            ", ".join(one["sources"]),
            one["features"],
            one["state"],
            "-" if one["lag_records"] is None else f"{one['lag_records']:,}",
            len(one["older_versions"]),
            ", ".join(one["used_by"]) or "nobody",
        )
        for one in data
    ]
    shown = terminal.table(columns, rows, right=("features", "records behind", "older versions"))
    terminal.answer(options, {"views": data}, shown)


@app.command
def describe(view: str, /, *, version: str | None = None, options: Options = DEFAULT) -> None:
    """Show all there is to know of a feature view: definition, state, statistics, versions, readers.

    Args:
        view: Name of the view.
        version: Another version than that of the definitions file; its beginning will do.
        options: Where the project is, and how to answer.
    """
    from mainspring.cli.feature_page import described
    from mainspring.loop.views import describe_view, versions_in

    workspace = Workspace(options.project)
    with workspace.catalog() as catalog, workspace.log() as log, workspace.online() as store:
        known = _versions(workspace, catalog, view)
        chosen = _version(view, known, version)
        data = describe_view(chosen, workspace.project, catalog, store, log, workspace.clock.now_us())
        standing = versions_in(store, view)
        needed = {r.views[view] for r in _releases(catalog, view)}
        defined = workspace.project.views.get(view)
    data["versions"] = [
        {
            "version": name,
            "defined": defined is not None and defined.version == name,
            "offset": standing.get(name),
            "needed_by_release": name in needed,
        }
        for name in known
    ]
    terminal.answer(options, data, *described(data))


@app.command
def show(view: str, /, *key: str, at: str | None = None, options: Options = DEFAULT) -> None:
    """Show the values of a key: as they are served now, or as they were at a moment of the past.

    Args:
        view: Name of the view.
        key: A value for each column of the view's entity, in order.
        at: A moment, as 2024-03-01T12:00:00Z: replayed from history, of what was known by then.
        options: Where the project is, and how to answer.
    """
    from mainspring.features.values import key_of, replayed

    workspace = Workspace(options.project)
    definition = workspace.view(view)
    parts = key_of(definition, key)
    if at is not None:
        moment_us = workspace.now_us(at)
        with workspace.history() as history:
            answers = replayed(definition, history.frame, [parts], moment_us, known_us=moment_us)
    else:
        answers = _online(workspace, definition, parts, workspace.clock.now_us())
    (values,) = answers.rows()
    data: dict[str, Any] = {
        "view": view,
        "version": definition.version,
        "key": dict(zip(definition.entity, parts, strict=True)),
        "at": to_iso(int(answers.t_us[0])),
        "from": "history" if at is not None else "online",
        "offset": answers.offset,
        "values": {name: {"value": value, "status": status} for name, (value, status) in values.items()},
    }
    known = f"known by {data['at']}" if at is not None else f"log folded up to {answers.offset}"
    named = ", ".join(f"{name} = {value}" for name, value in data["key"].items())
    head = terminal.text(f"{view} {definition.version}, {named}, at {data['at']}, {known}", "bold")
    rows = [(name, _cell(value), status) for name, (value, status) in values.items()]
    terminal.answer(options, data, head, terminal.table(("feature", "value", "status"), rows, right=("value",)))


@app.command
def diff(
    view: str,
    /,
    *key: str,
    old: str | None = None,
    new: str | None = None,
    sample: int = 1_000,
    at: str | None = None,
    options: Options = DEFAULT,
) -> int:
    """Compare what is served now with a replay of it, for a key; or two versions of the view, for a key or a sample.

    The exit code is 1 when a served value differs from its replay.

    Args:
        view: Name of the view.
        key: A value for each column of the view's entity; none: two versions, over a sample of keys.
        old: A version (its beginning will do); the newest one in force when only keys or --new are left out.
        new: Another; that of the definitions file when not given.
        sample: How many keys are compared when none is named.
        at: The moment; now when not given. The online store answers none that lies more than an hour back.
        options: Where the project is, and how to answer.
    """
    workspace = Workspace(options.project)
    moment_us = workspace.now_us(at)
    if key and old is None and new is None:
        return _against_replay(workspace, view, key, moment_us, options)
    from mainspring.features.values import key_of
    from mainspring.features.versions import both, changes, sample_keys

    bar = terminal.progress(options, "events replayed")
    with workspace.catalog() as catalog, workspace.history() as history, bar as tell:
        known = _versions(workspace, catalog, view)
        second = _version(view, known, new)
        first = _version(view, known, old or _before(known, second.version))
        keys = [key_of(first, key)] if key else sample_keys(second, history.frame, sample)
        answers = both(first, second, history.frame, keys, moment_us, tell)
        found = changes(*answers)
    from dataclasses import asdict

    data: dict[str, Any] = {
        "view": view,
        "old": first.version,
        "new": second.version,
        "at": to_iso(moment_us),
        "keys": len(keys),
        "values_changed": (changed := sum(one.changed for one in found)),
        "features": [asdict(one) for one in found],
    }
    columns = ("feature", "keys", "changed", "became null", "became known", "mean change", "most, relative")
    rows = [
        (
            one.name if one.where == "both" else f"{one.name} (only in the {'old' if one.where == 'first' else 'new'})",
            f"{one.keys:,}",
            f"{one.changed:,}",
            f"{one.became_null:,}",
            f"{one.became_known:,}",
            _cell(one.mean_change),
            _cell(one.most_relative),
        )
        for one in found
    ]
    parts: list[RenderableType] = [terminal.table(columns, rows, right=columns[1:])]
    if key and keys:
        one, other = (next(side.rows()) for side in answers)
        values = {n: {"old": one.get(n, (None, ""))[0], "new": other.get(n, (None, ""))[0]} for n in {**one, **other}}
        data["values"] = values
        side = [(name, _cell(v["old"]), _cell(v["new"])) for name, v in values.items()]
        parts = [terminal.table(("feature", "old", "new"), side, right=("old", "new"))]
    said = f"{view}: {first.version} against {second.version}, {len(keys):,} keys: {changed:,} values change"
    terminal.answer(options, data, *parts, terminal.text(said))
    return 0


@app.command
def nearest(
    feature: str,
    /,
    *key: str,
    n: int = 10,
    metric: Literal["cosine", "dot", "euclidean"] = "cosine",
    at: str | None = None,
    options: Options = DEFAULT,
) -> None:
    """Show the keys whose latest vectors are nearest to a key's own: every vector is compared.

    Args:
        feature: VIEW.FEATURE, a latest vector.
        key: A value for each column of the view's entity, in order.
        n: How many.
        metric: Greatest cosine or dot product first, or least euclidean distance.
        at: A moment, as 2024-03-01T12:00:00Z: from history, of what was known by then.
        options: Where the project is, and how to answer.
    """
    from mainspring.features.values import key_of, neighbours_now, neighbours_then

    workspace = Workspace(options.project)
    view, _, name = feature.partition(".")
    definition = workspace.view(view)
    parts = key_of(definition, key)
    moment_us = workspace.now_us(at)
    if at is not None:
        with workspace.history() as history:
            found = neighbours_then(definition, name, history.frame, parts, n, moment_us, metric)
    else:
        with workspace.online() as store:
            found = neighbours_now(definition, name, _folded(workspace, store, view), parts, n, moment_us, metric)
    data = {
        "feature": feature,
        "key": dict(zip(definition.entity, parts, strict=True)),
        "metric": metric,
        "at": to_iso(moment_us),
        "nearest": [{"key": list(one.key), "score": one.score} for one in found],
    }
    rows = [(", ".join(str(part) for part in one.key), f"{one.score:.6g}") for one in found]
    terminal.answer(options, data, terminal.table((", ".join(definition.entity), metric), rows, right=(metric,)))


@app.command
def backfill(view: str, /, *, options: Options = DEFAULT) -> None:
    """Build the definitions file's version of a view from history: from the lake, then from the log.

    A version that is not in force yet is built beside the one that serves, before its apply. One that has state is
    built anew; it is unavailable meanwhile. The running worker does it between two folds; without one this command
    does.

    Args:
        view: Name of the view.
        options: Where the project is, and how to answer.
    """
    from mainspring.cli.people import actor
    from mainspring.loop.backfill import backfill as build

    workspace = Workspace(options.project)
    definition = workspace.view(view)
    with terminal.progress(options, f"{view} {definition.version}") as tell:
        done = build(
            workspace.config,
            workspace.project,
            definition,
            workspace.clock,
            actor=actor(),
            told=lambda b: tell(b.done, b.events),
        )
    rate = f" ({done.events / done.seconds:,.0f} events/s)" if done.seconds else ""
    said = f"{view} {done.version} is built: {done.events:,} events in {done.seconds:.1f} s{rate}"
    terminal.answer(options, done.to_dict(), terminal.text(said))


def _against_replay(workspace: Workspace, name: str, key: tuple[str, ...], moment_us: int, options: Options) -> int:
    from dataclasses import asdict

    from mainspring.features.values import compare, key_of, replayed

    view = workspace.view(name)
    parts = key_of(view, key)
    live = _online(workspace, view, parts, moment_us)
    with workspace.history() as history, terminal.progress(options, "events replayed") as tell:
        again = replayed(view, history.frame, [parts], moment_us, known_offset=live.offset, progress=tell)
    found = compare(live, again)
    unread = [one for one in found if one.equal == "unavailable"]
    differ = [one for one in found if one.equal == "differs"]
    data = {
        "view": name,
        "version": view.version,
        "key": dict(zip(view.entity, parts, strict=True)),
        "at": to_iso(moment_us),
        "offset": live.offset,
        "values": [asdict(one) for one in found],
        "different": len(differ),
        "unavailable": len(unread),
    }
    rows = [(one.name, _cell(one.one), _cell(one.other), one.one_status, one.equal) for one in found]
    columns = ("feature", "online", "replayed", "status online", "")
    said = (
        f"{len(found) - len(differ) - len(unread)} of {len(found)} values are those of a replay of the log up to "
        f"{live.offset}, {len(differ)} differ, {len(unread)} are unavailable online"
    )
    terminal.answer(options, data, terminal.table(columns, rows, right=("online", "replayed")), terminal.text(said))
    return MainspringError.exit_code if differ else 0


def _online(workspace: Workspace, view: ViewDef, key: tuple[Any, ...], moment_us: int) -> Any:
    from mainspring.features.reader import Reader
    from mainspring.features.values import online

    with workspace.online() as store, Reader([view], _folded(workspace, store, view.name)).snapshot() as snapshot:
        return online(view, snapshot, [key], moment_us)


def _folded(workspace: Workspace, store: OnlineStore | None, view: str) -> OnlineStore:
    """The online store, if it is there."""
    if store is None:
        what = f"nothing was folded yet: {view} has no state"
        raise NotFoundError("MS-C054", what, where=str(workspace.config.state_path), hint="mainspring worker")
    return store


def _versions(workspace: Workspace, catalog: Any, name: str) -> dict[str, ViewDef]:
    from mainspring.loop.views import view_versions

    known = view_versions(workspace.project, catalog, name)
    if not known:
        raise NotFoundError(
            "MS-C053", f"no feature view {name!r} is defined", hint=did_you_mean(name, workspace.project.views)
        )
    return known


def _releases(catalog: Any, name: str) -> list[Any]:
    from mainspring.loop.consumers import releases

    return [release for release in releases(catalog) if name in release.views]


def _version(view: str, known: dict[str, ViewDef], wanted: str | None) -> ViewDef:
    """The version that a person names by its beginning; the newest when none is named."""
    if wanted is None:
        return list(known.values())[-1]
    found = [one for name, one in known.items() if name.startswith(wanted)]
    if len(found) != 1:
        what = f"{len(found) or 'no'} versions of {view} begin with {wanted!r}"
        raise NotFoundError("MS-C055", what, hint=f"mainspring features describe {view}")
    return found[0]


def _before(known: dict[str, ViewDef], version: str) -> str:
    """The version that was there before ``version``; itself when there was none."""
    names = list(known)
    return names[max(names.index(version) - 1, 0)]


def _state_word(fresh: Any) -> str:
    if fresh is None or fresh.offset is None:
        return "not built"
    return "serves" if fresh.serves else "catching up"


def _cell(value: Any) -> str:
    return "null" if value is None else f"{value:.10g}" if isinstance(value, float) else terminal.short(value, 200)
