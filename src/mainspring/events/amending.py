"""Corrections of accepted events that are wrong: what a person's amendment makes of the events of a window.

It changes what it is asked to and nothing else: a row keeps what earlier amendments made of its other columns, and one
that was withdrawn stays so. What it computes is computed from the events as they came in the window, never from what an
earlier amendment made of them: the same one again changes nothing, and another one of the same columns takes its place.
A row that its sender has corrected meanwhile is left alone. What comes out are events like any others, updates and
deletes by id (``corrects=``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.errors import ConfigError, ContractError, RefusedError
from mainspring.core.names import did_you_mean
from mainspring.core.times import from_datetime, to_iso
from mainspring.definitions.values import SourceDef
from mainspring.events.contract import Contract
from mainspring.events.formulas import condition, fields_of, formula

Fields = dict[str, Any]
Ranges = Sequence[tuple[int, int]]
"""Offsets as stretches without gaps, both ends included, in ascending order."""
Operation = Literal["changed", "withdrawn", "restored"]
_DELETED = ("delete",)
_SENT, _AMENDED, _WITHDRAWN = range(3)  # who says a version: its sender, an amendment, one that took the row back


class Amendment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to become of events, as people write it.

    Attributes:
        compute: Formulas for columns, over the fields of the event as it came.
        set: Values for columns, whatever they were.
        where: A condition over the same fields: only events of which it is true; all when empty.
        withdraw: Take the events back instead: what their rows said before holds again, or nothing.
        restore: Take back what earlier amendments made of the events instead: what came holds again.
    """

    compute: dict[str, str] = {}
    set: dict[str, str | int | float | bool | None] = {}
    where: str = ""
    withdraw: bool = False
    restore: bool = False

    @property
    def operation(self) -> Operation:
        """What it does to a row."""
        return "withdrawn" if self.withdraw else "restored" if self.restore else "changed"

    @property
    def is_undoing(self) -> bool:
        """Whether it leaves nothing of what other amendments made."""
        return self.restore and not self.where


@dataclass(frozen=True)
class Change:
    """An event to be sent.

    Attributes:
        ident: Of the row.
        event: What is sent: a full row, or what finds it for a delete.
        operation: What becomes of the row.
        held: Whether there is a row now.
        holds: Whether there is one afterwards.
        columns: What becomes otherwise, as it is now and as it is sent; nothing of a row that comes or goes.
    """

    ident: str
    event: Fields
    operation: Operation
    held: bool
    holds: bool
    columns: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Planned:
    """What an amendment comes to now.

    Attributes:
        changes: In the order in which the events came.
        done: Offsets of the events that say already what it asks for.
        unchanged: Rows of the window that it leaves as they are.
        withdrawn: Rows that it would change, but that an earlier amendment took back: they stay so.
        later: Rows that somebody else has corrected since, which are left alone.
    """

    changes: tuple[Change, ...]
    done: tuple[int, ...]
    unchanged: int
    withdrawn: int
    later: int


def check_amendment(amendment: Amendment, source: SourceDef) -> None:
    """Refuse what cannot be done to the events of a source.

    Raises:
        RefusedError: The source has no corrections (MS-E141).
        ConfigError: It asks for nothing, or for two things (MS-E140), names a column that the source does not have
            (MS-E131) or that may not change (MS-E142), one of its formulas is none (MS-E137), or says nothing that is
            true or false where a condition is asked for (MS-E138).
    """
    if source.corrects is None:
        raise _not_corrected(source)
    columns = [*amendment.compute, *amendment.set]
    texts = [*amendment.compute.values(), *([amendment.where] if amendment.where else [])]
    asked = amendment.withdraw + amendment.restore + bool(columns)
    if asked != 1:
        what = "asks for more than one thing at once" if asked else "asks for nothing"
        hint = "one of the three: columns that are computed or set, a withdrawal, or what came restored"
        raise ConfigError("MS-E140", f"the mend {what}", hint=hint)
    for column in columns:
        _require(column, source)
        if column in (source.id, source.corrects, source.known_at):
            why = "it says which row is corrected, by what, or when that became known"
            raise ConfigError("MS-E142", f"column {column} of {source.name} cannot be mended", why=why)
    for text in texts:
        formula(text)
        for column in fields_of(text):
            _require(column, source, text)
    if amendment.where:
        condition(amendment.where, [f.name for f in source.fields if f.kind == "bool"])


def _require(column: str, source: SourceDef, where: str = "") -> None:
    if column not in source.columns:
        hint = did_you_mean(column, source.columns)
        raise ConfigError("MS-E131", f"{source.name} has no column {column!r}", where=where, hint=hint)


def planned(
    frame: pl.DataFrame,
    contract: Contract,
    window: tuple[int, int],
    amendment: Amendment,
    earlier: Sequence[tuple[Amendment, Ranges]],
    now_us: int,
) -> Planned:
    """What is to be sent so that the rows of a window are as an amendment says.

    Args:
        frame: All events of a source with corrections: its columns, ``_id``, ``_known_at`` and ``_offset``.
        contract: Of the source.
        window: What its sender made known in ``[since, until)``, in microseconds, is amended.
        amendment: Checked (`check_amendment`).
        earlier: Amendments of the source that were made before, oldest first, and the offsets of their events.
        now_us: When the change is known, for sources whose rows say so themselves.

    Raises:
        RefusedError: A row would break the contract (MS-E143); nothing is to be sent then.
    """
    maker = _Maker(contract, now_us)
    changes: list[Change] = []
    done: list[int] = []
    broken: list[tuple[str, ContractError]] = []
    unchanged = withdrawn = later = 0
    for ident, row in _rows(frame, window, earlier).items():
        try:
            if maker.is_made(row, amendment):
                done.append(int(row.latest["_offset"]))
                continue
            if not maker.is_asked_for(row, amendment):
                unchanged += 1
                continue
            wanted = maker.made(row, amendment)
            if wanted is None:
                withdrawn += row.is_withdrawn
                unchanged += not row.is_withdrawn
                continue
            is_said = maker.content(wanted) == maker.stored(row.latest)
            if is_said and row.is_as_it_came:
                unchanged += 1
            elif is_said:
                done.append(int(row.latest["_offset"]))
            elif row.is_as_we_left_it:
                changes.append(maker.change(ident, row, wanted, amendment.operation))
            else:
                later += 1
        except ContractError as error:
            broken.append((ident, error))
    if broken:
        ident, first = broken[0]
        raise RefusedError(
            "MS-E143",
            f"{len(broken):,} of the mended events would break the contract of {contract.source.name}",
            where=f"{ident}: {first.where}",
            why=first.what,
            hint="--where with a formula leaves events out; nothing was sent",
        )
    return Planned(tuple(changes), tuple(done), unchanged, withdrawn, later)


@dataclass
class _Row:
    """Versions of one row.

    Attributes:
        prior: The last one before the window.
        original: The last one that its sender said in the window.
        base: Of those after it that amendments said before its sender said anything more, the last; else ``original``.
        latest: The last one of all.
        is_withdrawn: Whether ``base`` is what a withdrawal said.
        previous: The row before ``original``, if the window has that too.
    """

    prior: Mapping[str, Any] | None
    original: Mapping[str, Any]
    base: Mapping[str, Any]
    latest: Mapping[str, Any]
    is_withdrawn: bool = False
    previous: _Row | None = None

    @property
    def is_as_it_came(self) -> bool:
        return bool(self.latest["_offset"] == self.original["_offset"])

    @property
    def is_as_we_left_it(self) -> bool:
        return bool(self.latest["_offset"] == self.base["_offset"])


def _rows(frame: pl.DataFrame, window: tuple[int, int], earlier: Sequence[tuple[Amendment, Ranges]]) -> dict[str, _Row]:
    """The rows of which the sender said something in the window, by id, in the order in which this came."""
    known_us = pl.col("_known_at").dt.epoch("us")
    within = (known_us >= window[0]) & (known_us < window[1]) & (pl.col("_by") == _SENT)
    marked = frame.with_columns(_known_us=known_us, _by=pl.Series(_said_by(frame["_offset"].to_numpy(), earlier)))
    marked = marked.with_columns(_within=within)
    ids = marked.filter("_within")["_id"].drop_nulls().unique()
    prior: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, _Row] = {}
    for version in marked.filter(pl.col("_id").is_in(ids.implode())).sort("_known_us", "_offset").iter_rows(named=True):
        ident = version["_id"]
        if version["_within"]:
            rows[ident] = _Row(prior.get(ident), version, version, version, previous=rows.get(ident))
        elif ident in rows:
            row = rows[ident]
            if version["_by"] != _SENT and row.is_as_we_left_it:
                row.base, row.is_withdrawn = version, version["_by"] == _WITHDRAWN
            row.latest = version
        else:
            prior[ident] = version
    return rows


def _said_by(offsets: npt.NDArray[Any], earlier: Sequence[tuple[Amendment, Ranges]]) -> npt.NDArray[np.int8]:
    """Who said each event; the last of several amendments that all came to the same."""
    out = np.full(len(offsets), _SENT, np.int8)
    for amendment, ranges in earlier:
        firsts, lasts = np.array(ranges, np.int64).reshape(-1, 2).T
        at = np.searchsorted(firsts, offsets, "right") - 1
        inside = at >= 0
        inside[inside] = offsets[inside] <= lasts[at[inside]]
        out[inside] = _WITHDRAWN if amendment.withdraw else _AMENDED
    return out


class _Maker:
    """Makes the events of one amendment, and compares rows by what they say."""

    def __init__(self, contract: Contract, now_us: int) -> None:
        self._contract = contract
        self._source = contract.source
        self._now = to_iso(now_us)
        own = (self._source.corrects, self._source.known_at)
        self._places = [i for i, f in enumerate(self._source.fields) if f.name not in own]
        self._formulas: dict[str, Callable[[Mapping[str, Any]], Any]] = {}

    def is_asked_for(self, row: _Row, amendment: Amendment) -> bool:
        """Whether the event as it came is one of those that are to be amended."""
        return not amendment.where or bool(self._formula(amendment.where)(self.fields(row.original)))

    def made(self, row: _Row, amendment: Amendment) -> Fields | None:
        """The event that makes a row what an amendment says.

        None of one that was deleted or withdrawn and stays so.
        """
        came = self.fields(row.original)
        if amendment.withdraw:
            return self._said(came, row.prior)
        if amendment.restore:
            return self._said(came, row.original)
        if row.is_withdrawn or self._is_delete(row.base):
            return None
        computed = {name: self._formula(text)(came) for name, text in amendment.compute.items()}
        return self._stamped(self.fields(row.base) | computed | amendment.set, "update")

    def is_made(self, row: _Row, amendment: Amendment) -> bool:
        """Whether what seems to have come is what the same amendment sent when it was broken off, within the window.

        Only what is computed would be another thing if it was computed again.
        """
        if not amendment.compute or row.previous is None:
            return False
        if not (row.is_as_it_came and row.previous.is_as_we_left_it):
            return False
        with suppress(ContractError):  # then it has not been sent
            if self.is_asked_for(row.previous, amendment):
                made = self.made(row.previous, amendment)
                return made is not None and self.content(made) == self.stored(row.latest)
        return False

    def change(self, ident: str, row: _Row, event: Fields, operation: Operation) -> Change:
        """What an event to be sent does to a row."""
        held, holds = not self._is_delete(row.latest), not self._is_delete(event)
        names = [self._source.fields[i].name for i in self._places] if held and holds else []
        was = self.fields(row.latest)
        columns = {name: (was[name], event[name]) for name in names if was[name] != event[name]}
        return Change(ident, event, operation, held, holds, columns)

    def fields(self, version: Mapping[str, Any]) -> Fields:
        """An event's columns as its sender would write them."""
        return {name: _written(version[name]) for name in self._source.columns}

    def content(self, event: Fields) -> tuple[Any, ...]:
        """What an event to be sent says of its row."""
        row = self._contract.check(event)
        return _DELETED if self._is_delete(event) else tuple(row[i] for i in self._places)

    def stored(self, version: Mapping[str, Any]) -> tuple[Any, ...]:
        """What a stored event says of its row."""
        if self._is_delete(version):
            return _DELETED
        fields = self._source.fields
        return tuple(_counted(version[fields[i].name]) for i in self._places)

    def _said(self, came: Fields, version: Mapping[str, Any] | None) -> Fields:
        """The event after which a row says again what one of its versions said; a delete where that is none."""
        if version is None or self._is_delete(version):
            return self._stamped({str(n): came[str(n)] for n in (self._source.id, self._source.time)}, "delete")
        return self._stamped(self.fields(version), "update")

    def _stamped(self, fields: Fields, operation: str) -> Fields:
        stamp = {self._source.known_at: self._now} if self._source.known_at is not None else {}
        return fields | stamp | {str(self._source.corrects): operation}

    def _is_delete(self, event: Mapping[str, Any]) -> bool:
        return bool(event[str(self._source.corrects)] == "delete")

    def _formula(self, text: str) -> Callable[[Mapping[str, Any]], Any]:
        if text not in self._formulas:
            self._formulas[text] = formula(text)
        return self._formulas[text]


def _written(value: Any) -> Any:
    return to_iso(from_datetime(value)) if isinstance(value, datetime) else value


def _counted(value: Any) -> Any:
    return from_datetime(value) if isinstance(value, datetime) else value


def _not_corrected(source: SourceDef) -> RefusedError:
    column = next(name for name in ("op", "operation", "does", "corrects") if name not in source.names)
    hint = (
        f'add {column}: Annotated[str, ms.one_of("insert", "update", "delete")] = "insert" to the source and '
        f'corrects="{column}" to its head, then mainspring apply: what came before can be mended then'
    )
    if source.id is None:
        hint = "its rows have no id= by which they could be found; the bad window stays out of training sets"
    return RefusedError(
        "MS-E141",
        f"events of {source.name} cannot be mended: it does not say corrects=",
        where=str(source.place),
        why="an accepted event is never changed; a correction of it is an event of its own, found by its id",
        hint=hint,
    )
