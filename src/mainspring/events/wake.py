"""Wake those who wait for the log: one byte to every datagram socket in ``run/wake``.

A wake-up is a hint. Whoever waits reads the log when it comes, and also when it does not within a while.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from mainspring.core.closing import Closing
from mainspring.core.names import check_name

_TICK_NS = 1_000_000_000
_MAX_PATH = 100  # bytes that a socket's address holds, nearly everywhere


class Wake(Closing):
    """A socket that is told after each commit. Close it, or use it in a ``with`` statement."""

    def __init__(self, run: Path, name: str) -> None:
        check_name(name, "name to be woken by")
        folder = run / "wake"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"{name}_{os.getpid()}.sock"
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with _short(self.path) as address:
            self._socket.bind(address)

    def wait(self, timeout_s: float) -> bool:
        """Wait until something was committed, at most ``timeout_s``; several wake-ups that came meanwhile are one."""
        ready, _, _ = select.select([self._socket], [], [], timeout_s)
        if not ready:
            return False
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)
        return True

    def fileno(self) -> int:
        """For ``select`` and event loops."""
        return self._socket.fileno()

    def close(self) -> None:
        """Remove the socket."""
        self._socket.close()
        self.path.unlink(missing_ok=True)


class Bell:
    """Wakes everybody who waits under ``run``. Sockets that nobody reads any more are removed.

    Who waits is read from the folder, and again once the folder has changed: it rings after each commit, before it is
    acknowledged.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / "wake"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._paths: tuple[Path, ...] = ()
        self._changed_ns = -1

    def ring(self) -> int:
        """Send one byte to each; who is full already has one waiting. Returns how many there are."""
        told = 0
        for path in self._waiting():
            try:
                with _short(path) as address:
                    self._socket.sendto(b"\0", address)
                told += 1
            except BlockingIOError:
                told += 1
            except ConnectionRefusedError:  # its process died
                path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue  # closed meanwhile
        return told

    def _waiting(self) -> tuple[Path, ...]:
        """The sockets in the folder."""
        try:
            changed_ns = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return ()
        if changed_ns != self._changed_ns:
            self._paths = tuple(Path(one.path) for one in os.scandir(self._folder) if one.name.endswith(".sock"))
            # A change within the same tick of the file system's clock would leave no trace.
            self._changed_ns = changed_ns if time.time_ns() - changed_ns > _TICK_NS else -1
        return self._paths

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for ``path`` that fits: through an open folder where the path itself is too long."""
    if len(os.fsencode(path)) <= _MAX_PATH:
        yield str(path)
        return
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
