"""Load a file: through the intake if one is up, else straight into the log.

Every event keeps the ``known_at`` that its source declares. What was done is recorded as a decision of kind ``ingest``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.errors import BackPressureError, NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.core.run import internal_token, read_door
from mainspring.definitions.values import Project
from mainspring.events.client import IntakeClient
from mainspring.events.columns import Pick, picked_rows
from mainspring.events.contract import Contract
from mainspring.events.file_rows import FileRow, chunks, read_rows
from mainspring.events.internal import InternalRow, entries_of
from mainspring.events.log import Ack, Log
from mainspring.events.system import DECISION
from mainspring.events.wake import Bell

__all__ = ["Loaded", "ingest_file", "read_rows"]

CHUNK = 5_000
_PATIENCE = 60  # times that back-pressure is waited out, a second each
_MOST_ERRORS = 20

Post = Callable[[list[InternalRow]], tuple[list[str], list[dict[str, Any]], int]]


class Loaded(msgspec.Struct, frozen=True):
    """What became of a file's rows.

    Attributes:
        errors: Of the first quarantined rows: line, code, reason, path.
    """

    rows: int
    accepted: int
    duplicate: int
    quarantined: int
    last_offset: int
    errors: tuple[dict[str, Any], ...] = ()


def ingest_file(  # noqa: PLR0913  everything after the clock is optional
    config: Config,
    project: Project,
    path: Path,
    source: str,
    clock: Clock,
    *,
    backfill: bool = False,
    actor: str = "ingest",
    progress: Callable[[int], None] | None = None,
    pick: Pick | None = None,
) -> Loaded:
    """Load the rows of a CSV, JSON Lines or Parquet file as history of ``source``.

    Loading a file again counts nothing twice while its source remembers its ids (``dedup``).

    Args:
        config: Where the log, and the door of a running intake, are.
        project: Its sources.
        path: The file; its ending says of which kind it is.
        source: Name of the source.
        clock: Says when the rows are ingested.
        backfill: Allow history from before a prediction that has been served.
        actor: Who asked, for the record.
        progress: Told the number of rows done, now and then.
        pick: Take the columns that the source knows and leave the others; without it another column is an error.

    Raises:
        NotFoundError: No such file (MS-E400) or source (MS-E201).
        ContractError: What is wrong with the file as a whole (MS-E401 to MS-E403); nothing was loaded.
        RefusedError: History from before a served prediction, without ``backfill`` (MS-E404).
    """
    definition = project.sources.get(source)
    if definition is None:
        raise NotFoundError("MS-E201", f"no source is named {source!r}", hint=did_you_mean(source, project.sources))
    rows = read_rows(path, definition) if pick is None else picked_rows(path, definition, pick)
    tally = {"accepted": 0, "duplicate": 0, "quarantined": 0}
    errors: list[dict[str, Any]] = []
    done = last_offset = 0

    def count(lines: list[int], answer: tuple[list[str], list[dict[str, Any]], int]) -> None:
        nonlocal done, last_offset
        statuses, wrong, last = answer
        for status in statuses:
            tally[status] += 1
        errors.extend({"line": lines[e["index"]], **e} for e in wrong[: _MOST_ERRORS - len(errors)])
        done += len(statuses)
        last_offset = max(last_offset, last)
        if progress is not None:
            progress(done)

    with _door(config, project, clock, backfill=backfill) as post, ThreadPoolExecutor(1) as sender:
        pending = None  # one chunk is on its way while the next is read
        for chunk in chunks(rows, CHUNK):
            ready = [_internal(row, source, path.name) for row in chunk]
            if pending is not None:
                count(pending[0], pending[1].result())
            pending = ([row.line for row in chunk], sender.submit(post, ready))
        if pending is not None:
            count(pending[0], pending[1].result())
        loaded = Loaded(done, **tally, last_offset=last_offset, errors=tuple(errors))
        sender.submit(post, [_decision(loaded, path, source, clock, actor, backfill=backfill)]).result()
    return loaded


def _internal(row: FileRow, source: str, name: str) -> InternalRow:
    sender = f"{name} line {row.line}"
    if row.problem is not None:
        return InternalRow(source, None, sender, row.raw, row.problem.code, row.problem.what)
    return InternalRow(source, row.fields, sender, row.raw)


def _decision(loaded: Loaded, path: Path, source: str, clock: Clock, actor: str, *, backfill: bool) -> InternalRow:
    numbers = msgspec.structs.asdict(loaded) | {"path": str(path.resolve()), "backfill": backfill}
    del numbers["errors"]
    fields = {
        "decision_id": f"ingest-{secrets.token_hex(8)}",
        "decided_at": clock.now_us(),
        "kind": "ingest",
        "subject": source,
        "actor": actor,
        "reason": f"{path.name} was loaded" + (" as a backfill" if backfill else ""),
        "numbers": msgspec.json.encode(numbers).decode(),
    }
    return InternalRow(DECISION.name, fields)


@contextmanager
def _door(config: Config, project: Project, clock: Clock, *, backfill: bool) -> Iterator[Post]:
    """A function that brings rows into the log, whichever way it is open."""
    url = read_door(config.run, "intake")
    if url is not None:
        with IntakeClient(url, internal_token(config.run)) as client:
            yield _through_intake(client, backfill=backfill)
        return
    log = Log.open(
        config.log_path,
        config.limits.log_map_bytes,
        writable=True,
        disk_free_bytes=config.limits.disk_free_bytes,
    )
    bell = Bell(config.run)
    try:
        yield _into_log(log, bell, project, clock, backfill=backfill)
    finally:
        bell.close()
        log.close()


def _through_intake(client: IntakeClient, *, backfill: bool) -> Post:
    def post(rows: list[InternalRow]) -> tuple[list[str], list[dict[str, Any]], int]:
        is_history = rows[0].source != DECISION.name
        waited = 0
        while True:
            try:
                answer = client.post_internal(rows, history=is_history, backfill=backfill)
            except BackPressureError:
                if waited == _PATIENCE:
                    raise
                waited += 1
                time.sleep(1.0)
            else:
                return answer["statuses"], answer["errors"], answer["last_offset"]

    return post


def _into_log(log: Log, bell: Bell, project: Project, clock: Clock, *, backfill: bool) -> Post:
    contracts = {name: Contract(source) for name, source in project.sources.items()}
    contracts[DECISION.name] = Contract(DECISION)

    def post(rows: list[InternalRow]) -> tuple[list[str], list[dict[str, Any]], int]:
        is_history = rows[0].source != DECISION.name
        entries = entries_of(rows, contracts, "", is_history=is_history)
        if is_history and not backfill:
            log.check_history(entries)
        acks = log.append(entries, clock)
        bell.ring()
        return [ack.status for ack in acks], errors_of(acks), log.last_offset()

    return post


def errors_of(acks: Iterable[Ack]) -> list[dict[str, Any]]:
    """Index, code, reason and path of those that went to quarantine."""
    return [
        {"index": i, "code": ack.code, "reason": ack.reason, "path": ack.path}
        for i, ack in enumerate(acks)
        if ack.status == "quarantined"
    ]
