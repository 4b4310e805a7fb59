"""Files that keep what could not be sent yet, in the order it came, for longer than the process that wrote it lives.

A spool is a row of segments. Each begins with how far it has been sent, so that a sender that is killed goes on where
it was: at most the frames of its last, unacknowledged request are sent twice. A segment sent to its end is deleted. A
torn last frame is dropped when it is read; bytes that are broken elsewhere are set aside, never deleted.

Format 2 of a segment, little-endian: ``MSP2``, 4 bytes 0, position of the first frame that waits (8 bytes); then
frames: ``MSPF``, length and CRC-32 of the content (4 bytes each), the content. Format 1 had no head and no checksums.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from mainspring.core.run import Lease

_HEAD = struct.Struct("<4s4xQ")
_FRAME = struct.Struct("<4sII")
_MAGIC, _FRAME_MAGIC = b"MSP2", b"MSPF"
_FRAME_1, _MAGIC_1 = struct.Struct("<4sI"), b"MSP1"
_POSITION_AT = 8
_SEGMENT_BYTES = 8_388_608
_CHUNK_BYTES = 65_536
_log = logging.getLogger(__name__)


class Spool:
    """One process's own segments in a folder of spools. For one thread at a time.

    Args:
        folder: Where spools live; those of processes that are gone are taken over by ``adopt``.
        name: A name that no other process has, without dots.
        max_bytes: Size on the disk at which ``append`` refuses.
        segment_bytes: Size of a segment.
    """

    def __init__(self, folder: Path, name: str, max_bytes: int, segment_bytes: int = _SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._name = name
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(max_bytes // 4, 1))
        self._lease = Lease(folder / f"{name}.lock")
        self._lease.require("the spool")
        self._segments: deque[_Segment] = deque()
        self._active: _Segment | None = None
        self._unsynced: set[_Segment] = set()
        self._adopted: dict[str, Lease] = {}
        self._number = 0

    def __bool__(self) -> bool:
        """Whether anything waits to be sent."""
        return any(segment.waiting for segment in self._segments)

    @property
    def size_bytes(self) -> int:
        """Size of what waits to be sent."""
        return sum(segment.waiting for segment in tuple(self._segments))  # asked from other threads too

    def append(self, frame: bytes, *, is_durable: bool = True) -> bool:
        """Keep a frame.

        Args:
            frame: Any bytes.
            is_durable: On the disk when this returns; otherwise it survives this process but not a power cut.

        Returns:
            False when the spool is full.

        Raises:
            OSError: The disk is full or broken.
        """
        whole = _FRAME.pack(_FRAME_MAGIC, len(frame), zlib.crc32(frame)) + frame
        if sum(segment.size for segment in self._segments) + len(whole) > self._max_bytes:
            return False
        active = self._active
        if active is None or active.size >= self._segment_bytes:
            active = self._begin()
        active.append(whole)
        self._unsynced.add(active)
        if is_durable:
            self.sync()
        return True

    @property
    def is_dirty(self) -> bool:
        """Whether something waits that a power cut would take."""
        return any(segment.waiting for segment in self._unsynced)

    def sync(self) -> None:
        """Have everything that was appended on the disk. Another thread may append meanwhile, and nothing else.

        Raises:
            OSError: The disk is broken.
        """
        while self._unsynced:
            os.fsync(self._unsynced.pop().handle)

    def peek(self, most_bytes: int = 0) -> list[bytes]:
        """The oldest frames that wait: as many as ``most_bytes`` hold, at least one if it can be read."""
        segment = self._oldest()
        return segment.peek(most_bytes) if segment is not None and segment.waiting else []

    def drop(self, frames: Sequence[bytes]) -> None:
        """Forget the oldest frames that wait, which are these: they have been sent."""
        segment = self._oldest()
        if segment is None:
            raise IndexError("nothing waits")
        segment.drop(sum(_FRAME.size + len(frame) for frame in frames))
        if not segment.waiting:
            if segment is self._active:
                segment.restart()
            else:
                self._finish(segment)

    def set_aside(self) -> int:
        """Put the oldest segment, which cannot be read, away as ``*.broken``; returns how many bytes waited in it."""
        segment = self._segments[0]
        lost = segment.waiting
        segment.path.rename(segment.path.with_suffix(".broken"))
        self._forget(segment)
        return lost

    def adopt(self) -> int:
        """Take over the segments of processes that are gone: they are sent before one's own.

        Returns:
            How many bytes wait in them.
        """
        found: dict[str, list[Path]] = {}
        for path in sorted(self.folder.glob("*.spool")):
            found.setdefault(path.name.partition(".")[0], []).append(path)
        adopted: list[_Segment] = []
        for name, paths in found.items():
            if name == self._name or name in self._adopted:
                continue
            lease = Lease(self.folder / f"{name}.lock")
            if lease.acquire():
                self._adopted[name] = lease
                adopted += [segment for path in paths if (segment := _opened(path)) is not None]
        self._segments.extendleft(reversed(adopted))
        return sum(segment.waiting for segment in adopted)

    def close(self) -> None:
        """Close; a spool in which nothing waits leaves no file behind."""
        for segment in tuple(self._segments):
            if segment.waiting:
                os.close(segment.handle)
            else:
                self._finish(segment)
        names = {path.name.partition(".")[0] for path in self.folder.glob("*.spool")}
        for name, lease in ((self._name, self._lease), *self._adopted.items()):
            if name not in names:
                (self.folder / f"{name}.lock").unlink(missing_ok=True)
            lease.release()
        self._segments.clear()

    def _oldest(self) -> _Segment | None:
        """The segment in front, once those in which nothing waits are gone, but for the one that is written to."""
        while self._segments and not self._segments[0].waiting and self._segments[0] is not self._active:
            self._finish(self._segments[0])
        return self._segments[0] if self._segments else None

    def _begin(self) -> _Segment:
        self._number += 1
        path = self.folder / f"{self._name}.{self._number:06}.spool"
        self._active = _Segment.made(path)
        self._segments.append(self._active)
        return self._active

    def _finish(self, segment: _Segment) -> None:
        segment.path.unlink(missing_ok=True)
        self._forget(segment)

    def _forget(self, segment: _Segment) -> None:
        os.close(segment.handle)
        self._unsynced.discard(segment)
        self._segments.remove(segment)
        if segment is self._active:
            self._active = None


class _Segment:
    """One open file of a spool: ``size`` bytes long, sent up to ``read_to``."""

    def __init__(self, path: Path, handle: int, size: int, read_to: int) -> None:
        self.path = path
        self.handle = handle
        self.size = size
        self._read_to = read_to

    @classmethod
    def made(cls, path: Path) -> _Segment:
        """A new and empty one."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write(handle, _HEAD.pack(_MAGIC, _HEAD.size), 0, path)
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        return cls(path, handle, _HEAD.size, _HEAD.size)

    @property
    def waiting(self) -> int:
        """Bytes that have not been sent."""
        return self.size - self._read_to

    def append(self, whole: bytes) -> None:
        """Write a frame at the end; half of one is taken back, for it would hide those after it."""
        try:
            _write(self.handle, whole, self.size, self.path)
        except OSError:
            os.ftruncate(self.handle, self.size)
            raise
        self.size += len(whole)

    def peek(self, most_bytes: int) -> list[bytes]:
        """The frames at the beginning of what waits; none when the first is broken."""
        chunk = os.pread(self.handle, max(most_bytes, _CHUNK_BYTES), self._read_to)
        frames = list(_frames_in(chunk))
        if not frames and len(chunk) >= _FRAME.size:
            length = _FRAME.unpack_from(chunk)[1]
            if len(chunk) < _FRAME.size + length <= self.waiting:
                frames = list(_frames_in(os.pread(self.handle, _FRAME.size + length, self._read_to)))
        out, size = frames[:1], len(frames[0]) if frames else 0
        for frame in frames[1:]:
            size += len(frame)
            if size > most_bytes:
                break
            out.append(frame)
        return out

    def drop(self, size: int) -> None:
        """Move on by ``size`` bytes."""
        self._move(self._read_to + size)

    def restart(self) -> None:
        """Be empty again. In this order: a crash in between leaves a position beyond an empty file, not old frames."""
        os.ftruncate(self.handle, _HEAD.size)
        self.size = _HEAD.size
        self._move(_HEAD.size)

    def _move(self, to: int) -> None:
        self._read_to = to
        os.pwrite(self.handle, struct.pack("<Q", to), _POSITION_AT)


def _opened(path: Path) -> _Segment | None:
    """The segment that a dead process left, without its torn end; None when its format is not known here."""
    handle = os.open(path, os.O_RDWR)
    head = os.pread(handle, _HEAD.size, 0)
    if head[:4] == _MAGIC_1 or not head:
        os.close(handle)
        _upgrade(path)
        handle = os.open(path, os.O_RDWR)
        head = os.pread(handle, _HEAD.size, 0)
    size = os.fstat(handle).st_size
    if len(head) < _HEAD.size or head[:4] != _MAGIC:
        _log.error("%s is no spool that this release reads: it is left where it is", path)
        os.close(handle)
        return None
    read_to = min(max(_HEAD.unpack(head)[1], _HEAD.size), size)
    at = read_to
    while _FRAME.size <= size - at:
        magic, length, _ = _FRAME.unpack(os.pread(handle, _FRAME.size, at))
        if magic != _FRAME_MAGIC:
            break
        if at + _FRAME.size + length > size:
            size = at  # its writer died in the middle of it
            break
        at += _FRAME.size + length
    else:
        size = at
    return _Segment(path, handle, size, read_to)


def _upgrade(path: Path) -> None:
    """Write a file of format 1 anew in format 2."""
    raw, scratch = path.read_bytes(), path.with_suffix(".new")
    parts, at = [_HEAD.pack(_MAGIC, _HEAD.size)], 0
    while _FRAME_1.size <= len(raw) - at:
        magic, length = _FRAME_1.unpack_from(raw, at)
        at += _FRAME_1.size
        frame = raw[at : at + length]
        at += length
        if magic != _MAGIC_1 or len(frame) < length:
            break
        parts.append(_FRAME.pack(_FRAME_MAGIC, length, zlib.crc32(frame)) + frame)
    scratch.write_bytes(b"".join(parts))
    scratch.chmod(0o600)
    scratch.replace(path)


def _frames_in(chunk: bytes) -> Iterator[bytes]:
    at = 0
    while _FRAME.size <= len(chunk) - at:
        magic, length, check = _FRAME.unpack_from(chunk, at)
        frame = chunk[at + _FRAME.size : at + _FRAME.size + length]
        if magic != _FRAME_MAGIC or len(frame) < length or zlib.crc32(frame) != check:
            return
        yield frame
        at += _FRAME.size + length


def _write(handle: int, content: bytes, at: int, path: Path) -> None:
    if os.pwrite(handle, content, at) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
