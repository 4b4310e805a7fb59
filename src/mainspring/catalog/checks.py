"""Results of checks: what each said of each of its windows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Connection, Float, String, Table, Text, delete, insert, select

from mainspring.catalog.database import METADATA
from mainspring.catalog.decisions import Decision

RESULTS = Table(
    "check_results",
    METADATA,
    Column("check", String, primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("state", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("p", Float),
    Column("value", Float),
)


@dataclass(frozen=True)
class Result:
    """What a check said of the window that ends at ``at_us``: ``pass``, ``fail`` or ``unknown``."""

    check: str
    at_us: int
    state: str
    reason: str
    p: float | None
    value: float | None


def record(connection: Connection, decision: Decision) -> str:
    """Keep the results that a decision of kind ``checks`` holds; the same ones again change nothing."""
    for one in decision.numbers["results"]:
        key = (RESULTS.c.check == one["check"]) & (RESULTS.c.at_us == decision.at_us)
        connection.execute(delete(RESULTS).where(key))
        connection.execute(
            insert(RESULTS).values(
                check=one["check"],
                at_us=decision.at_us,
                state=one["state"],
                reason=one["reason"],
                p=one.get("p"),
                value=one.get("value"),
            )
        )
    return ""


def listed(connection: Connection, check: str | None = None, limit: int = 1_000) -> tuple[Result, ...]:
    """Results of one check or of all, the latest first."""
    query = select(RESULTS).order_by(RESULTS.c.at_us.desc(), RESULTS.c.check).limit(limit)
    if check is not None:
        query = query.where(RESULTS.c.check == check)
    return tuple(Result(r.check, r.at_us, r.state, r.reason, r.p, r.value) for r in connection.execute(query))
