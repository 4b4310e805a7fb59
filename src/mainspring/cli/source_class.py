"""The class of a source as a file's columns suggest it."""

from __future__ import annotations

import json

from mainspring.cli.scaffold import Column, Table
from mainspring.core.names import check_name, snake_case
from mainspring.events.columns import column_names

_FEW = 12
_SEEN = 20  # times that a value is there on average before a column counts as a choice of few


def class_text(table: Table, name: str | None, time: Column | None, id: Column | None) -> tuple[str, list[str]]:
    """The text of a source's class, and the columns that no source could have.

    Texts of few values, each of them seen often, become ``ms.one_of``. A file without a time gets a column for one.
    """
    name = check_name(name or column_names([table.path.stem])[0], "source")
    cls = "".join(part.capitalize() for part in name.split("_"))
    taken = {column.name for column in table.columns}
    at = time.name if time is not None else next(n for n in ("recorded_at", "recorded_at_") if n not in taken)
    head = (f', id="{id.name}"' if id is not None else "") + f', time="{at}"'
    head += "" if snake_case(cls) == name else f', name="{name}"'
    lines = [f"    {column.name}: {_hint(column, table, id)}" for column in table.columns if column.kind]
    lines += [] if time is not None else [f"    {at}: datetime"]
    return "\n".join([f"class {cls}(ms.Source{head}):", *lines]) + "\n", [c.header for c in table.columns if not c.kind]


def _hint(column: Column, table: Table, id: Column | None) -> str:
    hint = column.kind + (" | None" if column.nullable else "")
    values = column.distinct - column.nullable
    if column.kind != "str" or column is id or not 2 <= values <= min(_FEW, table.rows // _SEEN):
        return hint
    found = table.frame[column.name].drop_nulls().cast(str).unique().sort().to_list()
    return f"Annotated[{hint}, ms.one_of({', '.join(json.dumps(value, ensure_ascii=False) for value in found)})]"
