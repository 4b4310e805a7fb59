"""What the demo has done, for its report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mainspring.core import Config
from mainspring.demo.account import Account

STREAM = "stream the flights"


@dataclass
class Demo:
    """What was done, when, and how long it took.

    Attributes:
        steps_s: Wall time by step.
        happenings: Moment, kind and text of what was done on purpose or by hand.
    """

    folder: Path
    config: Config
    account: Account = field(default_factory=Account)
    steps_s: dict[str, float] = field(default_factory=dict)
    happenings: list[tuple[int, str, str]] = field(default_factory=list)
    first_version: str = ""
    first_dataset: str = ""
    corrupted_version: str = ""
    worker_killed_at_offset: int = 0
    folded_on_return: int = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.steps_s[name] = self.steps_s.get(name, 0.0) + time.perf_counter() - started
