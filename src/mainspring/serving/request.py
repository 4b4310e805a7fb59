"""A request as checked rows: one JSON object or a list of them in which a bad one spoils nothing, or columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np

from mainspring.core.clock import Clock
from mainspring.core.errors import ContractError, MainspringError, TooLargeError
from mainspring.core.times import to_iso
from mainspring.definitions import SourceDef
from mainspring.events.contract import Contract
from mainspring.serving.table import Column, Floats, Row, Table

AHEAD_US = 5_000_000
"""How far a request's time may lie from the clock."""
TEST_BEHIND_US = 3_600_000_000
"""How far behind a clock that a driver moves: it moves in ticks."""

MAX_ROW_BYTES = 1_048_576
"""Of one row: a prediction with more of it would be larger than the intake takes, answered and not logged."""

_FIRST = (0,)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class MalformedError(ContractError):
    """A body that is no JSON, or a moment that is not now."""

    http_status = 400


class Rows(msgspec.Struct, frozen=True, gc=False):
    """The rows of one request.

    Attributes:
        rows: The good ones, with their time filled in.
        times_us: Moment of each.
        places: Where each stands in the request.
        answers: JSON of every row's answer: of a bad one its error, of a good one nothing yet.
        errors: Of the bad rows, in order.
        is_list: Whether the request was a list.
    """

    rows: Sequence[Row]
    times_us: list[int]
    places: Sequence[int]
    answers: list[bytes]
    errors: list[MainspringError]
    is_list: bool


class RequestReader:
    """Reads the requests of one model.

    The request's time may be left out: it is the clock's then.
    """

    def __init__(self, source: SourceDef, clock: Clock, max_rows: int) -> None:
        fields = tuple(
            dataclasses.replace(f, nullable=True, has_default=False) if f.name == source.time else f
            for f in source.fields
        )
        self.contract = Contract(dataclasses.replace(source, fields=fields))
        self._time = [f.name for f in fields].index(source.time)
        self._time_name = source.time
        self._floats = source.float_places
        self._clock = clock
        self._max_rows = max_rows

    def read(self, body: bytes) -> Rows:
        """The rows of a body.

        Raises:
            ContractError: It is no JSON (MS-S101), or a single row breaks its contract.
            TooLargeError: More rows than a request may have (MS-S102), or a single row is too large (MS-S126).
        """
        now_us = self._clock.now_us()
        if not body.lstrip(b" \t\r\n").startswith(b"["):
            row, time_us = self._row(body, now_us)
            return Rows([row], [time_us], _FIRST, [b""], [], False)
        whole = self._whole(body, now_us)
        if whole is not None:
            return whole
        try:
            parts = _LIST.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError("MS-S101", f"the body is no JSON: {error}") from None
        if len(parts) > self._max_rows:
            raise self._too_many(len(parts))
        rows: list[Row] = []
        times_us: list[int] = []
        places: list[int] = []
        answers, errors = [b""] * len(parts), []
        for place, part in enumerate(parts):
            try:
                row, time_us = self._row(memoryview(part), now_us)
            except MainspringError as error:
                errors.append(error)
                answers[place] = error_json(error)
            else:
                rows.append(row)
                times_us.append(time_us)
                places.append(place)
        return Rows(rows, times_us, places, answers, errors, is_list=True)

    def read_each(self, bodies: Sequence[bytes]) -> tuple[Table, list[int]] | None:
        """The rows of bodies of one row each, and the moment of each; None where one may be wrong."""
        columns = self.contract.check_json_each(bodies)
        return None if columns is None else self._at_moments(columns, self._clock.now_us())

    def _whole(self, body: bytes, now_us: int) -> Rows | None:
        """The rows of a list in which each is right; None where one may not be, or there are too many."""
        columns = None if _has_too_large(body) else self.contract.check_json_list(body)
        found = None if columns is None else self._at_moments(columns, now_us)
        if found is None or len(found[1]) > self._max_rows:
            return None
        return Rows(*found, range(len(found[1])), [b""] * len(found[1]), [], is_list=True)

    def check(self, columns: Mapping[str, Column | Floats], rows: int) -> tuple[Sequence[Row], list[int]]:
        """The rows of a request that came as columns, and the moment of each.

        Columns that are not there are null or their default, as in JSON. A datetime is microseconds or ISO 8601 text.
        One of floats may be an array, in which NaN is what it is as a value: null where that may be.

        Args:
            columns: Values by name of field, ``rows`` each.
            rows: How many.

        Raises:
            ContractError: A row breaks its contract; the first one is named.
            TooLargeError: More rows than a request may have (MS-S102), or one is too large (MS-S126).
        """
        if rows > self._max_rows:
            raise self._too_many(rows)
        _check_sizes(columns.values())
        now_us = self._clock.now_us()
        right = self.contract.columns_of(columns, rows)
        whole = None if right is None else self._at_moments(right, now_us)
        if whole is not None:
            return whole
        every = {name: v.tolist() if isinstance(v, np.ndarray) else list(v) for name, v in columns.items()}
        found: list[Row] = []
        times_us: list[int] = []
        for number, checked in enumerate(self.contract.check_columns(every, rows)):
            try:
                if isinstance(checked, ContractError):
                    raise checked
                row, time_us = self._at_moment(checked, now_us)
            except ContractError as error:
                where = error.where if rows == 1 else f"row {number}, {error.where}"
                raise type(error)(error.code, error.what, where=where, why=error.why, hint=error.hint) from None
            found.append(row)
            times_us.append(time_us)
        return found, times_us

    def _too_many(self, rows: int) -> TooLargeError:
        return TooLargeError("MS-S102", f"{rows} rows; a request has at most {self._max_rows}")

    def _row(self, raw: bytes | memoryview, now_us: int) -> tuple[Row, int]:
        if len(raw) > MAX_ROW_BYTES:
            raise _too_large(len(raw))
        try:
            row = self.contract.check_json(raw, now_us)
        except ContractError as error:
            if error.code == "MS-E101":
                raise MalformedError("MS-S101", error.what, where=error.where) from None
            raise
        return (row, now_us) if row[self._time] == now_us else self._at_moment(row, now_us)

    def _at_moments(self, columns: Sequence[Column | Floats], now_us: int) -> tuple[Table, list[int]] | None:
        """As ``_at_moment`` of every row, by column; None where the time of one may be wrong."""
        times_us: list[int] = [now_us if time_us is None else time_us for time_us in columns[self._time]]
        if times_us and not (self._is_now(min(times_us), now_us) and self._is_now(max(times_us), now_us)):
            return None
        filled = [*columns[: self._time], times_us, *columns[self._time + 1 :]]
        return Table.split(filled, self._floats), times_us

    def _is_now(self, time_us: int, now_us: int) -> bool:
        """Whether a request may say that it is of this time."""
        behind_us = now_us - time_us
        return 0 <= behind_us <= TEST_BEHIND_US if self._clock.is_test else -AHEAD_US <= behind_us <= AHEAD_US

    def _at_moment(self, row: Row, now_us: int) -> tuple[Row, int]:
        """The row with its time filled in, and that time."""
        time_us = row[self._time]
        if time_us is None:
            return (*row[: self._time], now_us, *row[self._time + 1 :]), now_us
        if not self._is_now(time_us, now_us):
            raise MalformedError(
                "MS-S103",
                f"the request's time is not now, which is {to_iso(now_us)}",
                where=f"$.{self._time_name}",
                why="a prediction is made for the present moment",
                hint=f"leave {self._time_name} out, or POST /events to record the past",
            )
        return row, time_us


def _has_too_large(body: bytes) -> bool:
    """Whether a row of a list may be larger than one may be; of a body that is no list it is left open."""
    if len(body) <= MAX_ROW_BYTES:
        return False
    try:
        return max(map(len, _LIST.decode(body)), default=0) > MAX_ROW_BYTES
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True


def _check_sizes(columns: Collection[Column | Floats]) -> None:
    """Refuse rows with more text than one may have."""
    lists = [one for one in columns if not isinstance(one, np.ndarray)]
    if sum(map(_text_size, lists)) <= MAX_ROW_BYTES:
        return
    sizes = [[len(value) if isinstance(value, str) else 0 for value in one] for one in lists]
    most = max(map(sum, zip(*sizes, strict=True)), default=0)
    if most > MAX_ROW_BYTES:
        raise _too_large(most)


def _text_size(column: Column) -> int:
    """Characters of all texts of a column."""
    try:
        return len("".join(column))  # a call for all of them, as most times
    except TypeError:
        return sum(len(value) for value in column if isinstance(value, str))


def _too_large(found: int) -> TooLargeError:
    return TooLargeError("MS-S126", f"a row of {found:,} bytes; one has at most {MAX_ROW_BYTES:,}")


def error_json(error: MainspringError) -> bytes:
    """A bad row's answer."""
    return msgspec.json.encode({"error": error.what, "code": error.code, "where": error.where})
