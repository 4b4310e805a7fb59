"""Which scope of a key each path of the intake asks for."""

from __future__ import annotations

from collections.abc import Sequence

from mainspring.core.keys import ADMIN, READ


def scopes_of(parts: Sequence[str]) -> tuple[str, ...]:
    """The scopes of which a request needs one; none for what anybody may ask, or what needs the internal token.

    Args:
        parts: The path, split at its slashes.

    >>> scopes_of(["events", "arrived"]), scopes_of(["quarantine", "arrived", "replay"]), scopes_of(["health"])
    (('events:arrived',), ('admin',), ())
    """
    match parts:
        case ["health"] | ["internal", *_]:
            return ()
        case ["events", name]:
            return (f"events:{name}",)
        case ["quarantine", _, _]:
            return (ADMIN,)
    return (READ,)
