"""Files as they appear: CSV, JSON Lines, Parquet and Arrow, by a path with ``*`` or by any fsspec URL.

A file is read once it has been quiet for ``settle``, in the order of names. One that has grown is read on behind the
rows that were taken; one whose beginning changed is a new file. The cursor holds, for each file, its size, its version,
a hash of its beginning, and how many of its rows are in: also when it is gone, for it may only be out of sight, until
there are more than 10,000. Beside its columns a row has ``$file`` and
``$line``, so that a source whose rows have no id can make one of them.
"""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import msgspec

from mainspring.core.clock import WallClock
from mainspring.core.errors import ContractError, MainspringError, UnavailableError
from mainspring.core.spans import parse_span
from mainspring.core.times import from_datetime, to_datetime
from mainspring.definitions.values import SourceDef
from mainspring.events.arrow import arrow_file_rows
from mainspring.events.columns import Pick, picked_rows
from mainspring.events.connectors.connector import Arrival, Batch, Connector, Settings, Site
from mainspring.events.file_rows import FileRow, read_rows

_HEAD_BYTES = 4_096
_MOST_KNOWN = 10_000
_ARROW = (".arrow", ".arrows", ".feather", ".ipc")


class FileSettings(Settings, frozen=True, kw_only=True):
    """Settings of ``files``.

    Attributes:
        url: Path with ``*`` and ``**``, relative to the project, or an fsspec URL: ``s3://bucket/rides/*.parquet``.
        settle: For how long a file must not have changed before it is read.
        storage: Options of the file system, as fsspec takes them.
    """

    url: str
    settle: str = "1s"
    storage: dict[str, Any] = msgspec.field(default_factory=dict)


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """What the cursor says of one file."""

    size: int
    changed: str
    head: str
    rows: int
    is_done: bool


class Found(msgspec.Struct, frozen=True):
    """A file that is there now; ``changed`` names its version."""

    path: str
    size: int
    changed: str
    changed_us: int


class Files(Connector):
    """Reads each file once, whenever it appears."""

    settings_type: ClassVar[type[Settings]] = FileSettings

    def __init__(self, settings: FileSettings, site: Site) -> None:
        self._settings = settings
        self._site = site
        self._settle_us = parse_span(settings.settle)
        self._outside = _outside(site.source, settings)
        self._times = [f.name for f in self._outside.fields if f.kind == "datetime"]
        self._half: tuple[str, Seen, Iterator[FileRow]] | None = None  # a file that is open, and how far it is read
        self._copy: tuple[str, str] = ("", "")
        self._folder = tempfile.TemporaryDirectory(prefix="mainspring-files-")

    def read(self, cursor: Any, limit: int) -> Batch:
        """Rows of the first file by name that is not done."""
        known = msgspec.convert(cursor or {}, dict[str, Seen])
        try:
            found = self._found()
            if len(known) > _MOST_KNOWN:
                known = {file.path: known[file.path] for file in found if file.path in known}
            for file in found:
                seen = known.get(file.path)
                if seen is not None and seen.is_done and (seen.size, seen.changed) == (file.size, file.changed):
                    continue
                if WallClock().now_us() - file.changed_us < self._settle_us:
                    continue
                rows, after = self._rows(file, seen, limit)
                return Batch(rows, msgspec.to_builtins(known | {file.path: after}), more=True)
        except MainspringError:
            raise
        except OSError as error:
            raise UnavailableError("MS-E432", f"files cannot be read: {error}", where=self._settings.url) from None
        return Batch((), cursor)

    def close(self) -> None:
        """Forget copies of what is elsewhere."""
        self._half = None
        self._folder.cleanup()

    def _rows(self, file: Found, seen: Seen | None, limit: int) -> tuple[list[Arrival], Seen]:
        path = self._local(file)
        is_grown = seen is not None and file.size >= seen.size and _head(path, seen.size) == seen.head
        done = seen.rows if seen is not None and is_grown else 0
        at = Seen(file.size, file.changed, _head(path, file.size), done, is_done=False)
        half, self._half = self._half, None
        try:
            if half is not None and half[:2] == (file.path, at):
                rows = half[2]
            else:
                rows = islice(self._opened(path), done, None)
            taken = [self._arrival(row, file.path) for row in islice(rows, limit)]
        except ContractError as error:  # the file as a whole: one record in quarantine says so
            where = PurePosixPath(file.path).name
            return [Arrival(None, where.encode(), where, error)], msgspec.structs.replace(at, is_done=True)
        after = msgspec.structs.replace(at, rows=done + len(taken), is_done=len(taken) < limit)
        if not after.is_done:
            self._half = (file.path, after, rows)
        return taken, after

    def _opened(self, path: Path) -> Iterator[FileRow]:
        if path.suffix.lower() in _ARROW:
            rows = arrow_file_rows(path, self._outside)
            return (FileRow(number, fields) for number, fields in enumerate(rows, start=1))
        if self._settings.pick:
            return picked_rows(path, self._outside, Pick())
        return read_rows(path, self._outside)

    def _arrival(self, row: FileRow, path: str) -> Arrival:
        name = PurePosixPath(path).name
        place = f"{name} line {row.line}"
        if row.problem is not None:
            return Arrival(None, row.raw, place, row.problem)
        fields = row.fields or {}
        times = {key: _moment(fields[key]) for key in self._times if type(fields.get(key)) is int}
        return Arrival(fields | times | {"$file": name, "$line": row.line}, row.raw, place)

    def _found(self) -> list[Found]:
        if "://" not in self._settings.url:
            pattern = str(Path(glob.escape(str(self._site.root)), self._settings.url))
            paths = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207  absolute ones too
            out = []
            for path in paths:
                if path.is_file():
                    is_ = path.stat()
                    shown = path.relative_to(self._site.root) if path.is_relative_to(self._site.root) else path
                    out.append(Found(str(shown), is_.st_size, str(is_.st_mtime_ns), is_.st_mtime_ns // 1_000))
            return out
        system, pattern = self._system()
        files = [info for info in system.glob(pattern, detail=True).values() if info.get("type") == "file"]
        return sorted((_remote(info) for info in files), key=lambda file: file.path)

    def _local(self, file: Found) -> Path:
        """The file on this machine: itself, or a copy that is kept until another one is read."""
        if "://" not in self._settings.url:
            return Path(self._site.root, file.path)
        copy = Path(self._folder.name, PurePosixPath(file.path).name)
        if self._copy != (file.path, file.changed):
            for old in Path(self._folder.name).iterdir():
                old.unlink()
            with self._system()[0].open(file.path, "rb") as theirs, copy.open("wb") as ours:
                shutil.copyfileobj(theirs, ours)
            self._copy = (file.path, file.changed)
        return copy

    def _system(self) -> tuple[Any, str]:
        try:
            import fsspec

            system, pattern = fsspec.core.url_to_fs(self._settings.url, **self._settings.storage)
        except (ImportError, ValueError) as error:
            hint = "pip install 'mainspring[files]', and the package of the file system: s3fs, gcsfs, adlfs"
            where = self._settings.url
            raise UnavailableError("MS-E432", f"files cannot be read: {error}", where=where, hint=hint) from None
        system.invalidate_cache()
        return system, str(pattern)


def _outside(source: SourceDef, settings: Settings) -> SourceDef:
    """The source as a file shows it: by the names that ``columns`` gives, without what is made of ``$`` names."""
    said = settings.columns
    names = {f.name: next((said[n] for n in (f.name, *f.aliases) if n in said), f.name) for f in source.fields}
    fields = tuple(replace(f, name=names[f.name]) for f in source.fields if not names[f.name].startswith("$"))
    return replace(source, fields=fields)


def _moment(time_us: int) -> datetime | str:
    """A time that was read from a file; one that no datetime can be is text, for the contract to refuse."""
    try:
        return to_datetime(time_us)
    except OverflowError:
        return str(time_us)


def _head(path: Path, size: int) -> str:
    """A hash of the beginning of a file that was, or is, of ``size`` bytes."""
    with path.open("rb") as file:
        return blake2b(file.read(min(size, _HEAD_BYTES)), digest_size=6).hexdigest()


def _remote(info: dict[str, Any]) -> Found:
    """What a file system tells of a file; each names the time of its last change in its own way."""
    keys = ("LastModified", "last_modified", "mtime", "updated", "created")
    moment = next((info[key] for key in keys if info.get(key) is not None), None)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if isinstance(moment, datetime):
        changed_us = from_datetime(moment)
    else:
        changed_us = int(moment * 1e6) if moment is not None else 0
    version = info.get("ETag") or info.get("etag") or info.get("md5Hash") or changed_us
    return Found(str(info["name"]), int(info.get("size") or 0), str(version), changed_us)
