"""``ms.Source``: a class with annotations becomes a frozen ``SourceDef`` with a contract."""

from __future__ import annotations

import sys
import types
import typing
from datetime import UTC, datetime
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean, is_name, snake_case
from mainspring.core.spans import parse_span
from mainspring.definitions.about import About
from mainspring.definitions.constraints import check_constraint
from mainspring.definitions.marks import about_of, aliases_of, check_marks, check_words, consumers_of
from mainspring.definitions.values import (
    COMPATIBLE,
    DAY_US,
    OPERATIONS,
    Compatible,
    Constraint,
    Field,
    Kind,
    Place,
    SourceDef,
)

_KINDS: dict[Any, Kind] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    datetime: "datetime",
    list[float]: "vector",
}
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def place_of_caller() -> Place:
    """File and line of the nearest frame outside this package."""
    frame = sys._getframe(1)  # noqa: SLF001  the documented way to name the user's own line in an error
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("mainspring.definitions"):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


class Source:
    """Base of a source: annotate its columns, name its id and its event time.

    >>> class Arrived(Source, id="flight_id", time="arrived_at"):
    ...     flight_id: str
    ...     arr_delay_min: float
    ...     arrived_at: datetime
    >>> Arrived.definition.name
    'arrived'
    """

    definition: typing.ClassVar[SourceDef]

    def __init_subclass__(  # noqa: PLR0913  each is a word of the class's head
        cls,
        *,
        time: str,
        id: str | None = None,
        known_at: str | None = None,
        dedup: str = "7d",
        future: str = "5m",
        corrects: str | None = None,
        name: str | None = None,
        compatible: Compatible = "backward",
        owner: str = "",
        tags: typing.Sequence[str] = (),
        consumers: typing.Sequence[str] | typing.Mapping[str, typing.Sequence[str]] = (),
        keep: str | None = None,
    ) -> None:
        """Read the annotations of a source's class.

        Raises:
            DefinitionError: A column's type, id, time, constraint or mark cannot be (MS-D110 to MS-D116).
        """
        place = place_of_caller()
        where = str(place)
        name = name or snake_case(cls.__name__)
        if not is_name(name):
            raise DefinitionError(
                "MS-D110", f"{name!r} is no name for a source", where=where, hint="use a-z, 0-9 and _"
            )
        fields = tuple(_fields(cls, where))
        columns = {f.name: f for f in fields}
        for role, column in (("id", id), ("time", time), ("known_at", known_at)):
            if column is not None and column not in columns:
                hint = did_you_mean(column, columns)
                raise DefinitionError("MS-D111", f"{name} has no column {column!r} for {role}=", where=where, hint=hint)
        for role, column in (("time", time), ("known_at", known_at)):
            if column is not None and (columns[column].kind != "datetime" or columns[column].nullable):
                raise DefinitionError(
                    "MS-D112", f"{role}={column!r} of {name} must be a datetime, never None", where=where
                )
        if id is not None and (columns[id].kind not in ("str", "int") or columns[id].nullable):
            raise DefinitionError("MS-D112", f"id={id!r} of {name} must be str or int, never None", where=where)
        if corrects is not None:
            _check_corrects(corrects, columns, id, name, where)
        check_marks(fields, {"id": id, "time": time, "known_at": known_at, "corrects": corrects}, name, where)
        if compatible not in COMPATIBLE:
            hint = did_you_mean(compatible, COMPATIBLE) or "one of " + ", ".join(COMPATIBLE)
            raise DefinitionError("MS-D116", f"compatible={compatible!r} of {name} is no mode", where=where, hint=hint)
        about = About(
            owner=owner,
            tags=check_words(tags, f"tags= of {name}", where),
            consumers=consumers_of(consumers, [n for f in fields for n in (f.name, *f.aliases)], name, where),
        )
        doc = (cls.__doc__ or "").strip()
        spans = (
            parse_span(dedup, said=f"dedup={dedup!r} of {name}", where=where),
            parse_span(future, said=f"future={future!r} of {name}", where=where),
        )
        keep_us = None if keep is None else parse_span(keep, said=f"keep={keep!r} of {name}", where=where)
        if keep_us is not None and (keep_us < DAY_US or fields[0].name == "valid_from"):
            what = "a table keeps its rows" if fields[0].name == "valid_from" else "a source keeps a day at least"
            raise DefinitionError("MS-D117", f"keep={keep!r} of {name} cannot be: {what}", where=where)
        cls.definition = SourceDef(
            *(name, fields, time, id, known_at, *spans, doc, place, corrects),
            compatible=compatible,
            about=about,
            keep_us=keep_us,
        )


def _check_corrects(
    corrects: str, columns: typing.Mapping[str, Field], id_column: str | None, name: str, where: str
) -> None:
    """Refuse a column that cannot say what an event does to the row with its id (MS-D115)."""
    field = columns.get(corrects)
    fits = field is not None and field.kind == "str" and not field.nullable
    if field is None or not fits or (field.has_default and field.default not in OPERATIONS):
        raise DefinitionError(
            "MS-D115",
            f"corrects={corrects!r} of {name} must be a str column, never None, of insert, update and delete",
            where=where,
            why="it says what an event does to the row with its id",
            hint=f'{corrects}: Annotated[str, ms.one_of("insert", "update", "delete")] = "insert"',
        )
    if id_column is None:
        why = "a correction is located by the id of the row that it corrects"
        raise DefinitionError("MS-D115", f"{name} says corrects= and has no id=", where=where, why=why)


def _fields(cls: type, where: str) -> typing.Iterator[Field]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            "MS-D113", f"{cls.__name__}: {error}", where=where, hint="import the type it names"
        ) from None
    hints = {name: hint for name, hint in hints.items() if typing.get_origin(hint) is not typing.ClassVar}
    if not hints:
        raise DefinitionError(
            "MS-D113", f"{cls.__name__} has no columns", where=where, hint="annotate them: flight_id: str"
        )
    for name, hint in hints.items():
        yield _field(cls, name, hint, where)


def _field(cls: type, name: str, hint: Any, where: str) -> Field:
    if not is_name(name) or name.startswith("_"):
        raise DefinitionError(
            "MS-D110", f"{name!r} is no name for a column", where=where, hint="a-z, 0-9 and _, no leading _"
        )
    constraints: list[Constraint] = []
    marks: list[Any] = []
    nullable = False
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            constraints += [c for c in extras if isinstance(c, Constraint)]
            marks += extras
            continue
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            parts = [p for p in typing.get_args(hint) if p is not types.NoneType]
            if len(parts) == 1:
                hint, nullable = parts[0], True
                continue
        break
    if hint not in _KINDS:
        known = "str, int, float, bool, datetime, or one of them | None; or Annotated[list[float], ms.dim(n)]"
        raise DefinitionError(
            "MS-D113",
            f"{cls.__name__}.{name} has type {hint}",
            where=where,
            why=f"a column is {known}",
            hint="make a column for each part of a list or a dict, or a str that holds the whole",
        )
    kind = _KINDS[hint]
    if kind == "vector" and sum(c.name == "dim" for c in constraints) != 1:
        why = "a vector has a dimension"
        hint_of_dim = f"{name}: Annotated[list[float], ms.dim(64)]"
        raise DefinitionError("MS-D114", f"{cls.__name__}.{name} has no dim", where=where, why=why, hint=hint_of_dim)
    for constraint in constraints:
        check_constraint(constraint, kind, f"{cls.__name__}.{name}", where)
    home = next((c for c in cls.__mro__ if name in vars(c)), None)
    has_default = home is not None
    default = vars(home)[name] if home is not None else None
    if has_default and not (default is None and nullable) and (kind == "vector" or not isinstance(default, hint)):
        raise DefinitionError("MS-D114", f"default {default!r} of {cls.__name__}.{name} is no {kind}", where=where)
    label = f"{cls.__name__}.{name}"
    about = about_of(marks, label, where)
    return Field(name, kind, nullable, tuple(constraints), default, has_default, aliases_of(marks), about)


class Table(Source, time="valid_from", name="table"):
    """Base of a static table (planes, airports): a source whose latest row for a key holds until the next one.

    A row without ``valid_from`` holds since 1970, so that every moment of history sees it; a row sent later replaces it
    from when it is known. ``ms.lookup`` makes a feature view of it.

    >>> class Plane(Table, key="tailnum"):
    ...     tailnum: str
    ...     seats: int
    >>> Plane.key, Plane.definition.time
    ('tailnum', 'valid_from')
    """

    valid_from: datetime = _BEGINNING
    key: typing.ClassVar[str] = ""

    def __init_subclass__(cls, *, key: str, name: str | None = None, **known: Any) -> None:
        """Read the annotations of a table's class.

        Args:
            key: Column whose latest row holds.
            name: Another name than the class's.
            known: As of a source: ``compatible``, ``owner``, ``tags``, ``consumers``.

        Raises:
            DefinitionError: As for a source; the key is no column (MS-D111).
        """
        super().__init_subclass__(time="valid_from", name=name, **known)
        if key not in cls.definition.columns:
            hint = did_you_mean(key, cls.definition.columns)
            where = str(cls.definition.place)
            raise DefinitionError(
                "MS-D111", f"{cls.definition.name} has no column {key!r} for key=", where=where, hint=hint
            )
        cls.key = key
