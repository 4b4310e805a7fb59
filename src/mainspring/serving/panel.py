"""The models of a lane: who is asked for a batch, who is left alone, and who answers each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from msgspec.structs import replace

from mainspring.serving.breaker import SLOW_US, Breaker
from mainspring.serving.inference import (
    BREAKER,
    MODEL,
    OUTPUT,
    Choice,
    Outputs,
    Scored,
    Scorer,
    choose,
    run,
)
from mainspring.serving.layout import Gathered, Inputs, units_of
from mainspring.serving.metrics import ModelMetrics
from mainspring.serving.router import Variant
from mainspring.serving.served import Served
from mainspring.serving.unanimous import Unanimous


class Verdict(msgspec.Struct, frozen=True, eq=False):
    """Who answers each row of a batch, and what was run for it.

    Attributes:
        assigned: The variant that was drawn for each row, with its probability.
        asked: Each run, by the variant that it counts for.
        parts: What each member of a composite was asked, in order.
    """

    choices: Sequence[Choice]
    units: list[str]
    assigned: list[tuple[Variant, float]]
    asked: list[tuple[str, Scored]] = msgspec.field(default_factory=list)
    parts: Sequence[Part] = ()

    def part(self, places: Sequence[int]) -> Verdict:
        """Of some of the rows, with what their models saw; what was run stays with the whole."""
        seen: dict[int, Inputs] = {}

        def own(choice: Choice) -> Choice:
            whole = choice.inputs
            if whole is None:
                return choice
            return replace(choice, inputs=seen.get(id(whole)) or seen.setdefault(id(whole), whole.part(places)))

        return Verdict(
            [own(self.choices[i]) for i in places],
            [self.units[i] for i in places],
            [self.assigned[i] for i in places],
            parts=[part.part(places) for part in self.parts],
        )


class Part(msgspec.Struct, frozen=True, eq=False):
    """What one member of a composite was asked.

    Attributes:
        places: Of its rows in the composite's batch.
        is_selected: Whether only because an earlier member was not sure.
        took_us: How long each of its versions that was asked took, without the other members.
    """

    served: Served
    gathered: Gathered
    times_us: Sequence[int]
    places: Sequence[int]
    verdict: Verdict
    is_selected: bool
    took_us: Mapping[str, int]

    def part(self, places: Sequence[int]) -> Part:
        """What of it concerns some rows of the composite's batch, which become a batch of their own."""
        to = {place: i for i, place in enumerate(places)}
        kept = [k for k, place in enumerate(self.places) if place in to]
        return Part(
            self.served,
            self.gathered.part(kept),
            [self.times_us[k] for k in kept],
            [to[self.places[k]] for k in kept],
            self.verdict.part(kept),
            self.is_selected,
            self.took_us,
        )


class Panel:
    """Asks the models of a route. ``ask`` may run in a thread; ``heard`` belongs to the event loop."""

    def __init__(self, metrics: ModelMetrics) -> None:
        self._metrics = metrics
        self._breakers: dict[tuple[str, int], Breaker] = {}

    def states(self, roles: Iterable[tuple[str, Scorer]]) -> dict[str, str]:
        """The breaker's state of each model, by role."""
        return {role: self._breaker(one).state for role, one in roles}

    def expects_us(self, served: Served, rows: int) -> float:
        """How long asking about so many rows would take, in microseconds."""
        pair = (served.champion, None if served.is_shadow else served.challenger)
        asked = [one for one in pair if one is not None] or [one for one in (served.last_good,) if one is not None]
        return sum(one.pace.expects_us(rows) for one in asked)

    def ask(self, served: Served, gathered: Gathered, times_us: Sequence[int], now_s: float) -> Verdict:
        """Score a batch with whom it takes: both models of a pair, then what the definition falls back to."""
        units = units_of(gathered.rows, served.unit)
        assigned = served.drawn(units)
        asked: list[tuple[str, Scored]] = []

        def one(variant: str, scorer: Scorer | None, *, is_spare: bool) -> Scored | None:
            if scorer is None:
                return None
            if is_spare and not self._breaker(scorer).allows(now_s):
                return scorer, _left_alone(len(gathered.rows))
            scored = scorer, run(scorer, gathered, blind=served.otherwise.blind)
            asked.append((variant, scored))
            return scored

        chain = served.otherwise
        last_good = served.last_good if chain.last_good else None
        shadow = served.challenger if chain.shadow else None
        champion = one("champion", served.champion, is_spare=bool(last_good or shadow or served.value))
        challenger = None if served.is_shadow else one("challenger", served.challenger, is_spare=champion is not None)
        spare: list[tuple[str, Scored | None]] = []
        values: Sequence[float | None] = ()
        if champion is None or champion[1].failed:
            spare.append(("last_good", one("fallback", last_good, is_spare=bool(shadow or served.value))))
            if shadow is not None:
                scored = challenger if challenger is not None else one("fallback", shadow, is_spare=bool(served.value))
                spare.append(("challenger", scored))
            values = served.value.of(gathered.rows, times_us) if served.value is not None else ()
        if challenger is None and champion is not None and served.weight <= 0.0 and not champion[1].failed:
            return Verdict(Unanimous("champion", champion), units, assigned, asked)
        pair = {"champion": champion, "challenger": challenger}
        absent = served.route.champion
        choices = [
            choose(to, i, pair, spare, values[i] if values else None, absent) for i, (to, _) in enumerate(assigned)
        ]
        return Verdict(choices, units, assigned, asked)

    def shadow(self, served: Served, gathered: Gathered, now_s: float) -> Scored | None:
        """What the challenger in shadow says of a batch; its breaker leaves it alone like any other."""
        scorer = served.challenger
        if scorer is None:
            return None
        if not self._breaker(scorer).allows(now_s):
            return scorer, _left_alone(len(gathered.rows))
        return scorer, run(scorer, gathered, blind=served.otherwise.blind)

    def heard(self, variant: str, scored: Scored, now_s: float, requests: int) -> None:
        """Count a run of rows of so many requests, and learn from it how quick and how sound its model is."""
        scorer, outputs = scored
        if outputs.inputs is None:
            return
        rows = len(outputs.values)
        metrics = self._metrics.variants[variant]
        metrics.executions += 1
        metrics.inferences += rows
        for reason, _ in outputs.failed.values():
            metrics.failed(reason)
        scorer.pace.observe(rows, outputs.took_us)
        own = _own(outputs, outputs.inputs) if outputs.failed else 0
        breaker = self._breaker(scorer)
        breaker.record(now_s, rows, own, outputs.took_us, requests)
        metrics.breaker_open = int(breaker.state != "closed")

    def _breaker(self, scorer: Scorer) -> Breaker:
        """Of a version and its budget: what was found by another budget, before an apply, says nothing by this one."""
        key = scorer.version, SLOW_US if scorer.latency is None else scorer.latency.tail_us
        found = self._breakers.get(key)
        if found is None:
            found = self._breakers[key] = Breaker(key[1])
        return found


def _own(outputs: Outputs, inputs: Inputs) -> int:
    """Failures that are the model's own. An expression that a row breaks, or a store that is down, are not.

    Nor is what it says of numbers beyond float32, which anybody may send.
    """
    failed = outputs.failed.items()
    own = [row for row, (reason, _) in failed if reason in (MODEL, OUTPUT)]
    return len(own) - int(np.isinf(inputs.numbers[own]).any(axis=1).sum()) if own else 0


def _left_alone(rows: int) -> Outputs:
    """What a model says that is not asked because it lately failed."""
    return Outputs(None, [float("nan")] * rows, dict.fromkeys(range(rows), (BREAKER, "it lately failed or was slow")))
