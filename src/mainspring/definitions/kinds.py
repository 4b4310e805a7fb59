"""Whether what stands in a field of a word is of the kind that belongs there; if not, field, value and a way out."""

from __future__ import annotations

from typing import Any, TypeVar

from mainspring.core.errors import DefinitionError
from mainspring.definitions.mention import mention

T = TypeVar("T")


def one_of_kind(thing: Any, kind: type[T], field: str, code: str, where: str, hint: str) -> T:
    """The thing, if it is of the kind.

    Raises:
        DefinitionError: With ``code``, if it is not.
    """
    if not isinstance(thing, kind):
        raise DefinitionError(code, f"{field}= is {mention(thing)}", where=where, hint=hint)
    return thing


def list_of_kind(things: Any, kind: type[T], field: str, code: str, where: str, hint: str) -> tuple[T, ...]:
    """The things of a list, if all of them are of the kind.

    Raises:
        DefinitionError: With ``code``, if it is no list or one of them is something else.
    """
    if not isinstance(things, list | tuple):
        raise DefinitionError(code, f"{field}= is {mention(things)}, not a list", where=where, hint=f"{field}=[{hint}]")
    for one in things:
        if not isinstance(one, kind):
            raise DefinitionError(code, f"{field}= has {mention(one)} in it", where=where, hint=f"{field}=[{hint}]")
    return tuple(things)


def number(thing: Any, field: str, code: str, where: str, hint: str) -> float:
    """The thing, if it is a number.

    Raises:
        DefinitionError: With ``code``, if it is not.
    """
    if isinstance(thing, bool) or not isinstance(thing, int | float):
        raise DefinitionError(code, f"{field} is {mention(thing)}, not a number", where=where, hint=hint)
    return thing
