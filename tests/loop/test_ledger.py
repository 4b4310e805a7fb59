"""Decisions are written once, and whoever cannot write them says so."""

import pytest

from mainspring.core import UnavailableError
from mainspring.definitions.values import Project
from mainspring.events.log import Log
from mainspring.loop.desk import open_desk


def test_a_command_does_not_wait_for_ever_for_a_log_that_somebody_else_writes(config, monkeypatch):
    monkeypatch.setattr("mainspring.loop.ledger.PATIENCE_S", 0.0)
    nothing = Project({}, {}, {})
    with (
        Log.open(config.log_path, config.limits.log_map_bytes, writable=True),
        open_desk(config, nothing) as desk,
        pytest.raises(UnavailableError, match="the event log is in use"),
    ):
        desk.ledger.decide("ingest", "one", 1)
    with open_desk(config, nothing) as desk:
        desk.ledger.decide("ingest", "one", 1)
        assert desk.catalog.knows("one")
