"""Options that every command has, and those of the processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.core.config import LAST_PORT


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What every command takes.

    Attributes:
        project: Folder with ``mainspring.toml``.
        json: Answer in JSON.
    """

    project: Annotated[Path, Parameter(name=("--project", "-C"), help="Folder of the project.")] = Path()
    json: Annotated[bool, Parameter(name="--json", negative="", help="Answer in JSON.", show_default=False)] = False


@Parameter(name="*")
@dataclass(frozen=True)
class ProcessOptions:
    """What the processes take from the supervisor that starts them.

    Attributes:
        test_clock: A clock that somebody else drives (demo, backtest).
        supervised: Stop when standard input ends: the supervisor holds its other end, and is gone.
    """

    test_clock: Annotated[Path | None, Parameter(name="--test-clock", show=False)] = None
    supervised: Annotated[bool, Parameter(name="--supervised", negative="", show=False)] = False


is_port = Number(gte=0, lte=LAST_PORT)
Port = Annotated[
    int | None,
    Parameter(
        validator=is_port, help="Listen on this port rather than on that of mainspring.toml; 0 takes a free one."
    ),
]
DEFAULT = Options()
DEFAULT_PROCESS = ProcessOptions()
