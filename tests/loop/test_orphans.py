"""An incident closes when what it is about is no longer defined, and only then."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from feed import feed_module

from mainspring.catalog import Incident
from mainspring.definitions.project import collect
from mainspring.loop.incidents import CHECK, SHIFT
from mainspring.loop.orphans import orphan_changes

PROJECT = collect(feed_module())
NAMES = sorted(name for name, check in PROJECT.checks.items() if check.column == "delay_min")
NOW = 7


def incident(kind, source="arrived", column="delay_min", **numbers):
    return Incident(f"{kind}-1", kind, source, column, None, 1, None, "", "", numbers)


def without(*names):
    return replace(PROJECT, checks={name: one for name, one in PROJECT.checks.items() if name not in names})


@pytest.mark.parametrize("kind", [CHECK, SHIFT])
def test_one_of_checks_closes_when_the_last_of_them_is_removed_and_its_bad_window_ends_then(kind):
    some = [incident(kind, checks=NAMES[:2], blocking=True)]
    assert len(NAMES) > 1
    assert orphan_changes(PROJECT, some, NOW) == orphan_changes(without(NAMES[0]), some, NOW) == []
    ((change, of_model),) = orphan_changes(without(*NAMES), some, NOW)
    assert (change.kind, change.incident_id, change.source, of_model) == (
        "incident_close",
        f"{kind}-1",
        "arrived",
        None,
    )
    assert change.reason == f"no longer declared: {', '.join(NAMES[:2])}"
    assert change.numbers == {"kind": kind, "source": "arrived", "column": "delay_min", "until_us": NOW}


def test_one_of_a_source_that_is_gone_closes_but_for_what_waits_in_quarantine():
    gone = replace(PROJECT, sources={})
    some = [incident(CHECK, checks=NAMES), incident("contract", column=None)]
    assert [(one.incident_id, one.reason) for one, _ in orphan_changes(gone, some, NOW)] == [
        ("check-1", "arrived is no longer defined")
    ]
