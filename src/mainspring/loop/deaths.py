"""Which of a project's processes keep ending, as their supervisor writes it down for `mainspring status`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mainspring.core.run import door_pid

SUPERVISOR = "supervisor"


class Death(msgspec.Struct, frozen=True):
    """A process that has ended, perhaps more than once, and has not been well since.

    Attributes:
        times: How often, one after the other.
        code: Exit code of the last time; negative for a signal.
        at_us: When that was.
        again_in_s: After how long it was started again.
        log: Where its output is.
        said: The last that it wrote there.
    """

    process: str
    times: int
    code: int
    at_us: int
    again_in_s: float
    log: str
    said: str


def write_deaths(run: Path, deaths: list[Death]) -> None:
    """Say which processes of the supervisor that calls are not well: all of them, each time."""
    path = run / "deaths.json"
    scratch = run / ".deaths.json"
    scratch.write_bytes(msgspec.json.encode(deaths))
    scratch.chmod(0o600)
    scratch.replace(path)


def read_deaths(run: Path) -> list[Death]:
    """What the living supervisor has written; nothing when there is none."""
    if door_pid(run, SUPERVISOR) is None:
        return []
    try:
        return msgspec.json.decode((run / "deaths.json").read_bytes(), type=list[Death])
    except (FileNotFoundError, msgspec.DecodeError):
        return []
