"""The fold: features that are exact, and the same live and offline.

The names below are imported when first used: a command that does not fold must not pay for numba. The offline driver is
``mainspring.features.replay.replay``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mainspring.features.fold import Folder
    from mainspring.features.layout import GRACE_US
    from mainspring.features.parity import ParityReport, check
    from mainspring.features.reader import Reader, Snapshot
    from mainspring.features.status import Status
    from mainspring.features.store import OnlineStore
    from mainspring.features.warm import warm_up

_PLACES = {
    "GRACE_US": "layout",
    "Folder": "fold",
    "OnlineStore": "store",
    "ParityReport": "parity",
    "Reader": "reader",
    "Snapshot": "reader",
    "Status": "status",
    "check": "parity",
    "warm_up": "warm",
}

__all__ = [
    "GRACE_US",
    "Folder",
    "OnlineStore",
    "ParityReport",
    "Reader",
    "Snapshot",
    "Status",
    "check",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
