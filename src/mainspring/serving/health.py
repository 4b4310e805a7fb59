"""What ``GET /health`` says: who serves, what is wrong, and how the prediction log fares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mainspring.serving.composed import Composed
from mainspring.serving.lane import Lane
from mainspring.serving.prediction_log import PredictionLog
from mainspring.serving.served import Served
from mainspring.serving.snapshot import Snapshot


def health(
    epoch: str, snapshot: Snapshot | None, lanes: Mapping[str, Lane], log: PredictionLog, trouble: str
) -> dict[str, Any]:
    """The state of a gateway.

    Args:
        epoch: Of its prediction ids.
        snapshot: What serves; None while nothing is loaded.
        lanes: By model.
        log: Of predictions.
        trouble: What went wrong lately, or nothing.
    """
    problems = problems_of(snapshot) if snapshot is not None else []
    is_ok = not (problems or trouble or log.is_away or log.dropped)
    return {
        "status": "loading" if snapshot is None else "ok" if is_ok else "degraded",
        "epoch": epoch,
        "generation": snapshot.generation if snapshot is not None else None,
        "models": {name: _shown(lane.served) | {"breakers": lane.breakers} for name, lane in lanes.items()},
        "problems": problems,
        "trouble": trouble,
        "prediction_log": {**log.counts, "away": log.is_away},
    }


def health_of_all(workers: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The state of a gateway of several workers: the worst of theirs, what their logs sum to, and each by number."""
    order = ("ok", "degraded", "loading")
    logs = [one["prediction_log"] for one in workers.values()]
    return {
        "status": max((str(one["status"]) for one in workers.values()), key=order.index),
        "prediction_log": {
            name: any(log[name] for log in logs) if name == "away" else sum(log[name] for log in logs)
            for name in logs[0]
        },
        "workers": {str(number): one for number, one in sorted(workers.items())},
    }


def problems_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    """What could not be loaded."""
    return [
        {"model": one.model, "version": one.version, "error": one.error, "is_serving": one.is_serving}
        for one in snapshot.problems
    ]


def _shown(served: Served | Composed) -> dict[str, Any]:
    if isinstance(served, Composed):
        shown = {"how": served.model.how, "version": served.version}
        return shown | {"members": {name: _shown(one) for name, one in served.members.items()}}
    return {
        role: scorer.version if scorer is not None else None
        for role, scorer in (
            ("champion", served.champion),
            ("challenger", served.challenger),
            ("last_good", served.last_good),
        )
    } | {"stage": served.route.stage, "weight": served.weight}
