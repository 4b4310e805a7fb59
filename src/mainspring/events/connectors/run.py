"""Runs connectors: read, bring in, confirm, wait; with a back-off when the outside or the intake is away."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.config import Config, load_config
from mainspring.core.errors import BackPressureError, MainspringError, TooLargeError
from mainspring.core.run import Lease, remove_door, write_door
from mainspring.core.spans import parse_span
from mainspring.definitions.applied import load_applied
from mainspring.definitions.values import Project
from mainspring.events.connectors.connector import Connector, Settings
from mainspring.events.connectors.declared import Declared, declared, hidden
from mainspring.events.connectors.inlet import Inlet, Outcome, open_inlet
from mainspring.events.connectors.rows import internal_row
from mainspring.events.held import MAX_RAW_BYTES
from mainspring.events.internal import InternalRow
from mainspring.events.progress import MovedError

DOOR = "connect"
BACK_OFF_S = (0.5, 60.0)
_PATIENCE = 60  # times that back-pressure is waited out by a run that ends, a second each
_log = logging.getLogger("mainspring.connect")
_LEAST_PAUSE_S = 0.02  # also where ``every`` is nothing: a look that finds nothing at once must not spin
_encode = msgspec.msgpack.Encoder().encode
Heard = Callable[[Outcome], None]


class State(msgspec.Struct, frozen=True):
    """What a connector that runs is doing: ``running``, or ``failing`` with why."""

    state: str
    since_us: int
    error: str = ""


def state_of(run: Path, name: str) -> State | None:
    """What the connector last said of itself; None when it never ran here."""
    try:
        return msgspec.json.decode((run / f"connect_{name}.json").read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def is_running(run: Path, name: str) -> bool:
    """Whether a process runs the connector now."""
    lease = Lease(_lease(run, name))
    if not lease.acquire():
        return True
    lease.release()
    return False


def run_once(
    one: Declared,
    project: Project,
    clock: Clock,
    *,
    history: bool = False,
    backfill: bool = False,
    stop: threading.Event | None = None,
    heard: Heard = lambda _: None,
) -> None:
    """Bring in what is there now, and end.

    Args:
        one: The connector.
        project: Sources.
        clock: Says when rows become known.
        history: Rows keep the ``known_at`` that their source declares, instead of becoming known now: a first load.
        backfill: Allow history from before a prediction that has been served.
        stop: Ends it early, between two batches.
        heard: Told what became of each batch.

    Raises:
        UnavailableError: Another process runs the connector (MS-C010), or the outside cannot be reached.
        MainspringError: What is wrong with the settings or the outside.
    """
    lease = Lease(_lease(one.config.run, one.name))
    lease.require(f"connector {one.name}")
    try:
        with (
            one.opened() as connector,
            open_inlet(one.config, project, clock, history=history, backfill=backfill) as inlet,
        ):
            pump(connector, one, one.settings(), inlet, stop or threading.Event(), once=True, heard=heard)
    finally:
        lease.release()


def pump(
    connector: Connector,
    one: Declared,
    settings: Settings,
    inlet: Inlet,
    stop: threading.Event,
    *,
    once: bool = False,
    heard: Heard = lambda _: None,
) -> None:
    """Read and bring in until ``stop``, or with ``once`` until there is nothing more.

    A row of a batch that is too large for the intake whatever the batch goes to quarantine.

    Raises:
        MovedError: Somebody else moves this connector too (MS-E430).
        MainspringError: What is wrong outside, or with the intake. Nothing is lost by starting anew.
    """
    every_s = parse_span(settings.every) / 1e6
    position = inlet.position(one.name)
    sequence, cursor = position.sequence, position.cursor
    limit, waited = settings.batch, 0
    while not stop.is_set():
        started_s = time.monotonic()
        batch = connector.read(cursor, limit)
        after = msgspec.json.decode(msgspec.json.encode(batch.cursor))  # as it will be given back
        if batch.rows or after != cursor:
            rows = [_sendable(internal_row(row, settings, one.source, one.name)) for row in batch.rows]
            try:
                outcome = _advance(inlet, one.name, sequence, after, rows)
            except TooLargeError:
                if len(rows) > 1:
                    limit = max(len(rows) // 2, 1)
                    continue
                rows = [_refused(row, "MS-E431", "the row is larger than a request may be") for row in rows]
                outcome = _advance(inlet, one.name, sequence, after, rows)
            except BackPressureError:
                waited += 1
                if once and waited > _PATIENCE:
                    raise
                stop.wait(1.0)
                continue
            sequence, cursor, waited = sequence + 1, after, 0
            limit = min(limit * 2, settings.batch)
            connector.confirm(cursor)
            heard(outcome)
        if not batch.more:
            if once:
                return
            stop.wait(max(every_s - (time.monotonic() - started_s), _LEAST_PAUSE_S))


def run_connectors(config: Config, project: Project, clock: Clock, stop: threading.Event, names: Iterable[str]) -> None:
    """Run connectors until ``stop``, each in a thread of its own; SIGHUP reads settings and definitions again.

    Raises:
        MainspringError: A table or the definitions file is wrong at the start; later that is said in the log.
    """
    names = tuple(names)
    again = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda _number, _frame: again.set())
    found = declared(config, project)
    while not stop.is_set():
        again.clear()
        turn = threading.Event()
        threads = [
            threading.Thread(target=_run_one, args=(found[name], project, clock, turn), name=name)
            for name in names or found
            if name in found
        ]
        for thread in threads:
            thread.start()
        write_door(config.run, DOOR, "connect:")
        while not stop.is_set() and not again.is_set():
            stop.wait(0.2)
        turn.set()
        for thread in threads:
            thread.join()
        if again.is_set():
            try:
                config = load_config(config.root)
                project = load_applied(config)
                found = declared(config, project)
            except MainspringError as error:
                _log.error("settings and definitions stay as they were: %s", error)
    remove_door(config.run, DOOR)


def _run_one(one: Declared, project: Project, clock: Clock, stop: threading.Event) -> None:
    """One connector for ever: what fails is said, and tried again after a back-off that doubles."""
    lease = Lease(_lease(one.config.run, one.name))
    back_off_s = BACK_OFF_S[0]

    def heard(_: Outcome) -> None:
        nonlocal back_off_s
        back_off_s = BACK_OFF_S[0]

    while not stop.is_set():
        try:
            lease.require(f"connector {one.name}")
            with one.opened() as connector, open_inlet(one.config, project, clock, only_door=True) as inlet:
                _say(one, State("running", clock.now_us()))
                pump(connector, one, one.settings(), inlet, stop, heard=heard)
        except Exception as error:  # noqa: BLE001  whatever fails outside must not end the other connectors
            text = hidden(_line(error), one.secrets())
            _log.warning("connector %s fails, again in %g s: %s", one.name, back_off_s, text)
            _say(one, State("failing", clock.now_us(), text))
            stop.wait(back_off_s)
            back_off_s = min(back_off_s * 2, BACK_OFF_S[1])
    lease.release()


def _line(error: Exception) -> str:
    if isinstance(error, MainspringError):
        return f"{error.code}: {error.what}" + (f" ({error.where})" if error.where else "")
    return f"{type(error).__name__}: {error}"


def _advance(inlet: Inlet, name: str, before: int, cursor: Any, rows: Sequence[InternalRow]) -> Outcome:
    try:
        return inlet.advance(name, before, cursor, rows)
    except MovedError:  # by ourselves, when the answer to the first try was lost
        found = inlet.position(name)
        if found.sequence != before + 1 or found.cursor != cursor:
            raise
        return Outcome([], [])


def _sendable(row: InternalRow) -> InternalRow:
    """The row, or why it cannot even be said: half a character, a whole number without an end, a value of no type."""
    try:
        _encode(row)
    except (OverflowError, UnicodeError, TypeError) as error:
        return _refused(row, "MS-E440", f"a value that cannot be written down: {error}")
    return row


def _refused(row: InternalRow, code: str, reason: str) -> InternalRow:
    raw = row.raw if row.raw is not None else ascii(row.fields).encode()
    return InternalRow(row.source, None, row.sender, raw[:MAX_RAW_BYTES], code, reason)


def _say(one: Declared, state: State) -> None:
    path = one.config.run / f"connect_{one.name}.json"
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    scratch.write_bytes(msgspec.json.encode(state))
    scratch.replace(path)


def _lease(run: Path, name: str) -> Path:
    return run / f"connect_{name}.lock"
