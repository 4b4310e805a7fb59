"""Every version of every source, feature view and model that was ever applied, and which ones are current."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, delete, insert, select, update

from mainspring.catalog.compatibility import ANEW
from mainspring.catalog.database import METADATA

NEEDED = ("sources", "views", "models")
KINDS = (*NEEDED, "checks", "composites")

DEFINITIONS = Table(
    "definitions",
    METADATA,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("body", Text, nullable=False),
    Column("first_at_us", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
)
CURRENT = Table(
    "current_definitions",
    METADATA,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", String, nullable=False),
    Column("since_us", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Definition:
    """One version of a source, feature view or model.

    Attributes:
        kind: ``sources``, ``views`` or ``models``.
        description: What `Project.describe` says of it.
        first_at_us: When this version was applied for the first time.
    """

    kind: str
    name: str
    version: str
    description: dict[str, Any]
    first_at_us: int
    actor: str


def apply(connection: Connection, description: Mapping[str, Any], at_us: int, actor: str) -> None:
    """Make ``description`` (of `Project.describe`) current; versions seen before keep their first moment.

    What does not make a version (docs, owners, tags, columns of a source that a view does not read) is as said last.
    That a source's version was first applied without a look at earlier ones stays with it (`compatibility.ANEW`).
    """
    connection.execute(delete(CURRENT))
    for kind in KINDS:
        for name, said in description.get(kind, {}).items():
            key = {"kind": kind, "name": name, "version": said["version"]}
            known = find(connection, kind, name, said["version"])
            first = said if known is None else known.description
            is_anew = first.get("about", {}).get("compatible") == "none" if known is None else first.get(ANEW, False)
            body = said | ({ANEW: True} if is_anew else {})
            text = json.dumps(body, sort_keys=True)
            if known is None:
                connection.execute(insert(DEFINITIONS).values(**key, body=text, first_at_us=at_us, actor=actor))
            elif body != known.description:
                is_it = (DEFINITIONS.c[part] == value for part, value in key.items())
                connection.execute(update(DEFINITIONS).where(*is_it).values(body=text))
            connection.execute(insert(CURRENT).values(**key, since_us=at_us))


def current(connection: Connection) -> dict[str, dict[str, Any]]:
    """What is in force, in the shape of `Project.describe`; empty before the first apply."""
    joined = DEFINITIONS.join(
        CURRENT,
        (DEFINITIONS.c.kind == CURRENT.c.kind)
        & (DEFINITIONS.c.name == CURRENT.c.name)
        & (DEFINITIONS.c.version == CURRENT.c.version),
    )
    out: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    query = select(DEFINITIONS.c.kind, DEFINITIONS.c.name, DEFINITIONS.c.body).select_from(joined)
    for kind, name, body in connection.execute(query.order_by(DEFINITIONS.c.name)):
        out[kind][name] = json.loads(body)
    return out


def names(connection: Connection, kind: str) -> tuple[str, ...]:
    """What of a kind is in force, by name."""
    query = select(CURRENT.c.name).where(CURRENT.c.kind == kind).order_by(CURRENT.c.name)
    return tuple(connection.scalars(query))


def find(connection: Connection, kind: str, name: str, version: str) -> Definition | None:
    """One version, or None."""
    query = select(DEFINITIONS).where(
        DEFINITIONS.c.kind == kind, DEFINITIONS.c.name == name, DEFINITIONS.c.version == version
    )
    row = connection.execute(query).one_or_none()
    return (
        None
        if row is None
        else Definition(row.kind, row.name, row.version, json.loads(row.body), row.first_at_us, row.actor)
    )


def versions(connection: Connection, kind: str, name: str) -> tuple[Definition, ...]:
    """Every version of one source, view or model that was ever applied, oldest first."""
    query = select(DEFINITIONS).where(DEFINITIONS.c.kind == kind, DEFINITIONS.c.name == name)
    return tuple(
        Definition(r.kind, r.name, r.version, json.loads(r.body), r.first_at_us, r.actor)
        for r in connection.execute(query.order_by(DEFINITIONS.c.first_at_us, DEFINITIONS.c.version))
    )
