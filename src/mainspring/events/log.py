"""The log: every event, in the order in which the system came to know it. One process appends, many read.

``append`` is one LMDB transaction and durable when it returns: events, the memory of their ids, what went to quarantine
and the counters are all written, or nothing is. The writer holds a lease on ``writer.lock``, which the kernel releases
when it dies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.closing import Closing
from mainspring.core.errors import FormatError, NotFoundError, RefusedError
from mainspring.core.run import Lease
from mainspring.core.times import to_iso
from mainspring.events import held
from mainspring.events.counters import CELL, COUNTS, DEPRECATED, SENT
from mainspring.events.drafts import Ack, Counts, Draft, Sent
from mainspring.events.environment import close_environment, open_environment
from mainspring.events.held import Held, Reject
from mainspring.events.pages import Pages
from mainspring.events.progress import Advance, Position, advance, positions
from mainspring.events.record import KEY, Record, Shape, Stretch
from mainspring.events.shapes import Shapes

if TYPE_CHECKING:
    from mainspring.events.record_batch import Stored

__all__ = ["Ack", "Counts", "Draft", "Log"]

FORMAT = 3
_FORMATS = (1, 2, 3)  # that are read; a writer makes an older log one of the newest
_DBS = ("events", "meta", "shapes", "seen", "buckets", "ids", "runs", "numbered", "quarantine", "counts")
_TRIM = 20_000  # records deleted in one transaction at most


class Log(Closing):
    """An open log. Made by ``Log.open``; close it, or use it in a ``with`` statement."""

    def __init__(self, path: Path, map_bytes: int, *, writable: bool, disk_free_bytes: int) -> None:
        self.path = path
        self._lease = Lease(path / "writer.lock") if writable else None
        if self._lease is not None:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lease.require("the event log")
        self._disk_free_bytes = disk_free_bytes
        self._is_closed = False
        try:
            self._environment = open_environment(path, _DBS, map_bytes)
        except BaseException:
            if self._lease is not None:
                self._lease.release()
            raise
        dbs = self._environment.dbs
        self._events, self._meta, self._quarantine, self._counts = (
            dbs[name] for name in ("events", "meta", "quarantine", "counts")
        )
        self._shapes = Shapes(dbs["shapes"])
        self._pages = Pages(self._events, self._shapes)
        if writable:
            from mainspring.events.appender import Appender  # who only reads has no use for what it needs

            self._appender = Appender(dbs, self._shapes)
        try:
            self._check_format()
            self._load()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, map_bytes: int, *, writable: bool = False, disk_free_bytes: int = 0) -> Log:
        """Open the log in the folder ``path``, making it if there is none.

        Args:
            path: Folder, on a local disk.
            writable: Become the one writer.
            map_bytes: Most that the log may ever take on the disk; the file is sparse.
            disk_free_bytes: Refuse to append when the disk has less left.

        Raises:
            UnavailableError: Another process is the writer (MS-C010).
            RefusedError: ``path`` is on a network file system (MS-E303).
            FormatError: The log is of a format that this release does not know (MS-E901).
        """
        return cls(path, map_bytes, writable=writable, disk_free_bytes=disk_free_bytes)

    def close(self) -> None:
        """Let go of the files and of the lease."""
        if self._is_closed:
            return
        self._is_closed = True
        close_environment(self._environment)
        if self._lease is not None:
            self._lease.release()

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self, after: int, limit: int = 10_000) -> list[Record]:
        """At most ``limit`` records whose offsets follow ``after``, in order."""
        out: list[Record] = []
        for one in self.page(after, limit):
            if isinstance(one, Record):
                out.append(one)
            else:
                out += one.records()
        return out

    def page(self, after: int, limit: int = 10_000) -> list[Record | Stored]:
        """As ``read``, but rows that lie in one record by column stay so."""
        with self._environment.read() as txn:
            return self._pages.page(txn, after, limit)

    def stretch(self, after: int, sources: Collection[str], limit: int = 10_000) -> Stretch | None:
        """About ``limit`` records that follow ``after``, but only those of ``sources`` are decoded; None without any.

        Most of a busy log is predictions, which no feature view reads.
        """
        with self._environment.read() as txn:
            return self._pages.stretch(txn, after, sources, limit)

    def last_offset(self) -> int:
        """Offset of the newest record; 0 when there never was one."""
        return self._cell(b"last")

    def first_offset(self) -> int:
        """Offset of the oldest record that has not been trimmed; 1 in a new log."""
        return self._cell(b"first", 1)

    def served_until_us(self) -> int | None:
        """Newest moment of a prediction that was served; None before the first."""
        with self._environment.read() as txn:
            raw = txn.get(b"served", db=self._meta)
        return None if raw is None else int(CELL.unpack(raw)[0])

    def positions(self) -> dict[str, Position]:
        """How far each connector has come."""
        with self._environment.read() as txn:
            return positions(txn, self._meta)

    def shape(self, source: str, version: str) -> Shape:
        """Columns of a source at a version that the log has records of.

        Raises:
            NotFoundError: It has none (MS-E121).
        """
        for _ in range(2):
            for shape, _index in self._shapes.known.values():
                if shape.source == source and shape.version == version:
                    return shape
            with self._environment.read() as txn:
                self._shapes.load(txn)
        raise NotFoundError("MS-E121", f"the log has no records of {source} at version {version}")

    def counts(self) -> dict[str, Counts]:
        """What became of everything that was sent, by source."""
        with self._environment.read() as txn, txn.cursor(db=self._counts) as cursor:
            return {key.decode(): Counts(*COUNTS.unpack(raw)) for key, raw in cursor}

    def sent(self) -> dict[str, Sent]:
        """How often each deprecated column still came, by ``source:column``."""
        out: dict[str, Sent] = {}
        with self._environment.read() as txn, txn.cursor(db=self._meta) as cursor:
            cursor.set_range(DEPRECATED)
            for key, raw in cursor:
                if not key.startswith(DEPRECATED):
                    break
                out[key[len(DEPRECATED) :].decode()] = Sent(*SENT.unpack(raw))
        return out

    def offset_before(self, ingested_at_us: int) -> int:
        """Offset of the first record that was ingested at ``ingested_at_us`` or later; all before it are older.

        ``last_offset() + 1`` when all are older: what ``trim`` takes, for retention by age.
        """
        low, high = self.first_offset(), self.last_offset() + 1
        with self._environment.read() as txn:
            return self._pages.offset_before(txn, ingested_at_us, low, high)

    def quarantined(
        self, source: str | None = None, *, include_resolved: bool = False, limit: int = 1_000_000
    ) -> list[Held]:
        """Records in quarantine, oldest first; of one source, or of all."""
        out: list[Held] = []
        with self._environment.read() as txn, txn.cursor(db=self._quarantine) as cursor:
            for raw in cursor.iternext(keys=False, values=True):
                entry = held.from_bytes(raw)
                if (source is None or entry.source == source) and (include_resolved or entry.status == held.OPEN):
                    out.append(entry)
                    if len(out) >= limit:
                        break
        return out

    def held(self, sequence: int) -> Held:
        """One record of quarantine by its number.

        Raises:
            NotFoundError: There is none (MS-E120).
        """
        with self._environment.read() as txn:
            raw = txn.get(KEY(sequence), db=self._quarantine)
        if raw is None:
            raise NotFoundError("MS-E120", f"quarantine has no record {sequence}", hint="mainspring quarantine list")
        return held.from_bytes(raw)

    # --- writing --------------------------------------------------------------------------------------------------

    def append(self, drafts: Sequence[Draft | Reject], clock: Clock, progress: Advance | None = None) -> Sequence[Ack]:
        """Write drafts, and put rejects into quarantine, in one transaction; durable on return.

        With ``progress`` the connector that they came from moves on in the same transaction: both are done, or nothing.

        Live events become known at max(clock, last + 1 µs); history keeps the ``known_at`` that its source declares. A
        draft goes to quarantine when its time lies more than the source's ``future`` after it is known (MS-E105), or
        when its id was seen within ``dedup`` with other content (MS-E106). Offsets rise by 1 without gaps.

        Returns:
            What became of each, in order.

        Raises:
            BackPressureError: The map (MS-E301) or the disk (MS-E302) is full; nothing was written.
            MovedError: The connector is not where ``progress`` says (MS-E430); nothing was written.
        """
        return self.append_all([drafts], clock, progress)[0]

    def append_all(
        self, groups: Sequence[Sequence[Draft | Reject]], clock: Clock, progress: Advance | None = None
    ) -> list[Sequence[Ack]]:
        """As ``append``, of several groups in one transaction; what became of each group."""
        self._require_writable()
        if not any(groups) and progress is None:
            return [[] for _ in groups]
        self._environment.check_disk(self._disk_free_bytes)
        now_us = clock.now_us()
        with self._remembered(), self._environment.write() as txn:
            if progress is not None:
                advance(txn, self._meta, progress, now_us)
            return self._appender.append(txn, groups, now_us)

    def quarantine(
        self, source: str, raw: bytes, code: str, reason: str, clock: Clock, *, path: str = "$", sender: str = ""
    ) -> Ack:
        """Put one record into quarantine; durable on return."""
        return self.append([Reject(source, raw, code, reason, path, "", sender)], clock)[0]

    def discard(self, sequences: Sequence[int], reason: str) -> int:
        """Close quarantined records that will not be mended, and keep why.

        Returns:
            How many were open.
        """
        self._require_writable()
        done = 0
        with self._environment.write() as txn:
            for sequence in sequences:
                raw = txn.get(KEY(sequence), db=self._quarantine)
                if raw is not None and (entry := held.from_bytes(raw)).status == held.OPEN:
                    after = msgspec.structs.replace(entry, status=held.DISCARDED, raw=b"", note=reason)
                    txn.put(KEY(sequence), after.to_bytes(), db=self._quarantine)
                    done += 1
        return done

    def trim(self, before_offset: int) -> int:
        """Delete the records whose offsets lie before ``before_offset``; the newest always stays.

        Rows that lie in one record go together: of the last ones some may stay.

        Returns:
            How many were deleted.
        """
        self._require_writable()
        total = 0
        with self._environment.reserve():
            with self._remembered(), self._environment.write() as txn:  # ids of what is trimmed have to be elsewhere
                self._appender.seal(txn, before_offset)
            while True:
                with self._remembered(), self._environment.write() as txn:
                    deleted = self._appender.trim(txn, before_offset, _TRIM)
                total += deleted
                if deleted < _TRIM:
                    return total

    def check_history(self, drafts: Iterable[Draft | Reject]) -> None:
        """Refuse history from before a prediction that has been served.

        Raises:
            RefusedError: Some of it is from before (MS-E404).
        """
        served_us = self.served_until_us()
        if served_us is None:
            return
        for draft in drafts:
            if not isinstance(draft, Draft) or not draft.history:
                continue
            known_us = draft.known_at_us
            if known_us <= served_us:
                raise RefusedError(
                    "MS-E404",
                    f"history of {draft.source.name} reaches back before a prediction that has been served",
                    where=f"known at {to_iso(known_us)}, served until {to_iso(served_us)}",
                    why="training would see what production did not know at the time",
                    hint="mainspring ingest FILE --source SOURCE --backfill, which is recorded",
                )

    def reader_check(self) -> int:
        """Free what dead readers hold; returns how many there were."""
        return int(self._environment.env.reader_check())

    # --- inside ---------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        with self._environment.read() as txn:
            if self._lease is None:
                self._shapes.load(txn)
            else:
                self._appender.load(txn)

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        """Around a transaction of the appender: what is in its memory is what is on the disk, also if it fails."""
        try:
            yield
        except BaseException:
            with self._environment.read() as txn:
                self._appender.undo(txn)
            raise
        self._appender.committed()

    def _check_format(self) -> None:
        with self._environment.read() as txn:
            found = txn.get(b"format", db=self._meta)
        if found is not None and found[0] not in _FORMATS:
            raise FormatError(
                "MS-E901",
                f"the log is of format {found[0]}, this release reads {FORMAT}",
                where=str(self.path),
                hint="use the release that wrote it, or a newer one",
            )
        if self._lease is not None and found != bytes([FORMAT]):
            with self._environment.reserve():  # a full log has to open before it can be trimmed
                if found == b"\1":
                    from mainspring.events.old_ids import convert

                    convert(self._environment)
                with self._environment.write() as txn:
                    txn.put(b"format", bytes([FORMAT]), db=self._meta)

    def _cell(self, key: bytes, default: int = 0) -> int:
        with self._environment.read() as txn:
            raw = txn.get(key, db=self._meta)
        return default if raw is None else int(CELL.unpack(raw)[0])

    def _require_writable(self) -> None:
        if self._lease is None:
            raise RefusedError(
                "MS-E304", "this process only reads the log", where=str(self.path), hint="send events to the intake"
            )
