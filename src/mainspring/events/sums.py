"""Checksums of the files of a table of the lake: a bit that flips on a disk is seen, where Parquet reads another value.

They are kept in one file beside those that they are of, whose first line is the checksum of the others. It is written
by the process that writes the table, right after the commit that brought the files.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

CHANGED = "its bytes are not those that were written"
NAME = "_sums"
_BYTES = 16
_log = logging.getLogger(__name__)
_whole: dict[Path, dict[str, tuple[int, int]]] = {}
"""Files that this process has read and found as they were written, by table: their size and when they last changed."""


def read_sums(folder: Path) -> dict[str, str]:
    """Checksums in a table's folder, by the files' paths in it; none where they cannot be trusted themselves."""
    rest = _trusted(folder)
    if rest is None:
        return {}
    pairs = (line.split(" ", 1) for line in rest.splitlines())
    return {path: found for found, path in pairs}


def are_damaged(folder: Path) -> bool:
    """Whether a table has checksums that cannot be trusted themselves: none of its files can be compared."""
    return (folder / NAME).exists() and _trusted(folder) is None


def _trusted(folder: Path) -> str | None:
    """The lines of a table's checksums; None where there are none, or they are not what was written."""
    try:
        first, _, rest = (folder / NAME).read_text(encoding="utf-8").partition("\n")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return rest if first == _of_text(rest) else None


def note_sums(folder: Path, files: Iterable[Path]) -> None:
    """Keep checksums of those files that have none, and then forget those of files that are gone.

    Args:
        folder: The table's.
        files: In it.
    """
    if are_damaged(folder):
        _log.error("the checksums in %s were damaged: they are made anew of the files as they are now", folder)
    known = read_sums(folder)
    new = {name: _of_file(path) for path in files if (name := _name(folder, path)) not in known and path.exists()}
    if new:
        kept = {name: found for name, found in known.items() if (folder / name).exists()} | new
        rest = "".join(f"{found} {name}\n" for name, found in sorted(kept.items()))
        scratch = folder / f"{NAME}.{os.getpid()}"
        scratch.write_text(f"{_of_text(rest)}\n{rest}", encoding="utf-8")
        scratch.replace(folder / NAME)


def changed(folder: Path, files: Iterable[Path]) -> list[Path]:
    """Those of some files of a table whose bytes are not what was written; a file that is gone is not among them."""
    known = read_sums(folder)
    named = ((path, known.get(_name(folder, path))) for path in files)
    return [path for path, found in named if found is not None and path.exists() and _of_file(path) != found]


class FirstReads:
    """Compares a file of a table with its checksum when this process reads it for the first time.

    A file that this process has found as it was written is not read again, nor is one that has no checksum yet.

    Args:
        folder: The table's. Its checksums are read when the first file has to be compared.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums: dict[str, str] | None = None

    def is_changed(self, path: Path) -> bool:
        """Whether the bytes of a file of the table are not those that were written.

        Raises:
            FileNotFoundError: It is gone.
        """
        name, stat = _name(self._folder, path), path.stat()
        whole = _whole.setdefault(self._folder, {})
        stamp = stat.st_size, stat.st_mtime_ns
        if whole.get(name) == stamp:
            return False
        if self._sums is None:
            self._sums = read_sums(self._folder)
            for gone in whole.keys() - self._sums.keys():
                whole.pop(gone, None)
        found = self._sums.get(name)
        if found is None:
            return False
        if _of_file(path) != found:
            return True
        whole[name] = stamp
        return False


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _of_text(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_BYTES).hexdigest()


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_BYTES)).hexdigest()
