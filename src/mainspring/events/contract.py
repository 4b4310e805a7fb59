"""A source's contract, checked row by row at the door: type, null, set, range, pattern, length, dimension.

A checked row is a tuple of plain values in the order of the source's columns: str, int, float, bool or None, int64
microseconds since 1970 UTC for a datetime, and a list of floats for a vector. That tuple is what the log stores.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from mainspring.core.errors import ContractError
from mainspring.core.times import from_datetime, to_iso
from mainspring.definitions.values import OPERATIONS, Constraint, Field, SourceDef

Row = tuple[Any, ...]
Check = Callable[[Any], Any]

MIN_TIME_US = -62_135_596_800_000_000  # 0001-01-01, and 9999-12-31 below: what a datetime can show
MAX_TIME_US = 253_402_300_799_999_999
_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_JSON_TYPES: dict[str, Any] = {
    "str": str,
    "int": _INT64,
    "float": float,
    "bool": bool,
    "datetime": datetime,
    "vector": list[float],
}
_OWN_TYPES: dict[str, Any] = {**_JSON_TYPES, "datetime": datetime | int}


class Contract:
    """The checks of one source, compiled once.

    A column that is absent takes its default; without one it is null if the column is nullable, and refused if not.
    Unknown fields are refused. A column may come under an earlier name (``ms.alias``), but under one name only. NaN is
    null in a nullable column and refused in another; infinities and integers beyond int64 are refused everywhere. A
    datetime without an offset is read as UTC. A vector has as many numbers as its ``dim`` says, all finite; it is null
    as a whole or not at all. What a correction does is ``insert``, ``update`` or ``delete``; a delete needs no more
    than its id, that word, its time and when it was known.
    """

    def __init__(self, source: SourceDef) -> None:
        self.source = source
        names = [f.name for f in source.fields]
        self._time = names.index(source.time)
        self._id = names.index(source.id) if source.id is not None else None
        self._known_at = names.index(source.known_at) if source.known_at is not None else self._time
        self._decoder = msgspec.json.Decoder(_struct(source, _JSON_TYPES))
        self._own = _struct(source, _OWN_TYPES)
        self._names = _names(source)
        self._corrects = names.index(source.corrects) if source.corrects is not None else None
        if source.corrects is not None:
            self._deletes = msgspec.json.Decoder(_struct(source, _JSON_TYPES, is_delete=True))
            self._own_deletes = _struct(source, _OWN_TYPES, is_delete=True)
            default = source.columns[source.corrects].default
            self._word = msgspec.defstruct(
                "word", [("word", Any, msgspec.field(name=source.corrects, default=default))]
            )
        checks = ((i, _check_of(f, source), f.name) for i, f in enumerate(source.fields))
        self._checks = tuple((i, check, name) for i, check, name in checks if check is not None)

    def check_json(self, raw: bytes | memoryview) -> Row:
        """The row that one JSON object holds.

        Raises:
            ContractError: No JSON (MS-E101); a field is missing, unknown or of another type (MS-E102); a value breaks a
                constraint (MS-E103) or lies out of bounds (MS-E104); the event's time lies before 1970 (MS-E107).
        """
        try:
            return self._finish(msgspec.structs.astuple(self._decoder.decode(raw)))
        except msgspec.ValidationError as error:
            return self._delete(
                lambda: self._deletes.decode(raw), lambda: msgspec.json.decode(raw, type=self._word), error
            )
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ContractError("MS-E101", f"the record is no JSON: {error}", where="$") from None
        except RecursionError:
            raise ContractError("MS-E101", "the record is nested too deeply", where="$") from None

    def check(self, obj: Any) -> Row:
        """The row that a mapping of field names to values holds.

        A datetime is a ``datetime``, an ISO 8601 text, or int64 microseconds since 1970 UTC.

        Raises:
            ContractError: As ``check_json``.
        """
        try:
            return self._finish(msgspec.structs.astuple(msgspec.convert(obj, self._own)))
        except msgspec.ValidationError as error:
            return self._delete(
                lambda: msgspec.convert(obj, self._own_deletes), lambda: msgspec.convert(obj, self._word), error
            )
        except RecursionError:
            raise ContractError("MS-E101", "the record is nested too deeply", where="$") from None

    def id_of(self, row: Row) -> str | None:
        """The event's id as text, or None when the source has no id."""
        return None if self._id is None else str(row[self._id])

    def time_of(self, row: Row) -> int:
        """Event time in microseconds."""
        time_us: int = row[self._time]
        return time_us

    def known_at_of(self, row: Row) -> int:
        """When the system could first have known a historical event, in microseconds."""
        known_at_us: int = row[self._known_at]
        return known_at_us

    def to_dict(self, row: Row) -> dict[str, Any]:
        """The row by field names; datetimes stay microseconds."""
        return {f.name: value for f, value in zip(self.source.fields, row, strict=True)}

    def _delete(
        self, read: Callable[[], msgspec.Struct], word: Callable[[], msgspec.Struct], error: msgspec.ValidationError
    ) -> Row:
        """The row of a delete that leaves out what is not needed to find its row; ``error`` for everything else.

        Args:
            read: Reads the record as a delete.
            word: Reads the one word that says what it is, whatever else is wrong with it.
            error: What is wrong with it as a whole row.
        """
        if self._corrects is not None:
            try:
                row = msgspec.structs.astuple(read())
                if self._as_named(row, is_delete=True)[self._corrects] == "delete":
                    return self._finish(row, is_delete=True)
            except msgspec.ValidationError as of_delete:
                raise _broken(str(of_delete if _is_delete(word) else error)) from None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # beyond where the row was seen broken
                raise _broken(str(error)) from None
        raise _broken(str(error)) from None

    def _finish(self, row: Row, *, is_delete: bool = False) -> Row:
        values = list(row) if self._names is None else self._as_named(row, is_delete=is_delete)
        for i, check, name in self._checks:
            value = values[i]
            if value is not None:
                try:
                    values[i] = check(value)
                except _OutOfBoundsError as error:
                    where = f"$.{self._sent_as(row, i, name)}{error.within}"
                    raise ContractError(error.code, str(error), where=where) from None
        time_us = values[self._time]  # None in a request that leaves its moment to the gateway's clock
        if time_us is not None and time_us < 0:
            why = "an unset clock writes 1970 and times before it; other columns may hold earlier dates"
            what = f"Expected an event time from 1970 on, got {to_iso(time_us)}"
            raise ContractError("MS-E107", what, where=f"$.{self.source.time}", why=why)
        return tuple(values)

    def _as_named(self, row: Row, *, is_delete: bool) -> list[Any]:
        """One value a column of what came under any of its names.

        Raises:
            ValidationError: A column came under two names, or under none and has to be there.
        """
        if self._names is None:
            return list(row)
        values = []
        for field, places in zip(self.source.fields, self._names, strict=True):
            given = {name: row[place] for name, place in places.items() if row[place] is not msgspec.UNSET}
            if len(given) > 1:
                what = f"Object contains field `{field.name}` under {len(given)} names: {', '.join(given)}"
                raise msgspec.ValidationError(what)
            may_lack = field.has_default or field.nullable or (is_delete and field.name not in _needed(self.source))
            if not given and not may_lack:
                raise msgspec.ValidationError(f"Object missing required field `{field.name}`")
            values.append(next(iter(given.values()), None if is_delete else field.default))
        return values

    def _sent_as(self, row: Row, place: int, name: str) -> str:
        """The name under which a column came."""
        places = {name: 0} if self._names is None else self._names[place]
        return next((said for said, at in places.items() if row[at] is not msgspec.UNSET), name)


class _OutOfBoundsError(Exception):
    """A value of the right type that its column does not take; ``within`` is the path to a part of it."""

    def __init__(self, code: str, what: str, within: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.within = within


def _needed(source: SourceDef) -> set[str | None]:
    """Columns without which a delete does not find its row."""
    return {source.id, source.corrects, source.time, source.known_at}


def _names(source: SourceDef) -> tuple[dict[str, int], ...] | None:
    """For each column where a decoded row has it, by name; None where every column has one name."""
    if len(source.names) == len(source.fields):
        return None
    out, place = [], 0
    for f in source.fields:
        names = (f.name, *f.aliases)
        out.append({name: place + i for i, name in enumerate(names)})
        place += len(names)
    return tuple(out)


def _struct(source: SourceDef, types: dict[str, Any], *, is_delete: bool = False) -> type[msgspec.Struct]:
    """What a row is decoded into, each name a field; a delete may leave out whatever does not find its row."""
    needed = _needed(source)
    fields: list[Any] = []
    for f in source.fields:
        hint = types[f.kind] | None if f.nullable else types[f.kind]
        if f.aliases:
            if is_delete and f.name not in needed:
                hint = hint | None
            fields += [(name, hint | msgspec.UnsetType, msgspec.UNSET) for name in (f.name, *f.aliases)]
        elif is_delete and f.name not in needed:
            fields.append((f.name, types[f.kind] | None, None))
        elif f.has_default:
            fields.append((f.name, hint, f.default))
        elif f.nullable:
            fields.append((f.name, hint, None))
        else:
            fields.append((f.name, hint))
    return msgspec.defstruct(source.name, fields, kw_only=True, forbid_unknown_fields=True, gc=False)


def _is_delete(word: Callable[[], msgspec.Struct]) -> bool:
    try:
        return msgspec.structs.astuple(word()) == ("delete",)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _broken(text: str) -> ContractError:
    what, _, path = text.partition(" - at ")
    return ContractError("MS-E102", what, where=path.strip("`") or "$")


def _check_of(field: Field, source: SourceDef) -> Check | None:
    """One function for all the checks of a column that its type does not make; None when there are none."""
    checks: list[Check] = []
    if field.kind == "datetime":
        checks.append(_instant)
    if field.kind == "float":
        checks.append(_finite_or_null if field.nullable else _finite)
    if field.kind == "str":
        checks.append(_text)
    if field.kind == "vector":
        checks.append(_vector(field.dim))
    checks += [_constraint(c, field.kind) for c in field.constraints if c.name != "dim"]
    if field.name == source.corrects:
        checks.append(_constraint(Constraint("one_of", OPERATIONS), field.kind))
    if not checks:
        return None
    if len(checks) == 1:
        return checks[0]

    def run(value: Any) -> Any:
        for check in checks:
            value = check(value)
            if value is None:
                return None
        return value

    return run


def _instant(value: datetime | int) -> int:
    time_us = value if isinstance(value, int) else from_datetime(value)
    if MIN_TIME_US <= time_us <= MAX_TIME_US:
        return time_us
    raise _OutOfBoundsError("MS-E104", "Expected a time in the years 1 to 9999")


def _finite(value: float) -> float:
    if value - value == 0.0:
        return value
    raise _OutOfBoundsError("MS-E104", f"Expected a finite `float`, got `{value}`")


def _finite_or_null(value: float) -> float | None:
    if value - value == 0.0:
        return value
    if value != value:
        return None
    raise _OutOfBoundsError("MS-E104", f"Expected a finite `float`, got `{value}`")


def _vector(dim: int) -> Check:
    def check(value: list[float]) -> list[float]:
        if len(value) != dim:
            raise _OutOfBoundsError("MS-E103", f"Expected a vector of {dim} numbers, got {len(value)}")
        for place, x in enumerate(value):
            if x - x != 0.0:
                raise _OutOfBoundsError("MS-E104", f"Expected a finite `float`, got `{x}`", f"[{place}]")
        return value

    return check


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _OutOfBoundsError("MS-E104", "Expected text, got bytes that are no UTF-8") from None
    return value


def _constraint(constraint: Constraint, kind: str) -> Check:
    args = constraint.args
    test: Callable[[Any], bool]
    if constraint.name == "one_of":
        known = frozenset(args)
        shown = ", ".join(repr(a) for a in args[:12]) + (" …" if len(args) > 12 else "")
        test, said = (lambda value: value in known), f"one of {shown}"
    elif constraint.name == "between":
        low, high = args
        test, said = (lambda value: low <= value <= high), f"`{kind}` between {low} and {high}"
    elif constraint.name == "pattern":
        matches = re.compile(args[0]).fullmatch
        test, said = (lambda value: matches(value) is not None), f"`str` matching {args[0]!r}"
    else:
        low, high = args
        test, said = (lambda value: low <= len(value) <= high), f"`str` of {low} to {high} characters"

    def check(value: Any) -> Any:
        if test(value):
            return value
        got = repr(value)
        raise _OutOfBoundsError("MS-E103", f"Expected {said}, got {got if len(got) <= 80 else got[:77] + '...'}")

    return check
