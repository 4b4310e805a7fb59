"""Corrections of accepted events that are wrong: what a person's amendment makes of the events of a window.

It is computed from the events as they came in the window, never from what an earlier amendment made of them: the same
one again changes nothing, and another one takes the place of the first. A row that its sender has corrected meanwhile
is left alone. What comes out are events like any others, updates and deletes by id (``corrects=``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from mainspring.core.errors import ConfigError, ContractError, RefusedError
from mainspring.core.names import did_you_mean
from mainspring.core.times import from_datetime, to_iso
from mainspring.definitions.values import SourceDef
from mainspring.events.contract import Contract
from mainspring.events.formulas import formula

Fields = dict[str, Any]
_DELETED = ("delete",)


class Amendment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to become of events, as people write it.

    Attributes:
        compute: Formulas for columns, over the fields of the event as it came.
        set: Values for columns, whatever they were.
        where: A formula: only events of which it is true; all when empty.
        withdraw: Take the events back instead: what their rows said before holds again, or nothing.
    """

    compute: dict[str, str] = {}
    set: dict[str, str | int | float | bool | None] = {}
    where: str = ""
    withdraw: bool = False


@dataclass(frozen=True)
class Change:
    """An event to be sent.

    Attributes:
        ident: Of the row.
        event: What is sent: a full row, or what finds it for a delete.
        columns: What becomes otherwise, as it came and as it is sent; nothing of a row that goes.
    """

    ident: str
    event: Fields
    columns: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Planned:
    """What an amendment comes to now.

    Attributes:
        changes: In the order in which the events came.
        done: Offsets of the events that say already what it asks for.
        unchanged: Rows of the window that it leaves as they came.
        later: Rows that somebody else has corrected since, which are left alone.
    """

    changes: tuple[Change, ...]
    done: tuple[int, ...]
    unchanged: int
    later: int


def check_amendment(amendment: Amendment, source: SourceDef) -> None:
    """Refuse what cannot be done to the events of a source.

    Raises:
        RefusedError: The source has no corrections (MS-E141).
        ConfigError: It asks for nothing, or for two things (MS-E140), names a column that the source does not have
            (MS-E131) or that may not change (MS-E142), or one of its formulas is none (MS-E137).
    """
    if source.corrects is None:
        raise _not_corrected(source)
    columns = [*amendment.compute, *amendment.set]
    if amendment.withdraw == bool(columns):
        what = "is withdrawn and rewritten at once" if amendment.withdraw else "asks for nothing"
        hint = "one of the two: a column that is computed or set, or a withdrawal"
        raise ConfigError("MS-E140", f"the mend {what}", hint=hint)
    for column in columns:
        if column not in source.columns:
            hint = did_you_mean(column, source.columns)
            raise ConfigError("MS-E131", f"{source.name} has no column {column!r}", hint=hint)
        if column in (source.id, source.corrects, source.known_at):
            why = "it says which row is corrected, by what, or when that became known"
            raise ConfigError("MS-E142", f"column {column} of {source.name} cannot be mended", why=why)
    for text in (*amendment.compute.values(), *filter(None, [amendment.where])):
        formula(text)


def planned(
    frame: pl.DataFrame,
    contract: Contract,
    window: tuple[int, int],
    amendment: Amendment,
    earlier: Sequence[Amendment],
    now_us: int,
) -> Planned:
    """What is to be sent so that the rows of a window are as an amendment says.

    Args:
        frame: All events of a source with corrections: its columns, ``_id``, ``_known_at`` and ``_offset``.
        contract: Of the source.
        window: What became known in ``[since, until)``, in microseconds, is amended.
        amendment: Checked (`check_amendment`).
        earlier: Amendments of the same events that were made before: what they came to may be amended again.
        now_us: When the change is known, for sources whose rows say so themselves.

    Raises:
        RefusedError: A row would break the contract (MS-E143); nothing is to be sent then.
    """
    maker = _Maker(contract, now_us)
    changes: list[Change] = []
    done: list[int] = []
    broken: list[tuple[str, ContractError]] = []
    unchanged = later = 0
    for ident, row in _rows(frame, window).items():
        try:
            wanted = maker.made(row, amendment)
            if wanted is None:
                unchanged += 1
                continue
            said, says = maker.content(wanted), maker.stored(row.latest)
            if said == says and row.is_as_it_came:
                unchanged += 1
            elif said == says:
                done.append(int(row.latest["_offset"]))
            elif row.is_as_it_came or says in maker.contents(row, earlier):
                changes.append(Change(ident, wanted, maker.differences(row, wanted)))
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
    return Planned(tuple(changes), tuple(done), unchanged, later)


@dataclass
class _Row:
    """Versions of one row: the last one before the window, the last one in it, the last one of all."""

    prior: Mapping[str, Any] | None
    original: Mapping[str, Any]
    latest: Mapping[str, Any]

    @property
    def is_as_it_came(self) -> bool:
        return bool(self.latest["_offset"] == self.original["_offset"])


def _rows(frame: pl.DataFrame, window: tuple[int, int]) -> dict[str, _Row]:
    """The rows that have a version in the window, by id, in the order in which these came."""
    known_us = pl.col("_known_at").dt.epoch("us")
    within = (known_us >= window[0]) & (known_us < window[1])
    marked = frame.with_columns(within.alias("_within"), known_us.alias("_known_us"))
    ids = marked.filter("_within")["_id"].drop_nulls().unique()
    prior: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, _Row] = {}
    for version in marked.filter(pl.col("_id").is_in(ids.implode())).sort("_known_us", "_offset").iter_rows(named=True):
        ident = version["_id"]
        if version["_within"]:
            rows[ident] = _Row(prior.get(ident), version, version)
        elif ident in rows:
            rows[ident].latest = version
        else:
            prior[ident] = version
    return rows


class _Maker:
    """Makes the events of one amendment, and compares rows by what they say."""

    def __init__(self, contract: Contract, now_us: int) -> None:
        self._contract = contract
        self._source = contract.source
        self._now = to_iso(now_us)
        own = (self._source.corrects, self._source.known_at)
        self._places = [i for i, f in enumerate(self._source.fields) if f.name not in own]
        self._formulas: dict[str, Callable[[Mapping[str, Any]], Any]] = {}

    def made(self, row: _Row, amendment: Amendment) -> Fields | None:
        """The event that makes a row what an amendment says: as it came, where that does not ask for it.

        None of a row that was deleted in the window and stays so.
        """
        fields = self.fields(row.original)
        is_asked_for = not amendment.where or self._formula(amendment.where)(fields)
        if is_asked_for and amendment.withdraw:
            if row.prior is None or self._is_delete(row.prior):
                return self._stamped({str(n): fields[str(n)] for n in (self._source.id, self._source.time)}, "delete")
            return self._stamped(self.fields(row.prior), "update")
        if self._is_delete(row.original):
            return None
        if not is_asked_for:
            return self._stamped(fields, "update")
        computed = {name: self._formula(text)(fields) for name, text in amendment.compute.items()}
        return self._stamped(fields | computed | amendment.set, "update")

    def fields(self, version: Mapping[str, Any]) -> Fields:
        """An event's columns as its sender would write them."""
        return {name: _written(version[name]) for name in self._source.columns}

    def content(self, event: Fields) -> tuple[Any, ...]:
        """What an event to be sent says of its row."""
        row = self._contract.check(event)
        return _DELETED if self._is_delete(event) else tuple(row[i] for i in self._places)

    def differences(self, row: _Row, event: Fields) -> dict[str, tuple[Any, Any]]:
        """Columns in which an event to be sent differs from the row as it came; none of a delete."""
        names = () if self._is_delete(event) else (self._source.fields[i].name for i in self._places)
        was = self.fields(row.original)
        return {name: (was[name], event[name]) for name in names if was[name] != event[name]}

    def stored(self, version: Mapping[str, Any]) -> tuple[Any, ...]:
        """What a stored event says of its row."""
        if self._is_delete(version):
            return _DELETED
        fields = self._source.fields
        return tuple(_counted(version[fields[i].name]) for i in self._places)

    def contents(self, row: _Row, amendments: Sequence[Amendment]) -> list[tuple[Any, ...]]:
        """What some amendments made of a row."""
        found = []
        for one in amendments:
            with suppress(ContractError):  # of a contract that has changed since: then it is not what the row says
                made = self.made(row, one)
                found += [self.content(made)] if made is not None else []
        return found

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
