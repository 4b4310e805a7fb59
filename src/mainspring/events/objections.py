"""What stands against taking a checked row into the log, and the row as quarantine keeps it then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mainspring.core.spans import format_span
from mainspring.core.times import to_iso
from mainspring.definitions.values import SourceDef
from mainspring.events.drafts import Draft
from mainspring.events.held import Reject
from mainspring.events.targets import Target

_to_json = msgspec.json.Encoder().encode


def row_json(source: SourceDef, row: Sequence[Any]) -> bytes:
    """A checked row as the JSON that its contract takes: datetimes are ISO 8601 texts."""
    shown = {
        f.name: to_iso(v) if f.kind == "datetime" and v is not None else v
        for f, v in zip(source.fields, row, strict=True)
    }
    return _to_json(shown)


def lies_ahead(target: Target, time_us: int, known_us: int, now_us: int) -> tuple[str, str, str] | None:
    """Code, reason and path when an event lies further in the future than its source allows.

    ``now_us`` is the moment for history, which says itself when it was known. A live event is known when the log says,
    be it a year ahead because the clock once was.
    """
    source = target.source
    if time_us > known_us + target.future_us:
        late, column = f"{to_iso(time_us)} lies after it was known, {to_iso(known_us)},", source.time
    elif known_us > now_us + target.future_us:
        late, column = f"{to_iso(known_us)} has not come yet, it is {to_iso(now_us)},", source.known_at or source.time
    else:
        return None
    return "MS-E105", f"{late} by more than the source's future={format_span(target.future_us)}", f"$.{column}"


def says_otherwise(target: Target, ident: str, offset: int | None) -> tuple[str, str, str]:
    """Code, reason and path when its id came before with another row."""
    column = target.source.id
    return "MS-E106", f"{column} {ident!r} came before with other content, at offset {offset}", f"$.{column}"


def rejected(draft: Draft, code: str, reason: str, path: str) -> Reject:
    """A draft as it goes to quarantine."""
    source = draft.source
    raw = draft.raw if draft.raw is not None else row_json(source, draft.row)
    return Reject(source.name, raw, code, reason, path, source.version, draft.sender, draft.history, draft.resolves)
