"""Ids as a log of format 1 kept them, made into runs: one entry an id in a tree, in buckets of time.

The key was stream u32 · bucket u64 (biased by 2^63) · hash (16), the value content (8) · offset i64 · known_at i64; a
stream was a source with its ``dedup``, and of a bucket it was noted when it was last written.
"""

from __future__ import annotations

import struct

import lmdb

from mainspring.events.counters import CELL
from mainspring.events.environment import Environment
from mainspring.events.runs import ENTRY, Runs
from mainspring.events.seen import SEALED

_STREAM = b"stream:"
_PREFIX = struct.Struct(">IQ")
_VALUE = struct.Struct("<8sqq")
_BIAS = 1 << 63
_SLICE = 250_000  # entries in one transaction


def convert(environment: Environment) -> None:
    """Move what is there, if anything is; begun again after a crash it goes on."""
    dbs = environment.dbs
    runs = Runs(dbs["ids"], dbs["runs"])
    with environment.read() as txn:
        runs.load(txn)
        widths = _widths(txn, dbs["meta"])
        last = txn.get(b"last", db=dbs["meta"])
    more = True
    while more:
        with environment.write() as txn:
            more = _slice(txn, dbs, widths, runs)
        runs.committed()
    with environment.write() as txn:
        txn.drop(dbs["buckets"], delete=False)
        for key in widths.values():
            txn.delete(key[1], db=dbs["meta"])
        if last is not None:
            txn.put(SEALED, last, db=dbs["meta"])


def _widths(txn: lmdb.Transaction[bytes], meta: lmdb._Database) -> dict[int, tuple[int, bytes]]:
    """``dedup`` of each stream in microseconds, and where it is said."""
    out: dict[int, tuple[int, bytes]] = {}
    with txn.cursor(db=meta) as cursor:
        found = cursor.set_range(_STREAM)
        while found and cursor.key().startswith(_STREAM):
            width = int(cursor.key().decode().rpartition(":")[2])
            out[int.from_bytes(cursor.value(), "big")] = width, cursor.key()
            found = cursor.next()
    return out


def _slice(
    txn: lmdb.Transaction[bytes], dbs: dict[str, lmdb._Database], widths: dict[int, tuple[int, bytes]], runs: Runs
) -> bool:
    """Move some entries; whether there are more."""
    out: list[bytes] = []
    written: dict[bytes, int] = {}
    with txn.cursor(db=dbs["seen"]) as cursor:
        found = cursor.first()
        while found and len(out) < _SLICE:
            key = cursor.key()
            prefix = key[: _PREFIX.size]
            number, biased = _PREFIX.unpack(prefix)
            width_us = widths[number][0]
            if prefix not in written:
                raw = txn.get(prefix, db=dbs["buckets"])
                written[prefix] = 0 if raw is None else CELL.unpack(raw)[0]
            content, offset, known_us = _VALUE.unpack(cursor.value())
            until_us = max((biased - _BIAS + 1) * width_us, written[prefix]) + width_us
            out.append(ENTRY.pack(key[_PREFIX.size :], content, offset, known_us, until_us))
            found = cursor.delete() and bool(cursor.key())
    if out:
        runs.seal(txn, b"".join(out))
    return bool(found)
