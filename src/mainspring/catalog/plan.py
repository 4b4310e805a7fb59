"""The plan: what an apply would change, what it costs, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mainspring.core.errors import RefusedError

Action = Literal["add", "change", "remove", "note", "refuse"]
_WIDER = {("int", "float")}


@dataclass(frozen=True)
class Line:
    """One line of a plan.

    Attributes:
        kind: ``source``, ``view`` or ``model``.
        text: What changes, or what to know.
        events: Events that have to be replayed for it.
    """

    action: Action
    kind: str
    name: str
    text: str
    events: int = 0


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
        marks = {"add": "+", "change": "~", "remove": "-", "note": "i", "refuse": "!"}
        lines = [f"{marks[one.action]} {one.kind} {one.name}: {one.text}" for one in self.lines]
        cost = [f"{self.events:,} events are replayed"] if self.events else []
        return "\n".join([*lines, *cost]) or "nothing changes"

    def check(self) -> None:
        """Refuse what may not be applied.

        Raises:
            RefusedError: A contract would break (MS-C030).
        """
        if self.refusals:
            first = self.refusals[0]
            raise RefusedError(
                "MS-C030",
                "; ".join(f"{line.kind} {line.name}: {line.text}" for line in self.refusals),
                why="events that are already stored could not be read with the new contract",
                hint="give a new column a default or | None, or name a new source: "
                f"class {first.name.title().replace('_', '')}V2(ms.Source, …)",
            )


def plan(old: Mapping[str, Any], new: Mapping[str, Any], stored: Mapping[str, int] | None = None) -> Plan:
    """What changes between two descriptions of a project.

    Args:
        old: What is in force: `Catalog.definitions`.
        new: What the definitions file says: `Project.describe`.
        stored: How many events each source has, by name: the cost of replaying it.
    """
    stored = stored or {}
    return Plan((*_sources(old, new), *_views(old, new, stored), *_models(old, new)))


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
            text = "has no id: a record that is sent twice is counted twice"
            yield Line("note", "source", name, text)
    for name in before.keys() - after.keys():
        yield Line("remove", "source", name, "no longer accepted; what is stored stays")


def _views(old: Mapping[str, Any], new: Mapping[str, Any], stored: Mapping[str, int]) -> Iterator[Line]:
    before, after = old.get("views", {}), new["views"]
    for name, view in after.items():
        events = sum(stored.get(source["name"], 0) for source in view["sources"])
        if name not in before:
            yield Line("add", "view", name, f"{len(view['features'])} features by {', '.join(view['entity'])}", events)
        elif before[name]["version"] != view["version"]:
            text = "; ".join(_feature_differences(before[name], view))
            yield Line("change", "view", name, f"{text} (a new version beside the old one)", events)
        for feature in view["features"]:
            if feature["window_us"] is None and feature["ttl_us"] is None:
                text = f"{feature['name']} has no window: its state is kept since the beginning"
                yield Line("note", "view", name, text)
    for name in before.keys() - after.keys():
        yield Line("remove", "view", name, "a version that serves and reads it keeps its state")


def _models(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    before, after = old.get("models", {}), new["models"]
    for name, model in after.items():
        if name not in before:
            yield Line("add", "model", name, f"{model['task']}, {len(model['features'])} features")
        elif before[name]["version"] != model["version"]:
            differs = [key for key in model if model[key] != before[name].get(key) and key not in ("version", "doc")]
            changed = sorted({"code": "function or options"}.get(key, key) for key in differs)
            yield Line("change", "model", name, f"{', '.join(changed)} changed: the next training uses it")
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
