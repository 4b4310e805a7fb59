"""``ms.check``: what must hold of a source's events over windows of time; what one record must be says its contract.

A check is a value of the definitions file, by itself or in a list: ``checks = [ms.check.freshness(Arrived, "2h"), …]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mainspring.core.errors import DefinitionError
from mainspring.core.ids import content_hash
from mainspring.core.names import did_you_mean, is_name, snake_case
from mainspring.core.spans import parse_span
from mainspring.definitions.mention import mention
from mainspring.definitions.source import Source, place_of_caller
from mainspring.definitions.values import Place, SourceDef
from mainspring.definitions.view import source_of

NUMBERS = ("int", "float", "bool")


@dataclass(frozen=True)
class CheckDef:
    """What must hold of a source over windows of time. Made by ``ms.check``.

    Attributes:
        kind: ``freshness``, ``volume``, ``unique``, ``duplicates``, ``references``, ``distribution``, ``nulls``,
            ``frozen`` or ``sql``.
        column: What it is about; None for the source as a whole.
        every_us: Length of a window, and how often it is looked at.
        blocking: Whether labels, trainings and promotions that depend on the source are held while it fails.
        limits: Arguments of the kind, by name.
        target: The source that ``references`` looks into.
    """

    name: str
    kind: str
    source: SourceDef
    column: str | None
    every_us: int
    blocking: bool
    limits: tuple[tuple[str, Any], ...] = ()
    place: Place = field(default=Place(), compare=False)
    target: SourceDef | None = None

    def limit(self, name: str, default: Any = None) -> Any:
        """An argument of the kind."""
        return dict(self.limits).get(name, default)

    def describe(self) -> dict[str, Any]:
        """The check as JSON: what the version is the hash of."""
        return {
            "name": self.name,
            "kind": self.kind,
            "source": self.source.name,
            "column": self.column,
            "every_us": self.every_us,
            "blocking": self.blocking,
            "limits": dict(self.limits),
        }

    @cached_property
    def version(self) -> str:
        """Content hash of the check."""
        return content_hash(self.describe())


def freshness(source: type[Source], within: str, *, every: str | None = None, blocking: bool = False) -> CheckDef:
    """The newest event is not older than ``within``, by its own time: silence and late feeds alike.

    Args:
        source: Which source.
        within: The greatest age.
        every: How often it is looked at; ``within`` if None.
        blocking: Hold labels, trainings and promotions that depend on the source while it fails.

    Raises:
        DefinitionError: No source (MS-D120), no span (MS-D001).
    """
    place = place_of_caller()
    limits = {"within_us": parse_span(within, where=str(place))}
    every = within if every is None else every
    return _check("freshness", source, None, every, place, blocking=blocking, limits=limits)


def volume(source: type[Source], *, tolerance: float = 0.5, every: str = "1d", blocking: bool = False) -> CheckDef:
    """As many events come as in the same window of earlier weeks, give or take ``tolerance`` and what is usual.

    Args:
        source: Which source.
        tolerance: Share by which the number may differ without being looked at.
        every: Length of a window, and how often it is looked at.
        blocking: Hold labels, trainings and promotions that depend on the source while it fails.

    Raises:
        DefinitionError: No source (MS-D120), a tolerance not between 0 and 1 (MS-D180).
    """
    limits = {"tolerance": _share("tolerance", tolerance)}
    return _check("volume", source, None, every, place_of_caller(), blocking=blocking, limits=limits)


def unique(source: type[Source], *columns: str, every: str = "1d", blocking: bool = True) -> CheckDef:
    """No two events of a window have the same values of ``columns``.

    Raises:
        DefinitionError: No source (MS-D120), no such column (MS-D102), no columns at all (MS-D180).
    """
    place = place_of_caller()
    if not columns:
        raise DefinitionError("MS-D180", "unique names no column", where=str(place), hint='unique(Ride, "ride_id")')
    own = source_of(source, "the first argument of unique", str(place))
    for column in columns:
        _column(own, column, place)
    limits = {"columns": columns}
    return _check("unique", source, columns[0], every, place, blocking=blocking, limits=limits)


def duplicates(source: type[Source], *, at_most: float = 0.2, every: str = "1d", blocking: bool = False) -> CheckDef:
    """At most this share of what is sent has been sent before, with the same id. Each event counts once in any case.

    Raises:
        DefinitionError: No source (MS-D120), one without an id (MS-D180), no share (MS-D180).
    """
    place = place_of_caller()
    own = source_of(source, "the first argument of duplicates", str(place))
    if own.id is None:
        why = "duplicates are recognised by their id"
        hint = f'unique({source.__name__}, "column", …)'
        raise DefinitionError("MS-D180", f"source {own.name} has no id", where=str(place), why=why, hint=hint)
    limits = {"at_most": _share("at_most", at_most)}
    return _check("duplicates", source, None, every, place, blocking=blocking, limits=limits)


def references(
    source: type[Source],
    column: str,
    to: type[Source],
    *,
    to_column: str | None = None,
    at_most: float = 0.0,
    every: str = "1d",
    blocking: bool = True,
) -> CheckDef:
    """Every value of ``column`` is one of ``to``'s: an arrival is of a flight that was scheduled.

    Args:
        source: Whose events are looked at.
        column: Of them.
        to: Where its values must be found, at any time until the window's end.
        to_column: Column of ``to``; its id if None.
        at_most: Share of the window's events that may be without.
        every: Length of a window, and how often it is looked at.
        blocking: Hold labels, trainings and promotions that depend on the source while it fails.

    Raises:
        DefinitionError: No source (MS-D120), no such column (MS-D102), ``to`` has no id or one of
            another kind (MS-D180).
    """
    place = place_of_caller()
    other = source_of(to, "to= of references", str(place))
    own = _column(source_of(source, "the first argument of references", str(place)), column, place)
    named = other.id if to_column is None else to_column
    if named is None:
        raise DefinitionError("MS-D180", f"source {other.name} has no id", where=str(place), hint="to_column=")
    if (theirs := _column(other, named, place).kind) != own.kind:
        what = f"{column!r} is a {own.kind} and {named!r} of {other.name} a {theirs}: it can be none of them"
        raise DefinitionError("MS-D180", what, where=str(place))
    limits = {"to": other.name, "to_column": named, "at_most": _share("at_most", at_most)}
    return _check("references", source, column, every, place, blocking=blocking, limits=limits, target=other)


def distribution(source: type[Source], column: str, *, every: str = "1d", blocking: bool = True) -> CheckDef:
    """The values of a column are distributed as in earlier windows, but for what is not worth knowing.

    Raises:
        DefinitionError: No source (MS-D120), no such column (MS-D102), a vector or an instant (MS-D180).
    """
    place = place_of_caller()
    own = source_of(source, "the first argument of distribution", str(place))
    if _column(own, column, place).kind not in (*NUMBERS, "str"):
        raise DefinitionError("MS-D180", f"{column!r} of {own.name} is no number and no text", where=str(place))
    return _check("distribution", source, column, every, place, blocking=blocking)


def nulls(
    source: type[Source], column: str, *, at_most: float | None = None, every: str = "1d", blocking: bool = True
) -> CheckDef:
    """A column is null as often as in earlier windows, give or take half a point; or at most as often as it may be.

    Raises:
        DefinitionError: No source (MS-D120), no such column (MS-D102), no share (MS-D180).
    """
    place = place_of_caller()
    _column(source_of(source, "the first argument of nulls", str(place)), column, place)
    limits = {} if at_most is None else {"at_most": _share("at_most", at_most)}
    return _check("nulls", source, column, every, place, blocking=blocking, limits=limits)


def frozen(
    source: type[Source], column: str, *, by: str | None = None, every: str = "1d", blocking: bool = True
) -> CheckDef:
    """A column does not stand still for more than twice as many events as it ever did before.

    Args:
        source: Which source.
        column: What a sensor measures.
        by: Which sensor it was; one for all if None.
        every: Length of a window, and how often it is looked at.
        blocking: Hold labels, trainings and promotions that depend on the source while it fails.

    Raises:
        DefinitionError: No source (MS-D120), no such column (MS-D102), one of no numbers (MS-D180).
    """
    place = place_of_caller()
    own = source_of(source, "the first argument of frozen", str(place))
    for one in (column, *(() if by is None else (by,))):
        _column(own, one, place)
    if own.columns[column].kind not in NUMBERS:
        raise DefinitionError("MS-D180", f"{column!r} of {own.name} is no number", where=str(place))
    limits = {} if by is None else {"by": by}
    return _check("frozen", source, column, every, place, blocking=blocking, limits=limits)


def sql(title: str, source: type[Source], query: str, *, every: str = "1d", blocking: bool = True) -> CheckDef:
    """A query answers 0, or no row: ``select count(*) from recent where fare < 0``.

    Args:
        title: What must hold, in words: "no negative fares".
        source: Which source it is about: ``recent`` is its events of the window. All other tables are there as well.
        query: One SELECT, in DuckDB's SQL.
        every: Length of a window, and how often it is looked at.
        blocking: Hold labels, trainings and promotions that depend on the source while it fails.

    Raises:
        DefinitionError: No source (MS-D120), a title without a letter or no query (MS-D180).
    """
    place = place_of_caller()
    texts: dict[str, Any] = {"title": title, "query": query}
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            hint = 'sql("no negative fares", Ride, "select count(*) from recent where fare < 0")'
            raise DefinitionError("MS-D180", f"the {name} of sql is {mention(text)}", where=str(place), hint=hint)
    slug = "_".join(part for part in snake_case(title).replace("-", " ").split() if is_name(part))[:80]
    if not slug:
        raise DefinitionError("MS-D180", f"{title!r} is no title of a check", where=str(place), hint="in words")
    limits = {"title": title, "query": query}
    return _check("sql", source, None, every, place, blocking=blocking, limits=limits, slug=slug)


def usual(source: type[Source], *, within: str | None = None, every: str = "1d") -> tuple[CheckDef, ...]:
    """What is usually asked of a source: volume, duplicates, and of each column nulls, distribution and standing still.

    Ids, texts without ``ms.one_of`` and instants are not looked at; booleans and whole numbers may stand still.

    Args:
        source: Which source.
        within: With freshness: the greatest age of the newest event.
        every: Length of a window.

    Raises:
        DefinitionError: No source (MS-D120), no span (MS-D001).
    """
    own = source_of(source, "the first argument of usual", str(place_of_caller()))
    out = [volume(source, every=every)]
    if within is not None:
        out.append(freshness(source, within))
    if own.id is not None:
        out.append(duplicates(source, every=every))
    for column in own.fields:
        is_listed = column.kind == "str" and any(c.name == "one_of" for c in column.constraints)
        if column.nullable:
            out.append(nulls(source, column.name, every=every))
        if column.name != own.id and (column.kind in NUMBERS or is_listed):
            out.append(distribution(source, column.name, every=every))
        if column.kind == "float":
            out.append(frozen(source, column.name, every=every))
    return tuple(out)


def _check(  # noqa: PLR0913  every kind of check is made here
    kind: str,
    source: Any,
    column: str | None,
    every: str,
    place: Place,
    *,
    blocking: bool,
    limits: dict[str, Any] | None = None,
    target: SourceDef | None = None,
    slug: str = "",
) -> CheckDef:
    own = source_of(source, f"the first argument of {kind}", str(place))
    if not isinstance(blocking, bool):
        raise DefinitionError("MS-D180", f"blocking= is {mention(blocking)}", where=str(place), hint="True or False")
    every_us = parse_span(every, where=str(place))
    if every_us < 60_000_000:
        why = "the worker looks once a minute"
        raise DefinitionError("MS-D180", f"a window of {every} is too short", where=str(place), why=why, hint='"1m"')
    name = "_".join(part for part in (own.name, column, slug or kind) if part)
    pairs = tuple(sorted((limits or {}).items()))
    return CheckDef(name, kind, own, column, every_us, blocking, pairs, place, target)


def _column(source: SourceDef, column: Any, place: Place) -> Any:
    if not isinstance(column, str) or column not in source.columns:
        shown = repr(column) if isinstance(column, str) else mention(column)
        hint = did_you_mean(str(column), source.columns)
        raise DefinitionError("MS-D102", f"source {source.name} has no column {shown}", where=str(place), hint=hint)
    return source.columns[column]


def _share(name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0.0 <= value < 1.0:
        shown = repr(value) if is_number else mention(value)
        where = str(place_of_caller())
        raise DefinitionError("MS-D180", f"{name}={shown} is no share from 0 to 1", where=where)
    return float(value)
