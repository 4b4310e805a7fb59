"""``mainspring catalog``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import UsageError
from mainspring.core.names import did_you_mean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mainspring.loop.assets import Asset, Assets, Key, Step

app = App(
    name="catalog",
    help_epilogue="""Sources and their columns, feature views, features, labels, models, checks,
training sets, releases, and who reads from outside: what each is, who answers
for it, what it tells of a person, what it is made of and what is made of it.

Examples:
  mainspring catalog search                 all there is
  mainspring catalog search delay           in names, docs, tags, expressions
  mainspring catalog search --pii           what tells of a person
  mainspring catalog show arrived.tailnum   a column, and what is made of it
  mainspring catalog show late_flight@3f2a  a release, up to its columns
  mainspring catalog rebuild                when its file is damaged""",
)
MOST = 200


@app.command
def search(
    *words: str,
    kind: str | None = None,
    tag: str | None = None,
    owner: str | None = None,
    pii: Annotated[bool, Parameter(negative="")] = False,
    options: Options = DEFAULT,
) -> None:
    """Find what has every one of some words in its name, doc, tags, owner or expression; all without a word.

    Args:
        words: Any part of a word; upper and lower case are the same.
        kind: Only of this kind: source, column, view, feature, label, model, composite, check, dataset, release or
            consumer.
        tag: Only with this tag.
        owner: Only of owners with this in their name; upper and lower case are the same.
        pii: Only what tells of a person, or is made of a column that does.
        options: Where the project is, and how to answer.
    """
    assets = _assets(options)
    _check_kind(kind)
    found = [
        one
        for one in assets.search(words)
        if kind in (None, one.key.kind)
        and (tag is None or tag in one.tags)
        and (owner is None or owner.lower() in one.owner.lower())
        and (not pii or assets.personal(one.key))
    ]
    data = {"assets": [_brief(one, assets) for one in found]}
    columns = ("kind", "name", "what", "owner", "tags", "tells of a person")
    rows = [
        (
            one.key.kind,
            one.key.name,
            one.doc or one.facts.get("function") or one.facts.get("expression") or one.facts.get("value") or "",
            one.owner,
            ", ".join(one.tags),
            ", ".join(sorted(set(assets.personal(one.key).values()))),
        )
        for one in found[:MOST]
    ]
    terminal.answer(options, data, terminal.table(columns, rows) if rows else terminal.text(_nothing(words, assets)))
    if len(found) > MOST:
        terminal.say(options, f"{MOST} of {len(found):,}: more words, --kind or --json")


@app.command
def show(name: str, /, *, kind: str | None = None, options: Options = DEFAULT) -> None:
    """Show all there is to know of something, what it is made of and what is made of it.

    Args:
        name: SOURCE, SOURCE.COLUMN, VIEW, VIEW.FEATURE, MODEL, MODEL.label, MODEL@VERSION, MODEL/DATASET, a check or a
            consumer; the beginning of a version will do.
        kind: Only of this kind, where several have the name.
        options: Where the project is, and how to answer.
    """
    assets = _assets(options)
    _check_kind(kind)
    found = assets.named(name, kind)
    data = {"assets": [_whole(one, assets) for one in found]}
    terminal.answer(options, data, *(part for one in found for part in _page(one, assets)))


@app.command
def rebuild(*, options: Options = DEFAULT) -> None:
    """Make the catalog anew from every decision in log and lake; refused while a process has it open.

    The earlier file is kept beside it.

    Args:
        options: Where the project is, and how to answer.
    """
    from mainspring.loop.recatalog import rebuild_catalog

    workspace = Workspace(options.project)
    done = rebuild_catalog(workspace.config, workspace.project, workspace.clock.now_us())
    kept = f"; the earlier file is {done.aside}" if done.aside else ""
    data = {"decisions": done.decisions, "aside": done.aside}
    terminal.answer(options, data, terminal.text(f"{done.decisions:,} decisions are in the new catalog{kept}"))


def _assets(options: Options) -> Assets:
    from mainspring.loop.inventory import inventory

    workspace = Workspace(options.project)
    with workspace.catalog() as catalog:
        return inventory(workspace.project, catalog)


def _check_kind(kind: str | None) -> None:
    from mainspring.loop.assets import KINDS

    if kind is not None and kind not in KINDS:
        raise UsageError("MS-C057", f"the catalog has no kind {kind!r}", hint=did_you_mean(kind, KINDS))


def _nothing(words: tuple[str, ...], assets: Assets) -> str:
    known = {part for one in assets for part in one.key.name.replace("@", ".").replace("/", ".").split(".")}
    strange = [word for word in words if not any(word.lower() in one.words() for one in assets)]
    near = [hint for hint in (did_you_mean(word, known) for word in strange) if hint.startswith("did you mean")]
    return "; ".join(["nothing matches", *near])


def _brief(one: Asset, assets: Assets) -> dict[str, Any]:
    return {
        "kind": one.key.kind,
        "name": one.key.name,
        "doc": one.doc,
        "owner": one.owner,
        "tags": list(one.tags),
        "pii": one.pii or None,
        "made_of_pii": assets.personal(one.key),
        "is_defined": one.is_defined,
        "earlier_names": list(one.earlier),
        "facts": dict(one.facts),
    }


def _whole(one: Asset, assets: Assets) -> dict[str, Any]:
    def named(keys: list[Key]) -> list[dict[str, Any]]:
        return [{"kind": key.kind, "name": key.name} for key in keys]

    def far(steps: list[Step]) -> list[dict[str, Any]]:
        return [{"kind": s.key.kind, "name": s.key.name, "distance": s.distance, "via": s.via.name} for s in steps]

    return _brief(one, assets) | {
        "reads": named(assets.reads(one.key)),
        "read_by": named(assets.read_by(one.key)),
        "comes_from": far(assets.up(one.key)),
        "goes_to": far(assets.down(one.key)),
    }


def _page(one: Asset, assets: Assets) -> Iterator[RenderableType]:
    yield terminal.text(one.key, "bold")
    if one.doc:
        yield terminal.text(one.doc)
    if not one.is_defined:
        yield terminal.text("no longer in the definitions file", "yellow")
    personal = assets.personal(one.key)
    facts = {
        "owner": one.owner,
        "tags": ", ".join(one.tags),
        "earlier names": ", ".join(one.earlier),
        "tells of a person": one.pii or ", ".join(f"{name} ({mark})" for name, mark in personal.items()),
        **one.facts,
    }
    rows = [(name, str(value)) for name, value in facts.items() if value]
    if rows:
        yield terminal.table(("", ""), rows)
    for title, edges in (("comes from", assets.reads), ("read by", assets.read_by)):
        lines = list(_tree(one.key, edges, assets))
        yield terminal.text(title if lines else f"{title}: nothing", "bold")
        if lines:
            yield terminal.text("\n".join(lines))


def _tree(start: Key, edges: Callable[[Key], list[Key]], assets: Assets) -> Iterator[str]:
    """What an asset leads to, indented; what has been shown in full once is only named again."""
    shown = {start}
    stack = [(key, 1) for key in reversed(edges(start))]
    while stack:
        key, depth = stack.pop()
        fate = assets[key].facts.get("state", "") if key.kind == "release" else ""
        note = f" ({fate})" if fate else "" if assets[key].is_defined else " (no longer defined)"
        more = edges(key)
        again = key in shown and bool(more)
        yield f"{'  ' * depth}{key}{note}{' …' if again else ''}"
        if key not in shown:
            shown.add(key)
            stack += [(other, depth + 1) for other in reversed(more)]
