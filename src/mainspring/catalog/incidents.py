"""Incidents: opened, widened and closed by decisions; labels of a source are held while one is open on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, insert, select, update

from mainspring.catalog.database import METADATA
from mainspring.catalog.decisions import Decision

INCIDENTS = Table(
    "incidents",
    METADATA,
    Column("incident_id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("source", String, index=True),
    Column("column", String),
    Column("model", String),
    Column("opened_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    Column("reason", Text, nullable=False),
    Column("closing", Text, nullable=False),
    Column("numbers", Text, nullable=False),
)


@dataclass(frozen=True)
class Incident:
    """Something is wrong with a source or a model.

    Attributes:
        kind: What was seen: ``quarantine``, ``drift``, ``freshness``, ``parity`` …
        opened_us: When the first window began that failed.
        closed_us: When it ended; None while it is open.
        closing: Why it ended.
        numbers: What it was opened with, and what widened and ended it added; ``accepted_us`` once a person said that
            it is right.
    """

    incident_id: str
    kind: str
    source: str | None
    column: str | None
    model: str | None
    opened_us: int
    closed_us: int | None
    reason: str
    closing: str
    numbers: dict[str, Any]

    @property
    def held_us(self) -> int:
        """From when a blocking one holds what depends on its source: later than it opened where it warned at first."""
        return int(self.numbers.get("held_us", self.opened_us))


@dataclass(frozen=True)
class BadWindow:
    """What became known of a source in ``[from_us, until_us)`` failed a blocking check, and nobody said it is right.

    Attributes:
        column: What is wrong; None for the source as a whole.
        until_us: None while it goes on.
        mended_us: When the last of its events had been corrected by a mend; None if they stand as they came.
        restored: Whether they stand as they came because a mend was taken back: what supersedes them says the same.
    """

    source: str
    column: str | None
    from_us: int
    until_us: int | None
    mended_us: int | None = None
    restored: bool = False


def bad_windows(connection: Connection, sources: Iterable[str]) -> tuple[BadWindow, ...]:
    """Windows of some sources that failed a blocking check, in the order they began."""
    names = set(sources)
    return tuple(
        BadWindow(
            one.source,
            one.column,
            one.held_us,
            one.numbers.get("until_us", one.closed_us),
            one.numbers.get("mended_us"),
            one.numbers.get("restored", False),
        )
        for one in listed(connection)
        if one.kind == "check"
        and one.source in names
        and one.numbers.get("blocking")
        and "accepted_us" not in one.numbers
    )


def open(connection: Connection, decision: Decision) -> str:
    """Open the incident that a decision names; returns why not, or nothing."""
    if not decision.subject:
        return "an incident needs an id as its subject"
    if find(connection, decision.subject) is not None:
        return f"incident {decision.subject} is known"
    numbers = decision.numbers
    connection.execute(
        insert(INCIDENTS).values(
            incident_id=decision.subject,
            kind=str(numbers.get("kind", "")),
            source=numbers.get("source"),
            column=numbers.get("column"),
            model=decision.model,
            opened_us=int(numbers.get("opened_us", decision.at_us)),
            closed_us=None,
            reason=decision.reason,
            closing="",
            numbers=json.dumps(numbers, sort_keys=True),
        )
    )
    return ""


def widen(connection: Connection, decision: Decision) -> str:
    """Add the checks that a decision names to an open incident; returns why not, or nothing.

    One of them that blocks makes the incident blocking, from the window on in which it failed.
    """
    one = find(connection, decision.subject or "")
    if one is None or one.closed_us is not None:
        return f"no open incident {decision.subject}"
    since_us, known = int(decision.numbers["since_us"]), one.numbers.get("checks", [])
    numbers = one.numbers | {"checks": [*known, *(name for name in decision.numbers["checks"] if name not in known)]}
    held = [one.held_us] if numbers.get("blocking") else []
    held += [since_us] if decision.numbers["blocking"] else []
    if held:
        numbers |= {"blocking": True, "held_us": min(held)}
    _change(connection, one, numbers, opened_us=min(one.opened_us, since_us), reason=decision.reason)
    return ""


def close(connection: Connection, decision: Decision) -> str:
    """Close the incident that a decision names; returns why not, or nothing."""
    one = find(connection, decision.subject or "")
    if one is None or one.closed_us is not None:
        return f"no open incident {decision.subject}"
    closed_us = int(decision.numbers.get("closed_us", decision.at_us))
    _change(connection, one, decision.numbers | one.numbers, closed_us=closed_us, closing=decision.reason)
    return ""


def accept(connection: Connection, decision: Decision) -> str:
    """Have what an incident found count as right, from ``accepted_us`` on: closes it if it is open."""
    one = find(connection, decision.subject or "")
    if one is None:
        return f"no incident {decision.subject}"
    closing = {} if one.closed_us is not None else {"closed_us": decision.at_us, "closing": decision.reason}
    _change(connection, one, one.numbers | {"accepted_us": decision.at_us}, **closing)
    return ""


def mend(connection: Connection, decision: Decision) -> str:
    """Note that the events of an incident's window have been corrected: closes it if it is open.

    What was known before stays what it was, so the window is bad until then, also if somebody had accepted it. A mend
    that takes back what others made of the whole window leaves it as it was before them: bad; it closes nothing.
    """
    if decision.subject is None:
        return ""
    one = find(connection, decision.subject)
    if one is None:
        return f"no incident {decision.subject}"
    if decision.numbers.get("is_undoing"):
        kept = {key: value for key, value in one.numbers.items() if key != "mended_us"}
        _change(connection, one, kept | {"restored": True})
        return ""
    numbers = {key: value for key, value in one.numbers.items() if key not in ("accepted_us", "restored")}
    numbers.setdefault("until_us", decision.numbers["until_us"])
    numbers["mended_us"] = max(numbers.get("mended_us", 0), decision.numbers["mended_us"])
    closing = {} if one.closed_us is not None else {"closed_us": decision.at_us, "closing": decision.reason}
    _change(connection, one, numbers, **closing)
    return ""


def _change(connection: Connection, one: Incident, numbers: dict[str, Any], **values: Any) -> None:
    written = json.dumps(numbers, sort_keys=True)
    where = INCIDENTS.c.incident_id == one.incident_id
    connection.execute(update(INCIDENTS).where(where).values(numbers=written, **values))


def find(connection: Connection, incident_id: str) -> Incident | None:
    """One incident, or None."""
    rows = _read(connection, select(INCIDENTS).where(INCIDENTS.c.incident_id == incident_id))
    return rows[0] if rows else None


def listed(connection: Connection, *, is_open: bool = False, source: str | None = None) -> tuple[Incident, ...]:
    """Incidents in the order they opened: all or only open ones, of one source or of any."""
    query = select(INCIDENTS).order_by(INCIDENTS.c.opened_us, INCIDENTS.c.incident_id)
    if is_open:
        query = query.where(INCIDENTS.c.closed_us.is_(None))
    if source is not None:
        query = query.where(INCIDENTS.c.source == source)
    return _read(connection, query)


def _read(connection: Connection, query: Any) -> tuple[Incident, ...]:
    return tuple(
        Incident(
            r.incident_id,
            r.kind,
            r.source,
            r.column,
            r.model,
            r.opened_us,
            r.closed_us,
            r.reason,
            r.closing,
            json.loads(r.numbers),
        )
        for r in connection.execute(query)
    )
