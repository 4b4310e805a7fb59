"""What a query reads: tables and columns, as DuckDB plans it over empty tables of the same shape."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mainspring.events.tables import quoted

_KEPT_APART = "filter_pushdown,statistics_propagation,empty_result_pullup"
"""Passes of the optimiser after which a plan no longer says every column that is looked at."""


def reads_of(query: str, tables: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, frozenset[str]]:
    """Columns that a query looks at, by table; a table whose rows it only counts has none.

    A query that DuckDB cannot plan, and one that only explains another, read nothing.

    Args:
        query: One SELECT.
        tables: Columns of each table, with their types as DuckDB says them.
    """
    import duckdb

    with duckdb.connect(":memory:", config={"enable_external_access": False}) as connection:
        connection.execute(f"SET disabled_optimizers = '{_KEPT_APART}'")
        for name, columns in tables.items():
            made = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns)
            connection.execute(f"CREATE TABLE {quoted(name)} ({made})")
        try:
            ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {query}").fetchall()
        except duckdb.Error:
            return {}
    found: dict[str, set[str]] = {}
    for table, looked_at in _scans(json.loads(plan)):
        found.setdefault(table, set()).update(looked_at)
    return {table: frozenset(columns) for table, columns in found.items()}


def _scans(nodes: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    for node in nodes:
        said = node.get("extra_info", {})
        if "Table" in said:
            columns = said.get("Projections", [])
            listed = [columns] if isinstance(columns, str) else columns
            yield str(said["Table"]).rsplit(".", 1)[-1], [column for column in listed if column]
        yield from _scans(node.get("children", ()))
