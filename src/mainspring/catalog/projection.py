"""The catalog is a projection of the log: what each kind of decision does to it.

A decision is projected once, however often it is replayed: it is known by its id, and the catalog remembers up to which
offset of the log it has read. A decision that cannot be carried out is kept with a note that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from mainspring.catalog import (
    checks,
    datasets,
    decisions,
    definitions,
    incidents,
    keys,
    rollouts,
    routing,
    stacks,
    versions,
)
from mainspring.catalog.database import get_number, set_number
from mainspring.catalog.decisions import ROUTING, Decision

_CURSOR = "projected_offset"
_RELOADS = ROUTING | {"apply", "weights"}  # a gateway reads definitions and weights with its routes


def projected_offset(connection: Connection) -> int:
    """Up to which offset of the log decisions have been projected; 0 at the beginning."""
    return get_number(connection, _CURSOR)


def project(connection: Connection, events: Iterable[tuple[int, Mapping[str, Any]]], upto: int | None = None) -> int:
    """Apply decision events in the order of their offsets.

    Args:
        connection: A write transaction.
        events: Offset and row of each ``_decision`` event after `projected_offset`; earlier ones are passed over.
        upto: Offset up to which the log has been read, where it has no decisions at its end.

    Returns:
        How many decisions were new.
    """
    cursor = projected_offset(connection)
    end, new, rerouted = max(cursor, upto or 0), 0, False
    for offset, row in sorted(events, key=lambda pair: pair[0]):
        if offset <= cursor:
            continue
        end = max(end, offset)
        decision = decisions.from_event(offset, row)
        if decisions.known(connection, decision.decision_id):
            continue
        note = _carry_out(connection, decision)
        decisions.record(connection, decision, note)
        new += 1
        rerouted = rerouted or (decision.kind in _RELOADS and not note)
    if rerouted:
        routing.touch(connection)
    if end != cursor:
        set_number(connection, _CURSOR, end)
    return new


def objection(connection: Connection, row: Mapping[str, Any]) -> str:
    """Why a decision would change nothing, or nothing. Carries it out: to be taken back by the caller."""
    return _carry_out(connection, decisions.from_event(0, row))


def _carry_out(connection: Connection, decision: Decision) -> str:
    """Do what a decision says; returns why it changed nothing, or nothing."""
    if decision.kind not in decisions.KINDS:
        return f"this release does not know decisions of kind {decision.kind}"
    action = _ACTIONS.get(decision.kind)
    if action is None:
        return ""  # a finding: kept, and changes nothing else
    if decision.kind in _OF_A_MODEL and decision.model is None:
        return f"a decision of kind {decision.kind} names a model"
    missing = [key for key in _NEEDS.get(decision.kind, ()) if key not in decision.numbers]
    if missing:
        return f"its numbers lack {', '.join(missing)}"
    return action(connection, decision)


def _apply(connection: Connection, decision: Decision) -> str:
    definitions.apply(connection, decision.numbers, decision.at_us, decision.actor)
    return ""


def _dataset(connection: Connection, decision: Decision) -> str:
    datasets.record(connection, str(decision.model), decision.numbers, decision.at_us)
    return ""


def _version(connection: Connection, decision: Decision) -> str:
    versions.record(connection, str(decision.model), decision.numbers, decision.at_us)
    return ""


def _rollback(connection: Connection, decision: Decision) -> str:
    if decision.model in definitions.names(connection, "composites"):
        return stacks.rollback(connection, decision)
    return rollouts.rollback(connection, decision)


_ACTIONS: dict[str, Callable[[Connection, Decision], str]] = {
    "apply": _apply,
    "dataset": _dataset,
    "version": _version,
    "release": rollouts.release,
    "stage": rollouts.stage,
    "promote": rollouts.promote,
    "rollback": _rollback,
    "pause": rollouts.pause,
    "resume": rollouts.resume,
    "incident_open": incidents.open,
    "incident_widen": incidents.widen,
    "incident_close": incidents.close,
    "incident_accept": incidents.accept,
    "mend": incidents.mend,
    "key_create": keys.create,
    "key_revoke": keys.revoke,
    "checks": checks.record,
    "weights": stacks.give,
}
_OF_A_MODEL = {"dataset", "version", "weights"} | ROUTING
_NEEDS = {
    "apply": definitions.NEEDED,
    "checks": ("results",),
    "incident_widen": ("checks", "blocking", "since_us"),
    "mend": ("source", "until_us", "mended_us"),
    "dataset": ("hash", "path"),
    "version": ("version", "path"),
    "release": ("version",),
    "stage": ("stage",),
    "weights": ("definition", "weights"),
    "key_create": ("name", "digest", "scopes"),
}
