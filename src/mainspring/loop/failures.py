"""Judging that failed: of one model or composite, told by an incident, tried again, and no matter of the others.

What fails is a fault of Mainspring, of a definition or of data; the worker goes on, folds and judges the rest. A
boundary that failed is tried again after a minute, then after two, four … up to an hour, and those behind it wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from mainspring.catalog import Catalog
from mainspring.core import BackPressureError, UnavailableError
from mainspring.features.request import FAULTS
from mainspring.loop.incidents import Change
from mainspring.loop.ledger import Ledger

KIND = "judging"
"""The incident of a model or composite that cannot be judged."""
FIRST_US, MOST_US = 60_000_000, 3_600_000_000
_log = logging.getLogger(__name__)


class Failures:
    """Runs the judging of models and composites so that one which fails stops nothing else.

    Args:
        catalog: The projection of decisions.
        ledger: Where incidents are said.
    """

    def __init__(self, catalog: Catalog, ledger: Ledger) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._waits: dict[str, tuple[int, int]] = {}

    def judge(self, name: str, due: Iterable[int], now_us: int, judge: Callable[[int], None]) -> bool:
        """Judge boundaries of one model or composite in order, up to the first that fails.

        Args:
            name: Of the model or composite.
            due: Its boundaries.
            now_us: The moment.
            judge: What is done at one boundary.

        Returns:
            Whether one failed: what was known of the model may be half of it, and is to be made anew.

        Raises:
            UnavailableError: The process was told to stop while the intake was away, or there is no room in the log.
        """
        waited_us, again_us = self._waits.get(name, (0, 0))
        if now_us < again_us:
            return False
        for at_us in due:
            try:
                judge(at_us)
            except (UnavailableError, BackPressureError):  # nothing could be said, of this failure neither
                raise
            except FAULTS as error:
                _log.exception("%s cannot be judged", name)
                waited_us = min(max(2 * waited_us, FIRST_US), MOST_US)
                self._waits[name] = waited_us, now_us + waited_us
                self._open(name, error, at_us)
                return True
            self._waits.pop(name, None)
            self._close(name, at_us)
        return False

    def _open(self, name: str, error: BaseException, at_us: int) -> None:
        if self._incident(name) is not None:
            return
        reason = (
            f"{name} cannot be judged, so nothing is decided about it: {type(error).__name__}: {str(error)[:200]}; "
            "it is tried again, and the worker's log has all of it"
        )
        change = Change("incident_open", f"{KIND}-{name}-{at_us}", name, reason, {"kind": KIND, "column": name})
        self._ledger.tell(change, at_us, model=name)

    def _close(self, name: str, at_us: int) -> None:
        incident = self._incident(name)
        if incident is not None:
            change = Change("incident_close", incident, name, f"{name} is judged again", {})
            self._ledger.tell(change, at_us, model=name)

    def _incident(self, name: str) -> str | None:
        found = (i for i in self._catalog.incidents(is_open=True) if i.kind == KIND and i.model == name)
        return next((one.incident_id for one in found), None)
