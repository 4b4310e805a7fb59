"""Keys: made and revoked by decisions. The text of a key is kept nowhere, only its digest."""

from __future__ import annotations

import json

from sqlalchemy import BigInteger, Column, Connection, Float, Integer, String, Table, Text, func, insert, select, update

from mainspring.catalog.database import METADATA, get_number, set_number
from mainspring.catalog.decisions import Decision
from mainspring.core.keys import Key

KEYS = Table(
    "keys",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("key_id", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("per_s", Float),
    Column("burst", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)
_CHANGES = "keys_changes"


def create(connection: Connection, decision: Decision) -> str:
    """Make the key that a decision describes; returns why not, or nothing."""
    numbers = decision.numbers
    if not decision.subject:
        return "a key needs an id as its subject"
    taken = (KEYS.c.key_id == decision.subject) | ((KEYS.c.name == numbers["name"]) & KEYS.c.revoked_us.is_(None))
    if connection.execute(select(KEYS.c.number).where(taken)).first() is not None:
        return f"there is a key {numbers['name']} already"
    connection.execute(
        insert(KEYS).values(
            number=(connection.scalar(select(func.max(KEYS.c.number))) or 0) + 1,
            key_id=decision.subject,
            name=numbers["name"],
            digest=numbers["digest"],
            scopes=json.dumps(numbers["scopes"]),
            per_s=numbers.get("per_s"),
            burst=int(numbers.get("burst", 1)),
            created_us=decision.at_us,
        )
    )
    _touch(connection)
    return ""


def revoke(connection: Connection, decision: Decision) -> str:
    """Revoke the key that a decision names; returns why not, or nothing."""
    where = (KEYS.c.key_id == decision.subject) & KEYS.c.revoked_us.is_(None)
    if not connection.execute(update(KEYS).where(where).values(revoked_us=decision.at_us)).rowcount:
        return f"no key {decision.subject} is in force"
    _touch(connection)
    return ""


def listed(connection: Connection) -> tuple[Key, ...]:
    """Every key that there ever was, oldest first."""
    rows = connection.execute(select(KEYS).order_by(KEYS.c.number)).mappings()
    return tuple(Key(**dict(row) | {"scopes": tuple(json.loads(row["scopes"]))}) for row in rows)


def changes(connection: Connection) -> int:
    """A number that rises whenever a key is made or revoked."""
    return get_number(connection, _CHANGES)


def _touch(connection: Connection) -> None:
    set_number(connection, _CHANGES, changes(connection) + 1)
