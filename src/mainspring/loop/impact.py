"""Whom a change of a source's columns reaches: releases that may serve, and checks in SQL. A line of the plan for each.

Everything else that reads a column is in the definitions file, which does not load while it names one that is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mainspring.catalog import Catalog
from mainspring.catalog.compatibility import columns_of, successors
from mainspring.catalog.plan import Line
from mainspring.definitions import Project
from mainspring.loop.consumers import releases, without_corrections
from mainspring.loop.inventory import column_key, release_columns

GONE: dict[str, list[object]] = {"fields": []}


def on_readers(project: Project, catalog: Catalog) -> Iterator[Line]:
    """A warning for each reader of columns that an apply of ``project`` would drop or rename."""
    lost, renamed = _changed(project, catalog)
    if not lost and not renamed:
        return
    for release in releases(catalog):
        reads = release_columns(catalog.version(release.model, release.version), project, catalog)
        who = f"release {release.model}@{release.version} ({release.role}) reads"
        for source, columns in lost.items():
            if mine := [c for c in columns if column_key(source, c, project).name in reads]:
                text = f"{who} {', '.join(mine)}, gone in this contract: later events have the default or null there"
                yield Line("warn", "source", source, text)
        for source, names in renamed.items():
            mine = [f"{c} (now {now})" for c, now in names.items() if f"{source}.{now}" in reads]
            if mine:
                text = f"{who} {', '.join(mine)}: it goes on under the earlier name while ms.alias says it"
                yield Line("warn", "source", source, text)
    for check in project.checks.values():
        if check.kind == "sql":
            words = set(re.findall(r"\w+", str(check.limit("query"))))
            for source in dict.fromkeys((*lost, *renamed)):
                named = [c for c in (*lost.get(source, ()), *renamed.get(source, ())) if c in words]
                if named and (source == check.source.name or source in words):
                    text = (
                        f"check {check.name} names {', '.join(named)}, which SQL no longer knows: its query will fail"
                    )
                    yield Line("warn", "source", source, text)


def on_corrections(project: Project, catalog: Catalog) -> Iterator[Line]:
    """A warning for each release that does not know of the corrections of a source that it reads."""
    for source in project.sources.values():
        for release in without_corrections(catalog, source):
            who = f"release {release.model}@{release.version} ({release.role})"
            text = f"{who} reads views from before corrects=: each correction is a further event to it"
            yield Line("warn", "source", source.name, text)


def _changed(project: Project, catalog: Catalog) -> tuple[Mapping[str, list[str]], Mapping[str, dict[str, str]]]:
    """By source, the columns in force that the definitions file does not have, and those that it names otherwise."""
    lost: dict[str, list[str]] = {}
    renamed: dict[str, dict[str, str]] = {}
    for name, old in catalog.definitions()["sources"].items():
        defined = project.sources.get(name)
        followed = successors(old, GONE if defined is None else defined.describe())
        if gone := [column for column in columns_of(old) if column not in followed]:
            lost[name] = gone
        if other := {column: str(now["name"]) for column, now in followed.items() if now["name"] != column}:
            renamed[name] = other
    return lost, renamed
