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
LONGEST_US = 36_525 * UNITS_US["d"]
"""A hundred years: sums of a moment and some spans stay far within an int64."""
_MOST_LETTERS = 64
_PART = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")
_SPAN = re.compile(r"(?:\d+(?:us|ms|s|m|h|d|w))+")


def parse_span(text: str, *, said: str = "", where: str = "") -> int:
    """Microseconds in a span such as ``"90s"``, ``"1h30m"`` or ``"7d"``.

    A day is 24 hours and a week 7 days: spans are exact and know no calendar.

    Args:
        text: As a user wrote it.
        said: What an error calls it, such as ``window='3'``; the text itself if empty.
        where: File and line, for errors.

    Raises:
        DefinitionError: The text is no span, or a longer one than ``LONGEST_US`` (MS-D001).

    >>> parse_span("1h30m")
    5400000000
    """
    try:
        found = _SPAN.fullmatch(text)
    except TypeError:  # a bare number, whose unit nobody could know
        found = None
    if found is None:
        written = str(text)
        sign = written[:1] in ("-", "+") and _SPAN.fullmatch(written[1:]) is not None
        raise DefinitionError(
            "MS-D001",
            f"{said or repr(text)} is not a span of time",
            where=where,
            why="a span is a length and has no sign" if sign else "",
            hint=f'"{written[1:]}"' if sign else 'write a number and a unit (us ms s m h d w), such as "3h"',
        )
    is_short = len(text) <= _MOST_LETTERS
    span_us = sum(int(n) * UNITS_US[unit] for n, unit in _PART.findall(text)) if is_short else 0
    if span_us > LONGEST_US or not is_short:
        raise DefinitionError(
            "MS-D001",
            f"{said or repr(text)} is longer than 100 years",
            where=where,
            hint="36525d at most; a window that is left out reaches back to the beginning",
        )
    return span_us


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
