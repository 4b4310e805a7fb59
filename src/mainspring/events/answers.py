"""What the intake answers: counts, statuses and refused records, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mainspring.core.http import Response, json_response
from mainspring.events.batch import Accepted
from mainspring.events.held import Held
from mainspring.events.log import Ack, Counts

_ALL_ACCEPTED = b'{"accepted":%d,"duplicate":0,"quarantined":0,"last_offset":%d,"duplicates":[],"errors":[]}'


def _errors(acks: Sequence[Ack], numbers: Sequence[int | None] | None = None) -> list[dict[str, Any]]:
    return [
        {"index": numbers[i] if numbers else i, "code": ack.code, "reason": ack.reason, "path": ack.path}
        for i, ack in enumerate(acks)
        if ack.status == "quarantined"
    ]


def _last(acks: Sequence[Ack], last_offset: int) -> int:
    return max((a.offset for a in acks if a.status == "accepted" and a.offset is not None), default=last_offset)


def events_answer(
    acks: Sequence[Ack], last_offset: int, *, is_no_json: bool = False, numbers: Sequence[int | None] | None = None
) -> Response:
    """What a sender is told: counts, duplicates and refused records by place; 422 if all were, 400 for no JSON."""
    if acks.__class__ is Accepted or (len(acks) == 1 and acks[0].status == "accepted"):  # as nearly always
        return Response(200, _ALL_ACCEPTED % (len(acks), acks[-1].offset))
    errors = _errors(acks, numbers)
    accepted = sum(ack.status == "accepted" for ack in acks)
    duplicates = [numbers[i] if numbers else i for i, ack in enumerate(acks) if ack.status == "duplicate"]
    status = 400 if is_no_json else 422 if errors and len(errors) == len(acks) else 200
    return json_response(
        status,
        {
            "accepted": accepted,
            "duplicate": len(duplicates),
            "quarantined": len(errors),
            "last_offset": _last(acks, last_offset),
            "duplicates": duplicates,
            "errors": errors,
        },
    )


def internal_answer(acks: Sequence[Ack], last_offset: int) -> Response:
    """What the project's own processes are told: a status a row."""
    shown = {
        "last_offset": _last(acks, last_offset),
        "statuses": [ack.status for ack in acks],
        "errors": _errors(acks),
    }
    return json_response(200, shown)


def rows_answer(groups: Sequence[Sequence[Ack]], last_offset: int) -> Response:
    """What a gateway is told of its rows."""
    some = [acks for acks in groups if not isinstance(acks, Accepted)]
    quarantined = sum(ack.status == "quarantined" for acks in some for ack in acks)
    lasts = (acks.last if isinstance(acks, Accepted) else _last(acks, last_offset) for acks in groups)
    return json_response(200, {"last_offset": max(lasts, default=last_offset), "quarantined": quarantined})


def metrics_answer(counts: Mapping[str, Counts], refusals: Mapping[int, int], more: Sequence[str]) -> Response:
    """Prometheus text: events by source and status, refusals by status, and ``more`` lines."""
    lines = ["# TYPE mainspring_events_total counter"]
    for name, found in sorted(counts.items()):
        for status, n in msgspec.structs.asdict(found).items():
            lines.append(f'mainspring_events_total{{source="{name}",status="{status}"}} {n}')
    lines += [*more, "# TYPE mainspring_intake_refusals_total counter"]
    lines += [f'mainspring_intake_refusals_total{{status="{status}"}} {n}' for status, n in sorted(refusals.items())]
    return Response(200, ("\n".join(lines) + "\n").encode(), "text/plain; version=0.0.4")


def shown_held(entry: Held) -> dict[str, Any]:
    """A record in quarantine as JSON, its bytes as printable text."""
    shown = msgspec.structs.asdict(entry)
    del shown["raw"]
    return shown | {"text": entry.text}


def wrong_method(allowed: str) -> Response:
    """405 with the method that is answered."""
    return json_response(405, {"code": "MS-E207", "error": f"only {allowed} is answered here"}, (("Allow", allowed),))
