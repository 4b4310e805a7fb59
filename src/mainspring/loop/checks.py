"""Checks at their boundaries: the frames that they read, what they say together, and the incidents of it.

One incident a source and column, however many checks fail on it: it names what is wrong, not who noticed.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from mainspring.catalog import Catalog, Decision, Incident
from mainspring.core import Config, MainspringError, to_iso
from mainspring.definitions import CheckDef, Project, SourceDef
from mainspring.definitions.expressions import UTC_US
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Counts, Log
from mainspring.loop.incidents import CHECK, SHIFT, Change
from mainspring.loop.ledger import Ledger
from mainspring.loop.mends import mends
from mainspring.loop.schedule import boundaries
from mainspring.monitoring.checks import Finding, Sent, Window, decide, evaluate, look_back_us
from mainspring.monitoring.shifts import Evidence, gathered

_log = logging.getLogger(__name__)
SQL_US = 10_000_000
"""How long a check's query may take: others wait for it."""


class Checker:
    """Evaluates a project's checks as their windows end.

    Args:
        config: The project's settings.
        project: Its checks.
        log: Read for what the door counted, and by checks in SQL.
        history: Caught up by whoever calls.
        catalog: What was found before.
        now_us: Windows that ended before this and were never looked at stay so.
    """

    def __init__(
        self, config: Config, project: Project, log: Log, history: History, catalog: Catalog, now_us: int
    ) -> None:
        self._config = config
        self._project = project
        self._log = log
        self._history = history
        self._catalog = catalog
        self._columns: dict[str, set[str]] = defaultdict(set)
        for check in project.checks.values():
            named = {check.column, check.limit("by"), *check.limit("columns", ())} - {None}
            corrected = {"_offset", check.source.corrects} if check.source.corrects is not None else set()
            self._columns[check.source.name] |= {"_time", "_known_at"} | named | corrected
            if check.target is not None:
                self._columns[check.target.name] |= {check.limit("to_column"), "_known_at"}
        spans = {c.every_us for c in project.checks.values()}
        self._said = {every: self._last(every) for every in spans}
        self._done_us = {
            every: said.at_us if said is not None else (now_us - 1) // every * every
            for every, said in self._said.items()
        }

    def run_due(self, ledger: Ledger, now_us: int) -> None:
        """Look at every window that has ended, in the order of their ends, and say what was found."""
        due = sorted(
            (at_us, every) for every, done_us in self._done_us.items() for at_us in boundaries(done_us, now_us, every)
        )
        if due:
            self._history.catch_up()
        for at_us, every in due:
            checks = [c for c in self._project.checks.values() if c.every_us == every]
            findings = self.look(checks, at_us)
            self._say(ledger, checks, findings, at_us)
            self._done_us[every] = at_us

    def look(self, checks: Iterable[CheckDef], at_us: int) -> dict[str, Finding]:
        """What checks say of their windows that end at ``at_us``; nothing is written."""
        frames: dict[tuple[str, int], pl.DataFrame] = {}
        found = {}
        for check in checks:
            why = self._explained(check, at_us) if check.kind == "volume" else None
            if why is not None:
                found[check.name] = Finding("unknown", f"events are missing or late: incident {why} says why")
                continue
            try:
                if check.kind == "sql":
                    found[check.name] = self._query(check, at_us)
                else:
                    found[check.name] = evaluate(check, self._window(check, at_us, frames))
            except Exception as error:  # noqa: BLE001  one check must not end the worker, again and again
                _log.exception("check %s cannot be evaluated", check.name)
                said = f"it cannot be evaluated: {type(error).__name__}: {str(error)[:200]}"
                found[check.name] = Finding("unknown", said)
        return decide(found)

    def _explained(self, check: CheckDef, at_us: int) -> str | None:
        """Another incident that says why a window has fewer events than usual, or more when they come late; or None.

        One that the check itself has failed in explains nothing: the check decides when it ends. Of a contract: its
        records wait in quarantine, or were mended within the window. Of the source as a whole, from before the window:
        what was missing then may come now.
        """
        since_us = at_us - check.every_us
        for one in self._catalog.incidents(source=check.source.name):
            is_over = one.closed_us is not None and one.closed_us <= since_us
            is_older = one.kind == CHECK and one.column is None and one.opened_us < since_us
            is_own = check.name in one.numbers.get("checks", ())
            if not is_over and not is_own and one.opened_us < at_us and (one.kind == "contract" or is_older):
                return one.incident_id
        return None

    def _last(self, every_us: int) -> Decision | None:
        """What was said last of the windows of a length: each window has a decision, which is found by its id."""
        checks = [c for c in self._project.checks.values() if c.every_us == every_us]
        ends = [one.at_us for check in checks for one in self._catalog.check_results(check.name, 1)]
        return self._catalog.decision(_decision_id(every_us, max(ends))) if ends else None

    def _window(self, check: CheckDef, at_us: int, frames: dict[tuple[str, int], pl.DataFrame]) -> Window:
        """A check's window; ``frames`` has one frame of a source for all the checks of a look that read as far."""
        known = pl.col("_known_at")
        source, back_us = check.source.name, look_back_us(check)
        if (source, back_us) not in frames:
            within = (known < _instant(at_us)) & (known >= _instant(at_us - back_us))
            frames[source, back_us] = self._sent_rows(check.source).filter(within)
        events = frames[source, back_us]
        if check.kind == "freshness" and events.is_empty():
            events = self._sent_rows(check.source).filter(known < _instant(at_us))
        targets = None
        if check.target is not None:
            other = self._history.frame(check.target.name, self._columns[check.target.name])
            targets = other.filter(known < _instant(at_us))[check.limit("to_column")]
        return Window(at_us, check.every_us, events, targets, self._sent(check), self._bad(check))

    def _sent_rows(self, source: SourceDef) -> pl.DataFrame:
        """What a source's sender says of rows: neither deletes, which say nothing, nor what a person has mended."""
        frame = self._history.frame(source.name, self._columns[source.name])
        if source.corrects is None:
            return frame
        is_said = pl.col(source.corrects).ne_missing("delete")
        for one in mends(self._catalog):
            if one.window.source == source.name:
                for first, last in one.ranges:
                    is_said &= ~pl.col("_offset").is_between(first, last)
        return frame.filter(is_said)

    def _sent(self, check: CheckDef) -> Sent | None:
        """What the door has counted since the last look."""
        said = self._said.get(check.every_us)
        if check.kind != "duplicates" or said is None:
            return None
        accepted, duplicate = said.numbers["counts"].get(check.source.name, (0, 0))
        now = self._log.counts().get(check.source.name, Counts(0, 0, 0, 0))
        return Sent(now.accepted - accepted, now.duplicate - duplicate)

    def _bad(self, check: CheckDef) -> list[tuple[int, int]]:
        """Windows before that are no reference: they failed on the same column, and nobody has accepted it since.

        A volume is not compared with windows whose records waited in quarantine either.
        """
        return [
            (one.opened_us, one.closed_us if one.closed_us is not None else 1 << 62)
            for one in self._catalog.incidents(source=check.source.name)
            if (one.kind == CHECK and one.column == check.column and "accepted_us" not in one.numbers)
            or (one.kind == "contract" and check.kind == "volume")
        ]

    def _query(self, check: CheckDef, at_us: int) -> Finding:
        """A check in SQL: 0, null or no row passes. What goes wrong within it says nothing of the data."""
        from mainspring.events.sql import Sql
        from mainspring.events.tables import AsOf

        title = check.limit("title")
        lake = Lake(self._config.lake_path)
        try:
            with Sql(self._project, self._log, lake, AsOf(before_us=at_us), time_us=SQL_US) as session:
                session.recent(check.source.name, at_us - check.every_us)
                found = _found(session.run(check.limit("query")).batches)
        except MainspringError as error:
            return Finding("unknown", f"{title}: {error.what}")
        if found is None:
            return Finding("unknown", f"{title}: the query answers no number")
        return Finding("fail" if found else "pass", f"{title}: {found:,g} found", value=found)

    def _elsewhere(self, checks: Sequence[CheckDef], open_now: Sequence[Incident]) -> dict[str, int | None]:
        """Of the checks with other windows that have failed in open incidents: since when each passes, None if not."""
        named = {name for one in open_now if one.kind == CHECK for name in one.numbers.get("checks", ())}
        others = named & self._project.checks.keys() - {check.name for check in checks}
        return {name: self._passes_since(self._project.checks[name]) for name in others}

    def _passes_since(self, check: CheckDef) -> int | None:
        """When the first window began since which a check has passed each; None if it has not passed the last."""
        since_us = None
        for one in self._catalog.check_results(check.name):
            if one.state != "pass":
                break
            since_us = one.at_us - check.every_us
        return since_us

    def _say(self, ledger: Ledger, checks: Sequence[CheckDef], findings: Mapping[str, Finding], at_us: int) -> None:
        every_us = checks[0].every_us
        said = self._said[every_us]
        evidence = gathered(said.numbers.get("evidence", {}) if said is not None else {}, findings)
        open_now = self._catalog.incidents(is_open=True)
        for change in (
            *changes(checks, findings, open_now, at_us, self._elsewhere(checks, open_now)),
            *shift_changes(checks, findings, evidence, open_now, at_us),
        ):
            ledger.tell(change, at_us)
        failed = [name for name, one in findings.items() if one.state == "fail"]
        results = [
            {"check": name, "state": f.state, "reason": f.reason, "p": f.p, "value": f.value}
            for name, f in findings.items()
        ]
        numbers = {
            "every_us": every_us,
            "results": results,
            "counts": {name: [n.accepted, n.duplicate] for name, n in self._log.counts().items()},
            "evidence": {name: one.m for name, one in evidence.items()},
        }
        # Last, because it says that this boundary is done.
        said_id = _decision_id(every_us, at_us)
        reason = f"{len(failed)} of {len(findings)} fail" + (f": {', '.join(failed)}" if failed else "")
        ledger.decide("checks", said_id, at_us, reason=reason, numbers=numbers)
        self._said[every_us] = self._catalog.decision(said_id)


def _found(batches: Iterable[Any]) -> float | None:
    """What a check's query found: its one number, or its number of rows; None where that number is none."""
    rows, first = 0, None
    for batch in batches:  # not kept: a query may answer the whole history
        if first is None and batch.num_rows:
            first = batch.slice(0, 1)
        rows += batch.num_rows
    if first is None:
        return 0.0
    only = first.column(0)[0].as_py() if rows == 1 and first.num_columns == 1 else rows
    if only is None:
        return 0.0
    if not isinstance(only, int | float | Decimal):
        return float(rows)
    return float(only) if math.isfinite(only) else None


def changes(
    checks: Sequence[CheckDef],
    findings: Mapping[str, Finding],
    open_incidents: Sequence[Incident],
    at_us: int,
    elsewhere: Mapping[str, int | None],
) -> list[Change]:
    """Which incidents open, are widened or close: one a source and column.

    While records of a source wait in quarantine that is its incident: that it is silent says nothing more.

    A check that fails while one is open is added to it, and makes it blocking if it blocks itself. One is closed by
    the checks that failed in it: once each has passed a window. What one of them cannot tell (too few events) leaves
    it open.

    Args:
        checks: All those whose windows have one length and end at ``at_us``.
        findings: What they say.
        open_incidents: Of any kind.
        at_us: The end of the windows.
        elsewhere: Since when each check with other windows passes that has failed in an open incident; None if not.
    """
    known = {(one.source, one.column): one for one in open_incidents if one.kind == CHECK}
    refused = {one.source for one in open_incidents if one.kind == "contract"}
    about: dict[tuple[str, str | None], list[CheckDef]] = defaultdict(list)
    for check in checks:
        about[check.source.name, check.column].append(check)
    out = []
    for (source, column), own in about.items():
        one = known.get((source, column))
        in_it = one.numbers.get("checks", ()) if one is not None else ()
        failed = [check for check in own if findings[check.name].state == "fail"]
        new = [check for check in failed if check.name not in in_it]
        if new and not (column is None and source in refused):
            out.append(_failed(new, findings, one, at_us))
        elif one is not None and not failed:
            asked = [check for check in own if check.name in in_it]
            since = [elsewhere[name] for name in in_it if name in elsewhere]
            if asked and all(findings[check.name].state == "pass" for check in asked) and None not in since:
                until_us = max(us for us in (at_us - asked[0].every_us, *since) if us is not None)
                numbers = {"kind": CHECK, "source": source, "column": column, "closed_us": at_us, "until_us": until_us}
                reason = f"{_place(source, column)} passed the window until {to_iso(at_us)}"
                out.append(Change("incident_close", one.incident_id, source, reason, numbers))
    return out


def _failed(new: Sequence[CheckDef], findings: Mapping[str, Finding], one: Incident | None, at_us: int) -> Change:
    """An incident of checks of one source and column that fail; those that widen ``one``, where it is open already."""
    source, column = new[0].source.name, new[0].column
    is_blocking = any(check.blocking for check in new)
    said = "; ".join(f"{check.kind}: {findings[check.name].reason}" for check in new)
    if is_blocking and not (one is not None and one.numbers.get("blocking")):
        said += "; labels, trainings and promotions that depend on it are held"
    numbers: dict[str, Any] = {
        "kind": CHECK,
        "source": source,
        "column": column,
        "checks": [check.name for check in new],
        "blocking": is_blocking,
        "seen_us": at_us,
    }
    began_us = at_us - new[0].every_us
    if one is not None:
        widened = numbers | {"since_us": began_us}
        # A check is added once, so its name tells this change from others of the incident.
        return Change("incident_widen", one.incident_id, source, f"{one.reason}; {said}", widened, new[0].name)
    incident_id = f"{CHECK}-{source}-{column or 'all'}-{at_us}"
    opened = numbers | {"opened_us": began_us}
    return Change("incident_open", incident_id, source, f"{_place(source, column)}: {said}", opened)


def _place(source: str, column: str | None) -> str:
    return source if column is None else f"{source}.{column}"


def shift_changes(
    checks: Sequence[CheckDef],
    findings: Mapping[str, Finding],
    evidence: Mapping[str, Evidence],
    open_incidents: Sequence[Incident],
    at_us: int,
) -> list[Change]:
    """Which incidents of lasting shifts open or close: they warn, and hold nothing.

    One is closed by the first window that leaves no evidence.
    """
    known = {(one.source, one.column): one for one in open_incidents if one.kind in (CHECK, SHIFT)}
    out = []
    for check in checks:
        found, source, column = evidence.get(check.name), check.source.name, check.column
        one = known.get((source, column))
        numbers: dict[str, Any] = {"kind": SHIFT, "source": source, "column": column}
        if found is not None and found.is_alarm and one is None:
            said = f"{source}.{column}: small, and lasting: {check.kind}: {findings[check.name].reason}"
            incident_id = f"{SHIFT}-{source}-{column}-{at_us}"
            opened = numbers | {"checks": [check.name], "blocking": False}
            out.append(Change("incident_open", incident_id, source, said, opened))
        is_own = one is not None and one.kind == SHIFT and one.numbers["checks"] == [check.name]
        if one is not None and is_own and (found is None or (found.m < 1.0 and not found.is_alarm)):
            said = f"{source}.{column} is as it was in the weeks before the last four, or they have become the same"
            out.append(Change("incident_close", one.incident_id, source, said, numbers))
    return out


def _decision_id(every_us: int, at_us: int) -> str:
    return f"checks-{every_us}-{at_us}"


def blocked(catalog: Catalog, sources: Iterable[str]) -> Incident | None:
    """An open incident of a blocking check on one of these sources, or None."""
    names = set(sources)
    return next(
        (
            one
            for one in catalog.incidents(is_open=True)
            if one.kind == CHECK and one.source in names and one.numbers.get("blocking")
        ),
        None,
    )


def _instant(time_us: int) -> pl.Expr:
    return pl.lit(time_us).cast(UTC_US)
