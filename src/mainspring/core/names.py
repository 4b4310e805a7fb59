"""Names are ``[a-z0-9_]+``, so that they are safe in paths, URLs, keys and SQL."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from mainspring.core.errors import ConfigError

_NAME = re.compile(r"[a-z0-9_]{1,100}")


def is_name(text: str) -> bool:
    """Whether ``text`` may name something.

    >>> is_name("late_flight"), is_name("Late-Flight")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


def check_name(text: str, kind: str = "name") -> str:
    """Return ``text`` when it is a name.

    Raises:
        ConfigError: It is not (MS-C001).
    """
    if not is_name(text):
        raise ConfigError("MS-C001", f"{text!r} is not a {kind}", why="names are 1 to 100 characters of a-z, 0-9 and _")
    return text


def did_you_mean(text: object, known: Iterable[str]) -> str:
    """A hint naming the known word nearest to ``text``, whatever was written there, or the list of known words.

    >>> did_you_mean("meen", ["mean", "sum"])
    "did you mean 'mean'?"
    """
    words = sorted(known)
    near = difflib.get_close_matches(str(text), words, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "known are " + ", ".join(words[:12]) if words else ""


def snake_case(text: str) -> str:
    """A class name as a name.

    >>> snake_case("CarrierDelays")
    'carrier_delays'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text).lower()
