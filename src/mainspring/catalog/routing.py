"""Who serves: the champion of each model, the last good version, and the challenger that a rollout adds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from mainspring.catalog import rollouts, versions
from mainspring.catalog.champions import CHAMPIONS
from mainspring.catalog.database import get_number, set_number
from mainspring.core.config import Config


@dataclass(frozen=True)
class Route:
    """How requests for a model are answered.

    Attributes:
        champion_path: Folder of the champion's package.
        challenger: The version being rolled out; None when there is none, and while it is paused.
        stage: ``shadow``, ``ramp:0`` … or ``live`` (no rollout).
        weight: The challenger's share of traffic; 0 in shadow.
        salt: Salt of the sticky assignment.
        last_good: The champion before this one: what a fallback uses.
        rollout: Id of the rollout that is running, logged with each prediction; empty when there is none.
    """

    model: str
    champion: str
    champion_path: str
    challenger: str | None
    challenger_path: str | None
    stage: str
    weight: float
    salt: str
    last_good: str | None
    last_good_path: str | None
    rollout: str = ""

    def located(self, config: Config) -> Route:
        """The same with its packages named by where they are now: the catalog names them relative to the project."""

        def here(path: str | None) -> str | None:
            return str(config.located(path)) if path else path

        return replace(
            self,
            champion_path=str(config.located(self.champion_path)),
            challenger_path=here(self.challenger_path),
            last_good_path=here(self.last_good_path),
        )


def routes(connection: Connection) -> tuple[Route, ...]:
    """The route of every model that has a champion, by name of model."""
    out = []
    for row in connection.execute(select(CHAMPIONS).order_by(CHAMPIONS.c.model)).all():
        rollout = rollouts.alive(connection, row.model)
        running = rollout if rollout is not None and rollout.state == "running" else None
        out.append(
            Route(
                model=row.model,
                champion=row.champion,
                champion_path=_path(connection, row.model, row.champion) or "",
                challenger=running.challenger if running else None,
                challenger_path=_path(connection, row.model, running.challenger) if running else None,
                stage=rollout.stage if running and rollout else "paused" if rollout else "live",
                weight=running.weight if running else 0.0,
                salt=rollout.salt if rollout else "",
                last_good=row.last_good,
                last_good_path=_path(connection, row.model, row.last_good),
                rollout=running.rollout_id if running else "",
            )
        )
    return tuple(out)


def generation(connection: Connection) -> int:
    """A number that rises whenever a route may have changed."""
    return get_number(connection, "generation")


def touch(connection: Connection) -> None:
    """Say that a route may have changed."""
    set_number(connection, "generation", generation(connection) + 1)


def _path(connection: Connection, model: str, version: str | None) -> str | None:
    found = versions.find(connection, model, version) if version is not None else None
    return found.path if found else None
