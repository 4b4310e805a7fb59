"""A table of the lake, scanned file by file: each is compared with its checksum before it is first read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow.dataset import Expression, FileSystemDataset, ParquetFileFragment
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from mainspring.events.sums import CHANGED, FirstReads

if TYPE_CHECKING:
    from deltalake import DeltaTable

_AT_ONCE = 8
"""Files that are read side by side, after each was compared: who takes only the first rows waits for no others."""
_FILE, _END = " [file ", "]"
"""What stands around a file's path in an error: DuckDB and pyarrow hand on nothing but its text."""


class CheckedDataset(FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """A Delta table's files as pyarrow scans them, by threads of its own that wait for nothing of Python.

    Files that a filter leaves out, by the statistics that the table's log has of them, are not looked at.
    """

    folder: Path

    @classmethod
    def of(cls, table: DeltaTable, folder: Path) -> CheckedDataset:
        """The dataset of a table as it was last looked at.

        Args:
            table: Any version of it.
            folder: Where its files are.
        """
        found = table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(str(folder), LocalFileSystem()))
        made = cls(list(found.get_fragments()), found.schema, found.format, found.filesystem)
        made.folder = folder
        return made

    def scanner(self, columns: Sequence[str] | None = None, filter: Expression | None = None) -> _Scan:
        """What DuckDB asks for.

        Args:
            columns: Only these; all if None.
            filter: Only rows for which it holds.
        """
        return _Scan(self, columns, filter)

    def read(self, columns: Sequence[str] | None, kept: Expression | None) -> Iterator[pa.RecordBatch]:
        """The rows.

        Raises:
            OSError: A file has changed, is gone or cannot be read; `file_in` finds it in the error's words.
        """
        first, fragments = FirstReads(self.folder), list(self.get_fragments(filter=kept))
        for place in range(0, len(fragments), _AT_ONCE):
            group: list[ParquetFileFragment] = fragments[place : place + _AT_ONCE]
            for fragment in group:
                path = self.folder / fragment.path
                try:
                    is_changed = first.is_changed(path)
                except FileNotFoundError:
                    raise OSError(_naming(path, "it is gone")) from None
                if is_changed:
                    raise OSError(_naming(path, CHANGED))
            try:
                yield from self._scan(group, columns, kept)
            except (OSError, pa.ArrowException) as error:
                raise self._named(group, columns, kept) or error from None

    def _scan(
        self, group: list[ParquetFileFragment], columns: Sequence[str] | None, kept: Expression | None
    ) -> Iterator[pa.RecordBatch]:
        part = FileSystemDataset(group, self.schema, self.format, self.filesystem)
        yield from part.scanner(columns=columns, filter=kept).to_batches()

    def _named(
        self, group: list[ParquetFileFragment], columns: Sequence[str] | None, kept: Expression | None
    ) -> OSError | None:
        """Which of some files cannot be read, and why; they are read one by one until it is found."""
        for fragment in group:
            try:
                for _ in self._scan([fragment], columns, kept):
                    pass
            except (OSError, pa.ArrowException) as error:
                return OSError(_naming(self.folder / fragment.path, str(error)))
        return None


@dataclass(frozen=True)
class _Scan:
    """As much of pyarrow's scanner as DuckDB uses."""

    dataset: CheckedDataset
    columns: Sequence[str] | None
    filter: Any

    def to_reader(self) -> pa.RecordBatchReader:
        """The rows, each file's as the reader comes to it."""
        whole = self.dataset.schema
        schema = whole if self.columns is None else pa.schema([whole.field(name) for name in self.columns])
        return pa.RecordBatchReader.from_batches(schema, self.dataset.read(self.columns, self.filter))


def file_in(said: str) -> tuple[str, Path | None]:
    """What is wrong with a file, and which file, in words that may have come a long way from here."""
    what, found, rest = said.rpartition(_FILE)
    path, is_whole, _ = rest.partition(_END)
    return (what, Path(path)) if found and is_whole else (said, None)


def _naming(path: Path, why: str) -> str:
    return f"{why.strip().splitlines()[0]}{_FILE}{path}{_END}"
