"""From a row as it is outside to a row as the intake takes it: names mapped, values plain."""

from __future__ import annotations

import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from mainspring.definitions.values import Field, SourceDef
from mainspring.events.connectors.connector import Arrival, Settings
from mainspring.events.internal import InternalRow


def internal_row(arrival: Arrival, settings: Settings, source: SourceDef, name: str) -> InternalRow:
    """A row on its way to the intake; what breaks the contract is found there.

    A JSON object whose names need no mapping goes as the bytes that it came as.
    """
    sender = f"connect {name} {arrival.place}".rstrip()
    if arrival.problem is not None:
        return InternalRow(source.name, None, sender, arrival.raw or b"", arrival.problem.code, arrival.problem.what)
    fields = arrival.fields or {}
    if arrival.raw is not None:
        if not settings.columns and not settings.pick:
            return InternalRow(source.name, None, sender, arrival.raw)
        try:
            fields = fields | msgspec.json.decode(arrival.raw, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return InternalRow(source.name, None, sender, arrival.raw)  # the contract says what is wrong with it
    mapped = {column: fields[outside] for column, outside in settings.columns.items() if outside in fields}
    taken = set(settings.columns.values())
    for key, value in fields.items():
        if key not in taken and not key.startswith("$") and (not settings.pick or key in source.names):
            mapped.setdefault(key, value)
    known = source.names
    return InternalRow(source.name, {key: _plain(value, known.get(key)) for key, value in mapped.items()}, sender)


def _plain(value: Any, field: Field | None) -> Any:  # noqa: PLR0911  one answer a type
    """A database's or a parser's value as the door takes it; what has no meaning for the column stays, to be refused.

    A whole number for a time is text: seconds or microseconds, nobody could know. A date is its first moment, UTC.
    """
    kind = field.kind if field is not None else ""
    if value is None or isinstance(value, str | float | datetime):
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if kind == "datetime":
            return str(value)
        return bool(value) if kind == "bool" and value in (0, 1) else value
    if isinstance(value, Decimal):
        return int(value) if kind == "int" and value.is_finite() and value == int(value) else _decimal(value, kind)
    if isinstance(value, date):
        return datetime.combine(value, time()) if kind == "datetime" else value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, uuid.UUID | time):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value)) if kind == "str" else bytes(value).hex()
    if kind == "str":
        return msgspec.json.encode(value, enc_hook=str).decode()
    return value


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _decimal(value: Decimal, kind: str) -> Any:
    return str(value) if kind == "str" else float(value)
