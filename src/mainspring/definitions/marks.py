"""Marks inside ``Annotated`` beside the checks: earlier names of a column, and what people should know of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean, is_name
from mainspring.definitions.about import About
from mainspring.definitions.values import Field

PII = (
    "account",
    "address",
    "birth_date",
    "card",
    "device",
    "email",
    "health",
    "ip",
    "location",
    "name",
    "national_id",
    "phone",
    "text",
    "other",
)
"""What a column may tell of a person."""


@dataclass(frozen=True)
class Alias:
    """Names that a column had before."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """A part of what is known of a column."""

    about: About


Mark = Alias | Note


def alias(*names: str) -> Mark:
    """The column's names before it was renamed: senders may use any, and stored events are read under the new one."""
    return Alias(names)


def describe(text: str, *, unit: str = "", tags: Sequence[str] = ()) -> Mark:
    """What the column is, the unit of its numbers, and words to find it by."""
    return Note(About(doc=text, unit=unit, tags=(tags,) if isinstance(tags, str) else tuple(tags)))


def pii(kind: str) -> Mark:
    """The column tells something of a person: an ``email``, a ``name`` … (``PII``)."""
    return Note(About(pii=kind))


def deprecated(instead: str) -> Mark:
    """The column should not be sent any more, and what to do instead; it is counted where it still is."""
    return Note(About(deprecated=instead))


def about_of(marks: Iterable[Any], column: str, where: str) -> About:
    """What the marks of a column say together.

    Raises:
        DefinitionError: One of them says nothing, or what cannot be (MS-D116).
    """
    said = About()
    for mark in marks:
        if not isinstance(mark, Note):
            continue
        one = mark.about
        if one == About():
            raise DefinitionError("MS-D116", f"a mark of {column} says nothing", where=where)
        if one.pii and one.pii not in PII:
            hint = did_you_mean(one.pii, PII) or "one of " + ", ".join(PII)
            raise DefinitionError("MS-D116", f"{column}: pii({one.pii!r}) is not known", where=where, hint=hint)
        said = replace(said, **{name: value for name, value in vars(one).items() if value})
    check_words(said.tags, f"tags of {column}", where)
    return said


def check_words(words: Any, what: str, where: str) -> tuple[str, ...]:
    """Words, of which one may stand alone.

    Raises:
        DefinitionError: They are something else (MS-D116).
    """
    found = (words,) if isinstance(words, str) else tuple(words)
    if not all(isinstance(word, str) and word for word in found):
        raise DefinitionError("MS-D116", f"{what} are words, got {words!r}", where=where)
    return found


def aliases_of(marks: Iterable[Any]) -> tuple[str, ...]:
    """Every earlier name that the marks of a column say."""
    return tuple(name for mark in marks if isinstance(mark, Alias) for name in mark.names)


def check_marks(fields: Sequence[Field], roles: Mapping[str, str | None], source: str, where: str) -> None:
    """Refuse earlier names that are taken, and deprecated columns that senders cannot leave out.

    Args:
        fields: Of the source.
        roles: Columns by what they are to the source: its id, its time …
        source: Its name.
        where: Its place.

    Raises:
        DefinitionError: MS-D116.
    """
    taken = {f.name: f.name for f in fields}
    for f in fields:
        label = f"{source}.{f.name}"
        for name in f.aliases:
            if not is_name(name):
                raise DefinitionError("MS-D116", f"{label}: alias({name!r}) is no name for a column", where=where)
            if name in taken:
                what = f"{label}: alias({name!r}) is a name of {taken[name]}"
                why = "a record could not say which of the two it means"
                raise DefinitionError("MS-D116", what, where=where, why=why)
            taken[name] = f.name
        role = next((role for role, column in roles.items() if column == f.name), None)
        if f.about.deprecated and (role is not None or not (f.nullable or f.has_default)):
            why = f"it is {role}=" if role is not None else "a record without it is refused"
            hint = f"{f.name}: … | None, or give it a default"
            raise DefinitionError("MS-D116", f"{label} is deprecated and must be sent", where=where, why=why, hint=hint)


def consumers_of(said: Any, columns: Iterable[str], source: str, where: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Who reads a source from outside, with the columns: a list of names, or names with columns.

    Raises:
        DefinitionError: It is neither, or names a column that the source does not have (MS-D116).
    """
    known = set(columns)
    items = said.items() if isinstance(said, Mapping) else ((who, ()) for who in check_words(said, "consumers=", where))
    out = []
    for who, read in items:
        if not who or isinstance(read, str):
            hint = 'consumers=["finance"], or consumers={"finance": ["amount"]}'
            raise DefinitionError("MS-D116", f"consumers= of {source} has {who!r}: {read!r}", where=where, hint=hint)
        for column in read:
            if column not in known:
                what = f"consumers= of {source} names {column!r}, which is no column"
                raise DefinitionError("MS-D116", what, where=where, hint=did_you_mean(str(column), known))
        out.append((who, tuple(read)))
    return tuple(out)
