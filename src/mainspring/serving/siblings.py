"""The other workers of one gateway: each answers for itself at a door of its own; who is asked asks them all.

What one worker counts is a series of its own, with a label ``worker``: a sum over all of them would fall when one dies
and is started again, and a scraper would take that for a burst of requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mainspring.core.ask import ask
from mainspring.core.errors import MainspringError
from mainspring.core.run import read_door

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seat:
    """The place of a worker in its gateway; by default, of a gateway that is one process.

    Several gateways of one project may run, each with workers of its own: a number alone is nobody's name.

    Attributes:
        gateway: Pid of the parent that started the worker: it tells the project's gateways apart.
        number: Number of the worker, from 1; 0 when it is the only one.
        inner: Port of the workers' common door for the project's own processes; 0 when there is none.
    """

    gateway: int = 0
    number: int = 0
    inner: int = 0

    @property
    def door(self) -> str:
        """Name of the worker's own door in the run folder."""
        return seat_door(self.gateway, self.number)

    @property
    def is_first(self) -> bool:
        """Whether it says what is to be said once of the whole gateway."""
        return self.number <= 1


class Siblings:
    """The workers of this gateway besides this one.

    Args:
        run: The run folder.
        seat: The place of this one.
        count: How many workers there are.
        token: The project's internal token.
    """

    def __init__(self, run: Path, seat: Seat, count: int, token: str) -> None:
        self._run = run
        self._gateway = seat.gateway
        self.own = seat.number
        self._others = [number for number in range(1, count + 1) if number != self.own] if self.own else []
        self._token = token

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._others)

    async def ask(self, method: str, path: str, timeout_s: float) -> dict[int, bytes]:
        """What each of those that live answers; who does not is left out, and reported."""
        answers = await asyncio.gather(*(self._one(number, method, path, timeout_s) for number in self._others))
        return {number: body for number, body in zip(self._others, answers, strict=True) if body is not None}

    async def _one(self, number: int, method: str, path: str, timeout_s: float) -> bytes | None:
        url = read_door(self._run, seat_door(self._gateway, number))
        if url is None:
            return None
        try:
            status, body = await ask(url, method, path, self._token, timeout_s)
        except MainspringError as error:
            _log.warning("worker %d of the gateway: %s", number, error)
            return None
        if status == 200:
            return body
        _log.warning("worker %d of the gateway answers %s with %d", number, path, status)
        return None


def seat_door(gateway: int | str, number: int | str) -> str:
    """Name in the run folder of the own door of worker ``number`` of the gateway whose pid is ``gateway``."""
    return f"gateway_{gateway}_{number}"


def together(texts: Mapping[int, str]) -> str:
    """The exposition texts of several workers as one: each line labelled ``worker``, each metric described once."""
    comments: dict[str, list[str]] = {}
    lines: dict[str, list[str]] = {}
    for number, text in sorted(texts.items()):
        metric = ""
        for line in text.splitlines():
            if line.startswith("#"):
                metric = line.split(" ", 3)[2]
                known = comments.setdefault(metric, [])
                if line not in known:
                    known.append(line)
            else:
                lines.setdefault(metric, []).append(_labelled(line, number))
    parts = [line for metric, known in comments.items() for line in [*known, *lines.get(metric, ())]]
    return "\n".join(parts) + "\n"


def _labelled(line: str, number: int) -> str:
    name, _, value = line.rpartition(" ")
    head, brace, labels = name.partition("{")
    return f'{head}{{worker="{number}",{labels} {value}' if brace else f'{head}{{worker="{number}"}} {value}'
