"""The online store's LMDB file: opened once in a process, and marked while what is written to it is not waited for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from mainspring.features.unsynced import Unsynced, check

_READERS = 512
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class StoreFile:
    """An open file.

    Attributes:
        mark: Of a process that folds, or makes an empty store for those who read; None of one that reads.
        file: Which file it is, as ``file_of`` says.
        users: How many in this process have it open.
    """

    env: Any
    mark: Unsynced | None
    file: tuple[int, int] | None
    users: int = 1

    @classmethod
    def open(cls, path: Path, map_bytes: int, *, writable: bool) -> StoreFile:
        """Open the file in the folder ``path``; to write, after it has been discarded if it is not to be believed.

        Raises:
            UnavailableError: To read: it is not to be believed (MS-F308).
        """
        if not writable:
            check(path)
            return cls(_environment(path, map_bytes, writable=False), None, file_of(path))
        mark = Unsynced(path, lambda: _discard(path))
        try:
            env = _environment(path, map_bytes, writable=True, sync=not mark.is_needed)
            return cls(env, mark, file_of(path))
        except BaseException:
            mark.leave()
            raise

    @property
    def writable(self) -> bool:
        """Whether it can be written to."""
        return self.mark is not None

    def close(self) -> None:
        """Let go of it; what was written is on the disk then."""
        try:
            if self.mark is not None:
                self.mark.release(lambda: self.env.sync(True))
        except lmdb.Error as error:  # the mark stays: after a power cut the state is not believed
            _log.warning("the online store cannot be written through to the disk: %s", error)
        finally:
            self.env.close()


def file_of(path: Path) -> tuple[int, int] | None:
    """Which file a store is, whatever it is called; None where there is none."""
    try:
        found = (path / "data.mdb").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _discard(path: Path) -> None:
    """Delete a file that is not to be believed."""
    _log.warning(
        "%s: the machine stopped before the disk had all of it; it is built anew from the lake and the log", path
    )
    for name in ("data.mdb", "lock.mdb"):
        (path / name).unlink(missing_ok=True)


def _environment(path: Path, map_bytes: int, *, writable: bool, sync: bool = True) -> Any:
    env = lmdb.open(
        str(path),
        map_size=map_bytes,
        max_dbs=8,
        max_readers=_READERS,
        readonly=not writable,
        sync=sync,
        metasync=False,  # where commits are synced, a power cut may take the last ones, whole: the log has them
        readahead=False,
        mode=0o600,
    )
    env.reader_check()
    return env
