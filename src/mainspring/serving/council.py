"""Asks the members of a composite about a batch: all of them, or one after the other while one is not sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter

from msgspec.structs import replace

from mainspring.definitions.composition import is_sure
from mainspring.serving.composed import Composed, compose, is_usable
from mainspring.serving.inference import NOT_LOADED, Choice, Scored
from mainspring.serving.layout import Gathered, units_of
from mainspring.serving.panel import Panel, Part, Verdict
from mainspring.serving.served import Served

_ABSENT = Choice("champion", "", None, None, error=NOT_LOADED)

Said = tuple[tuple[str, Choice], ...]


@dataclass(slots=True)
class _Heard:
    """What each row's members said and in which row, what they were asked, and whose turn is next."""

    said: list[Said]
    rows: list[tuple[int, ...]]
    parts: tuple[Part, ...] = ()
    next: int = 0


class Hearing:
    """One batch before the members of a composite; what they have said so far is an answer at any moment.

    Args:
        panel: Knows of each model how quick and how sound it is.
        composed: Whose members.
        gathered: What they are fed from.
        times_us: Moment of each row.
        until_s: Until when each row may be refined, on ``time.perf_counter``.
        before: What has been heard already.

    Attributes:
        asked: Each run since they were last taken, by the variant that it counts for.
    """

    def __init__(
        self,
        panel: Panel,
        composed: Composed,
        gathered: Gathered,
        times_us: Sequence[int],
        until_s: Sequence[float],
        before: _Heard | None = None,
    ) -> None:
        self._panel = panel
        self._composed = composed
        self._gathered = gathered
        self._times_us = times_us
        self._until_s = until_s
        before = before or _Heard([() for _ in times_us], [() for _ in times_us])
        self._said, self._rows, self._parts, self._next = before.said, before.rows, before.parts, before.next
        self.asked: list[tuple[str, Scored]] = []

    def advance(self, most_us: float = inf, free_s: float = 0.0) -> tuple[list[int], float]:
        """Ask the members in their order.

        Args:
            most_us: A further member that would take longer is not asked, but left for later.
            free_s: From when on such a member could be asked, on ``time.perf_counter``.

        Returns:
            Rows for which a further member has been left for later, none when all is said, and how long it will take
            for them, in microseconds.
        """
        members = self._composed.model.members
        while self._next < len(members):
            name = members[self._next].name
            served = self._composed.members.get(name)
            places = [i for i, said in enumerate(self._said) if self._is_open(said)]
            if served is None:
                for i in places:
                    self._said[i] += ((name, _ABSENT),)
                    self._rows[i] += (0,)
            elif places:
                takes_us = self._panel.expects_us(served, len(places))
                is_later = takes_us > most_us and any(is_usable(choice) for i in places for _, choice in self._said[i])
                start_s = max(perf_counter(), free_s) if is_later else perf_counter()
                places = self._in_time(served, places, start_s + takes_us * 1e-6)
                if is_later and places:
                    return places, takes_us
                if places:
                    self._ask(name, served, places)
            self._next += 1
        return [], 0.0

    def part(self, places: Sequence[int]) -> Hearing:
        """The hearing of some of the rows, to go on for itself; what was asked stays with this one."""
        return Hearing(
            self._panel,
            self._composed,
            self._gathered.part(places),
            [self._times_us[i] for i in places],
            [self._until_s[i] for i in places],
            _Heard(
                [self._said[i] for i in places],
                [self._rows[i] for i in places],
                tuple(part.part(places) for part in self._parts),
                self._next,
            ),
        )

    def until_s(self, place: int) -> float:
        """Until when a row may be refined."""
        return self._until_s[place]

    def verdict(self) -> Verdict:
        """The answers as things stand."""
        units = units_of(self._gathered.rows, self._composed.unit)
        choices = [
            compose(self._composed, said, rows, is_cut=self._is_cut(said))
            for said, rows in zip(self._said, self._rows, strict=True)
        ]
        return Verdict(choices, units, self._composed.drawn(units), self.asked, self._parts)

    def _is_open(self, said: Said) -> bool:
        """Whether a further member is to be asked about a row."""
        if self._composed.model.how != "cascade":
            return True
        name, found = next(((name, choice) for name, choice in reversed(said) if is_usable(choice)), ("", None))
        if found is None or found.output is None:
            return True
        if any(rule.when is not None and rule.name in found.rules for rule in self._composed.members[name].model.rules):
            return False  # who wrote the override has decided: what the model itself says of the row does not count
        return not is_sure(found.output, self._composed.model.sure)

    def _is_cut(self, said: Said) -> bool:
        """Whether a cascade stops although nobody was sure and the last member was not asked: its time was up."""
        model = self._composed.model
        return model.how == "cascade" and bool(said) and self._is_open(said) and said[-1][0] != model.members[-1].name

    def _in_time(self, served: Served, places: list[int], done_s: float) -> list[int]:
        """The rows that have no answer yet, or time for a better one."""
        if self._composed.model.how != "cascade":
            return places
        kept = [
            i for i in places if done_s <= self._until_s[i] or not any(is_usable(choice) for _, choice in self._said[i])
        ]
        if len(kept) < len(places):
            for _, scorer in served.roles:
                scorer.pace.relax()  # or one stall would keep it from being asked, and so from being timed, for ever
        return kept

    def _ask(self, name: str, served: Served, places: list[int]) -> None:
        is_whole = len(places) == len(self._times_us)
        gathered = self._gathered if is_whole else self._gathered.part(places)
        times_us = self._times_us if is_whole else [self._times_us[i] for i in places]
        verdict = self._panel.ask(served, gathered, times_us, perf_counter())
        if served.rules is not None:
            verdict = replace(verdict, choices=served.rules.apply(verdict.choices, gathered.rows, times_us))
        is_selected = bool(self._parts) and self._composed.model.sure is not None
        took_us = {scorer.version: outputs.took_us for _, (scorer, outputs) in verdict.asked}
        self._parts += (Part(served, gathered, times_us, places, verdict, is_selected, took_us),)
        self.asked += verdict.asked
        for row, (i, choice) in enumerate(zip(places, verdict.choices, strict=True)):
            self._said[i] += ((name, choice),)
            self._rows[i] += (row,)


def expects_us(panel: Panel, composed: Composed, rows: int) -> float:
    """How long a composite takes until it has an answer: all members of an ensemble, the first one of a cascade."""
    each = [panel.expects_us(member, rows) for member in composed.members.values()]
    return sum(each[:1] if composed.model.how == "cascade" else each)
