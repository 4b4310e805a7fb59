"""Who answers for one model: its versions, loaded, with all that they are fed from and fall back to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mainspring.catalog import Route
from mainspring.definitions import ModelDef, OtherwiseDef, ViewDef
from mainspring.definitions.values import CacheDef
from mainspring.models.package import Package
from mainspring.serving.fallback import Value
from mainspring.serving.inference import Expressions, Scorer
from mainspring.serving.router import Variant, assign
from mainspring.serving.rules import Rules

UNDECLARED = OtherwiseDef(last_good=True, blind=True)


@dataclass(frozen=True, eq=False)
class Served:
    """Who answers for one model; perhaps only its declared value, or nobody, where no version can be loaded.

    Attributes:
        route: As the catalog said.
        packages: By path, of everything loaded, for the next snapshot to take over.
        views: Each view that any of the models reads, with the places of its entity's columns in a request row.
        unit: Place of the label's key in a request row.
        value: What is answered when no model can; None when the definition declares nothing.
        rules: What is made of outputs; None when the definition declares nothing.
        weight: The challenger's share of the traffic; 0 in shadow.
        is_shadow: Whether the challenger is scored after the answer.
        reads: Places in a request row of all columns that decide an answer, but for the request's time.
    """

    model: ModelDef
    route: Route
    packages: Mapping[str, Package]
    champion: Scorer | None
    challenger: Scorer | None
    last_good: Scorer | None
    views: tuple[tuple[ViewDef, tuple[int, ...]], ...]
    expressions: Expressions
    unit: int
    value: Value | None
    rules: Rules | None
    weight: float
    is_shadow: bool
    reads: tuple[int, ...]

    @property
    def roles(self) -> Iterator[tuple[str, Scorer]]:
        """Each model that is loaded, by its role."""
        for role in ("champion", "challenger", "last_good"):
            scorer = getattr(self, role)
            if scorer is not None:
                yield role, scorer

    @property
    def answers(self) -> bool:
        """Whether anything is there that can answer: a version, or a declared value."""
        return self.value is not None or any(True for _ in self.roles)

    @property
    def versions(self) -> list[str]:
        """The versions that are loaded, the champion first."""
        return list(dict.fromkeys(scorer.version for _, scorer in self.roles))

    @property
    def answering(self) -> list[str]:
        """The versions of which one answers each request, as long as none fails."""
        pair = (self.champion, self.challenger) if 0.0 < self.weight < 1.0 else (self.champion,)
        if self.weight >= 1.0:
            pair = (self.challenger,)
        return [one.version for one in pair if one is not None]

    @property
    def rollout(self) -> str | None:
        """Id of the rollout that runs, if one does."""
        return self.route.rollout or None

    @property
    def absent(self) -> str | None:
        """A challenger that the route names and that could not be loaded."""
        return self.route.challenger if self.challenger is None else None

    @property
    def keeps(self) -> CacheDef | None:
        """How answers are kept; not during a rollout, each request of which asks two versions."""
        return self.model.cache if self.rollout is None and self.challenger is None else None

    def drawn(self, units: Sequence[str]) -> list[tuple[Variant, float]]:
        """The variant that each unit is assigned to, with the probability of that."""
        if self.weight <= 0.0:
            return [assign(self.route.salt, "", 0.0)] * len(units)
        return [assign(self.route.salt, unit, self.weight) for unit in units]

    @property
    def otherwise(self) -> OtherwiseDef:
        """The fallback chain: what is declared, or else what was before anybody could declare one."""
        return self.model.otherwise or UNDECLARED
