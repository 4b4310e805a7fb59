"""From a composite's prediction to what its members said, and how that made the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from mainspring.catalog import Catalog, Decision
from mainspring.core import to_iso
from mainspring.definitions.composition import of_served
from mainspring.definitions.weights import weights_from
from mainspring.events.history import History
from mainspring.events.system import PREDICTION
from mainspring.loop.heard import said_by


@dataclass(frozen=True)
class Said:
    """What one member said.

    Attributes:
        output: None where it gave no model's answer.
        weight: How much it counted; None where it was not weighed.
        prediction_id: Its own prediction: `mainspring explain` goes on from there.
    """

    member: str
    version: str
    output: float | None
    weight: float | None
    prediction_id: str | None


@dataclass(frozen=True)
class Composition:
    """What a composite's answer was made of.

    Attributes:
        prediction: The logged row.
        how: ``cascade``, ``mean``, ``vote`` or ``stack``; None when the catalog does not know the definition.
        weights: The decision that gave the weights; None where there were none.
        said: Of each member that was asked, in order.
    """

    prediction: dict[str, Any]
    how: str | None
    weights: Decision | None
    said: tuple[Said, ...]

    def to_dict(self) -> dict[str, Any]:
        """The composition as JSON; instants are ISO 8601."""
        given = self.weights
        shown = None if given is None else asdict(given) | {"at": to_iso(given.at_us)}
        members = [asdict(one) for one in self.said]
        return {"prediction": self.prediction, "how": self.how, "weights": shown, "members": members}


def composition_of(catalog: Catalog, history: History, prediction: Mapping[str, Any]) -> Composition:
    """What the answer of a composite was made of.

    Args:
        catalog: Caught up.
        history: Caught up.
        prediction: The logged row.
    """
    definition, named = of_served(str(prediction["version"]))
    found = catalog.definition("composites", prediction["model"], definition)
    given = given_weights(catalog, prediction["model"], named) if named is not None else None
    weights = None if given is None else weights_from(given.numbers["weights"])
    by_member = dict(zip(weights.members, weights.weights, strict=True)) if weights is not None else {}
    parts = _parts_of(history, prediction["prediction_id"])
    said = said_by(prediction["members"])
    return Composition(
        dict(prediction),
        found.description["how"] if found is not None else None,
        given,
        tuple(
            Said(name, version, output, by_member.get(name), parts.get(name))
            for name, (version, output) in said.items()
        ),
    )


def given_weights(catalog: Catalog, composite: str, version: str) -> Decision | None:
    """The decision that gave a stack weights of that version, or None."""
    given = catalog.decisions("weights", model=composite)
    return next((one for one in reversed(given) if one.subject == version and not one.note), None)


def _parts_of(history: History, prediction_id: str) -> dict[str, str]:
    """The predictions of a composite's members, by member."""
    frame = history.frame(PREDICTION.name, ("prediction_id", "model", "part_of"))
    return dict(frame.filter(pl.col("part_of") == prediction_id).select("model", "prediction_id").iter_rows())
