"""How each process of each gateway of a project is, as it says itself at its own door: for commands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.ask import ask
from mainspring.core.errors import UnavailableError
from mainspring.core.run import Door, door_pid, internal_token, read_door
from mainspring.serving.siblings import seat_door

TIMEOUT_S = 1.0
"""For all of them: they are asked at once."""


@dataclass(frozen=True)
class Said:
    """What one process says of itself.

    Attributes:
        worker: Its number within its gateway; None where the gateway is this one process.
        pid: None where it has ended.
        status: ``ok``, ``degraded`` or ``loading``; None where it does not answer.
        problems: What it could not load, as ``GET /health`` has it.
        trouble: What went wrong there lately, or nothing.
        silent: Why it does not answer, or nothing.
    """

    worker: int | None
    pid: int | None
    status: str | None = None
    problems: Sequence[dict[str, Any]] = ()
    trouble: str = ""
    silent: str = ""


def roll_call(run: Path, gateways: Sequence[Door]) -> list[list[Said]]:
    """Ask every process of these gateways how it is; takes ``TIMEOUT_S`` at most.

    Args:
        run: The run folder.
        gateways: The doors of those that live.

    Returns:
        Of each gateway its workers by number, or itself.
    """
    return asyncio.run(_all(run, gateways, internal_token(run)))


async def _all(run: Path, gateways: Sequence[Door], token: str) -> list[list[Said]]:
    calls = [
        [_one(number, pid, url, token) for number, pid, url in _processes_of(run, gateway)] for gateway in gateways
    ]
    return await asyncio.gather(*(asyncio.gather(*some) for some in calls))


def _processes_of(run: Path, gateway: Door) -> list[tuple[int | None, int | None, str | None]]:
    """Number, pid and URL of each process of a gateway; a parent of workers serves nothing itself."""
    numbers = sorted(int(path.stem.rpartition("_")[2]) for path in run.glob(seat_door(gateway.pid, "*") + ".json"))
    if not numbers:
        return [(None, gateway.pid, gateway.url)]
    names = [seat_door(gateway.pid, number) for number in numbers]
    return [(number, door_pid(run, name), read_door(run, name)) for number, name in zip(numbers, names, strict=True)]


async def _one(number: int | None, pid: int | None, url: str | None, token: str) -> Said:
    if url is None:
        return Said(number, None, silent="it has ended and is not up again")
    try:
        status, body = await ask(url, "GET", "/internal/own/health", token, TIMEOUT_S)
    except UnavailableError as error:
        return Said(number, pid, silent=f"{error.what}, at {error.where}")
    if status != HTTPStatus.OK:
        return Said(number, pid, silent=f"it answers {status}")
    found = msgspec.json.decode(body, type=dict[str, Any])
    return Said(number, pid, found["status"], found["problems"], found["trouble"])
