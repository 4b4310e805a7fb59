"""Mends of accepted events: a bad window of a source is corrected, recorded, and its incident closed.

The corrections are events of the source like any others, sent through the intake; then one decision says what was done,
by whom and why. Whoever is killed in between starts the same command again: what was sent is found, not sent twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mainspring.catalog import Catalog, Incident
from mainspring.core import Clock, Config, content_hash
from mainspring.core.errors import ConfigError, NotFoundError, RefusedError
from mainspring.core.names import did_you_mean
from mainspring.core.run import internal_token, read_door
from mainspring.core.times import to_iso
from mainspring.definitions import Project
from mainspring.definitions.values import SourceDef
from mainspring.events.amending import Amendment, Planned, Ranges, check_amendment, planned
from mainspring.events.client import IntakeClient
from mainspring.events.contract import Contract
from mainspring.events.history import History
from mainspring.loop.consumers import Release, without_corrections
from mainspring.loop.desk import open_desk, standing_intake
from mainspring.loop.incidents import CHECK, SHIFT

DECISION = "mend"
_ROWS = 500  # in one request, and so in one transaction


@dataclass(frozen=True)
class Window:
    """What became known of a source in ``[since_us, until_us)``, and the incident that says so, if one does."""

    source: str
    since_us: int
    until_us: int
    incident: str | None


@dataclass(frozen=True)
class Mended:
    """What a mend did, or would do.

    Attributes:
        plan: As it was before anything was sent.
        sent: How many corrections.
        rests: Releases that serve no more but may again, and read views that count each correction as a further event.
    """

    window: Window
    plan: Planned
    sent: int
    rests: tuple[Release, ...]


@dataclass(frozen=True)
class Asked:
    """What a person asks for.

    Attributes:
        target: Id of an incident of a check, or the name of a source.
        amendment: What is to become of the events.
        actor: Who asks.
        reason: Why.
        since_us: When the first became known that are wrong; the incident's own window where None.
        until_us: When the first became known that are right again.
    """

    target: str
    amendment: Amendment
    actor: str
    reason: str
    since_us: int | None = None
    until_us: int | None = None


def mend(config: Config, project: Project, clock: Clock, asked: Asked, *, dry_run: bool = False) -> Mended:
    """Correct the events of a bad window.

    Args:
        config: The project's settings.
        project: Its definitions.
        clock: Says when it is decided.
        asked: What, and why.
        dry_run: Send and write nothing.

    Raises:
        NotFoundError: No such incident or source (MS-L170).
        ConfigError: A source without a window (MS-L171), an empty window (MS-L174), or the
            amendment asks for what cannot be.
        RefusedError: The source has no corrections (MS-E141), a release reads it without them (MS-L172), or a mended
            event would break the contract (MS-E143): nothing was sent. The intake refused some (MS-L173).
    """
    amendment = asked.amendment
    with open_desk(config, project) as desk:
        window = _window(desk.catalog, project, asked, clock.now_us())
        source = project.sources[window.source]
        check_amendment(amendment, source)
        rests = _check_releases(desk.catalog, source)
        earlier = [(one.amendment, one.ranges) for one in mends(desk.catalog) if one.window.source == window.source]
        plan = _planned(desk.history, source, window, amendment, earlier, clock.now_us())
        if dry_run or not (plan.changes or plan.done):
            return Mended(window, plan, 0, rests)
        with standing_intake(config):
            _send(config, source, plan)
            desk.history.catch_up()
            after = _planned(desk.history, source, window, amendment, earlier, clock.now_us())
            known_us = _known_us(desk.history, source, after.done)
            numbers = {
                "source": window.source,
                "since_us": window.since_us,
                "until_us": window.until_us,
                "amendment": msgspec.to_builtins(amendment),
                "is_undoing": amendment.is_undoing,
                "ranges": ranges(after.done),
                "mended_us": known_us,
                "events": len(after.done),
                "unchanged": after.unchanged,
                "later": after.later,
            }
            name = f"{DECISION}-{content_hash([asked.target, numbers])}"
            at_us = max(clock.now_us(), known_us + 1)
            desk.ledger.decide(
                DECISION,
                name,
                at_us,
                subject=window.incident,
                actor=asked.actor,
                reason=asked.reason,
                numbers=numbers,
            )
        return Mended(window, plan, len(plan.changes), rests)


@dataclass(frozen=True)
class Made:
    """A mend that was made.

    Attributes:
        ranges: Offsets of its events, both ends included.
    """

    window: Window
    amendment: Amendment
    ranges: tuple[tuple[int, int], ...]


def mends(catalog: Catalog) -> list[Made]:
    """Every mend that was made, oldest first."""
    out = []
    for one in catalog.decisions(DECISION):
        said = one.numbers
        window = Window(said["source"], said["since_us"], said["until_us"], one.subject)
        amendment = msgspec.convert(said["amendment"], Amendment)
        out.append(Made(window, amendment, tuple((first, last) for first, last in said["ranges"])))
    return out


def ranges(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Offsets as stretches without gaps, both ends included.

    >>> ranges([7, 3, 4, 5])
    [(3, 5), (7, 7)]
    """
    out: list[tuple[int, int]] = []
    for offset in sorted(offsets):
        if out and offset == out[-1][1] + 1:
            out[-1] = (out[-1][0], offset)
        else:
            out.append((offset, offset))
    return out


def _window(catalog: Catalog, project: Project, asked: Asked, now_us: int) -> Window:
    target, since_us, until_us = asked.target, asked.since_us, asked.until_us
    if target in project.sources:
        if since_us is None or until_us is None:
            hint = "--since and --until say when they became known; an incident names its own window"
            raise ConfigError("MS-L171", f"which events of {target} are to be mended?", hint=hint)
        return _spanned(target, since_us, min(until_us, now_us), None)
    known = {one.incident_id: one for one in catalog.incidents() if one.kind in (CHECK, SHIFT)}
    found = known.get(target)
    if found is None or found.source not in project.sources:
        hint = did_you_mean(target, [*known, *project.sources]) or "mainspring status"
        raise NotFoundError("MS-L170", f"there is no source and no incident of a check {target!r}", hint=hint)
    if found.kind == CHECK:
        since_us = found.opened_us if since_us is None else since_us
        until_us = _until_us(catalog, found) if until_us is None else until_us
    if since_us is None or until_us is None:
        hint = "--since and --until say when the events became known that are wrong"
        raise ConfigError("MS-L171", f"{target} says of no window alone that it is wrong", hint=hint)
    return _spanned(str(found.source), since_us, min(until_us, now_us), target)


def _spanned(source: str, since_us: int, until_us: int, incident: str | None) -> Window:
    if since_us >= until_us:
        raise ConfigError(
            "MS-L174",
            f"the window of {source} is empty: it begins at {to_iso(since_us)} and ends at {to_iso(until_us)}",
            why="what is not known yet cannot be mended; a window ends now at the latest",
            hint="--since says when the first event became known that is wrong, --until when the first that is right",
        )
    return Window(source, since_us, until_us, incident)


def _until_us(catalog: Catalog, incident: Incident) -> int | None:
    """Where the first window begins that passed; while there is none, the end of the last that failed."""
    said: int | None = incident.numbers.get("until_us")
    if said is not None:
        return said
    names = incident.numbers.get("checks", ())
    failed = [
        result.at_us
        for name in names
        for result in catalog.check_results(name)
        if result.state == "fail" and result.at_us > incident.opened_us
    ]
    return max(failed, default=None)


def _check_releases(catalog: Catalog, source: SourceDef) -> tuple[Release, ...]:
    """Releases that may serve again and read views from before the source had corrections.

    Raises:
        RefusedError: One of those serves, or is on its way (MS-L172).
    """
    found = without_corrections(catalog, source)
    for one in found:
        if one.role != "last_good":
            raise RefusedError(
                "MS-L172",
                f"corrections of {source.name} would be further events to {one.model} {one.version} ({one.role})",
                why=f"it reads views from before {source.name} said corrects=",
                hint=f"release another version of {one.model} first; the bad window stays out of training sets",
            )
    return tuple(found)


def _planned(
    history: History,
    source: SourceDef,
    window: Window,
    amendment: Amendment,
    earlier: Sequence[tuple[Amendment, Ranges]],
    now_us: int,
) -> Planned:
    span = (window.since_us, window.until_us)
    return planned(history.frame(source.name), Contract(source), span, amendment, earlier, now_us)


def _send(config: Config, source: SourceDef, plan: Planned) -> None:
    url = read_door(config.run, "intake") or ""
    most = min(_ROWS, config.intake.max_rows)
    with IntakeClient(url, internal_token(config.run)) as client:
        for start in range(0, len(plan.changes), most):
            part = plan.changes[start : start + most]
            answer = client.post_internal([(source.name, change.event) for change in part], sender="checks mend")
            if answer["errors"]:
                first = answer["errors"][0]
                raise RefusedError(
                    "MS-L173",
                    f"{len(answer['errors']):,} of the corrections of {source.name} went to quarantine",
                    where=first["path"],
                    why=first["reason"],
                    hint="once that is mended the same command sends what is still missing",
                )


def _known_us(history: History, source: SourceDef, offsets: Sequence[int]) -> int:
    frame = history.frame(source.name, ["_offset", "_known_at"])
    known: Any = frame.filter(frame["_offset"].is_in(list(offsets)))["_known_at"].dt.epoch("us").max()
    return int(known)
