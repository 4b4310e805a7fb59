"""A source's contract, checked row by row at the door: type, null, set, range, pattern, length, dimension.

A checked row is a tuple of plain values in the order of the source's columns: str, int, float, bool or None, int64
microseconds since 1970 UTC for a datetime, and a list of floats for a vector. That tuple is what the log stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from mainspring.core.errors import ContractError
from mainspring.core.times import to_iso
from mainspring.definitions.values import SourceDef
from mainspring.events.bounds import NO_TEXT, OutOfBoundsError, check_of, is_utf8
from mainspring.events.columnar import Column, Columnar
from mainspring.events.plan import Plan
from mainspring.events.structs import JSON_TYPES, OWN_TYPES, needed, struct_of

if TYPE_CHECKING:
    from mainspring.events.columnar import Floats

Row = tuple[Any, ...]
_astuple = msgspec.structs.astuple
_MOST_SAID = 200


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
        self._time, self._time_name = names.index(source.time), source.time
        tight = struct_of(source, JSON_TYPES, is_tight=True)
        self._tight_json = msgspec.json.Decoder(tight)
        self._tight_list: msgspec.json.Decoder[list[msgspec.Struct]] = msgspec.json.Decoder(list[tight])  # type: ignore[valid-type]
        self._tight_own = struct_of(source, OWN_TYPES, is_tight=True)
        self._plan_json, self._plan_own = Plan(source, is_json=True), Plan(source, is_json=False)
        self._decoder = msgspec.json.Decoder(struct_of(source, JSON_TYPES))
        self._own = struct_of(source, OWN_TYPES)
        self._names = _names(source)
        self._is_quick = self._names is None and self._plan_json.is_idle
        self._corrects = names.index(source.corrects) if source.corrects is not None else None
        if source.corrects is not None:
            self._deletes = msgspec.json.Decoder(struct_of(source, JSON_TYPES, is_delete=True))
            self._own_deletes = struct_of(source, OWN_TYPES, is_delete=True)
            default = source.columns[source.corrects].default
            self._word = msgspec.defstruct(
                "word", [("word", Any, msgspec.field(name=source.corrects, default=default))]
            )
        self._columnar = Columnar(source)
        checks = ((i, check_of(f, source), f.name) for i, f in enumerate(source.fields))
        self._checks = tuple((i, check, name) for i, check, name in checks if check is not None)

    @cached_property
    def head(self) -> tuple[Callable[[bytes], Any], Callable[[Any], tuple[int, Any]]]:
        """What reads a stored row's time and id, no more of it than lies before them; without an id the time twice."""
        places = self.source.places
        time, ident = places[self.source.time], places[self.source.id or self.source.time]
        fields = [(f"f{i}", int if i == time else Any) for i in range(max(time, ident) + 1)]
        head = msgspec.defstruct("head", fields, array_like=True, gc=False)
        return msgspec.msgpack.Decoder(head).decode, attrgetter(f"f{time}", f"f{ident}")

    def check_json(self, raw: bytes | memoryview, now_us: int | None = None) -> Row:
        """The row that one JSON object holds.

        Args:
            raw: The object.
            now_us: The time of a row that leaves it out, where the column is nullable.

        Raises:
            ContractError: No JSON (MS-E101); a field is missing, unknown or of another type (MS-E102); a value breaks a
                constraint (MS-E103) or lies out of bounds (MS-E104); the event's time lies before 1970 (MS-E107).
        """
        try:
            record = self._tight_json.decode(raw)
            if now_us is not None and self._is_quick and getattr(record, self._time_name) is None:
                setattr(record, self._time_name, now_us)
                return _astuple(record)
            row = _astuple(record)
            values = list(row) if self._names is None else self._as_named(row)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            row = self._judged_json(raw)
        else:
            row = tuple(values) if self._plan_json.finish(values) else self._finish(row)
        if now_us is not None and row[self._time] is None:
            row = (*row[: self._time], now_us, *row[self._time + 1 :])
        return row

    def check_json_list(self, raw: bytes) -> list[Column] | None:
        """The columns of a JSON list of rows, in one pass, in the order of the source's.

        Returns:
            None where a row may be wrong: ``check_json`` knows what to say of it.
        """
        try:
            return self._columns(self._tight_list.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def check_json_each(self, raws: Sequence[bytes]) -> list[Column] | None:
        """As ``check_json_list``, of rows that are a JSON object each."""
        try:
            return self._columns(map(self._tight_json.decode, raws))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _columns(self, records: Iterable[msgspec.Struct]) -> list[Column] | None:
        rows: Iterable[Iterable[Any]] = map(_astuple, records)
        if self._names is not None:
            rows = list(map(self._as_named, rows))  # type: ignore[arg-type]
        columns: list[Column] = list(zip(*rows, strict=True)) or [()] * len(self.source.fields)
        return columns if self._plan_json.finish_columns(columns) else None

    def _judged_json(self, raw: bytes | memoryview) -> Row:
        """As ``check_json``, slowly: what is wrong, in the contract's words."""
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
            row = msgspec.structs.astuple(msgspec.convert(obj, self._tight_own))
            values = list(row) if self._names is None else self._as_named(row)
        except (msgspec.ValidationError, UnicodeEncodeError, RecursionError):
            return self._judged(obj)
        return tuple(values) if self._plan_own.finish(values) else self._finish(row)

    def _judged(self, obj: Any) -> Row:
        """As ``check``, slowly: what is wrong, in the contract's words."""
        try:
            return self._finish(msgspec.structs.astuple(msgspec.convert(obj, self._own)))
        except msgspec.ValidationError as error:
            return self._delete(
                lambda: msgspec.convert(obj, self._own_deletes), lambda: msgspec.convert(obj, self._word), error
            )
        except UnicodeEncodeError:  # of a text where none belongs, or of a name
            where = f"$.{_unstorable(obj)}".removesuffix(".")
            raise ContractError("MS-E104", NO_TEXT, where=where) from None
        except RecursionError:
            raise ContractError("MS-E101", "the record is nested too deeply", where="$") from None

    def check_columns(self, columns: Mapping[str, list[Any]], n: int) -> list[Row | ContractError]:
        """What ``check`` says of each of ``n`` rows that come as columns: a row, or the error that it would raise.

        Args:
            columns: Values by name of field, ``n`` each; a datetime as in ``check``.
            n: How many rows.
        """
        right = self.columns_of(columns, n)
        if right is not None:
            return list(zip(*right, strict=True))
        names = tuple(columns)
        given = zip(*columns.values(), strict=True) if columns else ((),) * n
        return [self._row_or_error(dict(zip(names, values, strict=True))) for values in given]

    def columns_of(self, columns: Mapping[str, Column | Floats], n: int) -> list[Column | Floats] | None:
        """As ``check_columns``, the rows' columns in the order of the source's; None where a row may be wrong.

        A column of floats may come as float64[n]; it is one then too, and NaN is null.
        """
        return self._columnar.checked(columns, n)

    def _row_or_error(self, obj: dict[str, Any]) -> Row | ContractError:
        try:
            return self.check(obj)
        except ContractError as error:
            return error

    def time_of(self, row: Row) -> int:
        """Event time in microseconds."""
        time_us: int = row[self._time]
        return time_us

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
            except (msgspec.DecodeError, UnicodeError, RecursionError):  # beyond where the row was seen broken
                raise _broken(str(error)) from None
        raise _broken(str(error)) from None

    def _finish(self, row: Row, *, is_delete: bool = False) -> Row:
        values = list(row) if self._names is None else self._as_named(row, is_delete=is_delete)
        for i, check, name in self._checks:
            value = values[i]
            if value is not None:
                try:
                    values[i] = check(value)
                except OutOfBoundsError as error:
                    where = f"$.{self._sent_as(row, i, name)}{error.within}"
                    raise ContractError(error.code, str(error), where=where) from None
        time_us = values[self._time]  # None in a request that leaves its moment to the gateway's clock
        if time_us is not None and time_us < 0:
            why = "an unset clock writes 1970 and times before it; other columns may hold earlier dates"
            what = f"Expected an event time from 1970 on, got {to_iso(time_us)}"
            raise ContractError("MS-E107", what, where=f"$.{self.source.time}", why=why)
        return tuple(values)

    def _as_named(self, row: Row, *, is_delete: bool = False) -> list[Any]:
        """One value a column of what came under any of its names.

        Raises:
            ValidationError: A column came under two names, or under none and has to be there.
        """
        if self._names is None:
            return list(row)
        values: list[Any] = []
        for field, places in zip(self.source.fields, self._names, strict=True):
            if len(places) == 1:
                values.append(row[places[field.name]])
                continue
            given = {name: row[place] for name, place in places.items() if row[place] is not msgspec.UNSET}
            if len(given) > 1:
                what = f"Object contains field `{field.name}` under {len(given)} names: {', '.join(given)}"
                raise msgspec.ValidationError(what)
            may_lack = field.has_default or field.nullable or (is_delete and field.name not in needed(self.source))
            if not given and not may_lack:
                raise msgspec.ValidationError(f"Object missing required field `{field.name}`")
            values.append(next(iter(given.values()), None if is_delete else field.default))
        return values

    def _sent_as(self, row: Row, place: int, name: str) -> str:
        """The name under which a column came."""
        places = {name: 0} if self._names is None else self._names[place]
        return next((said for said, at in places.items() if row[at] is not msgspec.UNSET), name)


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


def _unstorable(obj: Any) -> str:
    """The field whose text is no UTF-8; empty if it is a name, or lies deeper."""
    pairs = obj.items() if isinstance(obj, Mapping) else ()
    return next((str(n) for n, text in pairs if isinstance(text, str) and not is_utf8(text) and is_utf8(str(n))), "")


def _is_delete(word: Callable[[], msgspec.Struct]) -> bool:
    try:
        return msgspec.structs.astuple(word()) == ("delete",)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


def _broken(text: str) -> ContractError:
    what, _, path = text.partition(" - at ")
    shown = (
        what if len(what) <= _MOST_SAID else f"{what[:_MOST_SAID]}…"
    )  # a client's name of a field is as long as it likes
    return ContractError("MS-E102", shown, where=path.strip("`") or "$")
