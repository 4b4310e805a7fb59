"""A composite as it is served: its members, fed from one reading of the features, and what their answers make.

A member answers as it does at its own door, its rollout, fallbacks and output rules included; the composite is a
function of these answers, and has no other output: its spread, and what is shown and logged of its members, are of the
same numbers. What a member's model said before its rules is in the log of the member's own prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mainspring.definitions import CompositeDef, ViewDef
from mainspring.definitions.composition import combined, spread
from mainspring.definitions.weights import Weights
from mainspring.events.system import OTHERWISE
from mainspring.serving.fallback import MemberValue
from mainspring.serving.inference import DEADLINE, MEMBER, VALUE, Choice, Expressions, Scorer
from mainspring.serving.router import Variant
from mainspring.serving.served import Served

_USUAL = ("champion", "challenger", "fallback")


@dataclass(frozen=True, slots=True)
class Composition:
    """What a composite's answer to one row is made of.

    Attributes:
        member: Who answered, of a cascade; None of an ensemble.
        spread: Of an ensemble's members' answers: their population standard deviation; None of fewer than two.
        said: What each member that was asked said, in order.
        rows: Which row of the inputs of its answer it is, of each of these.
        counted: The members of whose answers the composite's is made.
    """

    member: str | None
    spread: float | None
    said: tuple[tuple[str, Choice], ...]
    rows: tuple[int, ...]
    counted: tuple[str, ...]

    @property
    def status(self) -> dict[str, dict[str, str]]:
        """Status by member and feature, of what each that was asked saw."""
        return {
            name: {} if choice.inputs is None else choice.inputs.shown_status(row)
            for (name, choice), row in zip(self.said, self.rows, strict=True)
        }


@dataclass(frozen=True, eq=False)
class Composed:
    """Who answers for one composite.

    Attributes:
        members: By name, those that can answer, in the order of the definition.
        views: Each view that any of them reads, with the places of its entity's columns in a request row.
        unit: Place of the label's key in a request row.
        value: What the first member that has a declared value for a row answers when nobody can, under its rules.
        weights: Of a stack; None until it has some: it then answers the mean.
    """

    model: CompositeDef
    members: Mapping[str, Served]
    views: tuple[tuple[ViewDef, tuple[int, ...]], ...]
    expressions: Expressions
    unit: int
    value: MemberValue | None
    weights: Weights | None = None

    rules = None
    is_shadow = False
    rollout = None
    absent = None
    keeps = None

    @property
    def roles(self) -> Iterator[tuple[str, Scorer]]:
        """Every model of every member."""
        for name, member in self.members.items():
            yield from ((f"{name}.{role}", scorer) for role, scorer in member.roles)

    @property
    def answers(self) -> bool:
        """Whether any member can answer."""
        return any(member.answers for member in self.members.values())

    @property
    def versions(self) -> list[str]:
        """The composite's own, with the weights of a stack; those of its members are in each answer."""
        return [self.version]

    @property
    def answering(self) -> list[str]:
        """The versions that answer requests."""
        return [self.version]

    @cached_property
    def version(self) -> str:
        """What its answers name: see `CompositeDef.served_version`."""
        return self.model.served_version(self.weights)

    def until_s(self, received_s: float, deadline_s: float) -> float:
        """Until when a further member of a cascade may answer a request, on its own clock."""
        within_us = self.model.within_us
        return deadline_s if within_us is None else min(deadline_s, received_s + within_us * 1e-6)

    def drawn(self, units: Sequence[str]) -> list[tuple[Variant, float]]:
        """Its members are drawn for, each by its own rollout."""
        return [("champion", 1.0)] * len(units)


def is_usable(choice: Choice) -> bool:
    """Whether a member's answer is a model's: a declared value tells nothing of the row."""
    return choice.output is not None and choice.fallback != VALUE


def compose(
    composed: Composed, said: Sequence[tuple[str, Choice]], rows: Sequence[int], *, is_cut: bool = False
) -> Choice:
    """A composite's answer to a row.

    Weights are of all members together: where one of them gave nothing, a stack answers the mean of the others.

    Args:
        composed: The composite.
        said: What each member that was asked said, in order, at least one.
        rows: Which row of the inputs of its answer it is, of each of these.
        is_cut: Whether there was no time for a better member.
    """
    model = composed.model
    usable = [(name, choice) for name, choice in said if is_usable(choice)]
    if not usable:
        return _nothing_usable(composed.version, said, rows)
    is_cascade = model.how == "cascade"
    weights = composed.weights if len(usable) == len(model.members) else None
    given = [choice for _, choice in usable]
    counting = usable[-1:] if is_cascade else usable
    counted = [choice for _, choice in counting]
    # A cascade goes on from who failed to who is better: only what came after its answer was missed.
    tail = said[-1:] if is_cascade else said
    missed = next((choice for _, choice in tail if not is_usable(choice)), None)
    degraded = next((choice for choice in counted if choice.fallback is not None), None)
    fallback, error = None, None
    if degraded is not None:
        fallback, error = degraded.fallback, degraded.error
    elif missed is not None:
        fallback, error = MEMBER, missed.error
    elif is_cut:
        error = DEADLINE
    answers = [choice.answer for choice in given if choice.answer is not None]
    rules = tuple(dict.fromkeys(rule for choice in counted for rule in choice.rules))
    answer = combined(model.how, answers, weights)
    return Choice(
        max((choice.variant for choice in counted), key=_USUAL.index) if fallback != MEMBER else "fallback",
        model.served_version(weights) if weights is not composed.weights else composed.version,
        None,
        answer,
        fallback=fallback,
        error=error,
        answered=answer if rules else None,
        rules=rules,
        composition=Composition(
            usable[-1][0] if is_cascade else None,
            None if is_cascade else spread(answers),
            tuple(said),
            tuple(rows),
            tuple(name for name, _ in counting),
        ),
    )


def _nothing_usable(version: str, said: Sequence[tuple[str, Choice]], rows: Sequence[int]) -> Choice:
    for name, choice in said:
        if choice.output is not None:
            return Choice(
                "fallback",
                OTHERWISE,
                None,
                choice.answer,
                fallback=VALUE,
                error=choice.error,
                answered=choice.answered,
                rules=choice.rules,
                composition=Composition(None, None, tuple(said), tuple(rows), (name,)),
            )
    whole = Composition(None, None, tuple(said), tuple(rows), ())
    return Choice("champion", version, None, None, error=said[0][1].error, composition=whole)
