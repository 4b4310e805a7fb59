"""The run folder: where each process listens, the token they share, and the leases that keep a second one out.

A door that several processes may have at once, as gateways behind a balancer do, is ``run/<name>_<pid>.json`` of each
of them, and ``run/<name>.json`` of the first: who wants any one reads that, and finds another when it is gone.

Everything here is readable by its owner alone: the folder is 0700 and each file 0600.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from mainspring.core.errors import UnavailableError
from mainspring.core.names import check_name

WORKER_LEASE = "worker.lock"
"""In the run folder: held by the worker, and by whoever does its work while there is none."""
GRPC_DOOR = "gateway_grpc"
"""The gateway's door for gRPC, beside its own."""
_SHARED = "internal.token"


class Door(msgspec.Struct, frozen=True):
    """Where a process answers.

    Attributes:
        started: When the kernel started the process (its own ticks), so that a recycled pid is not taken for it; 0 when
            unknown.
        public: Where others find it, if that is another place.
    """

    url: str
    pid: int
    started: int = 0
    public: str = ""

    @property
    def where(self) -> str:
        """Where others find it."""
        return self.public or self.url


def write_door(run: Path, name: str, url: str, public: str = "") -> None:
    """Say in ``run/<name>.json`` that this process answers at ``url``; readers see the old file or the new one.

    Args:
        run: The run folder.
        name: Of the door.
        url: Where the project's own processes find it.
        public: Where others do, if that is another place.
    """
    check_name(name, "door")
    _prepare(run)
    door = Door(url, os.getpid(), _started(os.getpid()), public)
    path = run / f"{name}.json"
    scratch = run / f".{name}.{door.pid}.{secrets.token_hex(4)}"
    _write_private(scratch, msgspec.json.encode(door))
    scratch.replace(path)


def join_door(run: Path, name: str, url: str, public: str = "") -> None:
    """Say that this process answers at ``url`` too: as ``write_door``, but beside whoever else has the door ``name``.

    What processes that are gone have left of theirs is removed.
    """
    for path, _ in _joined(run, name):
        _sweep(path)
    write_door(run, _own(name, os.getpid()), url, public)
    held = _living(run / f"{name}.json")
    if held is None or held.pid == os.getpid():
        write_door(run, name, url, public)


def leave_door(run: Path, name: str) -> None:
    """Take back what this process wrote by ``join_door``; the others' are left alone."""
    remove_door(run, name)
    remove_door(run, _own(name, os.getpid()))


def read_doors(run: Path, name: str) -> list[Door]:
    """The door ``name`` of each living process that has it: first whose ``<name>.json`` is, then the oldest first."""
    first = _living(run / f"{name}.json")
    found = [door for path, pid in _joined(run, name) if (door := _living(path)) is not None and door.pid == pid]
    others = [door for door in found if first is None or door.pid != first.pid]
    return ([first] if first is not None else []) + sorted(others, key=lambda door: (door.started, door.pid))


def door_of(run: Path, name: str, pid: int | None) -> Door | None:
    """The door ``name`` of the living process ``pid``; None when it has none."""
    return next((door for door in read_doors(run, name) if door.pid == pid), None)


def read_door(run: Path, name: str) -> str | None:
    """The URL that a living process wrote for ``name``; None when there is none or its process is gone."""
    door = _first(run, name)
    return door.url if door is not None else None


def read_public(run: Path, name: str) -> str | None:
    """The URL at which others find the door ``name``; None when there is none or its process is gone."""
    door = _first(run, name)
    return door.where if door is not None else None


def door_pid(run: Path, name: str) -> int | None:
    """Pid of the living process that wrote the door ``name``; None when there is none."""
    door = _first(run, name)
    return door.pid if door is not None else None


def remove_door(run: Path, name: str) -> None:
    """Take back what this process wrote; another process's door is left alone."""
    path = run / f"{name}.json"
    door = _living(path)
    if door is not None and door.pid == os.getpid():
        path.unlink(missing_ok=True)


def internal_token(run: Path) -> str:
    """The token that the project's own processes show one another: random, made once, the same for all of them."""
    _prepare(run)
    path = run / _SHARED
    if not path.exists():
        scratch = run / f".token.{os.getpid()}.{secrets.token_hex(4)}"
        _write_private(scratch, secrets.token_urlsafe(32).encode())
        try:
            os.link(scratch, path)  # unlike a rename, fails when another process was first
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    return path.read_text(encoding="ascii").strip()


class Lease:
    """Only one process holds a path at a time. The kernel lets go when the holder dies, however it dies.

    It is an ``flock``: started programs do not inherit it, a bare ``fork`` does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lease."""
        return self._handle is not None

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lease; with ``wait``, block until it is free.

        Returns:
            False when another holds it and ``wait`` is False.
        """
        if self._handle is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        self._handle = handle
        return True

    def require(self, what: str) -> None:
        """Take the lease at once.

        Raises:
            UnavailableError: Another process holds it (MS-C010); the error names its pid.
        """
        if not self.acquire():
            holder = self.holder()
            raise UnavailableError(
                "MS-C010",
                f"{what} is in use by another process" + (f" (pid {holder})" if holder else ""),
                where=str(self._path),
                hint="stop that process, or wait until it ends",
            )

    def holder(self) -> int | None:
        """Pid of the last process that took the lease, for messages; None when nobody ever did."""
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return int(text) if text.isdigit() else None

    def release(self) -> None:
        """Let go; nothing happens when it is not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        """Wait for the lease."""
        self.acquire(wait=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        self.release()


def _prepare(run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True, mode=0o700)


def _write_private(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _read(path: Path) -> Door | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Door)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _own(name: str, pid: int) -> str:
    return f"{name}_{pid}"


def _joined(run: Path, name: str) -> list[tuple[Path, int]]:
    """Files of the processes that have joined the door ``name``, living or not, and the pid in each one's name."""
    found = ((path, re.fullmatch(rf"{name}_(\d+)", path.stem)) for path in run.glob(f"{name}_*.json"))
    return sorted((path, int(match[1])) for path, match in found if match is not None)


def _first(run: Path, name: str) -> Door | None:
    """The door of ``<name>.json``; when its process is gone, of another one that has joined it."""
    return _living(run / f"{name}.json") or next(iter(read_doors(run, name)), None)


def _living(path: Path) -> Door | None:
    door = _read(path)
    return door if door is not None and _is_alive(door) else None


def _sweep(path: Path) -> None:
    if _living(path) is None:
        path.unlink(missing_ok=True)


def exists(pid: int) -> bool:
    """Whether there is a process of this number, perhaps somebody else's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # it is somebody else's; or no number of a process, and nobody knows
        pass
    return True


def _is_alive(door: Door) -> bool:
    if not exists(door.pid):
        return False
    now = _started(door.pid)
    return not (door.started and now and door.started != now)


def _started(pid: int) -> int:
    """Start of a process in ticks since boot: field 22 of ``/proc/PID/stat``; 0 where there is no such file."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0
