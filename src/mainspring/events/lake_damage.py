"""Tables of the lake whose files are not what was written: each is told with its place, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake.exceptions import CommitFailedError, DeltaError
from polars.exceptions import PolarsError

from mainspring.core.errors import FormatError

GONE = "its own log (_delta_log) is gone"


@contextmanager
def reading(table: Path, file: Path | None = None) -> Iterator[None]:
    """Say of what cannot be read where it is and what mends it (MS-E903)."""
    try:
        yield
    except CommitFailedError:
        raise
    except (PolarsError, DeltaError, FileNotFoundError) as error:
        if isinstance(error, DeltaError) and "No space left" in str(error):
            raise
        raise damaged(table, str(error).strip().splitlines()[0], file) from error


def damaged(table: Path, why: str, file: Path | None = None) -> FormatError:
    """The error of a table whose files are not what was written.

    Args:
        table: Its folder, of the name of its source.
        why: What is wrong.
        file: With what, where it is known.
    """
    hint = f"mainspring lake check {table.name} says what of it, mainspring lake rebuild {table.name} mends it"
    return FormatError("MS-E903", "a table of the lake is damaged", where=str(file or table), why=why, hint=hint)


def refuse_gone(path: Path, version: int) -> None:
    """Refuse a table whose log was taken away since it was last looked at: a commit would begin another one."""
    log = path / "_delta_log"
    if not any((log / name).exists() for name in (f"{version:020d}.json", "_last_checkpoint")):
        raise damaged(path, GONE)


def refuse_empty(path: Path, first: int, last: int) -> None:
    """Refuse commits whose bytes a power cut took: the library passes over them, and over their rows."""
    for version in range(max(first, 0), last + 2):
        commit = path / "_delta_log" / f"{version:020d}.json"
        if commit.is_file() and commit.stat().st_size == 0:
            raise damaged(path, "the commit is empty", commit)
