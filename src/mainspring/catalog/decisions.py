"""Decisions: every release, promotion, rollback, retraining and finding, by whom and on which numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, func, insert, select

from mainspring.catalog.database import METADATA
from mainspring.core.times import from_datetime

KINDS = (
    "apply",
    "dataset",
    "version",
    "release",
    "stage",
    "promote",
    "rollback",
    "pause",
    "resume",
    "incident_open",
    "incident_widen",
    "incident_close",
    "incident_accept",
    "mend",
    "retrain",
    "drift",
    "performance",
    "parity",
    "backfill",
    "backfilled",
    "ingest",
    "key_create",
    "key_revoke",
    "checks",
    "read",
    "weights",
)
ROUTING = frozenset({"release", "stage", "promote", "rollback", "pause", "resume"})
"""Kinds after which other versions may answer for a model."""

DECISIONS = Table(
    "decisions",
    METADATA,
    Column("decision_id", String, primary_key=True),
    Column("offset", BigInteger, nullable=False, index=True),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", String, nullable=False, index=True),
    Column("model", String, index=True),
    Column("subject", String),
    Column("actor", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("numbers", Text, nullable=False),
    Column("note", Text, nullable=False),
)


@dataclass(frozen=True)
class Decision:
    """One decision event.

    Attributes:
        offset: Its place in the log.
        numbers: The numbers it rests on.
        note: Why it changed nothing, when it could not be carried out; else empty.
    """

    decision_id: str
    offset: int
    at_us: int
    kind: str
    model: str | None
    subject: str | None
    actor: str
    reason: str
    numbers: dict[str, Any]
    note: str = ""


def from_event(offset: int, row: Mapping[str, Any]) -> Decision:
    """The decision in a row of the ``_decision`` source; the moment may be a datetime or microseconds."""
    at, numbers = row["decided_at"], row.get("numbers") or "{}"
    return Decision(
        str(row["decision_id"]),
        offset,
        from_datetime(at) if isinstance(at, datetime) else int(at),
        str(row["kind"]),
        row.get("model"),
        row.get("subject"),
        str(row["actor"]),
        str(row.get("reason") or ""),
        json.loads(numbers) if isinstance(numbers, str) else dict(numbers),
    )


def find(connection: Connection, decision_id: str) -> Decision | None:
    """One decision, or None."""
    rows = _read(connection, select(DECISIONS).where(DECISIONS.c.decision_id == decision_id))
    return rows[0] if rows else None


def known(connection: Connection, decision_id: str) -> bool:
    """Whether a decision has been projected."""
    query = select(DECISIONS.c.decision_id).where(DECISIONS.c.decision_id == decision_id)
    return connection.execute(query).first() is not None


def record(connection: Connection, decision: Decision, note: str) -> None:
    """Keep a decision, with why it changed nothing if it did not."""
    values = {c.name: getattr(decision, c.name) for c in DECISIONS.columns}
    values |= {"numbers": json.dumps(decision.numbers, sort_keys=True), "note": note}
    connection.execute(insert(DECISIONS).values(**values))


def listed(
    connection: Connection, kinds: tuple[str, ...] = (), model: str | None = None, limit: int | None = None
) -> tuple[Decision, ...]:
    """Decisions in the log's order; with ``limit`` the latest so many."""
    query = select(DECISIONS).order_by(DECISIONS.c.offset.desc())
    if kinds:
        query = query.where(DECISIONS.c.kind.in_(kinds))
    if model is not None:
        query = query.where(DECISIONS.c.model == model)
    if limit is not None:
        query = query.limit(limit)
    return _read(connection, query)[::-1]


def _read(connection: Connection, query: Any) -> tuple[Decision, ...]:
    return tuple(
        Decision(
            r.decision_id,
            r.offset,
            r.at_us,
            r.kind,
            r.model,
            r.subject,
            r.actor,
            r.reason,
            json.loads(r.numbers),
            r.note,
        )
        for r in connection.execute(query)
    )


def counted(connection: Connection) -> dict[str, int]:
    """How many decisions of each kind there are."""
    query = select(DECISIONS.c.kind, func.count()).group_by(DECISIONS.c.kind).order_by(DECISIONS.c.kind)
    return {row[0]: row[1] for row in connection.execute(query)}
