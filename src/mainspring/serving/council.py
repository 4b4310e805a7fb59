"""Asks the members of a composite about a batch: all of them, or one after the other while one is not sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from mainspring.definitions.composition import is_sure
from mainspring.serving.composed import Composed, compose, is_usable
from mainspring.serving.inference import NOT_LOADED, Choice, Scored
from mainspring.serving.layout import Gathered
from mainspring.serving.panel import Panel, Part, Verdict
from mainspring.serving.served import Served

_ABSENT = Choice("champion", "", None, None, error=NOT_LOADED)


class Council:
    """Asks through a panel, which knows of each model how quick and how sound it is."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel

    def expects_us(self, composed: Composed, rows: int) -> float:
        """How long asking every member about so many rows would take."""
        return sum(self._panel.expects_us(member, rows) for member in composed.members.values())

    def ask(
        self, composed: Composed, gathered: Gathered, times_us: Sequence[int], until_s: Sequence[float], now_s: float
    ) -> Verdict:
        """Score a batch with the members that it takes.

        Args:
            composed: Whose members.
            gathered: What they are fed from.
            times_us: Moment of each row.
            until_s: Until when each row may be refined, on ``time.perf_counter``.
            now_s: On the same clock.
        """
        rows = range(len(gathered.rows))
        said: list[list[tuple[str, Choice]]] = [[] for _ in rows]
        parts: list[Part] = []
        asked: list[tuple[str, Scored]] = []
        for member in composed.model.members:
            served = composed.members.get(member.name)
            places = [i for i in rows if self._is_asked(composed, said[i])]
            if served is not None:
                places = self._in_time(served, said, places, until_s)
            if not places:
                continue
            if served is None:
                for i in places:
                    said[i].append((member.name, _ABSENT))
                continue
            is_selected = bool(parts) and composed.model.how == "cascade" and composed.model.sure is not None
            part = self._part(served, gathered, times_us, places, now_s, is_selected=is_selected)
            parts.append(part)
            asked += part.verdict.asked
            for i, choice in zip(places, part.verdict.choices, strict=True):
                said[i].append((member.name, choice))
        choices = [compose(composed.model, one) for one in said]
        units = ["" if row[composed.unit] is None else str(row[composed.unit]) for row in gathered.rows]
        return Verdict(choices, units, [composed.drawn(unit) for unit in units], asked, parts)

    def _is_asked(self, composed: Composed, said: Sequence[tuple[str, Choice]]) -> bool:
        """Whether a further member is to be asked about a row."""
        if composed.model.how != "cascade":
            return True
        found = next((choice for _, choice in reversed(said) if is_usable(choice)), None)
        return found is None or found.output is None or not is_sure(found.output, composed.model.sure)

    def _in_time(
        self,
        served: Served,
        said: Sequence[Sequence[tuple[str, Choice]]],
        places: list[int],
        until_s: Sequence[float],
    ) -> list[int]:
        """The rows that have no answer yet, or time for a better one."""
        answered = sum(any(is_usable(choice) for _, choice in said[i]) for i in places)
        if not answered:
            return places
        done_s = perf_counter() + self._panel.expects_us(served, len(places)) * 1e-6
        return [i for i in places if done_s <= until_s[i] or not any(is_usable(choice) for _, choice in said[i])]

    def _part(
        self,
        served: Served,
        gathered: Gathered,
        times_us: Sequence[int],
        places: list[int],
        now_s: float,
        *,
        is_selected: bool,
    ) -> Part:
        is_whole = len(places) == len(times_us)
        part = gathered if is_whole else gathered.part(places)
        times = times_us if is_whole else [times_us[i] for i in places]
        verdict = self._panel.ask(served, part, times, now_s)
        if served.rules is not None:
            verdict = replace(verdict, choices=served.rules.apply(verdict.choices, part.rows, times))
        return Part(served, part, times, places, verdict, is_selected)
