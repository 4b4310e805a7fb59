"""Model versions: each a package, a run, a training set and a definition; and what has become of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, insert, select, update

from mainspring.catalog.database import METADATA

State = Literal["candidate", "challenger", "champion", "retired", "rolled_back", "superseded"]

VERSIONS = Table(
    "versions",
    METADATA,
    Column("model", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("path", String, nullable=False),
    Column("run_id", String),
    Column("dataset", String),
    Column("definition", String),
    Column("metrics", Text, nullable=False),
    Column("gates", Text, nullable=False),
    Column("views", Text, nullable=False),
    Column("numbers", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Version:
    """A trained version of a model.

    Attributes:
        path: Folder of the package.
        run_id: The MLflow run.
        dataset: Hash of the training set.
        definition: Version of the model's definition.
        metrics: Metrics on the test split by name.
        gates: What each gate said.
        views: Version of each feature view that it reads, by name: a release goes live, and back, together with them.
        numbers: All that the decision recorded.
        state: What has become of it.
    """

    model: str
    version: str
    path: str
    run_id: str | None
    dataset: str | None
    definition: str | None
    metrics: dict[str, Any]
    gates: Any
    views: dict[str, str]
    numbers: dict[str, Any]
    state: State
    at_us: int

    @property
    def passed(self) -> bool:
        """Whether every gate was met."""
        return all(bool(gate.get("passed", True)) for gate in self.gates)


def record(connection: Connection, model: str, numbers: Mapping[str, Any], at_us: int) -> None:
    """Remember a trained version as a candidate.

    Trained again, to the same content, a candidate has what its gates said last; any other version stays as it is.
    """
    version = str(numbers["version"])
    known = find(connection, model, version)
    judged = {
        "metrics": json.dumps(numbers.get("metrics") or {}, sort_keys=True),
        "gates": json.dumps(numbers.get("gates") or []),
        "numbers": json.dumps(dict(numbers), sort_keys=True),
    }
    if known is not None:
        if known.state == "candidate":
            where = (VERSIONS.c.model == model) & (VERSIONS.c.version == version)
            connection.execute(update(VERSIONS).where(where).values(**judged))
        return
    views = numbers.get("view_versions") or numbers.get("views") or {}
    connection.execute(
        insert(VERSIONS).values(
            model=model,
            version=version,
            path=str(numbers.get("path", "")),
            run_id=numbers.get("run_id"),
            dataset=numbers.get("dataset"),
            definition=numbers.get("definition"),
            views=json.dumps(dict(views), sort_keys=True),
            **judged,
            state="candidate",
            at_us=at_us,
        )
    )


def set_state(connection: Connection, model: str, version: str | None, state: State) -> None:
    """Say what has become of a version."""
    if version is not None:
        where = (VERSIONS.c.model == model) & (VERSIONS.c.version == version)
        connection.execute(update(VERSIONS).where(where).values(state=state))


def find(connection: Connection, model: str, version: str | None) -> Version | None:
    """One version, or None."""
    rows = _read(connection, select(VERSIONS).where(VERSIONS.c.model == model, VERSIONS.c.version == version))
    return rows[0] if rows else None


def of_model(connection: Connection, model: str | None = None) -> tuple[Version, ...]:
    """Versions of a model (of all models when None), oldest first."""
    query = select(VERSIONS).order_by(VERSIONS.c.at_us, VERSIONS.c.version)
    return _read(connection, query if model is None else query.where(VERSIONS.c.model == model))


def _read(connection: Connection, query: Any) -> tuple[Version, ...]:
    return tuple(
        Version(
            r.model,
            r.version,
            r.path,
            r.run_id,
            r.dataset,
            r.definition,
            json.loads(r.metrics),
            json.loads(r.gates),
            json.loads(r.views),
            json.loads(r.numbers),
            r.state,
            r.at_us,
        )
        for r in connection.execute(query)
    )
