"""Rollouts: a challenger on its way to being champion, or back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BigInteger, Boolean, Column, Connection, Float, String, Table, Text, insert, select, update

from mainspring.catalog import champions, versions
from mainspring.catalog.database import METADATA
from mainspring.catalog.decisions import Decision

State = Literal["running", "paused", "promoted", "rolled_back", "superseded"]
ALIVE = ("running", "paused")

ROLLOUTS = Table(
    "rollouts",
    METADATA,
    Column("rollout_id", String, primary_key=True),
    Column("model", String, nullable=False, index=True),
    Column("champion", String),
    Column("challenger", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("weight", Float, nullable=False),
    Column("salt", String, nullable=False),
    Column("state", String, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("started_at_us", BigInteger, nullable=False),
    Column("entered_at_us", BigInteger, nullable=False),
    Column("paused_at_us", BigInteger),
    Column("paused_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
)


@dataclass(frozen=True)
class Rollout:
    """A release on its way.

    Attributes:
        rollout_id: Id of the decision that released it.
        champion: Version that served when it began; None for the first release, which is live at once.
        challenger: Version released.
        stage: ``shadow``, ``ramp:0``, ``ramp:1`` … or ``live``; while paused, the stage it goes back to.
        weight: The challenger's share of traffic in that stage.
        salt: Salt of the assignment, fixed for the whole rollout.
        state: What has become of it.
        forced: Whether it was released past its gates by hand.
        entered_at_us: When this stage began.
        paused_at_us: Since when it is paused.
        paused_us: How much of this stage has been pause: it is no exposure.
        evidence: Numbers of the latest decision about it.
    """

    rollout_id: str
    model: str
    champion: str | None
    challenger: str
    stage: str
    weight: float
    salt: str
    state: State
    forced: bool
    started_at_us: int
    entered_at_us: int
    paused_at_us: int | None
    paused_us: int
    ended_at_us: int | None
    reason: str
    evidence: dict[str, Any]

    def exposure_us(self, now_us: int) -> int:
        """How long the challenger has been exposed in this stage: time since it began, less pauses."""
        until = self.paused_at_us if self.paused_at_us is not None else self.ended_at_us
        return (now_us if until is None else until) - self.entered_at_us - self.paused_us


def alive(connection: Connection, model: str) -> Rollout | None:
    """The rollout of a model that is running or paused, or None."""
    rows = _read(connection, select(ROLLOUTS).where(ROLLOUTS.c.model == model, ROLLOUTS.c.state.in_(ALIVE)))
    return rows[0] if rows else None


def listed(connection: Connection, model: str | None = None) -> tuple[Rollout, ...]:
    """Rollouts of a model (of all models when None), oldest first."""
    query = select(ROLLOUTS).order_by(ROLLOUTS.c.started_at_us, ROLLOUTS.c.rollout_id)
    return _read(connection, query if model is None else query.where(ROLLOUTS.c.model == model))


# What each decision does. Each returns why it changed nothing, or nothing.


def release(connection: Connection, decision: Decision) -> str:
    """Start a rollout in shadow; a model without a champion goes live at once. A rollout under way is superseded."""
    model, challenger = str(decision.model), str(decision.numbers.get("version"))
    if versions.find(connection, model, challenger) is None:
        return f"model {model} has no version {challenger}"
    champion = champions.champion(connection, model)
    if champion == challenger:
        return f"version {challenger} is the champion already"
    older = alive(connection, model)
    if older is not None and older.challenger == challenger:
        return f"version {challenger} is being rolled out already"
    if older is not None:
        _end(connection, older, "superseded", decision)
        versions.set_state(connection, model, older.challenger, "superseded")
    live = champion is None
    connection.execute(
        insert(ROLLOUTS).values(
            rollout_id=decision.decision_id,
            model=model,
            champion=champion,
            challenger=challenger,
            stage="live" if live else "shadow",
            weight=1.0 if live else 0.0,
            salt=decision.decision_id,
            state="promoted" if live else "running",
            forced=bool(decision.numbers.get("forced", False)),
            started_at_us=decision.at_us,
            entered_at_us=decision.at_us,
            paused_at_us=None,
            paused_us=0,
            ended_at_us=decision.at_us if live else None,
            reason=decision.reason,
            evidence="{}",
        )
    )
    if live:
        champions.set_champion(connection, model, challenger, None)
    versions.set_state(connection, model, challenger, "champion" if live else "challenger")
    return ""


def stage(connection: Connection, decision: Decision) -> str:
    """Move the running rollout to the stage and weight that the decision names."""
    rollout = alive(connection, str(decision.model))
    if rollout is None:
        return f"no rollout of {decision.model} is under way"
    weight = float(decision.numbers.get("weight", 0.0))
    if not 0.0 <= weight <= 1.0:
        return f"weight {weight} is no share"
    _set(
        connection,
        rollout,
        stage=str(decision.numbers["stage"]),
        weight=weight,
        state="running",
        entered_at_us=decision.at_us,
        paused_at_us=None,
        paused_us=0,
        reason=decision.reason,
        evidence=json.dumps(decision.numbers),
    )
    return ""


def promote(connection: Connection, decision: Decision) -> str:
    """The challenger becomes the champion; the old champion is the last good version."""
    rollout = alive(connection, str(decision.model))
    asked = decision.numbers.get("version")
    if rollout is None or asked not in (None, rollout.challenger):
        return f"no rollout of {decision.model}{f' to version {asked}' if asked else ''} is under way"
    old = champions.champion(connection, rollout.model)
    champions.set_champion(connection, rollout.model, rollout.challenger, old)
    versions.set_state(connection, rollout.model, old, "retired")
    versions.set_state(connection, rollout.model, rollout.challenger, "champion")
    _end(connection, rollout, "promoted", decision, stage="live", weight=1.0)
    return ""


def rollback(connection: Connection, decision: Decision) -> str:
    """Drop the challenger; without one, or when the champion is named, go back to the last good version."""
    model = str(decision.model)
    rollout, asked = alive(connection, model), decision.numbers.get("version")
    if rollout is not None and asked in (None, rollout.challenger):
        _end(connection, rollout, "rolled_back", decision, weight=0.0)
        versions.set_state(connection, model, rollout.challenger, "rolled_back")
        return ""
    champion, last_good = champions.champion(connection, model), champions.last_good(connection, model)
    if asked not in (None, champion):
        return f"version {asked} of {model} neither serves nor is being rolled out"
    if champion is None or last_good is None:
        return f"{model} has no earlier version to go back to"
    if rollout is not None:  # it was being compared with a champion that is no more
        _end(connection, rollout, "superseded", decision, weight=0.0)
        versions.set_state(connection, model, rollout.challenger, "superseded")
    champions.set_champion(connection, model, last_good, None)
    versions.set_state(connection, model, champion, "rolled_back")
    versions.set_state(connection, model, last_good, "champion")
    return ""


def pause(connection: Connection, decision: Decision) -> str:
    """Hold the running rollout: the champion serves everybody."""
    rollout = alive(connection, str(decision.model))
    if rollout is None or rollout.state == "paused":
        return f"no rollout of {decision.model} is running"
    _set(connection, rollout, state="paused", paused_at_us=decision.at_us, reason=decision.reason)
    return ""


def resume(connection: Connection, decision: Decision) -> str:
    """Let a paused rollout go on where it was."""
    rollout = alive(connection, str(decision.model))
    if rollout is None or rollout.paused_at_us is None:
        return f"no rollout of {decision.model} is paused"
    paused_us = rollout.paused_us + decision.at_us - rollout.paused_at_us
    _set(connection, rollout, state="running", paused_at_us=None, paused_us=paused_us, reason=decision.reason)
    return ""


def _end(connection: Connection, rollout: Rollout, state: State, decision: Decision, **values: Any) -> None:
    evidence = json.dumps(decision.numbers)
    _set(
        connection,
        rollout,
        state=state,
        ended_at_us=decision.at_us,
        reason=decision.reason,
        evidence=evidence,
        **values,
    )


def _set(connection: Connection, rollout: Rollout, **values: Any) -> None:
    connection.execute(update(ROLLOUTS).where(ROLLOUTS.c.rollout_id == rollout.rollout_id).values(**values))


def _read(connection: Connection, query: Any) -> tuple[Rollout, ...]:
    return tuple(
        Rollout(**{**row._mapping, "evidence": json.loads(row.evidence)})  # noqa: SLF001  its public name
        for row in connection.execute(query)
    )
