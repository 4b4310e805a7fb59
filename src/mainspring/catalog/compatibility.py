"""Whether a source's new contract and its earlier ones can read one another's events, as schema registries define it.

Backward: the new contract reads what was stored under earlier ones. Forward: earlier contracts, those of releases that
serve, read what comes under the new one. Full is both, none is neither. A change is held against *every* earlier
version (registries call that transitive), because all that was ever stored is still read; after a version that was
applied with ``none``, against that one and later ones. Whatever the mode, a column keeps its kind, but that an int may
become a float: a table has one type for a column. And a column that may be None keeps its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Source = Mapping[str, Any]
Column = Mapping[str, Any]

ANEW = "anew"
"""In the description of a version that was applied with ``compatible="none"``: what came before does not bind."""
_WIDER = {("int", "float")}
_ROLES = ("id", "time", "known_at")


def breaks(new: Source, earlier: Sequence[Source]) -> list[str]:
    """Why ``new`` may not follow the ``earlier`` versions, oldest first; each reason once, with its column.

    Args:
        new: As `SourceDef.describe` says it, with ``about``.
        earlier: Every version that was ever applied.
    """
    mode = new.get("about", {}).get("compatible", "backward")
    since = max((i for i, one in enumerate(earlier) if one.get(ANEW)), default=0)
    found: dict[str, None] = {}
    for old in earlier:
        found.update(dict.fromkeys(_unstorable(old, new)))
    found.update(dict.fromkeys(_come_back(new, earlier)))
    for old in earlier[since:]:
        if mode in ("backward", "full"):
            found.update(dict.fromkeys(_unreadable(old, new)))
        if mode in ("forward", "full"):
            found.update(dict.fromkeys(_unreadable_by_earlier(old, new)))
        if mode != "none":
            found.update(dict.fromkeys(_other_roles(old, new)))
    return list(found)


def columns_of(source: Source) -> dict[str, Column]:
    """A source's columns by name."""
    return {field["name"]: field for field in source["fields"]}


def names_of(column: Column) -> list[str]:
    """A column's name and those that it had before."""
    return [column["name"], *column.get("aliases", ())]


def successors(old: Source, new: Source) -> dict[str, Column]:
    """The column of ``new`` that holds what each column of ``old`` held, by the old name; none for what is gone."""
    present = columns_of(new)
    renamed = {alias: column for column in new["fields"] for alias in column.get("aliases", ())}
    return {name: present.get(name) or renamed[name] for name in columns_of(old) if name in present or name in renamed}


def _unstorable(old: Source, new: Source) -> Iterator[str]:
    before = columns_of(old)
    for name, column in successors(old, new).items():
        was, now = before[name]["kind"], column["kind"]
        if was != now and (was, now) not in _WIDER:
            yield f"column {column['name']} was {was} and would be {now}: it wants a name of its own, in every mode"
        if _told_apart(before[name]) != _told_apart(column):
            yield (
                f"column {column['name']} may be None and its default would change: of stored events it could not be "
                "told which had None and which came before the column, in every mode"
            )


def _come_back(new: Source, earlier: Sequence[Source]) -> Iterator[str]:
    """Columns with a default that may be None, were there before, and went for a while."""
    for column in new["fields"]:
        there = [any(name in columns_of(old) for name in names_of(column)) for old in earlier]
        if _told_apart(column) is not None and True in there and False in there[there.index(True) :]:
            yield (
                f"column {column['name']} comes back, may be None and has a default: of stored events it could not be "
                "told which had None and which lacked it, in every mode"
            )


def _told_apart(column: Column) -> Any:
    """The default of a column that may be None: events from before it are stored with the default."""
    return column.get("default") if column["nullable"] else None


def _unreadable(old: Source, new: Source) -> Iterator[str]:
    """What of the events stored under ``old`` the contract ``new`` could not read."""
    before, followed = columns_of(old), successors(old, new)
    came_from = {column["name"]: before[name] for name, column in followed.items()}
    gone = [name for name in before if name not in followed]
    for column in new["fields"]:
        name, was = column["name"], came_from.get(column["name"])
        if was is None:
            if not column["nullable"] and "default" not in column:
                near = [g for g in gone if before[g]["kind"] == column["kind"]]
                hint = f': is it {near[0]} renamed? then ms.alias("{near[0]}")' if len(near) == 1 else ""
                yield f"column {name} is new and has neither a default nor | None{hint}"
            continue
        if was["nullable"] and not column["nullable"]:
            yield f"column {name} may be None in stored events"
        lost = [alias for alias in names_of(was) if alias not in names_of(column)]
        if lost:
            yield f'column {name} no longer says ms.alias("{lost[0]}"): what was stored under that name would be lost'
        yield from _narrower(was, column, f"column {name}", "stored events may have others")


def _unreadable_by_earlier(old: Source, new: Source) -> Iterator[str]:
    """What of the events that come under ``new`` a reader of the contract ``old`` could not read."""
    followed = successors(old, new)
    for name, was in columns_of(old).items():
        column = followed.get(name)
        if column is None:
            if not was["nullable"] and "default" not in was:
                yield f"column {name} is gone, and earlier readers have neither a default nor | None for it"
            continue
        if (was["kind"], column["kind"]) in _WIDER:
            yield f"column {column['name']} was {was['kind']} and earlier readers do not take {column['kind']}"
        if column["nullable"] and not was["nullable"]:
            yield f"column {column['name']} may be None, and earlier readers do not take that"
        yield from _narrower(column, was, f"column {column['name']}", "earlier readers do not take the others")


def _other_roles(old: Source, new: Source) -> Iterator[str]:
    """The columns that identify and order events stay what they are; a renamed one is the same."""
    followed = successors(old, new)
    for role in _ROLES:
        was, now = old.get(role), new.get(role)
        if was == now or (was is not None and was in followed and followed[was]["name"] == now):
            continue
        yield f"{role} was {was!r} and would be {now!r}"


def _narrower(wide: Column, narrow: Column, what: str, why: str) -> Iterator[str]:
    """Checks by which ``narrow`` refuses what ``wide`` takes."""
    before = {name: tuple(args) for name, args in wide["constraints"]}
    for name, args in narrow["constraints"]:
        was = before.get(name)
        if was != tuple(args) and (was is None or not _HOLDS[name](was, tuple(args))):
            taken = f"was {_shown(name, was)}" if was is not None else "took any value"
            yield f"{what} {taken} and would be {_shown(name, args)}: {why}"


def _shown(name: str, args: Iterable[Any]) -> str:
    return f"{name}({', '.join(repr(a) for a in args)})"


_HOLDS: dict[str, Callable[[tuple[Any, ...], tuple[Any, ...]], bool]] = {
    "one_of": lambda was, now: set(was) <= set(now),
    "between": lambda was, now: bool(now[0] <= was[0] and was[1] <= now[1]),
    "length": lambda was, now: bool(now[0] <= was[0] and was[1] <= now[1]),
    "pattern": lambda was, now: was == now,
    "dim": lambda was, now: was == now,
}
"""Whether all that the first arguments take is taken by the second, by the name of the check."""


def way_out(source: str) -> str:
    """What to do about a change that is refused."""
    return (
        'give a new column a default or | None, say ms.alias("old_name") for a renamed one, or name a new source: '
        f'class {source.title().replace("_", "")}V2(ms.Source, …); compatible="none" lets go of what came before'
    )


def differences(old: Source, new: Source) -> Iterator[str]:
    """What is other in a contract, a column each: ``+`` new, ``-`` gone, ``~`` changed or renamed."""
    before, after, followed = columns_of(old), columns_of(new), successors(old, new)
    renamed = {followed[name]["name"]: name for name in followed if followed[name]["name"] != name}
    for name, was in renamed.items():
        yield f"~ {name} (was {was})"
    for name in sorted(after.keys() - before.keys() - renamed.keys()):
        yield f"+ {name}"
    for name in sorted(before.keys() - followed.keys()):
        yield f"- {name}"
    for name in sorted(after.keys() & before.keys()):
        if after[name] != before[name]:
            yield f"~ {name}"
    for role in (*_ROLES, "corrects"):
        if old.get(role) != new.get(role):
            yield f"~ {role}={new.get(role)!r}"
    if list(before) != list(after) and before == after:
        yield "order of columns"
