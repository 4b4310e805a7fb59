"""Plans as definitions ask for them."""

import numpy as np
import pytest

from mainspring.core.errors import ContractError, DefinitionError
from mainspring.definitions import Rollout, guard
from mainspring.definitions.values import Guard, RolloutDef
from mainspring.rollout import PairedUnits, ProveGuard, RolloutPlan, VetoGuard, plan_of, veto_guard

DAY_US = 86_400_000_000


def test_a_plan_says_what_its_definition_says():
    definition = RolloutDef(
        shadow_us=DAY_US,
        ramp=(0.1, 0.5),
        step_us=2 * DAY_US,
        prove=(Guard("log_loss", margin=0.03), Guard("absolute_error", margin=1.0, bound=60.0)),
        veto=(Guard("errors"), Guard("p95_ms", under=30.0), Guard("fallbacks", under=0.2)),
        alpha=0.01,
        limit_us=30 * DAY_US,
    )
    plan = plan_of(definition)
    assert plan.stages == ("shadow", "ramp:0", "ramp:1", "live")
    assert [plan.challenger_weight(stage) for stage in plan.stages] == [0.0, 0.1, 0.5, 1.0]
    assert plan.prove == (ProveGuard("log_loss", 0.03), ProveGuard("absolute_error", 1.0, bound=60.0))
    assert [guard.tolerated for guard in plan.prove] == [0.015, 0.5]
    assert plan.veto == (
        VetoGuard("errors", ceiling=0.01),
        VetoGuard("p95_ms", ceiling=0.05, tolerated=0.05, slow_ms=30.0),
        VetoGuard("fallbacks", ceiling=0.2),
    )
    assert (plan.alpha, plan.time_limit_us, plan.step_us) == (0.01, 30 * DAY_US, 2 * DAY_US)


@pytest.mark.parametrize("declared", [Rollout(), Rollout(prove=[], veto=[])], ids=str)
def test_a_rollout_of_which_nothing_is_asked_can_be_judged_by_its_errors(declared):
    assert plan_of(declared).veto == (VetoGuard("errors"),)
    assert plan_of(Rollout(prove=[guard("brier", margin=0.01)])).veto == ()


def test_a_stage_of_an_earlier_plan_with_more_shares_is_the_last_before_live():
    plan = RolloutPlan(prove=(ProveGuard("brier"),), ramp=(0.1, 0.5))
    stages = ["shadow", "ramp:0", "ramp:1", "ramp:2", "live", "rolled_back"]
    assert [plan.standing(stage) for stage in stages] == ["shadow", "ramp:0", "ramp:1", "ramp:1", "live", "rolled_back"]
    assert RolloutPlan(prove=(ProveGuard("brier"),), ramp=()).standing("ramp:0") == "shadow"


@pytest.mark.parametrize("stage", ["paused", "rolled_back", "shadow"])
def test_a_challenger_serves_nothing_while_paused_rolled_back_or_in_shadow(stage):
    assert RolloutPlan(prove=(ProveGuard("brier"),)).challenger_weight(stage) == 0.0


@pytest.mark.parametrize(
    "changes",
    [{"ramp": (0.5, 0.2)}, {"ramp": (0.0, 0.5)}, {"ramp": (0.5, 1.0)}, {"alpha": 0.0}, {"prove": ()}],
    ids=str,
)
def test_a_plan_that_cannot_be_judged_is_refused(changes):
    with pytest.raises(DefinitionError, match="MS-R107"):
        RolloutPlan(**({"prove": (ProveGuard("brier"),)} | changes))


@pytest.mark.parametrize("guard", [Guard("latency"), Guard("p99_ms")], ids=str)
def test_a_veto_that_cannot_be_measured_is_refused(guard):
    with pytest.raises(DefinitionError, match="MS-R109"):
        veto_guard(guard)


def test_paired_columns_of_different_lengths_are_refused():
    whole, real = np.zeros(3, dtype=np.int64), np.zeros(3)
    with pytest.raises(ContractError, match="MS-R108"):
        PairedUnits(whole, whole, real, real, real[:2], whole)
