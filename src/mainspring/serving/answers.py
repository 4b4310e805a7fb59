"""An answered batch as the prediction log's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mainspring.events.contract import Contract
from mainspring.serving.composed import Composed
from mainspring.serving.inference import NOT_LOADED, Choice, Scored, other_of
from mainspring.serving.layout import Gathered
from mainspring.serving.panel import Part
from mainspring.serving.prediction_log import Answered
from mainspring.serving.served import Served


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """An answered batch on its way to the log.

    Attributes:
        choices: Who answered each row; None where its client had been told something else before.
        before_us: Time of each row until the models ran.
        latencies_us: Time of each row until it was answered.
        part_of: The composite's prediction that each row is a part of; None where a model was asked at its own door.
        is_selected: Whether an earlier member was not sure of these rows.
    """

    served: Served | Composed
    gathered: Gathered
    times_us: Sequence[int]
    ids: Sequence[str]
    choices: Sequence[Choice | None]
    probabilities: Sequence[float]
    units: Sequence[str]
    before_us: Sequence[int]
    latencies_us: Sequence[int]
    part_of: Sequence[str] | None = None
    is_selected: bool | None = None


def batch_of(part: Part, ids: Sequence[str], whole: Batch) -> Batch:
    """What a member of a composite was asked, as predictions of its own; none where the client was told else.

    Args:
        part: Of the composite's batch.
        ids: Of these predictions.
        whole: The composite's batch, answered.
    """
    places, verdict = part.places, part.verdict
    return Batch(
        part.served,
        part.gathered,
        part.times_us,
        ids,
        [None if whole.choices[i] is None else one for i, one in zip(places, verdict.choices, strict=True)],
        [p for _, p in verdict.assigned],
        verdict.units,
        [whole.before_us[i] for i in places],
        [whole.latencies_us[i] for i in places],
        [whole.ids[i] for i in places],
        part.is_selected,
    )


def answers_of(batch: Batch, contract: Contract, shadow: Scored | None) -> list[Answered]:
    """The rows of a batch as they are logged.

    Args:
        batch: Answered.
        contract: Of the requests.
        shadow: What the challenger in shadow said, if it was asked.
    """
    served = batch.served
    model = served.model.name
    out: list[Answered] = []
    for i, choice in enumerate(batch.choices):
        if choice is None:
            continue
        other = (choice.other_version, choice.other_output, choice.other_error, choice.other_took_us)
        if served.is_shadow:
            other = other_of(shadow, i)
        elif served.absent is not None:
            other = (served.absent, None, NOT_LOADED, None)
        version, output, error, took_us = other
        row = batch.gathered.rows[i]
        request_id = contract.id_of(row)
        out.append(
            Answered(
                prediction_id=batch.ids[i],
                predicted_at_us=batch.times_us[i],
                model=model,
                version=choice.version,
                variant=choice.variant,
                probability=batch.probabilities[i],
                unit=batch.units[i],
                request_id=request_id,
                folded=batch.gathered.folded if choice.repeats is None else choice.repeats.folded,
                output=choice.output,
                other_version=version,
                other_output=output,
                inputs=choice.inputs,
                row=i if choice.repeats is None else 0,
                latency_us=batch.latencies_us[i],
                fallback=choice.fallback,
                error=choice.error,
                rollout=served.rollout,
                other_latency_us=None if took_us is None else batch.before_us[i] + took_us,
                other_error=error,
                drawn=choice.drawn,
                answered=choice.answered,
                rules="; ".join(choice.rules) or None,
                request=(served.model.request, row) if request_id is not None and batch.part_of is None else None,
                composition=choice.composition,
                part_of=None if batch.part_of is None else batch.part_of[i],
                is_selected=batch.is_selected,
                cached=None if choice.repeats is None else choice.repeats.id,
            )
        )
    return out
