"""Spans of time as users write them (``"3h"``), in whole microseconds."""

from __future__ import annotations

import re

from mainspring.core.errors import DefinitionError

UNITS_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")
_SPAN = re.compile(r"(?:\d+(?:us|ms|s|m|h|d|w))+")


def parse_span(text: str) -> int:
    """Microseconds in a span such as ``"90s"``, ``"1h30m"`` or ``"7d"``.

    A day is 24 hours and a week 7 days: spans are exact and know no calendar.

    Raises:
        DefinitionError: The text is no span (MS-D001).

    >>> parse_span("1h30m")
    5400000000
    """
    try:
        found = _SPAN.fullmatch(text)
    except TypeError:  # a bare number, whose unit nobody could know
        found = None
    if found is None:
        raise DefinitionError(
            "MS-D001",
            f"{text!r} is not a span of time",
            hint='write a number and a unit (us ms s m h d w), such as "3h"',
        )
    return sum(int(n) * UNITS_US[unit] for n, unit in _PART.findall(text))


def format_span(span_us: int) -> str:
    """The shortest text that ``parse_span`` reads back.

    >>> format_span(5_400_000_000)
    '1h30m'
    """
    if span_us == 0:
        return "0s"
    parts, rest = [], span_us
    for unit in ("d", "h", "m", "s", "ms", "us"):
        n, rest = divmod(rest, UNITS_US[unit])
        if n:
            parts.append(f"{n}{unit}")
    return "".join(parts)
