"""The plan: what an apply would change, what it costs, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mainspring.catalog.compatibility import breaks, columns_of, differences, successors, way_out
from mainspring.core.errors import RefusedError
from mainspring.core.spans import format_span
from mainspring.definitions import view_from

Action = Literal["add", "change", "remove", "note", "warn", "refuse"]
MARKS: dict[Action, str] = {"add": "+", "change": "~", "remove": "-", "note": "i", "warn": "w", "refuse": "!"}
IN_FORCE = {
    "serving": "it is served so once applied",
    "releases": "in force once applied, without a new training",
}
"""Parts of a model that are no part of its version, and from when they count."""
TALLIES = ("distinct", "top_k")
"""Aggregates that keep every different value; a sketch does not."""


@dataclass(frozen=True)
class Cost:
    """What a new version of a view costs, as far as it can be told beforehand; None is unknown.

    Attributes:
        events: Events to replay, from the counts of log and lake.
        keys: Keys that will have state.
        bytes: Of their state.
        seconds: That the backfill takes, at the rate of earlier ones.
        basis: What keys and bytes are estimated from: ``state`` of an earlier version, or ``history``.
    """

    events: int
    keys: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    basis: str = ""

    def __str__(self) -> str:
        """As a line of a plan says it."""
        parts = [f"replays {self.events:,} events"]
        if self.seconds is not None:
            parts.append(f"in about {self.seconds:,.0f} s" if self.seconds >= 1 else "in less than a second")
        elif self.events:
            parts.append("in a time that no earlier backfill tells")
        if self.bytes is not None and self.keys is not None:
            parts.append(f"into about {_size(self.bytes)} of state, {self.keys:,} keys (from {self.basis})")
        return " ".join(parts)


@dataclass(frozen=True)
class Line:
    """One line of a plan.

    Attributes:
        kind: ``source``, ``view`` or ``model``.
        text: What changes, or what to know.
        cost: Of a view version that has to be built.
        models: Models that read the view.
    """

    action: Action
    kind: str
    name: str
    text: str
    cost: Cost | None = None
    models: tuple[str, ...] = ()

    @property
    def events(self) -> int:
        """Events that have to be replayed for it."""
        return self.cost.events if self.cost is not None else 0

    def __str__(self) -> str:
        """As one line of text."""
        touched = f"; read by {', '.join(self.models)}" if self.models and self.action != "add" else ""
        cost = f"; {self.cost}" if self.cost is not None and self.cost.events else ""
        return f"{MARKS[self.action]} {self.kind} {self.name}: {self.text}{touched}{cost}"


@dataclass(frozen=True)
class Plan:
    """The lines of a plan, in the order of sources, views, models."""

    lines: tuple[Line, ...]

    @property
    def changes(self) -> tuple[Line, ...]:
        """The lines that add, change or remove something."""
        return tuple(line for line in self.lines if line.action in ("add", "change", "remove"))

    @property
    def refusals(self) -> tuple[Line, ...]:
        """The lines that stand in the way of an apply."""
        return tuple(line for line in self.lines if line.action == "refuse")

    @property
    def events(self) -> int:
        """Events that have to be replayed."""
        return sum(line.events for line in self.lines)

    def __str__(self) -> str:
        """The plan as lines of text."""
        lines = [str(one) for one in self.lines]
        cost = [f"{self.events:,} events are replayed"] if self.events else []
        return "\n".join([*lines, *cost]) or "nothing changes"

    def check(self) -> None:
        """Refuse what may not be applied.

        Raises:
            RefusedError: A contract would break (MS-C030), or a model is not fit for production (MS-C031).
        """
        unsafe = [line for line in self.refusals if line.kind == "model"]
        if unsafe:
            raise RefusedError(
                "MS-C031",
                "; ".join(f"model {line.name}: {line.text}" for line in unsafe),
                why='mainspring.toml says environment = "production"',
                hint="otherwise=ms.otherwise(value=…): a constant, or a rule over the request",
            )
        if self.refusals:
            first = self.refusals[0]
            raise RefusedError(
                "MS-C030",
                "; ".join(f"{line.kind} {line.name}: {line.text}" for line in self.refusals),
                why="what is stored, or whoever reads it, could not go on with the new contract",
                hint=way_out(first.name),
            )


def plan(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    costs: Mapping[str, Cost] | None = None,
    earlier: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    sent: Mapping[str, str] | None = None,
) -> Plan:
    """What changes between two descriptions of a project.

    Args:
        old: What is in force: `Catalog.definitions`.
        new: What the definitions file says: `Project.describe`.
        costs: Of each view whose version is new, by its name.
        earlier: Every version of each source that was ever applied, oldest first; what is in force when not given.
        sent: How often deprecated columns still come, in words, by ``source:column``.
    """
    known = {name: [source] for name, source in old.get("sources", {}).items()} if earlier is None else earlier
    sources, views = _sources(old, new, known, sent or {}), _views(old, new, costs or {})
    return Plan((*sources, *views, *_models(old, new), *_composites(old, new), *_checks(old, new)))


def _sources(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    earlier: Mapping[str, Sequence[Mapping[str, Any]]],
    sent: Mapping[str, str],
) -> Iterator[Line]:
    before, after = old.get("sources", {}), new["sources"]
    for name, source in after.items():
        was = before.get(name)
        if was is None:
            yield Line("add", "source", name, f"{len(source['fields'])} columns")
        elif was["version"] != source["version"]:
            yield Line("change", "source", name, "; ".join(differences(was, source)))
        elif said := tuple(_described_anew(was, source)):
            yield Line("change", "source", name, f"{', '.join(said)} (described anew, no new version)")
        if was is None or was["version"] != source["version"]:
            broken = breaks(source, earlier.get(name, ()))
            if broken:
                yield Line("refuse", "source", name, "; ".join(broken))
        if was is not None:
            yield from _on_consumers(name, was, source)
        for column, about in source.get("about", {}).get("columns", {}).items():
            if "deprecated" in about:
                comes = sent.get(f"{name}:{column}", "")
                yield Line("warn", "source", name, f"{column} is deprecated: {about['deprecated']}{comes}")
        if source["id"] is None:
            text = "has no id: it is not deduplicated, a record that is sent twice is counted twice"
            yield Line("note", "source", name, text)
    for name in before.keys() - after.keys():
        readers = before[name].get("about", {}).get("consumers", {})
        told = f"; {', '.join(readers)} should be told" if readers else ""
        yield Line("remove", "source", name, f"no longer accepted; what is stored stays{told}")


def _described_anew(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What is said otherwise of a source whose contract stays."""
    if old.get("doc", "") != new.get("doc", ""):
        yield "doc"
    before, after = old.get("about", {}), new.get("about", {})
    for part in ("owner", "tags", "consumers", "compatible", "keep"):
        if before.get(part) != after.get(part):
            yield part
    columns = before.get("columns", {}), after.get("columns", {})
    for name in dict.fromkeys((*columns[0], *columns[1])):
        was, now = columns[0].get(name, {}), columns[1].get(name, {})
        yield from (f"{name}.{part}" for part in dict.fromkeys((*was, *now)) if was.get(part) != now.get(part))


def _on_consumers(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    """A warning for each who said that they read a column which changes or goes."""
    before, followed = columns_of(old), successors(old, new)
    gone = [column for column in before if column not in followed]
    renamed = [f"{c} (now {followed[c]['name']})" for c in followed if followed[c]["name"] != c]
    other = [c for c in followed if followed[c]["name"] == c and followed[c] != before[c]]
    said = {"gone": gone, "renamed": renamed, "changed": other}
    for who, columns in old.get("about", {}).get("consumers", {}).items():
        for what, touched in said.items():
            mine = [one for one in touched if not columns or one.split()[0] in columns]
            if mine:
                yield Line("warn", "source", name, f"{who} reads {', '.join(mine)}, {what} in this contract: tell them")


def _views(old: Mapping[str, Any], new: Mapping[str, Any], costs: Mapping[str, Cost]) -> Iterator[Line]:
    before, after = old.get("views", {}), new["views"]
    for name, view in after.items():
        models = tuple(_readers(name, old, new))
        if name not in before:
            text = f"{view_from(view).width} features by {', '.join(view['entity'])}"
            yield Line("add", "view", name, text, costs.get(name), models)
        elif before[name]["version"] != view["version"]:
            text = "; ".join(_feature_differences(before[name], view))
            text += " (a new version beside the old one, which serves until no release reads it)"
            yield Line("change", "view", name, text, costs.get(name), models)
        for feature in view["features"]:
            if feature["window_us"] is None and feature["ttl_us"] is None:
                yield _endless(name, feature)
    for name in before.keys() - after.keys():
        text = "a version that serves and reads it keeps its state"
        yield Line("remove", "view", name, text, models=tuple(_readers(name, old, new)))


def _endless(view: str, feature: Mapping[str, Any]) -> Line:
    """A feature without a window: most keep a few numbers of the past, a tally keeps every different value."""
    if feature["function"] in TALLIES:
        text = f"{feature['name']} is a {feature['function']} without a window: its state grows with every new value"
        return Line("warn", "view", view, f"{text}; give it a window")
    return Line("note", "view", view, f"{feature['name']} has no window: its state is kept since the beginning")


def _readers(view: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Models that read a view, as they are defined or as they are in force."""
    models = {**old.get("models", {}), **new["models"]}
    for name in models:
        for side in (old.get("models", {}).get(name), new["models"].get(name)):
            if side is not None and _reads(side, view):
                yield name
                break


def _reads(model: Mapping[str, Any], view: str) -> bool:
    used = {name for name, _ in model.get("using", ())}
    return view in used | {feature.get("view") for feature in model["features"]}


def _models(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    before, after = old.get("models", {}), new["models"]
    for name, model in after.items():
        if name not in before:
            yield Line("add", "model", name, f"{model['task']}, {len(model['features'])} features")
        elif before[name]["version"] != model["version"]:
            apart = ("version", "doc", *IN_FORCE)
            differs = [key for key in model if model[key] != before[name].get(key) and key not in apart]
            changed = sorted({"code": "function"}.get(key, key) for key in differs)
            text = f"{', '.join(changed)} changed: the next training uses it"
            yield Line("change", "model", name, text)
        for part, once_applied in IN_FORCE.items() if name in before else ():
            now, was = model.get(part, {}), before[name].get(part, {})
            if words := ", ".join(f"{key}=" for key in {**was, **now} if was.get(key) != now.get(key)):
                yield Line("change", "model", name, f"{words} changed: {once_applied}")
    for name in before.keys() - after.keys():
        yield Line("remove", "model", name, "its versions stop being trained and served")


def _composites(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    before, after = old.get("composites", {}), new.get("composites", {})
    for name, one in after.items():
        was = before.get(name)
        if was is None:
            text = f"{one['how']} of {', '.join(one['members'])}"
            until = "; it answers the mean until weights are shown to be better" if one["how"] == "stack" else ""
            yield Line("add", "composite", name, text + until)
        elif was["version"] != one["version"]:
            differs = ", ".join(key for key in one if key not in ("version", "serving") and one[key] != was.get(key))
            weights = "; weights that it had are of another composite: the mean until there are new ones"
            text = f"{differs} changed: it is served so once applied"
            yield Line("change", "composite", name, text + (weights if one["how"] == was["how"] == "stack" else ""))
        if was is not None and was.get("serving", {}) != one.get("serving", {}):
            yield Line("change", "composite", name, "latency= changed: it is served so once applied")
        yield from _over_budget(name, one, new["models"])
    for name in before.keys() - after.keys():
        yield Line("remove", "composite", name, "no longer served; its members are")


def _over_budget(name: str, one: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[Line]:
    """A warning where all members together may take longer than the composite shall: it asks one after another."""
    if one["how"] == "cascade":  # it leaves out whom there is no time for
        return
    budgets = [models[member].get("serving", {}).get("latency", {}) for member in one["members"]]
    for quantile, limit_us in one.get("serving", {}).get("latency", {}).items():
        said = [budget[quantile] for budget in budgets if quantile in budget]
        if len(said) == len(budgets) and sum(said) > limit_us:
            each, shown = (format_span(us) for us in (sum(said), limit_us))
            what = quantile.removesuffix("_us")
            yield Line("warn", "composite", name, f"{what} of its members adds up to {each}, it shall take {shown}")


def _checks(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    before, after = old.get("checks", {}), new.get("checks", {})
    for name, check in after.items():
        if name not in before:
            text = "holds what depends on its source while it fails" if check["blocking"] else "warns"
            yield Line("add", "check", name, f"{check['kind']}, {text}")
        elif before[name]["version"] != check["version"]:
            yield Line("change", "check", name, "looked at as it says now from its next window on")
    for name in before.keys() - after.keys():
        yield Line("remove", "check", name, "no longer looked at")


def _feature_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before = {f["name"]: f for f in old["features"]}
    after = {f["name"]: f for f in new["features"]}
    for sign, names in (("+", after.keys() - before.keys()), ("-", before.keys() - after.keys())):
        yield from (f"{sign} {name}" for name in sorted(names))
    yield from (f"~ {name}" for name in sorted(after.keys() & before.keys()) if after[name] != before[name])
    if old["entity"] != new["entity"]:
        yield f"entity {', '.join(new['entity'])}"
    if old["sources"] != new["sources"]:
        known = {source["name"]: source for source in old["sources"]}
        changed = [s["name"] for s in new["sources"] if known.pop(s["name"], None) != s]
        yield f"contract of {', '.join([*changed, *known])}"
    for part in ("derived", "using", "hop_us"):
        if old.get(part) != new.get(part):
            yield f"~ {part.removesuffix('_us')}"


def _size(n: float) -> str:
    units = ["B", "KB", "MB", "GB"]
    while n >= 1_000 and len(units) > 1:
        n /= 1_000
        units.pop(0)
    return f"{n:,.0f} {units[0]}" if units[0] == "B" else f"{n:,.1f} {units[0]}"
