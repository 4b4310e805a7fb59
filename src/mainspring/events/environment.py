"""An LMDB environment as we use it: on a local disk, opened once in a process, never across a fork.

LMDB refuses to be opened twice in one process (its file locks would be lost), so everybody in a process shares one
environment and one lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from mainspring.core.errors import BackPressureError, FormatError, RefusedError, UnavailableError
from mainspring.core.run import Lease

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.glusterfs"}
)
_READERS = 512
_RESERVE_BYTES = 2_097_152
_FULL_BYTES = 1_048_576
_OVERFLOW_BYTES = 1_024  # about from this size on a value has pages of its own
_CREATED = "create.lock"
_guard = threading.Lock()
_open: dict[tuple[int, str], Environment] = {}


class Environment:
    """One LMDB environment with its named databases, shared by everybody in this process. Made by ``open_environment``.

    A sixteenth of the map is kept back from appends, and 2 MB at least, or a quarter of a smaller one: deleting needs
    pages too, and so do the ids of what is deleted. A map that is really full could not even be trimmed.
    """

    def __init__(self, path: Path, names: tuple[str, ...], map_bytes: int) -> None:
        self.path = path
        self._folder = str(path)
        self.map_bytes = map_bytes
        self.usable_bytes = map_bytes - max(map_bytes // 16, min(map_bytes // 4, _RESERVE_BYTES))
        self.users = 0
        self.lock = threading.RLock()
        self._pid = os.getpid()
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_network(path)
        self._check_there()
        try:
            self.env = lmdb.open(
                str(path),
                map_size=self.usable_bytes,
                max_dbs=len(names),
                max_readers=_READERS,
                mode=0o600,
                max_spare_txns=4,
            )
        except lmdb.InvalidError as error:
            raise damaged(path, str(error)) from None
        try:
            self._check_length()
            self.env.reader_check()
            self.dbs = self._open_dbs(names)
        except BaseException:
            self.env.close()
            raise

    def _check_there(self) -> None:
        """Refuse a folder whose file was emptied or taken away: LMDB would begin a new one without a word.

        The lock of ``_open_dbs`` is made once the file has its first pages, and stays.

        Raises:
            FormatError: There was a file, and there is none, or nothing in it (MS-E902).
        """
        file = self.path / "data.mdb"
        if (self.path / _CREATED).exists() and not (file.exists() and file.stat().st_size):
            raise damaged(self.path, "it was made here, and now it is empty" if file.exists() else "it is gone")

    def _check_length(self) -> None:
        """Refuse a file that was cut: a read beyond its end would not be an error but the end of the process.

        The last pages of a whole file may be missing too, when they were given back before they were written. So the
        file is made as long as it should be, and everything in it is read once.

        Raises:
            FormatError: It is damaged (MS-E902).
        """
        file = self.path / "data.mdb"
        needed = (self.env.info()["last_pgno"] + 1) * self.env.stat()["psize"]
        if file.stat().st_size >= needed:
            return
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, needed)  # never shorter, as truncate would: a writer may be at it
        try:
            with self.env.begin() as txn, txn.cursor() as names:
                for name in names.iternext(values=False):
                    _read_all(self.env, txn, name)
        except lmdb.Error as error:
            raise damaged(self.path, str(error)) from None

    def _open_dbs(self, names: tuple[str, ...]) -> dict[str, lmdb._Database]:
        # In a write transaction: handles opened in one that only reads are gone when it is put back for reuse.
        with Lease(self.path / _CREATED), self.env.begin(write=True) as txn:
            return {n: self.env.open_db(n.encode(), txn=txn) for n in names}

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction[bytes]]:
        """A read transaction. Keep it short: it holds on to every page it can see.

        Raises:
            UnavailableError: The environment was opened before a fork (MS-E305).
        """
        self._check_process()
        with self.lock:
            try:
                txn = self.env.begin()
            except lmdb.MapResizedError:  # another process has a larger map
                self.env.set_mapsize(0)
                txn = self.env.begin()
            with txn:
                yield txn

    @contextmanager
    def write(self) -> Iterator[lmdb.Transaction[bytes]]:
        """A write transaction: durable once left, undone by any error.

        Raises:
            BackPressureError: The map (MS-E301) or the disk (MS-E302) is full.
        """
        self._check_process()
        with self.lock:
            try:
                with self.env.begin(write=True) as txn:
                    yield txn
            except lmdb.MapFullError:
                raise BackPressureError(
                    "MS-E301",
                    "the map is full; nothing of this was written",
                    where=str(self.path),
                    hint="wait until the worker has trimmed what is in the lake, or raise log_map_bytes under [limits]",
                ) from None
            except lmdb.Error as error:
                # A write that a full disk cut short is an input/output error to LMDB.
                is_cut = "Input/output" in str(error) and self._free_bytes() < _FULL_BYTES
                if "No space left" not in str(error) and not is_cut:
                    raise
                raise self.disk_full() from None

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Give write transactions inside the whole map: for those that delete."""
        with self.lock:
            self.env.set_mapsize(self.map_bytes)
            try:
                yield
            finally:
                self.env.set_mapsize(self.usable_bytes)

    def check_disk(self, free_bytes: int) -> None:
        """Refuse to write when the disk has less than ``free_bytes`` left.

        Raises:
            BackPressureError: It has (MS-E302).
        """
        if free_bytes and self._free_bytes() < free_bytes:
            raise self.disk_full()

    def _free_bytes(self) -> int:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def disk_full(self) -> BackPressureError:
        """The error of a full disk."""
        return BackPressureError(
            "MS-E302",
            "the disk is nearly full; nothing of this was written",
            where=str(self.path),
            hint="free some space, or lower disk_free_bytes under [limits]",
        )

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise UnavailableError(
                "MS-E305",
                "this store was opened before a fork",
                where=str(self.path),
                hint="open it in the process that uses it",
            )


def open_environment(path: Path, names: tuple[str, ...], map_bytes: int) -> Environment:
    """The process's environment at ``path``, opened now if nobody has it; ``close_environment`` when done.

    Raises:
        RefusedError: ``path`` is on a network file system (MS-E303).
        FormatError: Its file is damaged (MS-E902).
    """
    key = (os.getpid(), str(path.resolve()))
    with _guard:
        found = _open.get(key)
        if found is None:
            found = _open[key] = Environment(path, names, map_bytes)
        found.users += 1
        return found


def close_environment(environment: Environment) -> None:
    """Let go of an environment; the last one closes it."""
    key = (os.getpid(), str(environment.path.resolve()))
    with _guard:
        environment.users -= 1
        if environment.users == 0 and _open.get(key) is environment:
            del _open[key]
            environment.env.close()


def damaged(path: Path, why: str) -> FormatError:
    """The error of a file whose bytes are not what was written."""
    return FormatError(
        "MS-E902",
        "a file of this store is damaged",
        where=str(path / "data.mdb"),
        why=why,
        hint="restore it from a copy; the online store is built anew from lake and log when its folder is removed",
    )


def _read_all(env: lmdb.Environment, txn: lmdb.Transaction[bytes], name: bytes) -> None:
    db = env.open_db(name, txn=txn, create=False)
    with txn.cursor(db=db) as cursor:
        for _key, value in cursor:
            if len(value) > _OVERFLOW_BYTES and not any(value):
                raise lmdb.CorruptedError("a value of zeros where pages were cut off")


def refuse_network(path: Path) -> None:
    """Refuse a folder on a network file system: LMDB's locks and maps do not hold there.

    Raises:
        RefusedError: It is on one (MS-E303).
    """
    kind = _file_system(path.resolve())
    if kind in _NETWORK:
        raise RefusedError(
            "MS-E303",
            f"the folder is on {kind}, where LMDB's locks do not hold",
            where=str(path),
            hint='put it on a local disk: [urls] log = "lmdb:/PATH"',
        )


def _file_system(path: Path) -> str:
    """Type of the file system that holds ``path``, "" where the kernel does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        if path.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind
