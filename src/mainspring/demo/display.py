"""A calm live view of the demo: one bar, one small table, the latest happenings; plain lines without a terminal."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mainspring.core import to_iso

REFRESH_S = 0.25
PLAIN_EVERY_S = 10.0
SHOWN = 8


class Display:
    """Shows where the demo is. `say` is for what happens once, `state` for what goes on.

    Args:
        console: Where to write.
        quiet: Write nothing but what is said (``--json``: to standard error).
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live_wanted = console.is_terminal
        self._said: deque[str] = deque(maxlen=SHOWN)
        self._facts: dict[str, str] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._live = Live(self._view(), console=console, refresh_per_second=4, transient=True, auto_refresh=False)
        self._shown_s = 0.0

    def __enter__(self) -> Self:
        if self._live_wanted:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live_wanted:
            self._live.stop()

    def say(self, text: str, at_us: int | None = None) -> None:
        """Something happened."""
        line = text if at_us is None else f"{to_iso(at_us)[:16].replace('T', ' ')}  {text}"
        self._console.print(Text(line), highlight=False)

    def stage(self, text: str, total: float | None = None) -> None:
        """A stretch of work begins; ``total`` is None when its length is not known."""
        self._progress.reset(self._task, description=text, total=total)
        self._show(force=True)

    def state(self, done: float, facts: dict[str, str]) -> None:
        """How far, and what there is to see now."""
        self._facts = facts
        self._progress.update(self._task, completed=done)
        self._show()

    def _show(self, *, force: bool = False) -> None:
        now_s = time.monotonic()
        if self._live_wanted:
            if force or now_s - self._shown_s >= REFRESH_S:
                self._shown_s = now_s
                self._live.update(self._view(), refresh=True)
        elif self._facts and now_s - self._shown_s >= PLAIN_EVERY_S:
            self._shown_s = now_s
            self._console.print("  ".join(f"{k} {v}" for k, v in self._facts.items()), highlight=False)

    def _view(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for name, value in self._facts.items():
            table.add_row(Text(name, style="dim"), Text(value))
        return Group(self._progress, table)
