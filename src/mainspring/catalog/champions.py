"""The version of each model that serves, and the one before it that is known to be good."""

from __future__ import annotations

from sqlalchemy import Column, Connection, String, Table, insert, select, update

from mainspring.catalog.database import METADATA

CHAMPIONS = Table(
    "champions",
    METADATA,
    Column("model", String, primary_key=True),
    Column("champion", String, nullable=False),
    Column("last_good", String),
)


def champion(connection: Connection, model: str) -> str | None:
    """The version that serves, or None before the first release."""
    return connection.scalar(select(CHAMPIONS.c.champion).where(CHAMPIONS.c.model == model))


def last_good(connection: Connection, model: str) -> str | None:
    """The champion before this one."""
    return connection.scalar(select(CHAMPIONS.c.last_good).where(CHAMPIONS.c.model == model))


def set_champion(connection: Connection, model: str, version: str, good: str | None) -> None:
    """Let ``version`` serve; ``good`` is what to fall back on."""
    values = {"champion": version, "last_good": good}
    if connection.execute(update(CHAMPIONS).where(CHAMPIONS.c.model == model).values(**values)).rowcount == 0:
        connection.execute(insert(CHAMPIONS).values(model=model, **values))
