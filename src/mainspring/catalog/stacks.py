"""The weights of each stack that are in force: given by a decision, taken back by a rollback."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, delete, insert, select

from mainspring.catalog import definitions
from mainspring.catalog.database import METADATA
from mainspring.catalog.decisions import Decision
from mainspring.definitions.weights import Weights, weights_from

STACKS = Table(
    "stacks",
    METADATA,
    Column("composite", String, primary_key=True),
    Column("definition", String, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("numbers", Text, nullable=False),
)


@dataclass(frozen=True)
class Stack:
    """Weights that are in force.

    Attributes:
        definition: Version of the composite's definition that they belong to: another one answers the mean.
        versions: Of the members on whose answers they were fitted.
        at_us: Since when they serve.
        numbers: Of the decision: what they were fitted on, and by how much they are better.
    """

    composite: str
    definition: str
    weights: Weights
    versions: dict[str, str]
    at_us: int
    numbers: dict[str, Any]


def give(connection: Connection, decision: Decision) -> str:
    """Put weights in force; returns why not, or nothing."""
    numbers = decision.numbers
    try:
        weights = weights_from(numbers["weights"])
    except (KeyError, TypeError, ValueError) as error:
        return f"its weights cannot be read: {error!r}"
    name = str(decision.model)
    found = definitions.find(connection, "composites", name, str(numbers["definition"]))
    if found is not None and found.description["members"] != list(weights.members):
        return f"its weights are of {', '.join(weights.members)}, not of the members of {name}"
    connection.execute(delete(STACKS).where(STACKS.c.composite == name))
    values = {"definition": str(numbers["definition"]), "at_us": decision.at_us}
    connection.execute(insert(STACKS).values(composite=name, numbers=json.dumps(numbers, sort_keys=True), **values))
    return ""


def rollback(connection: Connection, decision: Decision) -> str:
    """Back to the mean, which needs no proof; returns why not, or nothing."""
    name, asked = str(decision.model), decision.numbers.get("version")
    known = next((one for one in listed(connection) if one.composite == name), None)
    if known is None:
        return f"{name} has no weights: it answers the mean"
    if asked not in (None, known.weights.version):
        return f"weights {asked} of {name} do not serve"
    connection.execute(delete(STACKS).where(STACKS.c.composite == name))
    return ""


def listed(connection: Connection) -> tuple[Stack, ...]:
    """All weights that are in force, by name of composite."""
    rows = connection.execute(select(STACKS).order_by(STACKS.c.composite)).all()
    return tuple(_stack(row.composite, row.definition, row.at_us, json.loads(row.numbers)) for row in rows)


def _stack(composite: str, definition: str, at_us: int, numbers: dict[str, Any]) -> Stack:
    versions = {str(name): str(version) for name, version in numbers.get("versions", {}).items()}
    return Stack(composite, definition, weights_from(numbers["weights"]), versions, at_us, numbers)
