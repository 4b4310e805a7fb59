"""What the judge reads is gathered from predictions and outcomes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from mainspring.loop.rollouts import READ, assignments, paired_units, veto_evidence
from mainspring.rollout import VetoGuard

NEW = "challenger1"
START = datetime(2013, 4, 1, tzinfo=UTC)
SCHEMA = {
    "_offset": pl.Int64,
    "_time": pl.Datetime("us", "UTC"),
    "version": pl.String,
    "variant": pl.String,
    "probability": pl.Float64,
    "unit": pl.String,
    "folded": pl.Int64,
    "output": pl.Float64,
    "other_version": pl.String,
    "other_output": pl.Float64,
    "latency_us": pl.Int64,
    "fallback": pl.String,
    "error": pl.String,
    "other_latency_us": pl.Int64,
    "other_error": pl.String,
    "drawn": pl.String,
}


def predictions(*rows: dict[str, Any]) -> pl.DataFrame:
    """Answers of the champion in shadow, unless a row says otherwise."""
    usual = {
        "version": "champion1",
        "variant": "champion",
        "probability": 1.0,
        "output": 0.2,
        "other_version": NEW,
        "other_output": 0.3,
        "latency_us": 900,
        "other_latency_us": 100,
    }
    filled = [
        {"_offset": i, "_time": START + timedelta(minutes=i), "unit": f"u{i}", "folded": i} | usual | row
        for i, row in enumerate(rows)
    ]
    return pl.DataFrame([{k: r.get(k) for k in SCHEMA} for r in filled], schema=SCHEMA)


def challenger(**row: Any) -> dict[str, Any]:
    """An answer of the challenger on the ramp at a quarter of the traffic."""
    return {"version": NEW, "variant": "challenger", "probability": 0.25, "other_version": "champion1"} | row


def matured(frame: pl.DataFrame, y: list[float]) -> pl.DataFrame:
    return frame.with_columns(y=pl.Series(y), mature_at_us=pl.col("_time").dt.epoch("us") + 5)


def test_the_pair_is_the_right_way_round_whoever_served() -> None:
    units = paired_units(NEW, matured(predictions({}, challenger(output=0.9, other_output=0.1)), [0.0, 1.0]))
    assert units.p_champion.tolist() == [0.2, 0.1]
    assert units.p_challenger.tolist() == [0.3, 0.9]
    assert units.y.tolist() == [0.0, 1.0]


def test_a_unit_that_one_model_did_not_score_is_no_pair() -> None:
    frame = predictions({"other_output": None}, {"output": None, "error": "x"}, {})
    assert len(paired_units(NEW, matured(frame, [0.0, 0.0, 1.0])).y) == 1


def test_a_failing_shadow_is_the_challengers_failure_at_even_odds() -> None:
    seen = veto_evidence(VetoGuard("errors"), NEW, predictions({}, {"other_error": "boom", "other_output": None}))
    assert seen.exposures == 2
    assert seen.failures == 1
    assert seen.is_challenger.tolist() == [True]
    assert seen.rho.tolist() == [0.5]


def test_where_one_of_the_two_failed_each_was_as_likely_to_be_the_one() -> None:
    rows = [challenger(error="boom"), {"error": "boom"}, challenger(other_error="boom"), {"other_error": "boom"}]
    seen = veto_evidence(VetoGuard("errors"), NEW, predictions(*rows))
    assert seen.is_challenger.tolist() == [True, False, False, True]
    assert seen.rho.tolist() == [0.5] * 4
    assert (seen.exposures, seen.failures) == (4, 2)


def test_a_request_that_both_models_failed_says_nothing_of_either() -> None:
    seen = veto_evidence(VetoGuard("errors"), NEW, predictions({"error": "boom", "other_error": "boom"}))
    assert seen.is_challenger.tolist() == []


def test_an_answer_that_the_champion_gave_in_its_place_is_charged_to_the_challenger() -> None:
    row = {"variant": "fallback", "probability": 0.25, "fallback": "champion", "other_error": "boom"}
    for metric in ("errors", "fallbacks"):
        seen = veto_evidence(VetoGuard(metric), NEW, predictions(row))
        assert (seen.failures, seen.is_challenger.tolist()) == (1, [True]), metric


def test_a_champion_that_fell_back_to_the_last_good_version_is_charged_itself() -> None:
    row = {"variant": "fallback", "probability": 0.75, "fallback": "last_good", "version": "older"}
    seen = veto_evidence(VetoGuard("fallbacks"), NEW, predictions(row))
    assert (seen.failures, seen.is_challenger.tolist()) == (0, [False])
    assert assignments(predictions(row)) == [((0, 1), (0.25, 0.75))]


def test_one_stall_that_slows_a_batch_is_one_failure() -> None:
    slow = challenger(latency_us=90_000, folded=7)
    seen = veto_evidence(VetoGuard("p99_ms", slow_ms=20.0), NEW, predictions(*[slow] * 8, challenger(folded=8)))
    assert seen.failures == 1
    assert seen.exposures == 2


def test_assignments_are_counted_apart_for_each_weight() -> None:
    on_ramp = [
        challenger(),
        {"probability": 0.75},
        {"probability": 0.75},
        challenger(probability=0.5),
        {"probability": 0.5},
    ]
    found = assignments(predictions({}, *on_ramp))
    assert found == [((1, 2), (0.25, 0.75)), ((1, 1), (0.5, 0.5))]


def test_nothing_seen_is_no_evidence() -> None:
    empty = predictions().clear()
    assert veto_evidence(VetoGuard("errors"), NEW, empty).exposures == 0
    assert assignments(empty) == []
    assert np.size(paired_units(NEW, pl.DataFrame()).y) == 0


def test_a_challenger_that_was_drawn_and_failed_like_the_champion_is_no_evidence_against_either() -> None:
    both = {"variant": "fallback", "version": "older", "fallback": "last_good", "error": "boom", "drawn": "challenger"}
    for guard in ("errors", "fallbacks"):
        seen = veto_evidence(
            VetoGuard(guard), NEW, predictions(both, both | {"version": "otherwise", "fallback": "value"})
        )
        assert (len(seen.is_challenger), seen.exposures, seen.failures) == (0, 2, 2)
    rows = [challenger(), both | {"probability": 0.25}, {"probability": 0.75}]
    assert assignments(predictions(*rows)) == [((2, 1), (0.25, 0.75))]


def test_what_is_read_of_predictions_is_enough_for_vetoes_and_assignments() -> None:
    frame = predictions(challenger(error="failed", drawn="challenger"), {}, challenger())
    read = frame.select(name for name in READ if name != "rollout")
    guard = VetoGuard("errors")
    assert (
        veto_evidence(guard, NEW, read).is_challenger.tolist()
        == veto_evidence(guard, NEW, frame).is_challenger.tolist()
    )
    assert str(assignments(read)) == str(assignments(frame))
