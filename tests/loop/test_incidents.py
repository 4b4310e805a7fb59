"""Incidents of a feed open when its quarantine fills and close when what lies there has been dealt with."""

from mainspring.catalog import Incident
from mainspring.loop.incidents import OPEN_AT, feed_changes


def incident(source: str, kind: str = "contract") -> Incident:
    return Incident(f"{kind}-{source}-1", kind, source, None, None, 1, None, "", "", {})


def test_one_bad_record_is_no_broken_feed() -> None:
    assert feed_changes({"arrived": OPEN_AT - 1}, [], 5) == []


def test_a_filling_quarantine_opens_one_incident_that_names_the_source() -> None:
    (change,) = feed_changes({"arrived": OPEN_AT, "weather": 1}, [], 5)
    assert (change.kind, change.source, change.incident_id) == ("incident_open", "arrived", "contract-arrived-5")
    assert change.numbers["source"] == "arrived"


def test_an_open_incident_is_not_opened_again() -> None:
    assert feed_changes({"arrived": 500}, [incident("arrived")], 9) == []


def test_an_incident_stays_open_while_a_single_record_waits() -> None:
    assert feed_changes({"arrived": 1}, [incident("arrived")], 9) == []


def test_an_incident_closes_when_nothing_waits_any_more() -> None:
    (change,) = feed_changes({}, [incident("arrived")], 9)
    assert (change.kind, change.incident_id) == ("incident_close", "contract-arrived-1")


def test_incidents_of_another_kind_are_left_alone() -> None:
    assert feed_changes({}, [incident("arrived", "drift")], 9) == []
