"""The judge: stories of rollouts, judged day by day, and properties of a single decision."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ContractError
from mainspring.rollout import (
    Evidence,
    PairedUnits,
    ProveGuard,
    RolloutPlan,
    RolloutState,
    VetoEvidence,
    VetoGuard,
    judge,
)

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
HORIZON_US = 36 * HOUR_US
PLAN = RolloutPlan(
    prove=(ProveGuard("log_loss", 0.02),),
    veto=(VetoGuard("errors"), VetoGuard("p99_ms", tolerated=0.01, slow_ms=20.0)),
    time_limit_us=40 * DAY_US,
)


def paired(days, *, seed=0, a_day=900, challenger=lambda truth, day, rng: truth, anchor=None):
    """Requests of some days on which the champion knows the probability."""
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(0, days * DAY_US, days * a_day))
    day = t_us // DAY_US
    truth = rng.beta(1, 3, len(t_us))
    y = (rng.random(len(t_us)) < truth).astype(np.float64)
    p_challenger = np.clip(challenger(truth, day, rng), 0, 1)
    p_anchor = None if anchor is None else anchor(truth)
    return PairedUnits(t_us, t_us + HORIZON_US, truth, p_challenger, y, day, p_anchor)


def same(truth, day, rng):
    return truth + rng.normal(0, 0.01, len(truth))


def flipped(truth, day, rng):
    return 0.3 + 0.4 * truth


def no_failures(exposures=5_000):
    return VetoEvidence(np.empty(0, dtype=np.bool_), np.empty(0), exposures, 0)


def healthy_vetoes(exposures=5_000):
    return {"errors": no_failures(exposures), "p99_ms": no_failures(exposures)}


def state(stage="shadow", *, entered=0, exposure=0, started=0):
    return RolloutState(stage, started, entered, exposure, HORIZON_US)


def judge_hourly(plan, evidence, hours, every=6):
    """Run a rollout as the controller does; returns [(hour, action, stage)] of everything but staying."""
    now, log = state(), []
    for hour in range(0, hours + 1, every):
        at = hour * HOUR_US
        now = replace(now, exposure_us=at - now.entered_at_us)
        decision = judge(plan, now, evidence, at)
        if decision.action == "stay":
            assert decision.to_stage == now.stage
            continue
        log.append((hour, decision.action, decision.to_stage))
        now = RolloutState(decision.to_stage, 0, at, 0, HORIZON_US)
        if now.stage in ("live", "rolled_back", "paused"):
            break
    return log


# --- stories ---------------------------------------------------------------------------------------------------------


def test_an_equal_challenger_climbs_the_ramp_and_is_promoted_after_seven_whole_days_of_mature_labels():
    log = judge_hourly(PLAN, Evidence(paired(30, challenger=same), healthy_vetoes()), 24 * 30)
    assert [entry[1:] for entry in log] == [
        ("advance", "ramp:0"),
        ("advance", "ramp:1"),
        ("advance", "ramp:2"),
        ("promote", "live"),
    ]
    hours = [entry[0] for entry in log]
    assert hours[0] == 24 + 36  # a day in shadow, and its labels mature
    assert hours[1:3] == [84, 108]  # a day at each step
    # Seven whole days, their labels, and the first mature label of the eighth day that closes the seventh.
    assert 7 * 24 + 36 <= hours[3] <= 7 * 24 + 36 + 12


@pytest.mark.parametrize("seed", range(3))
def test_a_challenger_of_flipped_labels_is_rolled_back_on_live_evidence(seed):
    log = judge_hourly(PLAN, Evidence(paired(10, seed=seed, challenger=flipped), healthy_vetoes()), 24 * 10)
    assert log[-1][1:] == ("rollback", "rolled_back")
    assert log[-1][0] <= 4 * 24


def test_one_lucky_day_convinces_label_by_label_evidence_and_does_not_promote():
    units = paired(8, challenger=flipped)
    lucky = np.where(units.day == 0, 0.05 + 0.9 * units.y, units.p_challenger)
    evidence = Evidence(replace(units, p_challenger=lucky), healthy_vetoes())
    plan = replace(PLAN, ramp=())
    decision = judge(plan, state(exposure=DAY_US), evidence, 24 * HOUR_US + HORIZON_US)
    assert decision.numbers["log_loss.promotion_e"] > 20
    assert decision.action == "stay"
    assert "promote" not in [action for _, action, _ in judge_hourly(plan, evidence, 24 * 9)]


def test_silence_never_promotes_and_at_the_time_limit_it_asks():
    no_labels = Evidence(PairedUnits.empty(), healthy_vetoes())
    assert judge_hourly(PLAN, no_labels, 24 * 60) == [(24 * 40, "pause", "paused")]
    nothing_at_all = judge(PLAN, state(exposure=41 * DAY_US), Evidence(), 41 * DAY_US)
    assert nothing_at_all.action == "pause"
    assert "person" in nothing_at_all.reason
    assert "errors has 0 exposures of 200" in nothing_at_all.reason


def test_without_guards_to_prove_a_rollout_ends_with_its_exposure():
    plan = replace(PLAN, prove=())
    log = judge_hourly(plan, Evidence(veto=healthy_vetoes()), 24 * 10)
    assert [(hour, to) for hour, _, to in log] == [(24, "ramp:0"), (48, "ramp:1"), (72, "ramp:2"), (96, "live")]


def test_no_stage_advances_on_exposure_that_has_not_happened():
    """Time passes, but an outage took half of the exposure."""
    evidence = Evidence(paired(10, challenger=same), healthy_vetoes())
    decision = judge(PLAN, state(exposure=DAY_US // 2), evidence, 5 * DAY_US)
    assert decision.action == "stay"
    assert "12h of exposure to come" in decision.reason


# --- guards ----------------------------------------------------------------------------------------------------------


def ready(units=None, **vetoes):
    """A state and evidence on which everything but the thing tested speaks for promotion."""
    units = paired(20, challenger=same) if units is None else units
    at = state("ramp:2", entered=10 * DAY_US, exposure=5 * DAY_US)
    return at, Evidence(units, healthy_vetoes() | vetoes), 25 * DAY_US


def test_everything_in_place_promotes_with_its_numbers():
    decision = judge(PLAN, *ready())
    assert decision.action == "promote"
    assert decision.numbers["log_loss.labels"] == 20 * 900
    assert decision.numbers["log_loss.upper_bound"] < 0.02
    assert decision.numbers["log_loss.promotion_e"] >= 20
    assert decision.numbers["errors.upper_bound"] < 0.01
    assert all(isinstance(value, float) and np.isfinite(value) for value in decision.numbers.values())


def test_errors_of_the_challenger_alone_roll_back_from_any_stage_and_from_a_pause():
    failing = VetoEvidence(np.ones(20, dtype=np.bool_), np.full(20, 0.05), 1_000, 20)
    at, evidence, now_us = ready(errors=failing)
    for stage in (*PLAN.stages[:-1], "paused"):
        decision = judge(PLAN, replace(at, stage=stage), evidence, now_us)
        assert (decision.action, decision.to_stage) == ("rollback", "rolled_back")
        assert "errors" in decision.reason


def test_failures_common_to_both_arms_do_not_roll_back_but_hold_the_step():
    rng = np.random.default_rng(0)
    common = VetoEvidence(rng.random(400) < 0.5, np.full(400, 0.5), 4_000, 200)
    decision = judge(PLAN, *ready(errors=common))
    assert decision.action == "stay"
    assert "errors may fail up to" in decision.reason


def test_slower_than_the_champion_but_within_the_declared_limit_is_no_reason_to_roll_back():
    slower = VetoEvidence(np.ones(40, dtype=np.bool_), np.full(40, 0.5), 20_000, 40)
    assert judge(PLAN, *ready(p99_ms=slower)).action == "promote"
    too_slow = replace(slower, exposures=1_000)
    assert judge(PLAN, *ready(p99_ms=too_slow)).action == "rollback"


def test_a_few_exposures_without_failure_are_not_enough():
    decision = judge(PLAN, *ready(errors=no_failures(199)))
    assert (decision.action, "199 exposures of 200" in decision.reason) == ("stay", True)


def test_rollback_splits_alpha_over_the_guards():
    """Three failures of the canary at 5 % are worth 260 to 1 on their own: enough for six guards, not for sixteen."""
    seen = VetoEvidence(np.ones(3, dtype=np.bool_), np.full(3, 0.05), 5_000, 3)
    at, evidence, now_us = ready(errors=seen)
    few, many = (replace(PLAN, veto=PLAN.veto + tuple(VetoGuard(f"x{i}") for i in range(n))) for n in (3, 13))
    assert judge(few, at, evidence, now_us).action == "rollback"
    assert judge(many, at, evidence, now_us).action == "stay"


def test_good_labels_on_shaky_days_are_not_proof():
    """Evidence by label is strong; the days disagree by more than the margin."""

    units = paired(20, challenger=flipped)
    insight = 0.75 * units.p_champion + 0.25 * units.y
    units = replace(units, p_challenger=np.where(units.day % 2 == 0, insight, units.p_challenger))
    reordered = np.argsort(units.day % 2, kind="stable")  # the good days mature first, so that no harm is shown
    mature = np.empty_like(units.mature_at_us)
    mature[reordered] = np.sort(units.mature_at_us)
    decision = judge(PLAN, *ready(replace(units, mature_at_us=mature)))
    assert decision.numbers["log_loss.promotion_e"] >= 20
    assert decision.action == "stay"
    assert "may be up to" in decision.reason


def test_agreeing_days_of_few_labels_are_not_proof():
    decision = judge(PLAN, *ready(paired(20, a_day=40, challenger=same)))
    assert decision.numbers["log_loss.upper_bound"] < 0.02
    assert decision.action == "stay"
    assert "20 needed" in decision.reason


def test_too_few_days_are_said_to_be_too_few():
    decision = judge(PLAN, *ready(paired(7, a_day=4_000, challenger=same)))
    assert decision.action == "stay"
    assert "6 whole days of mature labels of 7" in decision.reason


def test_every_guard_has_to_be_proved():
    plan = replace(PLAN, prove=(ProveGuard("log_loss", 0.02), ProveGuard("brier", 0.0001)))
    assert judge(plan, *ready()).action == "stay"


def test_a_release_worse_than_the_best_one_so_far_is_not_promoted():
    """Not worse than the champion, but the champion is itself worse than the anchor."""
    units = paired(20, challenger=same)
    worn = replace(units, p_champion=np.clip(0.1 + 0.7 * units.p_champion, 0, 1))
    assert judge(PLAN, *ready(worn)).action == "promote"
    anchored = replace(worn, p_challenger=worn.p_champion, p_anchor=units.p_champion)
    decision = judge(PLAN, *ready(anchored))
    assert decision.action == "stay"
    assert "anchor" in decision.reason


def test_a_mean_above_the_margin_holds_a_step_without_proof_of_harm():
    units = paired(2, a_day=60, challenger=flipped)
    decision = judge(PLAN, state(exposure=2 * DAY_US), Evidence(units, healthy_vetoes()), 4 * DAY_US)
    assert decision.numbers["log_loss.mean_difference"] > 0.02
    assert (decision.action, "above the champion's so far" in decision.reason) == ("stay", True)


# --- the sample ratio ------------------------------------------------------------------------------------------------


def test_a_broken_split_pauses_before_anything_else_and_freezes_decisions():
    at, evidence, now_us = ready(errors=VetoEvidence(np.ones(20, dtype=np.bool_), np.full(20, 0.05), 1_000, 20))
    broken = replace(evidence, assignments=[((900, 100), (0.5, 0.5))])
    decision = judge(PLAN, at, broken, now_us)
    assert (decision.action, decision.to_stage) == ("pause", "paused")
    assert judge(PLAN, replace(at, stage="paused"), broken, now_us).action == "stay"


# --- properties ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 12 * 24), st.integers(0, 2**32 - 1))
def test_a_decision_depends_neither_on_the_order_of_units_nor_on_labels_still_to_come(hour, seed):
    now_us = hour * HOUR_US
    units = paired(6, a_day=150, challenger=same)
    at = state(exposure=now_us)
    expected = judge(PLAN, at, Evidence(units, healthy_vetoes()), now_us)
    order = np.random.default_rng(seed).permutation(len(units.t_us))
    columns = {
        name: getattr(units, name)[order] for name in ("t_us", "mature_at_us", "p_champion", "p_challenger", "y", "day")
    }
    future = columns["mature_at_us"] > now_us
    columns["y"] = np.where(future, 1 - columns["y"], columns["y"])
    decision = judge(PLAN, at, Evidence(PairedUnits(**columns), healthy_vetoes()), now_us)
    assert (decision.action, decision.reason) == (expected.action, expected.reason)
    assert decision.numbers == pytest.approx(expected.numbers)


def test_a_day_with_a_unit_held_back_is_not_a_whole_day():
    at, evidence, now_us = ready()
    units = evidence.paired
    held = replace(units, mature_at_us=np.where(np.arange(len(units.day)) == 0, now_us + 1, units.mature_at_us))
    whole = judge(PLAN, at, evidence, now_us).numbers["log_loss.blocks"]
    assert judge(PLAN, at, replace(evidence, paired=held), now_us).numbers["log_loss.blocks"] == whole - 1


def test_evidence_once_strong_enough_for_a_rollback_stays_so():
    """The judge looks now and then; what a look in between would have seen counts."""
    units = paired(12, challenger=flipped)
    redeemed = replace(units, p_challenger=np.where(units.day < 2, units.p_challenger, 0.05 + 0.9 * units.y))
    early = judge(PLAN, state(exposure=DAY_US), Evidence(redeemed, healthy_vetoes()), 4 * DAY_US)
    late = judge(PLAN, state(exposure=DAY_US), Evidence(redeemed, healthy_vetoes()), 14 * DAY_US)
    assert late.numbers["log_loss.mean_difference"] < -0.1
    assert early.action == late.action == "rollback"
    at, evidence, now_us = ready(errors=VetoEvidence(np.arange(300) < 15, np.full(300, 0.5), 20_000, 15))
    assert judge(PLAN, at, evidence, now_us).action == "rollback"


@given(st.integers(40, 9 * 24))
def test_units_that_are_not_mature_may_as_well_be_absent(hour):
    now_us = hour * HOUR_US
    units = paired(8, a_day=100, challenger=same)
    known = units.mature_at_us <= now_us
    names = ("t_us", "mature_at_us", "p_champion", "p_challenger", "y", "day")
    mature = PairedUnits(**{name: getattr(units, name)[known] for name in names})
    at = state(exposure=now_us)
    whole, part = (judge(PLAN, at, Evidence(one, healthy_vetoes()), now_us) for one in (units, mature))
    assert (part.action, part.reason) == (whole.action, whole.reason)
    assert part.numbers == pytest.approx(whole.numbers)
    over = [one for one in set(units.day.tolist()) if (units.day[known] > one).any() and known[units.day == one].all()]
    assert part.numbers["log_loss.blocks"] == len(over)


@pytest.mark.parametrize("stage", ["live", "rolled_back"])
def test_an_ended_rollout_stays_ended(stage):
    at, evidence, now_us = ready()
    assert judge(PLAN, replace(at, stage=stage), evidence, now_us).action == "stay"


def test_an_unknown_stage_is_refused():
    with pytest.raises(ContractError, match="MS-R110"):
        judge(PLAN, state("ramp:7"), Evidence(), 0)
