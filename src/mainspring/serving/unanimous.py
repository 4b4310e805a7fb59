"""The usual batch: one model answers every row of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from mainspring.serving.inference import Choice, Scored


class Unanimous(Sequence[Choice]):
    """The choices of such a batch, each made when it is asked for: what all rows have is kept once.

    Args:
        variant: Of all rows.
        scored: The model that answers them, which failed for none.

    Attributes:
        version: Of the model.
        inputs: What it saw.
        outputs: One a row.
    """

    __slots__ = ("inputs", "outputs", "variant", "version")

    def __init__(self, variant: str, scored: Scored) -> None:
        scorer, said = scored
        if said.inputs is None or said.failed:
            raise ValueError("a model that failed does not answer every row")
        self.variant = variant
        self.version = scorer.version
        self.inputs = said.inputs
        self.outputs = said.values

    def __len__(self) -> int:
        """How many rows."""
        return len(self.outputs)

    @overload
    def __getitem__(self, place: int) -> Choice: ...

    @overload
    def __getitem__(self, place: slice) -> list[Choice]: ...

    def __getitem__(self, place: int | slice) -> Choice | list[Choice]:
        """Who answers a row: as ``inference.choose`` says it."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return Choice(self.variant, self.version, self.inputs, self.outputs[place])
