"""An answered batch as the prediction log's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mainspring.events.contract import Contract
from mainspring.serving.inference import NOT_LOADED, Choice, Scored, other_of
from mainspring.serving.layout import Gathered
from mainspring.serving.prediction_log import Answered
from mainspring.serving.snapshot import Served


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """An answered batch on its way to the log.

    Attributes:
        choices: Who answered each row; None where its client had been told something else before.
        before_us: Time of each row until the models ran.
        latencies_us: Time of each row until it was answered.
    """

    served: Served
    gathered: Gathered
    times_us: Sequence[int]
    ids: Sequence[str]
    choices: Sequence[Choice | None]
    probabilities: Sequence[float]
    units: Sequence[str]
    before_us: Sequence[int]
    latencies_us: Sequence[int]


def answers_of(batch: Batch, contract: Contract, shadow: Scored | None) -> list[Answered]:
    """The rows of a batch as they are logged.

    Args:
        batch: Answered.
        contract: Of the requests.
        shadow: What the challenger in shadow said, if it was asked.
    """
    served = batch.served
    model = served.model.name
    rollout = served.route.rollout or None
    missing = served.route.challenger if served.challenger is None else None
    out: list[Answered] = []
    for i, choice in enumerate(batch.choices):
        if choice is None:
            continue
        other = (choice.other_version, choice.other_output, choice.other_error, choice.other_took_us)
        if served.is_shadow:
            other = other_of(shadow, i)
        elif missing is not None:
            other = (missing, None, NOT_LOADED, None)
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
                folded=batch.gathered.folded,
                output=choice.output,
                other_version=version,
                other_output=output,
                inputs=choice.inputs,
                row=i,
                latency_us=batch.latencies_us[i],
                fallback=choice.fallback,
                error=choice.error,
                rollout=rollout,
                other_latency_us=None if took_us is None else batch.before_us[i] + took_us,
                other_error=error,
                drawn=choice.drawn,
                answered=choice.answered,
                rules="; ".join(choice.rules) or None,
                request=(served.model.request, row) if request_id is not None else None,
            )
        )
    return out
