"""A file that keeps batches of records while the intake is away.

Frames are length-prefixed, and a torn last one is dropped. What is sent twice after a crash is recognised by its id at
the intake, so there is no position to keep.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from mainspring.core.run import Lease

_FRAME = struct.Struct("<4sI")
_MAGIC = b"MSP1"


class Spool:
    """One process's own file in the folder of spools.

    Args:
        folder: Where spools live; those of processes that are gone are found by ``orphans``.
        name: A name that no other process has.
        max_bytes: Size at which ``append`` refuses.
    """

    def __init__(self, folder: Path, name: str, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"{name}.spool"
        self._max_bytes = max_bytes
        self._lease = Lease(folder / f"{name}.lock")
        self._lease.require("the spool")
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.size_bytes = os.fstat(self._handle).st_size
        self._read_to = 0

    def __bool__(self) -> bool:
        """Whether anything waits to be sent."""
        return self.size_bytes > self._read_to

    def append(self, frame: bytes) -> bool:
        """Keep a frame durably.

        Returns:
            False when the spool is full.

        Raises:
            OSError: The disk is full or broken.
        """
        if self.size_bytes + len(frame) > self._max_bytes:
            return False
        whole = _FRAME.pack(_MAGIC, len(frame)) + frame
        try:
            _write_whole(self._handle, whole, self.path)
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, self.size_bytes)  # half a frame would hide those after it
            raise
        self.size_bytes += len(whole)
        return True

    def peek(self) -> bytes | None:
        """The oldest frame that has not been sent; None when there is none."""
        return _read(self._handle, self._read_to)

    def drop(self, frame: bytes) -> None:
        """Forget the frame that ``peek`` gave: it has been sent."""
        self._read_to += _FRAME.size + len(frame)
        if self._read_to >= self.size_bytes:
            os.ftruncate(self._handle, 0)
            self._read_to = self.size_bytes = 0

    def discard(self) -> int:
        """Forget everything that waits; returns how many bytes it was."""
        lost = self.size_bytes - self._read_to
        os.ftruncate(self._handle, 0)
        self._read_to = self.size_bytes = 0
        return lost

    def close(self) -> None:
        """Close; an empty spool leaves no file behind."""
        is_empty = not self
        os.close(self._handle)
        if is_empty:
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(".lock").unlink(missing_ok=True)
        self._lease.release()


def adopt_orphans(folder: Path, into: Spool) -> int:
    """Move frames of spools whose process is gone into ``into``.

    Returns:
        How many frames were moved.
    """
    moved = 0
    for path in sorted(folder.glob("*.spool")):
        if path == into.path:
            continue
        lease = Lease(path.with_suffix(".lock"))
        if not lease.acquire():
            continue
        try:
            frames = list(_frames(path))
            if all(into.append(frame) for frame in frames):
                moved += len(frames)
                path.unlink()
                path.with_suffix(".lock").unlink(missing_ok=True)
        finally:
            lease.release()
    return moved


def _write_whole(handle: int, content: bytes, path: Path) -> None:
    if os.write(handle, content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _frames(path: Path) -> Iterator[bytes]:
    handle = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while (frame := _read(handle, at)) is not None:
            yield frame
            at += _FRAME.size + len(frame)
    finally:
        os.close(handle)


def _read(handle: int, at: int) -> bytes | None:
    head = os.pread(handle, _FRAME.size, at)
    if len(head) < _FRAME.size:
        return None
    magic, length = _FRAME.unpack(head)
    body = os.pread(handle, length, at + _FRAME.size) if magic == _MAGIC else b""
    return body if len(body) == length and magic == _MAGIC else None
