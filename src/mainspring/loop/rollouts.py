"""From predictions and outcomes to what the judge of a rollout reads."""

from __future__ import annotations

import numpy as np
import polars as pl

from mainspring.definitions.values import DAY_US
from mainspring.rollout import Evidence, PairedUnits, RolloutPlan, VetoEvidence, VetoGuard

CHAMPION = "champion"
"""What ``fallback`` says of an answer that the champion gave because the challenger that was drawn had failed."""

READ = (
    *("_offset", "unit", "rollout", "version", "other_version", "variant", "fallback", "probability", "folded"),
    *("drawn", "error", "other_error", "latency_us", "other_latency_us"),
)
"""Columns of ``_prediction`` that the evidence is made of."""


def gather(plan: RolloutPlan, challenger: str, predictions: pl.DataFrame, matured: pl.DataFrame) -> Evidence:
    """All evidence of one rollout since it began.

    Args:
        plan: Which guards there are.
        challenger: Version of the challenger.
        predictions: Rows of ``_prediction`` of this rollout, in the log's order, each unit's first.
        matured: The same units with their outcome: columns ``y`` and ``mature_at_us``.
    """
    veto = {guard.metric: veto_evidence(guard, challenger, predictions) for guard in plan.veto}
    return Evidence(paired=paired_units(challenger, matured), veto=veto, assignments=assignments(predictions))


def paired_units(challenger: str, matured: pl.DataFrame) -> PairedUnits:
    """Units that both models scored, with their outcomes."""
    if matured.is_empty():
        return PairedUnits.empty()
    both = matured.filter(
        pl.col("output").is_not_null() & pl.col("other_output").is_not_null() & pl.col("error").is_null()
    )
    served = pl.col("version") == challenger
    frame = both.select(
        t=pl.col("_time").dt.epoch("us"),
        mature=pl.col("mature_at_us"),
        challenger=pl.when(served).then("output").otherwise("other_output"),
        champion=pl.when(served).then("other_output").otherwise("output"),
        y=pl.col("y").cast(pl.Float64),
    )
    t = frame["t"].to_numpy()
    return PairedUnits(
        t_us=t,
        mature_at_us=frame["mature"].to_numpy(),
        p_champion=frame["champion"].to_numpy(),
        p_challenger=frame["challenger"].to_numpy(),
        y=frame["y"].to_numpy(),
        day=t // DAY_US,
    )


def veto_evidence(guard: VetoGuard, challenger: str, predictions: pl.DataFrame) -> VetoEvidence:
    """Failures in the log's order, and the challenger's exposures.

    Both models score every request of a rollout, in shadow and on the ramp, so each request exposes both arms alike:
    where one of them failed, each is as likely to be the one (rho = 1/2); where both failed it says nothing. Slow
    answers of one batch are one failure, since one stall slows them all: answers read from the same state count once.
    """
    if predictions.is_empty():
        return VetoEvidence.empty()
    own, other = _failure(guard)
    by_challenger = _assigned_to(challenger)
    # The challenger was drawn and something beyond the champion answered: both had failed.
    both = (pl.col("drawn") == "challenger").fill_null(value=False) & ~by_challenger & (guard.slow_ms is None)
    seen = predictions.filter(by_challenger | (pl.col("other_version") == challenger)).select(
        "_offset",
        "folded",
        challenger=pl.when(by_challenger).then(own).otherwise(other).fill_null(value=False) | both,
        champion=pl.when(by_challenger).then(other).otherwise(own).fill_null(value=False) | both,
    )
    if guard.slow_ms is not None:
        seen = seen.group_by("folded", maintain_order=True).agg(
            pl.col("_offset").first(), pl.col("challenger").any(), pl.col("champion").any()
        )
    failures = seen.filter(pl.col("challenger") != pl.col("champion")).sort("_offset")
    return VetoEvidence(
        is_challenger=failures["challenger"].to_numpy(),
        rho=np.full(failures.height, 0.5),
        exposures=seen.height,
        failures=int(seen["challenger"].sum()),
    )


def assignments(predictions: pl.DataFrame) -> list[tuple[tuple[int, int], tuple[float, float]]]:
    """First exposures per arm (challenger, champion) in each period of constant weights on the ramp."""
    if predictions.is_empty():
        return []
    drawn = pl.coalesce(
        "drawn", pl.when(pl.col("fallback") == CHAMPION).then(pl.lit("challenger")).otherwise("variant")
    )
    challenger = drawn == "challenger"
    periods = (
        predictions.select(
            challenger.alias("arm"),
            pl.when(challenger).then("probability").otherwise(1.0 - pl.col("probability")).alias("weight"),
        )
        .filter((pl.col("weight") > 0.0) & (pl.col("weight") < 1.0))
        .with_columns(pl.col("weight").round(9))
        .group_by("weight", maintain_order=True)
        .agg(pl.col("arm").sum().alias("challenger"), pl.len().alias("all"))
    )
    return [((int(n), int(total - n)), (weight, 1.0 - weight)) for weight, n, total in periods.iter_rows()]


def _assigned_to(challenger: str) -> pl.Expr:
    """Whether the challenger answered, or failed so that the champion answered in its place.

    Where something else answered both had failed, or nobody was asked: that says nothing of either.
    """
    return (pl.col("version") == challenger) | (pl.col("fallback") == CHAMPION).fill_null(value=False)


def _failure(guard: VetoGuard) -> tuple[pl.Expr, pl.Expr]:
    """What counts as a failure of the model that was drawn, and of the other one."""
    if guard.slow_ms is not None:
        limit_us = guard.slow_ms * 1_000.0
        return pl.col("latency_us") > limit_us, pl.col("other_latency_us") > limit_us
    fell_back = pl.col("variant") == "fallback"
    if guard.metric == "fallbacks":
        return fell_back, pl.lit(value=False)
    return pl.col("error").is_not_null() | fell_back, pl.col("other_error").is_not_null() & ~fell_back
