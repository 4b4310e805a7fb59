"""What the judge reads and answers: the plan of a rollout, where it stands, the evidence so far, and a decision."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import ContractError, DefinitionError
from mainspring.definitions.values import DAY_US, Guard, RolloutDef
from mainspring.rollout.losses import loss_named

Action = Literal["stay", "advance", "promote", "rollback", "pause"]

DEFAULT_MARGIN = 0.02
DEFAULT_CEILING = 0.01
_QUANTILE = re.compile(r"p(\d{2,4})_ms")


@dataclass(frozen=True)
class ProveGuard:
    """A loss on which the challenger must be shown not to be worse by the margin.

    Attributes:
        metric: ``log_loss``, ``brier``, ``zero_one`` or ``absolute_error``.
        margin: Non-inferiority margin of promotion, in units of the loss.
        rollback_margin: Harm tolerated before a rollback; half of ``margin`` if None.
        bound: Where ``absolute_error`` is winsorised.
    """

    metric: str
    margin: float = DEFAULT_MARGIN
    rollback_margin: float | None = None
    bound: float | None = None

    @property
    def tolerated(self) -> float:
        """Harm tolerated before a rollback."""
        return self.margin / 2.0 if self.rollback_margin is None else self.rollback_margin


@dataclass(frozen=True)
class VetoGuard:
    """A failure rate that can only roll back; to go on it asks for exposure and a bound under a ceiling.

    Attributes:
        metric: ``errors``, ``fallbacks``, or a latency quantile such as ``p99_ms``.
        ceiling: The share of failing exposures that the upper confidence bound must stay under.
        tolerated: A rollback also needs evidence that the share exceeds this; 0 asks for the comparison with the
            champion alone. For a latency quantile it is the share the quantile allows: slower than the champion but
            within the declared limit is no reason to roll back.
        harm_ratio: How many times the champion's failure rate is tolerated.
        slow_ms: For a latency quantile, an answer slower than this counts as a failure.
        min_exposure: Exposures of the challenger before any step.
    """

    metric: str
    ceiling: float = DEFAULT_CEILING
    tolerated: float = 0.0
    harm_ratio: float = 1.0
    slow_ms: float | None = None
    min_exposure: int = 200


@dataclass(frozen=True)
class RolloutPlan:
    """How a challenger earns its traffic. Durations are exposure, in microseconds.

    Attributes:
        shadow_us: Exposure in shadow.
        ramp: The challenger's shares of traffic, rising, each in (0, 1).
        step_us: Exposure at each step of the ramp.
        prove: Guards that promotion has to prove.
        veto: Guards that can only roll back.
        alpha: Error rate of a wrong promotion, and of a wrong rollback over all guards together.
        min_blocks: Days of mature labels before a promotion.
        time_limit_us: From the start; then the rollout stops and asks a person.
        tuned_for: Days at which the confidence sequence is tightest.
        min_labels: Mature paired units before the first step.
        min_block_units: Units in a day's block; thinner days are joined.
        srm_alpha: Error rate of the sample ratio check.
    """

    shadow_us: int = DAY_US
    ramp: tuple[float, ...] = (0.05, 0.25, 0.5)
    prove: tuple[ProveGuard, ...] = ()
    veto: tuple[VetoGuard, ...] = ()
    step_us: int = DAY_US
    alpha: float = 0.05
    min_blocks: int = 7
    time_limit_us: int = 60 * DAY_US
    tuned_for: int = 14
    min_labels: int = 100
    min_block_units: int = 30
    srm_alpha: float = 0.001

    def __post_init__(self) -> None:
        """Refuse a plan that could not be judged (``MS-R107``)."""
        if any(not 0.0 < share < 1.0 for share in self.ramp) or list(self.ramp) != sorted(set(self.ramp)):
            raise DefinitionError(
                "MS-R107", f"ramp={list(self.ramp)} does not rise within (0, 1)", hint="ramp=[0.05, 0.25, 0.5]"
            )
        if not (self.prove or self.veto):
            raise DefinitionError(
                "MS-R107", "a rollout without a guard would promote anything", hint='prove=[ms.guard("log_loss")]'
            )
        if not 0.0 < self.alpha < 0.5:
            raise DefinitionError("MS-R107", f"alpha={self.alpha} is not an error rate", hint="alpha=0.05")
        for guard in self.prove:
            loss_named(guard.metric, guard.bound)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages in order: ``shadow``, ``ramp:0`` …, ``live``."""
        return ("shadow", *(f"ramp:{i}" for i in range(len(self.ramp))), "live")

    def standing(self, stage: str) -> str:
        """The stage; the last one before ``live`` where it is of an earlier plan, whose ramp had more shares."""
        of_ramp = stage.startswith("ramp:") and stage not in self.stages
        return self.stages[-2] if of_ramp else stage

    def challenger_weight(self, stage: str) -> float:
        """The challenger's share of traffic in a stage. Paused and rolled back serve the champion."""
        if stage == "live":
            return 1.0
        return self.ramp[int(stage.removeprefix("ramp:"))] if stage.startswith("ramp:") else 0.0


@dataclass(frozen=True)
class RolloutState:
    """Where a rollout stands.

    Attributes:
        stage: ``shadow``, ``ramp:0`` …, ``live``, ``paused`` or ``rolled_back``.
        started_at_us: When the rollout began.
        entered_at_us: When this stage began.
        exposure_us: How long the challenger has been exposed in this stage: time since then, less outages and pauses.
        label_horizon_us: From a prediction until its label is mature.
    """

    stage: str
    started_at_us: int
    entered_at_us: int
    exposure_us: int
    label_horizon_us: int = 0


@dataclass(frozen=True, eq=False)
class PairedUnits:
    """Requests that both models scored, with their outcomes; arrays of shape (n,), in any order.

    Attributes:
        t_us: The moment of prediction.
        mature_at_us: When the label is (or was) mature; units of the future may be present and do not count yet.
        p_champion: The champion's prediction.
        p_challenger: The challenger's.
        y: The outcome: 0 or 1, or a number.
        day: Day of exposure, any consistent numbering.
        p_anchor: Prediction of the best release so far, if it is scored too: promotion must hold against it as well, or
            non-inferiority would ratchet downwards over many releases.
    """

    t_us: NDArray[np.int64]
    mature_at_us: NDArray[np.int64]
    p_champion: NDArray[np.float64]
    p_challenger: NDArray[np.float64]
    y: NDArray[np.float64]
    day: NDArray[np.int64]
    p_anchor: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Refuse columns of different lengths (``MS-R108``)."""
        columns = [self.t_us, self.mature_at_us, self.p_champion, self.p_challenger, self.y, self.day]
        if (
            len({len(column) for column in columns} | ({len(self.p_anchor)} if self.p_anchor is not None else set()))
            != 1
        ):
            raise ContractError("MS-R108", "paired units have columns of different lengths")

    @classmethod
    def empty(cls) -> PairedUnits:
        """No units yet."""
        whole, real = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
        return cls(whole, whole, real, real, real, whole)


@dataclass(frozen=True, eq=False)
class VetoEvidence:
    """What is known of one veto metric: who failed, in order, and how often the challenger was exposed.

    Attributes:
        is_challenger: Whose each first failure was, in order, shape (k,): see `binary_harm_eprocess` for what to count.
        rho: Probability of assignment to the challenger at each of them; one half in shadow.
        exposures: Exposures of the challenger, in shadow and on the ramp; a stalled batch is one.
        failures: How many of those failed.
    """

    is_challenger: NDArray[np.bool_]
    rho: NDArray[np.float64]
    exposures: int = 0
    failures: int = 0

    @classmethod
    def empty(cls) -> VetoEvidence:
        """Nothing seen yet."""
        return cls(np.empty(0, dtype=np.bool_), np.empty(0, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything gathered since the rollout began; nothing is reset between stages.

    Attributes:
        paired: Requests scored by both models.
        veto: Evidence by veto metric; a metric that is absent has not been seen, and does not let the rollout go on.
        assignments: For each period of constant weights: first exposures per arm, and the weights, challenger first.
    """

    paired: PairedUnits = field(default_factory=PairedUnits.empty)
    veto: Mapping[str, VetoEvidence] = field(default_factory=dict)
    assignments: Sequence[tuple[tuple[int, int], tuple[float, float]]] = ()


@dataclass(frozen=True)
class Decision:
    """What the judge says, and the numbers it says it on.

    Attributes:
        action: ``stay``, ``advance``, ``promote``, ``rollback`` or ``pause``.
        to_stage: The stage after the decision; the present one for ``stay``.
        reason: One sentence for people.
        numbers: Every number that the decision rests on, by name; e-values are capped at 1e300.
    """

    action: Action
    to_stage: str
    reason: str
    numbers: dict[str, float]


def plan_of(definition: RolloutDef) -> RolloutPlan:
    """The plan that a definition asks for."""
    return RolloutPlan(
        shadow_us=definition.shadow_us,
        ramp=definition.ramp,
        prove=tuple(
            ProveGuard(g.metric, DEFAULT_MARGIN if g.margin is None else g.margin, bound=g.bound)
            for g in definition.prove
        ),
        veto=tuple(veto_guard(g) for g in definition.veto),
        step_us=definition.step_us,
        alpha=definition.alpha,
        time_limit_us=definition.limit_us,
    )


def veto_guard(guard: Guard) -> VetoGuard:
    """The veto that ``ms.guard`` asks for.

    ``errors`` and ``fallbacks``: the share ``under`` (default 1 %) is the ceiling. ``p99_ms``: an answer slower than
    ``under`` milliseconds is a failure, and 1 % of them is both the ceiling and what is tolerated.

    >>> from mainspring.definitions.values import Guard
    >>> veto_guard(Guard("p99_ms", under=20.0))
    VetoGuard(metric='p99_ms', ceiling=0.01, tolerated=0.01, harm_ratio=1.0, slow_ms=20.0, min_exposure=200)

    Raises:
        DefinitionError: ``MS-R109`` for an unknown metric or a latency quantile without ``under``.
    """
    if guard.metric in ("errors", "fallbacks"):
        return VetoGuard(guard.metric, ceiling=DEFAULT_CEILING if guard.under is None else guard.under)
    quantile = _QUANTILE.fullmatch(guard.metric)
    if quantile is None:
        raise DefinitionError(
            "MS-R109", f"{guard.metric!r} is not a veto metric", hint="errors, fallbacks, p99_ms, p95_ms"
        )
    if guard.under is None:
        raise DefinitionError("MS-R109", f"{guard.metric} has no limit", hint=f'ms.guard("{guard.metric}", under=20)')
    digits = quantile.group(1)
    allowed = round(1.0 - int(digits) / 10 ** len(digits), 9)
    return VetoGuard(guard.metric, ceiling=allowed, tolerated=allowed, slow_ms=guard.under)
