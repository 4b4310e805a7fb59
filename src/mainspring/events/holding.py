"""The database of quarantine, as the log's writer uses it: what is held, and what became of it."""

from __future__ import annotations

import lmdb
import msgspec

from mainspring.events import held
from mainspring.events.drafts import Ack
from mainspring.events.held import MAX_RAW_BYTES, Held, Reject
from mainspring.events.record import KEY


class Holding:
    """Records in quarantine, by their numbers; each call within a transaction of the writer."""

    def __init__(self, db: lmdb._Database) -> None:
        self._db = db
        self._sequence = 0

    def load(self, txn: lmdb.Transaction[bytes]) -> None:
        """See how many there ever were."""
        with txn.cursor(db=self._db) as cursor:
            self._sequence = int.from_bytes(cursor.key(), "big") if cursor.last() else 0

    def hold(self, txn: lmdb.Transaction[bytes], reject: Reject, now_us: int, ident: str | None) -> Ack:
        """Put a record into quarantine; one that was mended and is still wrong stays there, with its new reason."""
        ack = Ack("quarantined", None, reject.reason, ident, reject.code, reject.path)
        if reject.resolves is not None:
            raw = txn.get(KEY(reject.resolves), db=self._db)
            if raw is not None:
                before = held.from_bytes(raw)
                after = msgspec.structs.replace(before, code=reject.code, reason=reject.reason, path=reject.path)
                txn.put(KEY(reject.resolves), after.to_bytes(), db=self._db)
            return ack
        self._sequence += 1
        entry = Held(
            self._sequence,
            reject.source,
            reject.raw[:MAX_RAW_BYTES],
            reject.code,
            reject.reason,
            reject.path,
            reject.version,
            reject.sender,
            now_us,
            reject.is_history,
            len(reject.raw) > MAX_RAW_BYTES,
        )
        txn.put(KEY(self._sequence), entry.to_bytes(), append=True, db=self._db)
        return ack

    def resolve(self, txn: lmdb.Transaction[bytes], sequence: int, status: str, offset: int | None) -> None:
        """A record has been dealt with: ``status`` says how."""
        raw = txn.get(KEY(sequence), db=self._db)
        if raw is not None:
            after = msgspec.structs.replace(held.from_bytes(raw), status=status, offset=offset, raw=b"")
            txn.put(KEY(sequence), after.to_bytes(), db=self._db)
