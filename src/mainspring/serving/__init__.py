"""The gateway: requests to batches to answers, from an immutable routing snapshot; every answer is logged.

Names are imported when they are first used: the whole gateway costs seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mainspring.serving.batcher import Batcher
    from mainspring.serving.gateway import Gateway, run_gateway
    from mainspring.serving.lane import Lane
    from mainspring.serving.prediction_log import PredictionLog
    from mainspring.serving.router import assign, uniform
    from mainspring.serving.served import Served
    from mainspring.serving.shared import LaneLimits
    from mainspring.serving.snapshot import Snapshot, load_snapshot

_PLACES = {
    "Batcher": "batcher",
    "Gateway": "gateway",
    "Lane": "lane",
    "LaneLimits": "shared",
    "PredictionLog": "prediction_log",
    "Served": "served",
    "Snapshot": "snapshot",
    "assign": "router",
    "load_snapshot": "snapshot",
    "run_gateway": "gateway",
    "uniform": "router",
}

__all__ = [
    "Batcher",
    "Gateway",
    "Lane",
    "LaneLimits",
    "PredictionLog",
    "Served",
    "Snapshot",
    "assign",
    "load_snapshot",
    "run_gateway",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
