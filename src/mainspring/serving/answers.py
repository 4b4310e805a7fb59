"""A batch that has been answered, and what of it its members were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mainspring.core.ids import PredictionIds
from mainspring.serving.composed import Composed
from mainspring.serving.inference import Choice
from mainspring.serving.layout import Gathered
from mainspring.serving.panel import Part
from mainspring.serving.served import Served


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """An answered batch on its way to the log.

    Attributes:
        choices: Who answered each row; None where its client had been told something else before.
        probabilities: Of the assignment of each row to champion or challenger.
        units: The label's key of each row as text.
        before_us: Time of each row until the models ran.
        latencies_us: Time of each row until it was answered.
        requests: Of how many requests the rows are, at most.
        part_of: The composite's prediction that each row is a part of; None where a model was asked at its own door.
        is_selected: Whether an earlier member was not sure of these rows.
    """

    served: Served | Composed
    gathered: Gathered
    times_us: Sequence[int]
    ids: PredictionIds
    choices: Sequence[Choice | None]
    probabilities: Sequence[float]
    units: Sequence[str]
    before_us: Sequence[int]
    latencies_us: Sequence[int]
    requests: int
    part_of: Sequence[str] | None = None
    is_selected: bool | None = None


def batch_of(part: Part, ids: PredictionIds, whole: Batch) -> Batch:
    """What a member of a composite was asked, as predictions of its own; none where the client was told else.

    Its latency is until the features were read and its own run, as that of the other version of its rollout: what
    the other members took is none of its.

    Args:
        part: Of the composite's batch.
        ids: Of these predictions.
        whole: The composite's batch, answered.
    """
    places, verdict = part.places, part.verdict
    every_us = sum(part.took_us.values())
    return Batch(
        part.served,
        part.gathered,
        part.times_us,
        ids,
        [None if whole.choices[i] is None else one for i, one in zip(places, verdict.choices, strict=True)],
        [p for _, p in verdict.assigned],
        verdict.units,
        [whole.before_us[i] for i in places],
        [
            whole.before_us[i] + part.took_us.get(one.version, every_us)
            for i, one in zip(places, verdict.choices, strict=True)
        ],
        whole.requests,
        [whole.ids[i] for i in places],
        part.is_selected,
    )
