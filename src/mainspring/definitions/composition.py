"""``ms.cascade`` and ``ms.ensemble``: several models that answer one request under a name of their own.

A composite is a value of the definitions file: ``fraud = ms.cascade("fraud", quick, careful, sure=0.95)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from typing import Any, Literal

from mainspring.core.errors import DefinitionError
from mainspring.core.ids import content_hash
from mainspring.core.names import did_you_mean, is_name
from mainspring.core.spans import parse_span
from mainspring.definitions.kinds import one_of_kind
from mainspring.definitions.mention import mention
from mainspring.definitions.misused import EXAMPLES
from mainspring.definitions.source import place_of_caller
from mainspring.definitions.values import LabelDef, LatencyDef, ModelDef, Place, SourceDef
from mainspring.definitions.weights import Weights

How = Literal["cascade", "mean", "vote", "stack"]
ENSEMBLES: tuple[How, ...] = ("mean", "vote", "stack")
MEAN = "mean"
"""How a stack answers, and what its version says, until it has weights."""


@dataclass(frozen=True)
class CompositeDef:
    """Several models that answer one request.

    Attributes:
        how: ``cascade``: in order, until one is sure; ``mean``, ``vote`` or ``stack``: all of them together.
        members: The models, all of one request, label and task.
        sure: From which probability, of true or of false, a cascade asks no further member; None: it always does.
        within_us: How long after its request a cascade may still answer with a further member; None: its deadline.
        latency: How quickly it shall answer; no part of the version.
    """

    name: str
    how: How
    members: tuple[ModelDef, ...]
    sure: float | None = None
    within_us: int | None = None
    place: Place = field(default=Place(), compare=False)
    latency: LatencyDef | None = None

    @property
    def request(self) -> SourceDef:
        """What all members are asked."""
        return self.members[0].request

    @property
    def label(self) -> LabelDef:
        """What all members predict."""
        return self.members[0].label

    @property
    def task(self) -> str:
        """Of all members."""
        return self.members[0].task

    def describe(self) -> dict[str, Any]:
        """The composite as JSON: what the version is the hash of."""
        return {
            "name": self.name,
            "how": self.how,
            "members": [member.name for member in self.members],
            "sure": self.sure,
            "within_us": self.within_us,
        }

    @cached_property
    def version(self) -> str:
        """Content hash of the composite; the versions of its members are in each answer."""
        return content_hash(self.describe())

    def served_version(self, weights: Weights | None) -> str:
        """What an answer names as its version: the composite's own, and of a stack also what it answers with."""
        if self.how != "stack":
            return self.version
        return f"{self.version}-{MEAN if weights is None else weights.version}"

    def serving(self) -> dict[str, Any]:
        """How it is served, as JSON: what is no part of the version."""
        return {} if self.latency is None else {"latency": self.latency.describe()}


def of_served(version: str) -> tuple[str, str | None]:
    """What `CompositeDef.served_version` names: the definition's version, and that of the weights, where there are any.

    >>> of_served("ab12-mean"), of_served("ab12-c4")
    (('ab12', None), ('ab12', 'c4'))
    """
    definition, _, named = version.partition("-")
    return definition, None if named in ("", MEAN) else named


def is_sure(output: float, sure: float | None) -> bool:
    """Whether a probability says so much that no further member of a cascade need be asked."""
    return sure is not None and max(output, 1.0 - output) >= sure


def combined(how: How, outputs: Sequence[float], weights: Weights | None = None) -> float:
    """What a composite answers where these are its members' answers, in the order in which they were asked.

    Args:
        how: ``cascade``: the last one counts; ``mean``: their mean; ``vote``: the share of them that say yes;
            ``stack``: by the weights, or their mean where there are none.
        outputs: At least one.
        weights: Of a stack, all of whose members have an output.
    """
    if weights is not None:
        return weights.of(outputs)
    if how == "cascade":
        return outputs[-1]
    if how == "vote":
        return sum(output >= 0.5 for output in outputs) / len(outputs)
    return sum(outputs) / len(outputs)


def spread(outputs: Sequence[float]) -> float | None:
    """How far outputs lie apart: their population standard deviation; None of fewer than two."""
    if len(outputs) < 2:
        return None
    middle = sum(outputs) / len(outputs)
    return sqrt(sum((output - middle) ** 2 for output in outputs) / len(outputs))


def cascade(
    name: str,
    *members: ModelDef,
    sure: float | None = None,
    within: str | None = None,
    latency: LatencyDef | None = None,
) -> CompositeDef:
    """Ask models one after the other: the first one is quick or cheap, each further one better.

    A further member is asked only where the one before it is not sure, and only if there is time for it: the answer is
    that of the last member that gave one.

    Args:
        name: Under which it is asked for.
        members: Models of one request, label and task.
        sure: A member whose probability, of true or of false, is at least this is sure; binary classification only.
            None: the next one is always asked, if there is time.
        within: How long after the request came a further member may answer, such as ``"20ms"``; the request's own
            deadline if None.
        latency: How quickly it shall answer, such as ``ms.Latency(p99="30ms")``.

    Raises:
        DefinitionError: The members do not fit together, or no such sureness can be (MS-D110, MS-D158, MS-D001).
    """
    place = place_of_caller()
    where = str(place)
    found = _members("cascade", name, members, where)
    within_us = None if within is None else parse_span(within, said=f"within={within!r}", where=where)
    if within_us == 0:
        what = f"cascade {name}: within={within!r} leaves no time"
        raise DefinitionError("MS-D158", what, where=where, hint='within="20ms"')
    if sure is not None:
        if found[0].task != "binary_classification":
            why = "a number says nothing of how sure its model is"
            hint = 'within="20ms": the next member is asked where there is time'
            what = f"cascade {name}: sure= of a {found[0].task}"
            raise DefinitionError("MS-D158", what, where=where, why=why, hint=hint)
        if type(sure) not in (int, float) or not 0.5 < sure <= 1:
            why = "it is the probability of what the model says, true or false"
            what = f"cascade {name}: sure={sure!r} is not above 0.5 and at most 1"
            raise DefinitionError("MS-D158", what, where=where, why=why, hint="sure=0.95")
        sure = float(sure)
    return CompositeDef(name, "cascade", found, sure, within_us, place, _budget("cascade", name, latency, where))


def ensemble(name: str, *members: ModelDef, how: str = "mean", latency: LatencyDef | None = None) -> CompositeDef:
    """Ask several models together; how far they lie apart is in the answer, as its ``spread``.

    Args:
        name: Under which it is asked for.
        members: Models of one request, label and task.
        how: ``mean`` of their answers; ``vote``: the share of them that say yes; ``stack``: by weights that are fitted
            on outcomes, once those are shown to be better than the mean.
        latency: How quickly it shall answer, such as ``ms.Latency(p99="30ms")``.

    Raises:
        DefinitionError: The members do not fit together (MS-D110, MS-D158).
    """
    place = place_of_caller()
    where = str(place)
    found = _members("ensemble", name, members, where)
    kind = next((known for known in ENSEMBLES if known == how), None)
    if kind is None:
        hint = did_you_mean(str(how), ENSEMBLES) or 'how="mean"'
        raise DefinitionError("MS-D158", f"ensemble {name}: how={how!r}", where=where, hint=hint)
    if kind == "vote" and found[0].task != "binary_classification":
        what = f"ensemble {name}: members of a {found[0].task} have no vote"
        raise DefinitionError("MS-D158", what, where=where, hint='how="mean"')
    return CompositeDef(name, kind, found, place=place, latency=_budget("ensemble", name, latency, where))


def _budget(word: str, name: str, latency: Any, where: str) -> LatencyDef | None:
    if latency is None:
        return None
    return one_of_kind(latency, LatencyDef, f"{word} {name}: latency", "MS-D158", where, EXAMPLES["Latency"])


def _members(word: str, name: Any, members: Sequence[Any], where: str) -> tuple[ModelDef, ...]:
    if not isinstance(name, str) or not is_name(name):
        hint = f'ms.{word}("fraud", quick, careful)'
        raise DefinitionError("MS-D110", f"{mention(name)} is no name for a {word}", where=where, hint=hint)
    what = f"{word} {name}"
    for one in members:
        if isinstance(one, CompositeDef):
            why = "its members are models"
            raise DefinitionError("MS-D158", f"{what}: {one.name} is a composite itself", where=where, why=why)
        if not isinstance(one, ModelDef):
            hint = "functions under @ms.model(…)"
            raise DefinitionError("MS-D158", f"{what}: {mention(one)} is no model", where=where, hint=hint)
    if len(members) < 2:
        raise DefinitionError("MS-D158", f"{what} has fewer than two members", where=where, hint="at least two models")
    first = members[0]
    for at, one in enumerate(members[1:], 1):
        if any(one.name == other.name for other in members[:at]):
            raise DefinitionError("MS-D158", f"{what}: {one.name} is there twice", where=where)
        for part, same in (
            ("request", one.request.version == first.request.version),
            ("label", one.label.identity() == first.label.identity()),
            ("task", one.task == first.task),
        ):
            if not same:
                why = "members answer one question about one request"
                hint = f"the {part} of {first.name}"
                other = f"{what}: {one.name} has another {part}"
                raise DefinitionError("MS-D158", other, where=where, why=why, hint=hint)
    if any(one.name == name for one in members):
        raise DefinitionError("MS-D158", f"{what} is named like its member", where=where, hint="another name")
    return tuple(members)
