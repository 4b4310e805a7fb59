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

from mainspring.core.errors import BackPressureError, RefusedError, UnavailableError
from mainspring.core.run import Lease

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.glusterfs"}
)
_READERS = 512
_MINIMUM_RESERVE_BYTES = 262_144
_guard = threading.Lock()
_open: dict[tuple[int, str], Environment] = {}


class Environment:
    """One LMDB environment with its named databases, shared by everybody in this process. Made by ``open_environment``.

    A sixteenth of the map is kept back from appends: deleting needs pages too, and a map that is really full could not
    even be trimmed.
    """

    def __init__(self, path: Path, names: tuple[str, ...], map_bytes: int) -> None:
        self.path = path
        self.map_bytes = map_bytes
        self.usable_bytes = map_bytes - max(map_bytes // 16, _MINIMUM_RESERVE_BYTES)
        self.users = 0
        self.lock = threading.RLock()
        self._pid = os.getpid()
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_network(path)
        self.env = lmdb.open(
            str(path),
            map_size=self.usable_bytes,
            max_dbs=len(names),
            max_readers=_READERS,
            mode=0o600,
            max_spare_txns=4,
        )
        try:
            self.env.reader_check()
            self.dbs = self._open_dbs(names)
        except BaseException:
            self.env.close()
            raise

    def _open_dbs(self, names: tuple[str, ...]) -> dict[str, lmdb._Database]:
        # In a write transaction: handles opened in one that only reads are gone when it is put back for reuse.
        with Lease(self.path / "create.lock"), self.env.begin(write=True) as txn:
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
                if "No space left" not in str(error):
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
        if free_bytes:
            disk = os.statvfs(self.path)
            if disk.f_bavail * disk.f_frsize < free_bytes:
                raise self.disk_full()

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
