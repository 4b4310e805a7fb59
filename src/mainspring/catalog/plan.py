"""The plan: what an apply would change, what it costs, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mainspring.core.errors import RefusedError
from mainspring.definitions import view_from

Action = Literal["add", "change", "remove", "note", "warn", "refuse"]
MARKS: dict[Action, str] = {"add": "+", "change": "~", "remove": "-", "note": "i", "warn": "w", "refuse": "!"}
TALLIES = ("distinct", "approx_distinct", "quantile", "top_k")
_WIDER = {("int", "float")}


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
                why="events that are already stored could not be read with the new contract",
                hint="give a new column a default or | None, or name a new source: "
                f"class {first.name.title().replace('_', '')}V2(ms.Source, …)",
            )


def plan(old: Mapping[str, Any], new: Mapping[str, Any], costs: Mapping[str, Cost] | None = None) -> Plan:
    """What changes between two descriptions of a project.

    Args:
        old: What is in force: `Catalog.definitions`.
        new: What the definitions file says: `Project.describe`.
        costs: Of each view whose version is new, by its name.
    """
    return Plan((*_sources(old, new), *_views(old, new, costs or {}), *_models(old, new)))


def _sources(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    before, after = old.get("sources", {}), new["sources"]
    for name, source in after.items():
        if name not in before:
            yield Line("add", "source", name, f"{len(source['fields'])} columns")
        elif before[name]["version"] != source["version"]:
            breaks = list(_breaks(before[name], source))
            yield Line("change", "source", name, "; ".join(_differences(before[name], source)))
            if breaks:
                yield Line("refuse", "source", name, "; ".join(breaks))
        if source["id"] is None:
            text = "has no id: it is not deduplicated, a record that is sent twice is counted twice"
            yield Line("note", "source", name, text)
    for name in before.keys() - after.keys():
        yield Line("remove", "source", name, "no longer accepted; what is stored stays")


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
    """A feature without a window: most keep a few numbers of the past, a tally keeps every value."""
    if feature["function"] in TALLIES:
        text = f"{feature['name']} is a {feature['function']} without a window: its state grows with every event"
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
            differs = [
                key for key in model if model[key] != before[name].get(key) and key not in ("version", "doc", "serving")
            ]
            changed = sorted({"code": "function or options"}.get(key, key) for key in differs)
            text = f"{', '.join(changed)} changed: the next training uses it"
            yield Line("change", "model", name, text)
        if name in before and before[name].get("serving", {}) != model.get("serving", {}):
            served, was = model.get("serving", {}), before[name].get("serving", {})
            words = ", ".join(f"{key}=" for key in {**was, **served} if was.get(key) != served.get(key))
            yield Line("change", "model", name, f"{words} changed: it is served so once applied")
    for name in before.keys() - after.keys():
        yield Line("remove", "model", name, "its versions stop being trained and served")


def _columns(source: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {field["name"]: field for field in source["fields"]}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = _columns(old), _columns(new)
    for name in after.keys() - before.keys():
        yield f"+ {name}"
    for name in before.keys() - after.keys():
        yield f"- {name}"
    for name in sorted(after.keys() & before.keys()):
        if after[name] != before[name]:
            yield f"~ {name}"
    for role in ("id", "time", "known_at"):
        if old.get(role) != new.get(role):
            yield f"~ {role}={new.get(role)!r}"
    if list(before) != list(after) and before == after:
        yield "order of columns"


def _breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Why stored events could not be read with the new contract (backward compatibility)."""
    before, after = _columns(old), _columns(new)
    for name, field in after.items():
        if name not in before:
            if not field["nullable"] and "default" not in field:
                yield f"column {name} is new and has neither a default nor | None"
            continue
        was = before[name]
        if was["kind"] != field["kind"] and (was["kind"], field["kind"]) not in _WIDER:
            yield f"column {name} was {was['kind']} and would be {field['kind']}"
        if was["nullable"] and not field["nullable"]:
            yield f"column {name} may be None in stored events"
    for role in ("id", "time", "known_at"):
        if old.get(role) != new.get(role):
            yield f"{role} was {old.get(role)!r} and would be {new.get(role)!r}"


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
