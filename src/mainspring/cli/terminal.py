"""What a terminal is shown. Users' text and quarantined bytes are data: they are escaped, never interpreted.

A control character could move the cursor or rename the window, a bidirectional override could make one text read as
another: both are written as escapes. Rich's own markup is off for the same reason.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from mainspring.core.errors import MainspringError
from mainspring.core.times import from_datetime, to_iso

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from mainspring.cli.options import Options

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
LONGEST = 2_000
PIPE_WIDTH = 200


def safe(value: object, *, lines: bool = False) -> str:
    r"""A value as text that is safe to show: anything a terminal could act on is written as an escape.

    Args:
        value: Bytes are read as UTF-8; what is none is shown as ``\xNN``.
        lines: Leave newlines as they are.

    >>> safe("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).decode("utf-8", errors="backslashreplace")
    text = _plain(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if (lines and c == "\n") or unicodedata.category(c) not in _UNSAFE else _escape(c) for c in text)


def _plain(value: object) -> str:
    """A value as text; an instant is ISO 8601, as everywhere else."""
    return to_iso(from_datetime(value)) if isinstance(value, datetime) else str(value)


def _escape(character: str) -> str:
    code = ord(character)
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    return known or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def short(value: object, longest: int = 80) -> str:
    """A safe text that is cut where it gets long."""
    text = safe(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def console(*, stderr: bool = False) -> Console:
    """A console on which nothing in a text is markup."""
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process with 1: the reader has seen enough, that is no error

    wide = None if (sys.stderr if stderr else sys.stdout).isatty() else PIPE_WIDTH
    return Pipe(stderr=stderr, markup=False, highlight=False, emoji=False, width=wide)


def text(content: object, style: str = "") -> Text:
    """Safe text in a style."""
    from rich.text import Text

    return Text(safe(content, lines=True), style=style)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "", right: Sequence[str] = ()
) -> Table:
    """A calm table; every cell is escaped.

    Args:
        columns: Headings.
        rows: Cells; a cell that is rich text already is taken as it is.
        title: Heading of the whole.
        right: Headings of the columns that are aligned to the right.
        options: Where the project is, and how to answer.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = Table(
        box=box.SIMPLE_HEAD, title=safe(title) or None, title_justify="left", title_style="bold", pad_edge=False
    )
    for column in columns:
        out.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        out.add_row(*(cell if isinstance(cell, Text) else Text(short(cell, LONGEST)) for cell in row))
    return out


def answer(options: Options, data: Any, *parts: RenderableType) -> None:
    """The answer of a command: JSON when asked for, else its parts one under the other."""
    if options.json:
        print(_json(data))
        return
    out = console()
    for part in parts:
        out.print(part)


def _json(data: Any) -> str:
    """A JSON document, in which NaN and infinite numbers, that JSON does not know, are texts."""
    try:
        return json.dumps(data, indent=2, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_known(data), indent=2, default=_plain, allow_nan=False)


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def say(options: Options, message: object) -> None:
    """A line on the way to the answer; on standard error, so that the answer stands alone."""
    if not options.json:
        console(stderr=True).print(text(message))


@contextmanager
def counting(options: Options, label: str) -> Iterator[Callable[[int], None]]:
    """A live line with a rising number, for as long as the block lasts; nothing when nobody watches."""
    if options.json or not sys.stderr.isatty():
        yield lambda _: None
        return
    with console(stderr=True).status(text(label)) as line:
        yield lambda n: line.update(text(f"{label} {n:,}"))


@contextmanager
def progress(options: Options, label: str) -> Iterator[Callable[[int, int], None]]:
    """A live bar with the time that is left, once told what is done, and of how many; none when nobody watches."""
    if options.json or not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console(stderr=True))
    task = bar.add_task(safe(label), total=None)

    def tell(done: int, every: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=every or None)

    try:
        yield tell
    finally:
        if bar.live.is_started:
            bar.stop()


def show_error(error: MainspringError, *, as_json: bool) -> None:
    """What went wrong, on standard error."""
    if as_json:
        print(json.dumps(error.to_dict(), indent=2), file=sys.stderr)
        return
    from rich.text import Text

    body = Text.assemble((error.code, "bold red"), "  ", (safe(error.what, lines=True), "bold"))
    for label, part in (("at", error.where), ("why", error.why), ("try", error.hint)):
        if part:
            body.append(f"\n  {label:>3}  ", style="dim")
            body.append(safe(part, lines=True), style="green" if label == "try" else "")
    console(stderr=True).print(body)
