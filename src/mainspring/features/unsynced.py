"""A mark beside the online store while the disk may not have all of it: after a power cut it is not believed.

A commit is handed to the system and not waited for: a process may die, however it dies, and nothing is lost. Only when
the machine stops can the file be left neither old nor new, and nobody could tell. So its writers mark it with the boot
of the machine that they write under, and take the mark off when the disk has all of it. A mark of another boot means
that the machine stopped in between: the state is discarded and built anew from the lake and the log.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from mainspring.core.errors import UnavailableError

MARK = "unsynced"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Names the time since this machine last started; empty where that cannot be told, and each commit is synced."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


class Unsynced:
    """One writer's hold on the mark; several processes may have one, and the last to let go takes the mark off.

    Args:
        folder: Of the store.
        discard: Makes the store an empty one; called before anybody writes, when it is not to be believed.
    """

    def __init__(self, folder: Path, discard: Callable[[], None]) -> None:
        self._folder = folder
        self._boot = boot_id()
        self._handle = os.open(folder / MARK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._mark(discard)
        except BaseException:
            self.leave()
            raise

    @property
    def is_needed(self) -> bool:
        """Whether commits go unsynced; false where a power cut could not be told from a crash."""
        return bool(self._boot)

    def leave(self) -> None:
        """Let go, and leave the mark as it is."""
        os.close(self._handle)

    def release(self, sync: Callable[[], None]) -> None:
        """Write the store out by ``sync`` and take the mark off, unless somebody else still writes."""
        try:
            if self._boot and self._is_alone():
                sync()
                os.ftruncate(self._handle, 0)
                os.fsync(self._handle)
        finally:
            self.leave()

    def _mark(self, discard: Callable[[], None]) -> None:
        if self._is_alone():
            found, own = os.pread(self._handle, 64, 0), self._boot.encode()
            if found not in (b"", own):
                discard()
            if found != own:
                _sync_folder(self._folder)  # first: a store that is gone stays gone before the mark says otherwise
                os.pwrite(self._handle, own, 0)
                os.ftruncate(self._handle, len(own))  # last: from one boot to another the mark is never empty
                os.fsync(self._handle)
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def _is_alone(self) -> bool:
        """Whether nobody else holds the mark; if so nobody gets it before ``_mark`` or ``release`` is through."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def check(folder: Path) -> None:
    """Refuse to read a store that its next writer will discard.

    Raises:
        UnavailableError: The machine stopped before the disk had all of it (MS-F308).
    """
    try:
        found = (folder / MARK).read_text(encoding="ascii")
    except (OSError, ValueError):
        return
    if found and found != boot_id():
        raise UnavailableError(
            "MS-F308",
            "the online store is not to be believed",
            where=str(folder),
            why="the machine stopped before the disk had all of it",
            hint="mainspring up: the worker builds it anew from the lake and the log",
        )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
