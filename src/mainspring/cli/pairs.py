"""Options of the form NAME=VALUE, given as often as there are names."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

Pairs = Annotated[tuple[str, ...], Parameter(consume_multiple=False, negative="")]


def pair(text: str, option: str) -> tuple[str, str]:
    """The two sides of the first ``=``.

    Raises:
        ConfigError: There is none, or nothing before it (MS-C066).
    """
    from mainspring.core.errors import ConfigError

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ConfigError("MS-C066", f"{option} {text} is no NAME=VALUE", hint=f"{option} column=value")
    return name, value


def value(text: str) -> str | int | float | bool | None:
    """A value in JSON (``3.5``, ``true``, ``null``, ``"3.5"``); what is no such JSON is a text."""
    import msgspec

    try:
        return msgspec.json.decode(text.encode(), type=str | int | float | bool | None)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
