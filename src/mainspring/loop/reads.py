"""Who reads what from outside: a read is a decision like any other, said once a day; an undeclared export is refused.

A source that says ``consumers=`` has named everybody outside of the project who depends on it. Rows that leave the
terminal (a file, CSV, JSON) are an export, and go to one of those, in the columns that it declared. A person who looks
at a screen depends on nothing, and is only told and recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mainspring.catalog import Catalog
from mainspring.core import Config, content_hash
from mainspring.core.errors import RefusedError
from mainspring.core.names import did_you_mean
from mainspring.definitions import Project, SourceDef
from mainspring.definitions.values import DAY_US
from mainspring.events.system import all_sources
from mainspring.events.tables import OTHER_NAMES, QUARANTINE, VERSIONS
from mainspring.loop.desk import open_desk

_TELLING = frozenset({"record", "reason"})
"""Columns of the quarantine that show what a sender wrote."""


@dataclass(frozen=True)
class Read:
    """Columns of a source that somebody reads.

    Attributes:
        consumer: For whom; None when nobody was named.
        way: How: ``screen``, ``csv``, ``json``, or the suffix of a file.
    """

    source: str
    columns: tuple[str, ...]
    consumer: str | None
    way: str

    @property
    def is_export(self) -> bool:
        """Whether rows leave the terminal."""
        return self.way != "screen"


def reads_by(
    tables: Mapping[str, Iterable[str]],
    project: Project,
    consumer: str | None,
    way: str,
    held: Collection[str] = (),
) -> list[Read]:
    """Reads of sources, from columns by the names that SQL has for their tables.

    Args:
        tables: Columns that are looked at, by table.
        project: Whose sources.
        consumer: For whom; None when nobody was named.
        way: How.
        held: Sources that have records in quarantine: whoever looks at these sees any column of them.
    """
    known = all_sources(project.sources)
    found: dict[str, set[str]] = {}
    for table, columns in tables.items():
        if table == QUARANTINE and table not in known:
            for name in held if _TELLING & {*columns} else ():
                found.setdefault(name, set()).update(known[name].columns if name in known else ())
            continue
        name = OTHER_NAMES.get(table, table) if table not in known else table
        name = name.removesuffix(VERSIONS) if name not in known else name
        if name in known:
            found.setdefault(name, set()).update(_columns_of(known[name], columns))
    return [Read(name, tuple(sorted(columns)), consumer, way) for name, columns in sorted(found.items())]


def _columns_of(source: SourceDef, columns: Iterable[str]) -> Iterator[str]:
    """Columns of a source that columns of its table tell of: some that every table has repeat one of its own."""
    own = {"_id": source.id, "_time": source.time, "_known_at": source.known_at}
    for column in columns:
        name = own.get(column) if column.startswith("_") else column
        if name:
            yield name


def _names_readers(read: Read, project: Project) -> bool:
    source = project.sources.get(read.source)
    return source is not None and bool(source.about.consumers)


def undeclared(read: Read, project: Project) -> str:
    """Why a read is none that the source declared, in words; empty if it is, or if the source declares nobody."""
    if not _names_readers(read, project):
        return ""
    source = project.sources[read.source]
    if read.consumer is None:
        return f"{source.name} names who reads it, and nobody is named"
    for who, columns in source.about.consumers:
        if who == read.consumer:
            mine = {source.names[column].name for column in columns}
            more = [c for c in read.columns if columns and c not in mine]
            return f"{who} declares other columns of {source.name} than {', '.join(more)}" if more else ""
    return f"{read.consumer} is no declared consumer of {source.name}"


def check_export(reads: Iterable[Read], project: Project) -> None:
    """Refuse an export to somebody who is not declared.

    Raises:
        RefusedError: MS-L112.
    """
    for read in reads:
        why = undeclared(read, project)
        if why and read.is_export:
            source = project.sources[read.source]
            what = f"rows of {source.name} may not leave for {read.consumer or 'somebody who is not named'}"
            raise RefusedError("MS-L112", what, where=str(source.place), why=why, hint=_way_out(read, source))


def record(config: Config, project: Project, reads: Iterable[Read], actor: str, now_us: int) -> None:
    """Say who reads what, each once a day: every export, and every read of a source that names its readers.

    Raises:
        MainspringError: The log or the catalog cannot be written now.
    """
    said = {_id(read, actor, now_us): read for read in reads if read.is_export or _names_readers(read, project)}
    if not said:
        return
    with Catalog.open(config.catalog_url) as catalog:
        new = {name: read for name, read in said.items() if not catalog.knows(name)}
    if not new:
        return
    with open_desk(config, project) as desk:
        for name, read in new.items():
            numbers = {"columns": list(read.columns), "consumer": read.consumer, "way": read.way}
            why = undeclared(read, project)
            desk.ledger.decide("read", name, now_us, subject=read.source, actor=actor, reason=why, numbers=numbers)


def _id(read: Read, actor: str, now_us: int) -> str:
    return f"read-{now_us // DAY_US}-{content_hash([read.source, list(read.columns), read.consumer, read.way, actor])}"


def _way_out(read: Read, source: SourceDef) -> str:
    declared = [who for who, _ in source.about.consumers]
    if read.consumer is None:
        return f"--for {declared[0]}" if len(declared) == 1 else f"--for one of {', '.join(declared)}"
    mine = next((columns for who, columns in source.about.consumers if who == read.consumer), None)
    if mine is not None:
        wider = list(dict.fromkeys((*mine, *read.columns)))
        return f'consumers={{"{read.consumer}": {wider}}} on {source.name}, then mainspring apply'
    near = did_you_mean(read.consumer, declared)
    if near.startswith("did you mean"):
        return near
    return f'consumers={{"{read.consumer}": {list(read.columns)}}} on {source.name}, then mainspring apply'
