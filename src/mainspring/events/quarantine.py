"""Mend and replay: a closed form of repairs for records in quarantine, which then go through the door again.

A mend is a JSON object with any of these, done in this order:
    {"rename": {"old": "new"}, "drop": ["column"], "cast": {"column": "float"}, "scale": {"column": 0.5},
     "compute": {"column": "formula"}, "set": {"column": value}}
Formulas (``formulas.py``) see what is dropped as well, and nothing of one another. Nothing in a mend is evaluated as
code. A mended record becomes known when it is replayed. What is still wrong stays in quarantine with its new reason;
what was accepted or is a duplicate is resolved in the same transaction, so that a replay that is killed and started
again counts nothing twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from mainspring.core.errors import ConfigError, ContractError, NotFoundError
from mainspring.core.names import did_you_mean
from mainspring.core.times import to_iso
from mainspring.definitions.values import SourceDef
from mainspring.events.bounds import MAX_TIME_US, MIN_TIME_US
from mainspring.events.contract import Contract
from mainspring.events.formulas import formula
from mainspring.events.held import Held, Reject
from mainspring.events.log import Draft

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_NONE: Mapping[str, str] = MappingProxyType({})
_CASTS: dict[str, Callable[[Any], Any]] = {"float": float, "int": int, "str": str}


class Mend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A repair of records, as people and the API write it.

    Attributes:
        rename: New names by old ones; a column that a record lacks is left alone.
        drop: Columns to leave out.
        cast: Kinds to turn a column's values into: a number that came as text, a text that came as number.
        scale: Factors to multiply a column's numbers by.
        compute: Formulas for a column over all fields, also those that are left out.
        set: Values for a column, whatever it held.
        only: Numbers of the records to mend; all of the source when empty.
    """

    rename: dict[str, str] = {}
    drop: tuple[str, ...] = ()
    cast: dict[str, Literal["float", "int", "str"]] = {}
    scale: dict[str, float] = {}
    compute: dict[str, str] = {}
    set: dict[str, str | int | float | bool | None] = {}
    only: tuple[int, ...] = ()


class Discard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which records will not be mended, and why.

    Attributes:
        reason: Kept with each of the records.
        only: Their numbers.
        all: All of the source that wait, instead.
    """

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    only: tuple[int, ...] = ()
    all: bool = False

    def __post_init__(self) -> None:
        """One way of saying which."""
        if bool(self.only) == self.all:
            raise ValueError("it takes one of `only` and `all`")


def parse_discard(raw: bytes) -> Discard:
    """What is to be discarded, from its JSON.

    Raises:
        ConfigError: It does not say which records, or not why (MS-E134).
    """
    try:
        return msgspec.json.decode(raw or b"{}", type=Discard)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = '{"only": [17, 18], "reason": "..."}, or {"all": true, "reason": "..."}'
        raise ConfigError("MS-E134", f"this does not say what to discard, and why: {error}", hint=hint) from None


def chosen(waiting: Iterable[Held], only: Sequence[int], source_name: str) -> list[Held]:
    """The records of a source that wait and are named by number in ``only``; all of them when it is empty.

    Raises:
        NotFoundError: Some of the numbers are of no record of the source that waits (MS-E135).
    """
    by_number = {entry.sequence: entry for entry in waiting}
    if not only:
        return list(by_number.values())
    unknown = sorted(set(only) - by_number.keys())
    if unknown:
        shown = ", ".join(map(str, unknown[:20])) + (", …" if len(unknown) > 20 else "")
        raise NotFoundError(
            "MS-E135",
            f"no record of {source_name} waits in quarantine under {shown}",
            why="it is another source's, has been dealt with, or never was; nothing was done",
            hint=f"mainspring quarantine list --source {source_name}",
        )
    return [by_number[number] for number in sorted(set(only))]


def parse_mend(raw: bytes, source: SourceDef) -> Mend:
    """A mend from its JSON, checked against the source that it is for.

    Raises:
        ConfigError: It is no mend (MS-E130), names a column that the source does not have (MS-E131), or one of its
            formulas is none (MS-E137).
    """
    try:
        mend = msgspec.json.decode(raw or b"{}", type=Mend)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = 'such as {"rename": {"delay": "arr_delay_min"}, "scale": {"arr_delay_min": 0.0166667}}'
        raise ConfigError("MS-E130", f"this is no mend: {error}", hint=hint) from None
    for column in (*mend.rename.values(), *mend.cast, *mend.scale, *mend.compute, *mend.set):
        if column not in source.names:
            raise ConfigError(
                "MS-E131", f"{source.name} has no column {column!r}", hint=did_you_mean(column, source.columns)
            )
    for text in mend.compute.values():
        formula(text)
    return mend


def mended(raw: bytes, mend: Mend, now: Mapping[str, str] = _NONE, *, is_cut: bool = False) -> dict[str, Any]:
    """The fields of a quarantined record after the mend.

    Args:
        raw: Its bytes.
        mend: What to do, to columns under any of their names.
        now: The name that a column has now, by an earlier one (``ms.alias``): a record may have come under either.
        is_cut: Whether only the beginning of the bytes was kept.

    Raises:
        ContractError: The bytes are no JSON object or only its beginning (MS-E132), or a value can be neither cast nor
            scaled (MS-E133), or a formula not computed (MS-E136).
    """
    if is_cut:
        raise ContractError("MS-E132", "only the beginning of the record was kept", where="$")
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ContractError("MS-E132", "the record is no JSON object: a mend cannot reach it", where="$") from None
    left_out = {name: fields[name] for name in mend.drop if name in fields}
    fields = {mend.rename.get(name, name): value for name, value in fields.items() if name not in left_out}
    fields = {name if (known := now.get(name, name)) in fields else known: value for name, value in fields.items()}
    for column, kind in mend.cast.items():
        name = now.get(column, column)
        fields[name] = _cast(fields.get(name), kind, name)
    for column, factor in mend.scale.items():
        name = now.get(column, column)
        fields[name] = _scaled(fields.get(name), factor, name)
    seen = left_out | {earlier: fields[name] for earlier, name in now.items() if name in fields} | fields
    computed = {now.get(column, column): formula(text)(seen) for column, text in mend.compute.items()}
    return fields | computed | {now.get(column, column): value for column, value in mend.set.items()}


def replayed(entries: Iterable[Held], mend: Mend, contract: Contract) -> list[Draft | Reject]:
    """What to append so that the records in ``entries`` go through the door again, mended; those that the mend names.

    Raises:
        NotFoundError: The mend names a record that is not among them (MS-E135).
    """
    out: list[Draft | Reject] = []
    now = {alias: f.name for f in contract.source.fields for alias in f.aliases}
    for entry in chosen(entries, mend.only, contract.source.name):
        sender = f"replay of {entry.sequence}"
        try:
            row = contract.check_json(_encode(mended(entry.raw, mend, now, is_cut=entry.is_cut)))
        except ContractError as error:
            version = contract.source.version
            out.append(
                Reject(
                    entry.source,
                    entry.raw,
                    error.code,
                    error.what,
                    error.where,
                    version,
                    sender,
                    resolves=entry.sequence,
                )
            )
        else:
            out.append(Draft(contract.source, row, entry.raw, sender=sender, resolves=entry.sequence))
    return out


def fields_json(source: SourceDef | None, fields: Any) -> bytes:
    """The JSON of a record that came in another form, so that it can be mended.

    Times become ISO 8601 texts, and floats that are not finite texts: null would be taken when the record is replayed.
    A text that is no UTF-8 stays what it is, which makes the record no JSON.
    """
    if isinstance(fields, dict):
        columns = source.names if source is not None else {}
        fields = {str(name): _shown(columns, name, value) for name, value in fields.items()}
    try:
        return _encode(fields)
    except UnicodeEncodeError:
        text = json.dumps(fields, ensure_ascii=False, default=repr)
        return text.encode("utf-8", "surrogatepass" if _has_halves(text) else "surrogateescape")


def _has_halves(text: str) -> bool:
    """Whether it holds half a character, which no bytes of a file are read as."""
    return any("\ud800" <= c < "\udc80" or "\udcff" < c <= "\udfff" for c in text)


def _shown(columns: dict[str, Any], name: Any, value: Any) -> Any:
    field = columns.get(name)
    if field is not None and field.kind == "datetime" and type(value) is int and MIN_TIME_US <= value <= MAX_TIME_US:
        return to_iso(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _cast(value: Any, kind: str, name: str) -> Any:
    if value is None:
        return None
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            made = _CASTS[kind](value)
            if not isinstance(made, float) or math.isfinite(made):
                return made
        except (ValueError, OverflowError):
            pass
    raise ContractError("MS-E133", f"{value!r} is no `{kind}`", where=f"$.{name}")


def _scaled(value: Any, factor: float, name: str) -> Any:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return value * factor
        except OverflowError:
            pass
    raise ContractError("MS-E133", f"{value!r} cannot be scaled", where=f"$.{name}")
