"""The online store: the fold's state in an LMDB file of its own, committed together with the log offset it stands at.

One database for heads and one for what lies behind them (``state``): their keys begin with a **shelf**, four bytes that
stand for what the entity is made of, and the view version, four bytes, follows the entity, so that what several views
know of one entity lies on the same pages and a micro-batch rewrites few of them. Statistics of what came
(``statistics``) and the latest versions of rows that are corrected (``corrections``) have a database each, where the
view version comes first. Texts of words (``words``) are common to all views. The catalogue of views, the folded offset
and the folded clock are one small value, so that a snapshot reads them at once.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from mainspring.core.closing import Closing
from mainspring.core.errors import BackPressureError, RefusedError, UnavailableError
from mainspring.core.ids import hash128
from mainspring.features.state import FORMAT, LONG_AGO, REBUILD, unknown_format
from mainspring.features.store_file import StoreFile, file_of

ROOT = b"root"
_VIEW = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
BUILDING = -1
_BLOCKS = b"blocks"  # where format 1 had its sealed blocks


class ViewState(msgspec.Struct):
    """A view version in the store.

    Attributes:
        id: Part of its keys.
        offset: Log offset that it has been folded up to; ``BUILDING`` while a backfill is under way.
        generation: Rises when its state is built anew.
        too_old: Events that came too late to count anywhere.
        gone: Keys removed because all of their events lay behind every window.
        sweep: Where ``corrections`` looks next for versions to forget.
        shelf: What the keys of its heads and parts begin with.
    """

    id: int
    offset: int
    generation: int = 0
    too_old: int = 0
    gone: int = 0
    sweep: bytes = b""
    shelf: bytes = b""


class Root(msgspec.Struct):
    """What the store stands at.

    Attributes:
        offset: Log offset that the store as a whole has been folded up to.
        clock_us: Greatest ``known_at`` folded: moments more than the grace behind it are unavailable.
        commits: How often the store was written.
        views: By ``name@version``.
        collisions: Texts that share a word with another one, which came first.
    """

    format: int = FORMAT
    offset: int = 0
    clock_us: int = LONG_AGO
    commits: int = 0
    next_id: int = 1
    views: dict[str, ViewState] = {}
    collisions: int = 0


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(Root).decode


def root_of(raw: Any) -> Root:
    """What a store stands at, of the bytes that it has under ``ROOT``; none: nothing was folded yet.

    Raises:
        FormatError: Written by another release (MS-F901).
    """
    if not raw:
        return Root()
    root = _DECODE(raw)
    if root.format != FORMAT:
        raise unknown_format(root.format)
    return root


_OPEN: dict[Path, StoreFile] = {}  # LMDB allows one environment per file in a process
_opening = threading.RLock()  # of who looks into _OPEN until it says what is true: threads open and close, too


class OnlineStore(Closing):
    """State of every view, for one folding process and many reading ones. Open it after a fork, never before."""

    def __init__(self, path: Path, shared: StoreFile, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._shared = shared
        self.env = shared.env
        self.heads = self.env.open_db(b"heads", create=shared.writable)
        self.parts = self.env.open_db(b"parts", create=shared.writable)
        self.statistics = self.env.open_db(b"statistics", create=shared.writable)
        self.versions = self.env.open_db(b"versions", create=shared.writable)
        self.words = self.env.open_db(b"words", create=shared.writable)

    @classmethod
    def open(cls, path: Path, map_bytes: int, *, writable: bool = False) -> OnlineStore:
        """Open the store in the folder ``path``, which is made if it is not there.

        The process that folds discards the state of an older release, or of which a power cut may have taken a part
        (``unsynced``), and builds it anew from the lake and the log.

        Args:
            path: Folder of the LMDB file, on a local disk.
            map_bytes: Greatest size; the file is sparse and grows as needed.
            writable: Whether this process folds.

        Raises:
            RefusedError: This process has it open for reading only (MS-F301).
            FormatError: Written by a newer release, or by an older one and not yet built anew (MS-F901).
            UnavailableError: The machine stopped while it was written, and nobody has built it anew yet (MS-F308).
        """
        with _opening:
            return cls._open(Path(path).resolve(), map_bytes, writable=writable)

    @classmethod
    def _open(cls, path: Path, map_bytes: int, *, writable: bool) -> OnlineStore:
        shared = _OPEN.get(path)
        if shared is not None:
            if writable and not shared.writable:
                raise RefusedError(
                    "MS-F301", "the online store is open for reading only in this process", where=str(path)
                )
            shared.users += 1
        else:
            path.mkdir(parents=True, exist_ok=True)
            if not writable and not (path / "data.mdb").exists():
                cls.open(path, map_bytes, writable=True).close()
            shared = _OPEN[path] = StoreFile.open(path, map_bytes, writable=writable)
        try:
            store = cls(path, shared, writable=writable)
        except lmdb.NotFoundError:  # whoever makes it has not got that far: LMDB lets one of us do it first
            _OPEN.pop(path).close()
            cls.open(path, map_bytes, writable=True).close()
            return cls.open(path, map_bytes, writable=writable)
        try:
            if shared.writable:
                store._discard_older()
            store.root()
        except Exception:
            store.close()
            raise
        return store

    def _discard_older(self) -> None:
        """Make an older release's store an empty one."""
        with self.env.begin(write=True) as txn:
            raw = txn.get(ROOT)
            if raw is None or _DECODE(raw).format >= FORMAT:
                return
            txn.delete(ROOT)
            for database in (self.heads, self.parts, self.statistics, self.versions, self.words):
                txn.drop(database, delete=False)
            if txn.get(_BLOCKS) is not None:
                txn.drop(self.env.open_db(_BLOCKS, txn=txn), delete=True)

    @property
    def is_replaced(self) -> bool:
        """Whether another file lies where this one was opened: it was moved away, and the state is built anew."""
        return file_of(self.path) not in (None, self._shared.file)

    def close(self) -> None:
        """Let go of the file."""
        with _opening:
            if self._shared.users > 0:
                self._shared.users -= 1
                if self._shared.users == 0:
                    _OPEN.pop(self.path, None)
                    self._shared.close()

    def root(self, txn: Any = None) -> Root:
        """What the store stands at.

        Raises:
            FormatError: Written by another release (MS-F901).
        """
        if txn is None:
            with self.env.begin() as own:
                return self.root(own)
        return root_of(txn.get(ROOT, b""))

    def folded_offset(self) -> int:
        """The log offset that has been folded."""
        return self.root().offset

    def wait_for(self, offset: int, timeout_s: float) -> bool:
        """Wait until ``offset`` has been folded; whether it has been within ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        pause_s = 0.000_1
        while self.folded_offset() < offset:
            if time.monotonic() > deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.002)
        return True

    def check_readers(self) -> int:
        """Free the slots of processes that died while reading; how many there were."""
        return int(self.env.reader_check())

    @contextmanager
    def write(self) -> Iterator[tuple[Any, Root]]:
        """One transaction: what the store stands at, to be changed in place; committed at the end, whole or not at all.

        Raises:
            BackPressureError: The map or the disk is full (MS-F302).
        """
        if not self.writable:
            raise RefusedError("MS-F301", "the online store is open for reading only", where=str(self.path))
        try:
            with self.env.begin(write=True) as txn:
                root = self.root(txn)
                root.commits += 1
                yield txn, root
                txn.put(ROOT, _ENCODE(root))
        except (lmdb.MapFullError, lmdb.DiskError) as error:
            raise BackPressureError(
                "MS-F302",
                f"the online store is full: {error}",
                where=str(self.path),
                hint="raise limits.state_map_bytes in mainspring.toml, or free disk",
            ) from error

    def drop(self, state: ViewState, txn: Any) -> None:
        """Remove every key of a view."""
        for database, after in ((self.heads, 0), (self.parts, _NUMBER.size)):
            with txn.cursor(database) as cursor:
                found = cursor.set_range(state.shelf)
                while found and cursor.key()[: len(state.shelf)] == state.shelf:
                    is_own = view_of(cursor.key(), after) == state.id
                    found = cursor.delete() if is_own else cursor.next()
        prefix = _VIEW.pack(state.id)
        for database in (self.statistics, self.versions):
            with txn.cursor(database) as cursor:
                found = cursor.set_range(prefix)
                while found and cursor.key()[:4] == prefix:
                    found = cursor.delete()

    def drop_key(self, head: bytes, txn: Any) -> None:
        """Remove everything of one key."""
        txn.delete(head, db=self.heads)
        with txn.cursor(self.parts) as cursor:
            found = cursor.set_range(head)
            while found and cursor.key()[: -_NUMBER.size] == head:
                found = cursor.delete()


def shelf_of(entity: Sequence[str]) -> bytes:
    """What the keys of heads and parts of views by this entity begin with."""
    return hash128(*(name.encode() for name in entity))[: _VIEW.size]


def view_bytes(state: ViewState) -> bytes:
    """What the keys of a view's heads end with."""
    return _VIEW.pack(state.id)


def head_key(state: ViewState, key: bytes) -> bytes:
    """Where a key's head is."""
    return state.shelf + key + view_bytes(state)


def head_keys(state: ViewState, keys: Iterable[bytes | None]) -> list[bytes]:
    """Where the heads of keys are; of None, where none is."""
    shelf, view = state.shelf, view_bytes(state)
    return [shelf + key + view if key is not None else shelf for key in keys]


def view_of(place: Any, after: int = 0) -> int:
    """Whose a head is, or a part, whose number are the last ``after`` bytes of its key."""
    end = len(place) - after
    return int.from_bytes(place[end - _VIEW.size : end], "big")


def parts_of(cursor: Any, state: ViewState, before: bytes = b"") -> Iterator[None]:
    """Stand at each part of a view in turn with ``cursor``, of the parts; those of keys before one, if it is given."""
    found, shelf = cursor.set_range(state.shelf), state.shelf
    while found and (place := bytes(cursor.key()))[: len(shelf)] == shelf and not (before and place >= shelf + before):
        if view_of(place, _NUMBER.size) == state.id:
            yield
        found = cursor.next()


def heads_of(cursor: Any, state: ViewState) -> Iterator[bytes]:
    """The keys of a view, encoded, in order; ``cursor``, of the heads, stands at each one's head in turn."""
    found = cursor.set_range(state.shelf)
    while found and (place := bytes(cursor.key()))[: len(state.shelf)] == state.shelf:
        if view_of(place) == state.id:
            yield place[len(state.shelf) : -_VIEW.size]
        found = cursor.next()


@dataclass(slots=True)
class KeyParts:
    """What one key has behind its head, in a transaction."""

    store: OnlineStore
    txn: Any
    head: bytes

    def load(self, number: int) -> Any:
        """A part's bytes.

        Raises:
            UnavailableError: It is gone, so the file is damaged (MS-F303).
        """
        raw = self.txn.get(self.head + _NUMBER.pack(number), db=self.store.parts)
        if raw is None:
            raise UnavailableError(
                "MS-F303",
                f"part {number} of a key is missing",
                where=str(self.store.path),
                hint=REBUILD,
            )
        return raw

    def save(self, number: int, raw: bytes) -> None:
        """Store a part."""
        self.txn.put(self.head + _NUMBER.pack(number), raw, db=self.store.parts)

    def drop(self, number: int) -> None:
        """Forget a part."""
        self.txn.delete(self.head + _NUMBER.pack(number), db=self.store.parts)
