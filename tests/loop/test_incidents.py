"""Incidents of a feed open when its quarantine fills and close when what lies there has been dealt with."""

from mainspring.catalog import Incident
from mainspring.events.log import Counts
from mainspring.loop.incidents import LEAST_BROKEN, OPEN_AT, WINDOW_US, Shares, columns_refused, feed_changes


def incident(source: str, kind: str = "contract") -> Incident:
    return Incident(f"{kind}-{source}-1", kind, source, None, None, 1, None, "", "", {})


def test_one_bad_record_is_no_broken_feed() -> None:
    assert feed_changes({"arrived": OPEN_AT - 1}, [], 5) == []


def test_a_filling_quarantine_opens_one_incident_that_names_the_source() -> None:
    (change,) = feed_changes({"arrived": OPEN_AT, "weather": 1}, [], 5)
    assert (change.kind, change.source, change.incident_id) == ("incident_open", "arrived", "contract-arrived-5")
    assert change.numbers["source"] == "arrived"


def test_an_incident_of_a_renamed_column_names_it() -> None:
    columns = columns_refused(
        [("arrived", "$", "Object contains unknown field `delay`")] * 9 + [("arrived", "$.carrier", "Expected `str`")]
    )
    (change,) = feed_changes({"arrived": 10}, [], 5, columns=columns)
    assert change.numbers["column"] == "delay"
    assert change.reason.endswith("most of all for delay")


def test_an_open_incident_is_not_opened_again() -> None:
    assert feed_changes({"arrived": 500}, [incident("arrived")], 9) == []


def test_an_incident_stays_open_while_a_single_record_waits() -> None:
    assert feed_changes({"arrived": 1}, [incident("arrived")], 9) == []


def test_an_incident_closes_when_nothing_waits_any_more() -> None:
    (change,) = feed_changes({}, [incident("arrived")], 9)
    assert (change.kind, change.incident_id) == ("incident_close", "contract-arrived-1")


def test_incidents_of_another_kind_are_left_alone() -> None:
    assert feed_changes({}, [incident("arrived", "drift")], 9) == []


def test_a_few_broken_records_are_an_incident_when_they_are_a_fifth_of_what_came() -> None:
    waiting = {"arrived": LEAST_BROKEN}
    assert feed_changes(waiting, [], 5, {"arrived": (3, 16)}) == []
    (change,) = feed_changes(waiting, [], 5, {"arrived": (3, 15)})
    assert (change.kind, change.source) == ("incident_open", "arrived")
    assert "3 of 15 that came within the hour" in change.reason
    assert feed_changes({"arrived": LEAST_BROKEN - 1}, [], 5, {"arrived": (3, 3)}) == []
    assert feed_changes(waiting, [incident("arrived")], 5, {"arrived": (3, 15)}) == []


def test_shares_are_of_the_last_hour_and_nothing_before_the_first_look() -> None:
    shares, minute = Shares(), 60_000_000
    assert shares.look({"arrived": Counts(accepted=1_000, quarantined=50)}, 0) == {}
    assert shares.look({"arrived": Counts(1_008, 1, 51)}, minute) == {"arrived": (1, 10)}
    assert shares.look({"arrived": Counts(1_008, 1, 51), "new": Counts(2, 0, 1)}, WINDOW_US) == {
        "arrived": (1, 10),
        "new": (1, 3),
    }
    assert shares.look({"arrived": Counts(1_018, 1, 51)}, WINDOW_US + minute) == {"arrived": (0, 10)}
