"""What the Open Inference Protocol calls statistics: counts and times of a model since the start, over all variants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mainspring.serving.lane import Lane

Stats = dict[str, Any]


def stats_of(lane: Lane) -> Stats:
    """Of one worker, as Triton's statistics say them; times are of rows, in nanoseconds."""
    metrics, served = lane.metrics, lane.served
    variants = metrics.variants.values()
    failed = sum(metrics.rejected.values())

    def part(name: str) -> dict[str, int]:
        histogram = metrics.latency[name]
        return {"count": histogram.count, "ns": int(histogram.sum * 1e9)}

    return {
        "name": served.model.name,
        "version": next(iter(served.versions), ""),
        "inference_count": sum(one.inferences for one in variants),
        "execution_count": sum(one.executions for one in variants),
        "request_count": metrics.answers,
        "inference_stats": {
            "success": part("total"),
            "fail": {"count": failed, "ns": 0},
            "queue": part("queue"),
            "compute_input": part("features"),
            "compute_infer": part("model"),
        },
        "batch_stats": [],
    }


def summed(own: Iterable[Stats], others: Iterable[Iterable[Stats]]) -> list[Stats]:
    """One worker's statistics with what the others have counted of the same models.

    >>> summed([{"name": "a", "version": "1", "count": 2}], [[{"name": "a", "version": "1", "count": 3}], []])
    [{'name': 'a', 'version': '1', 'count': 5}]
    """
    found = {one["name"]: one for one in own}
    for stats in others:
        for one in stats:
            if one["name"] in found:
                found[one["name"]] = _sum(found[one["name"]], one)
    return list(found.values())


def _sum(one: Mapping[str, Any], other: Mapping[str, Any]) -> Stats:
    """Numbers added up, at any depth; everything else is the first one's."""
    out: Stats = {}
    for name, value in one.items():
        theirs = other.get(name)
        if isinstance(value, Mapping) and isinstance(theirs, Mapping):
            out[name] = _sum(value, theirs)
        elif isinstance(value, int) and isinstance(theirs, int):
            out[name] = value + theirs
        else:
            out[name] = value
    return out
